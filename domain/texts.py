"""Texts that people write about themselves."""

import unicodedata

from domain.errors import Code, refuse_field

_ALLOWED_CONTROLS = "\n\t"
_REFUSED = ("Cc", "Cs")
_REFUSED_IN_A_LINE = (*_REFUSED, "Zl", "Zp")
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def parse_text(name: str, value: object, most: int, *, multiline: bool = False) -> str:
    """`value` stripped and in NFC, null as the empty text; raises AppError naming `name`.

    At most `most` characters, before and after; no control characters and line ends (except, in
    several lines, newlines and tabs), nothing that turns the direction of what comes after it,
    valid Unicode.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise refuse_field(Code.INVALID_TYPE, name, "must be a text")
    text = value if len(value) > most else _clean(value)
    if len(text) > most:
        raise refuse_field(Code.INVALID_VALUE, name, f"must have at most {most} characters")
    allowed = _ALLOWED_CONTROLS if multiline else ""
    refused = _REFUSED if multiline else _REFUSED_IN_A_LINE
    for char in text:
        if char in _BIDI or (unicodedata.category(char) in refused and char not in allowed):
            raise refuse_field(
                Code.INVALID_VALUE, name, f"must not have the character U+{ord(char):04X}"
            )
    return text


def _clean(text: str) -> str:
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n")).strip()
