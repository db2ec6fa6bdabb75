"""Search by the beginning of any word, without regard to case and accents, by one index."""

import unicodedata

from domain.errors import Code, refuse_field

KEY_LENGTH = 64
MAX_KEYS = 16  # of one text
MIN_QUERY = 2
MAX_QUERY = 64

_SURROGATES = range(0xD800, 0xE000)

# Letters with a stroke or of two letters, which do not decompose.
_PLAIN = str.maketrans(
    {
        "ł": "l",
        "ø": "o",
        "đ": "d",
        "ð": "d",
        "ħ": "h",
        "ŧ": "t",
        "ı": "i",  # noqa: RUF001
        "æ": "ae",
        "œ": "oe",
        "þ": "th",
        "ß": "ss",
        "ـ": "",  # tatweel, which only stretches a word
        "ʻ": " ",  # noqa: RUF001 - apostrophes, letters to Unicode
        "ʼ": " ",  # noqa: RUF001
    }
)


def normalised(text: str) -> str:
    """`text` as it is searched: words of plain small letters and digits, one space between.

    Accents and other marks are gone, also vowel signs of scripts that write vowels so.
    """
    words = text
    while (plainer := _plainer(words)) != words:
        words = plainer
    return words


def _plainer(text: str) -> str:
    bare = _without_marks(unicodedata.normalize("NFKD", text))
    # Composed again: Hangul syllables come apart too, and are letters, not accents.
    small = unicodedata.normalize("NFKC", bare.casefold().translate(_PLAIN))
    letters = (char if unicodedata.category(char)[0] in "LN" else " " for char in small)
    return " ".join("".join(letters).split())


def _without_marks(text: str) -> str:
    return "".join(char for char in text if unicodedata.category(char)[0] != "M")


def search_keys(*texts: str) -> list[str]:
    """What is indexed so that `texts` are found by the beginning of any of their words.

    A key is a text from one of its first 16 words on, cut to 64 characters: those of
    "Ada Lovelace" are "ada lovelace" and "lovelace". None comes twice.
    """
    keys: dict[str, None] = {}
    for text in texts:
        words = normalised(text).split(" ")
        for start in range(min(len(words), MAX_KEYS)):
            keys[" ".join(words[start:])[:KEY_LENGTH]] = None
    keys.pop("", None)
    return list(keys)


def parse_query(value: object) -> str:
    """The normalised form of what someone searches for: a prefix of the keys to find.

    Raises AppError `invalid_type` or `invalid_value` naming `q`.
    """
    if not isinstance(value, str):
        raise refuse_field(Code.INVALID_TYPE, "q", "must be text")
    if len(value) > MAX_QUERY:
        raise refuse_field(Code.INVALID_VALUE, "q", f"must have at most {MAX_QUERY} characters")
    query = normalised(value)[:KEY_LENGTH]  # a ligature may have become several letters
    if len(query) < MIN_QUERY:
        raise refuse_field(
            Code.INVALID_VALUE, "q", f"must have at least {MIN_QUERY} letters or digits"
        )
    return query


def upper_bound(prefix: str) -> str:
    """The first string after all that begin with `prefix`, in the order of their UTF-8 bytes.

    That is MongoDB's simple binary order of strings. Raises ValueError where there is none:
    for "" and for a prefix of U+10FFFF only.
    """
    head = prefix.rstrip("\U0010ffff")
    if not head:
        raise ValueError("every string may begin so: there is none after them")
    following = ord(head[-1]) + 1
    if following in _SURROGATES:  # UTF-8 has none
        following = _SURROGATES.stop
    return head[:-1] + chr(following)
