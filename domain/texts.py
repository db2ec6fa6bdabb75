"""Texts that people write about themselves."""

import unicodedata

from domain.errors import Code, refuse_field

_ALLOWED_CONTROLS = "\n\t"
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def parse_text(name: str, value: object, most: int, *, multiline: bool = False) -> str:
    """`value` stripped and in NFC, null as the empty text; raises AppError naming `name`.

    At most `most` characters; no control characters (except, in several lines, newlines and
    tabs), nothing that turns the direction of what comes after it, valid Unicode.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise refuse_field(Code.INVALID_TYPE, name, "must be a text")
    if len(value) > most:
        raise refuse_field(Code.INVALID_VALUE, name, f"must have at most {most} characters")
    text = unicodedata.normalize("NFC", value.replace("\r\n", "\n")).strip()
    allowed = _ALLOWED_CONTROLS if multiline else ""
    for char in text:
        if char in _BIDI or (unicodedata.category(char) in ("Cc", "Cs") and char not in allowed):
            raise refuse_field(
                Code.INVALID_VALUE, name, f"must not have the character U+{ord(char):04X}"
            )
    return text
