"""Usernames: what one may look like, and which two are the same to a reader."""

import re
import unicodedata

from domain.errors import AppError, Code, refuse_field
from domain.lookalikes import LOOKALIKES, is_of_a_script, is_one_script

MIN_LENGTH = 2
MAX_LENGTH = 64
MAX_MARKS = 3
_MAX_RAW = 4 * MAX_LENGTH  # decomposed letters count several times until normalised

_PUNCTUATION = frozenset("_.-'")
_ALLOWED = "use letters, digits, single spaces and _ . - '"

# Letters and marks that show nothing, stretch their word, or strike other letters through:
# default ignorable ones, joiners, and those that RFC 5892 (2.6) disallows.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2d7f\u3164\ufe00-\ufe0f\uffa0\U00016fe4]"
    "|[\U0001107f\U000e0100-\U000e01ef]"
    "|[\u0640\u07fa\u302e\u302f]"
    "|[\u0334-\u0338\u20d2\u20d3\u20d8-\u20da\u20e5\u20e6\u20ea\u20eb]"
)
_DOT_OVER_I = re.compile("([ij][\u0300-\u036f]*?)\u0307")
_ZERO_AND_ONE = str.maketrans("01", "ol")


def parse_username(value: object, field: str = "username") -> str:
    """`value` as stored: NFKC, without spaces around it, one space where there were more.

    It has 2 to 64 characters: letters of one script (or Latin with Chinese, Japanese or
    Korean) with at most 3 nonspacing marks each, decimal digits, single spaces and
    `_ . - '`, and begins with a letter or digit. A typographic apostrophe, which phones
    type on their own, becomes a plain one.
    Raises AppError `invalid_type` or `invalid_value` naming `field`.
    Sources: UTS 39 (Unicode 14 with Python 3.11), RFC 8265 for the idea.
    """
    if not isinstance(value, str):
        raise refuse_field(Code.INVALID_TYPE, field, "must be text")
    if len(value) > _MAX_RAW:
        raise _wrong_length(field)
    text = unicodedata.normalize("NFKC", value).replace("\u2019", "'")
    name = " ".join(part for part in text.split(" ") if part)
    if not MIN_LENGTH <= len(name) <= MAX_LENGTH:
        raise _wrong_length(field)
    fault = _fault(name)
    if fault:
        raise refuse_field(Code.INVALID_VALUE, field, fault)
    return name


def username_key(username: str) -> str:
    """One key for all usernames that a reader takes for the same; two users never share one.

    Case does not count, nor does the script of letters that look alike, nor the script of
    digits; accents, spaces and punctuation do. The digits 0 and 1 are as the letters o and
    l, but I is not l: of 13,952 first names 1.1 % would collide (Ian and Lan, Karl and
    Kari), while without it no two names of the letters a to z do.
    A letter has one look-alike: Greek nu counts as n, although it is small like v.
    """
    key = username
    while (folded := _folded(key)) != key:
        key = folded
    return key


def username_looks(username: str) -> list[str]:
    """The keys of everything that a username looks like: no two users share one.

    A capital I looks like a small l, so that "pauI" is "paul", too; "paui" is not.
    """
    return sorted({username_key(username), username_key(username.replace("I", "l"))})


def _folded(text: str) -> str:
    # Accents apart, so that a letter is folded with any accent (and iota subscript in order).
    small = unicodedata.normalize("NFKD", text).casefold()
    letters = unicodedata.normalize("NFKD", small).casefold().translate(LOOKALIKES)
    digits = "".join(_ascii_digit(char) for char in letters).translate(_ZERO_AND_ONE)
    return unicodedata.normalize("NFKC", _DOT_OVER_I.sub(r"\1", digits))


def _ascii_digit(char: str) -> str:
    return char if char.isascii() else str(unicodedata.decimal(char, char))


def _wrong_length(field: str) -> AppError:
    return refuse_field(
        Code.INVALID_VALUE, field, f"must have {MIN_LENGTH} to {MAX_LENGTH} characters"
    )


def _fault(name: str) -> str | None:
    """What is wrong with a name's characters, if anything is."""
    previous = ""
    for char in name:
        kind = unicodedata.category(char)
        if not _is_allowed(char, kind):
            return f"U+{ord(char):04X} is not allowed: {_ALLOWED}"
        if kind[0] == "M" and not _may_have_mark(previous):
            return "an accent must follow a letter"
        previous = char
    if unicodedata.category(name[0])[0] not in "LN":
        return "must begin with a letter or digit"
    if _has_stacked_marks(name):
        return f"a letter must have at most {MAX_MARKS} accents, each once"
    if not is_one_script([char for char in name if char not in _PUNCTUATION and char != " "]):
        return "must not mix letters of several scripts, as of Latin and Cyrillic"
    return None


def _is_allowed(char: str, kind: str) -> bool:
    if char == " " or char in _PUNCTUATION or kind == "Nd":
        return True
    if kind[0] != "L" and kind not in ("Mn", "Mc"):
        return False
    return not _UNSEEN.match(char) and is_of_a_script(char)


def _may_have_mark(previous: str) -> bool:
    """Whether a mark may follow: not after an iota subscript, a letter of its own in capitals."""
    is_letter = previous != "" and unicodedata.category(previous)[0] in "LM"
    return is_letter and not unicodedata.normalize("NFD", previous).endswith("\u0345")


def _has_stacked_marks(name: str) -> bool:
    """Whether a letter has too many nonspacing marks, or one of them twice in a row.

    Spacing marks do not count: Burmese and Indic syllables have several, side by side.
    """
    marks = 0
    previous = ""
    for char in unicodedata.normalize("NFD", name):
        kind = unicodedata.category(char)
        if kind == "Mn":
            marks += 1
            if marks > MAX_MARKS or char == previous:
                return True
        elif kind != "Mc":
            marks = 0
        previous = char
    return False
