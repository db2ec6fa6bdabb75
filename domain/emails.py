"""E-mail addresses: a practical check at the door, and which two are the same."""

import re
import unicodedata

from domain.errors import AppError, Code, refuse_field

MAX_LENGTH = 254
MAX_LOCAL = 64

# Of RFC 5322's specials only the dot: the others need quotes, which no one's address has.
_LOCAL = re.compile(r'[^@()<>\[\]:;,\\"]+')
# Letters of any script, for addresses as people write them; no underscore.
_LABEL = re.compile(r"(?!-)(?:[^\W_]|-)+(?<!-)")


def parse_email(value: object, field: str = "email") -> str:
    """The address as typed, composed (NFC) and without space around it, if mail may reach it.

    It has at most 254 characters (RFC 5321), one @, at most 64 characters before it, and
    after it a domain of two labels or more, or `localhost`. Whether it exists only a
    message can tell.
    Raises AppError `invalid_type` or `invalid_value` naming `field`.
    """
    if not isinstance(value, str):
        raise refuse_field(Code.INVALID_TYPE, field, "must be text")
    if len(value) > 2 * MAX_LENGTH:  # not worth normalising
        raise _too_long(field)
    email = unicodedata.normalize("NFC", value.strip())
    if len(email) > MAX_LENGTH:
        raise _too_long(field)
    # Also as its key is made, so that a wide @ or dot cannot hide another structure.
    forms = (email, unicodedata.normalize("NFKC", email))
    if any(unicodedata.category(char)[0] in "CZ" for form in forms for char in form):
        raise refuse_field(
            Code.INVALID_VALUE, field, "must have no spaces and no invisible characters"
        )
    if not all(_is_address(form) for form in forms):
        raise refuse_field(Code.INVALID_VALUE, field, "must be an address like ada@example.com")
    return email


def email_key(email: str) -> str:
    """One key for all ways to write an address: compatible characters and case do not count.

    Send mail to the address that was stored, never to one typed later with the same key:
    it may be another person's mailbox.
    """
    key = email
    while (folded := _folded(key)) != key:
        key = folded
    return key


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKD", text).casefold())


def _is_address(email: str) -> bool:
    local, at, domain = email.partition("@")
    if not at or len(local) > MAX_LOCAL or not _LOCAL.fullmatch(local):
        return False
    labels = domain.split(".")
    return domain.casefold() == "localhost" or (
        len(labels) > 1 and all(_is_label(label) for label in labels)
    )


def _is_label(label: str) -> bool:
    # Marks are no \w to Python, but belong to the letters of many scripts.
    letters = "".join(char for char in label if unicodedata.category(char) not in ("Mn", "Mc"))
    return len(label) <= 63 and _LABEL.fullmatch(letters) is not None


def _too_long(field: str) -> AppError:
    return refuse_field(Code.INVALID_VALUE, field, f"must have at most {MAX_LENGTH} characters")
