"""Ids of users and devices: one alphabet for all of them."""

import re

from domain.errors import AppError, Code, FieldError

MAX_ID_LENGTH = 128
PATTERN = rf"[A-Za-z0-9._:@|~+=-]{{1,{MAX_ID_LENGTH}}}"
_ID = re.compile(PATTERN)


def parse_id(value: object, field: str = "userId") -> str:
    """`value` if it is a well-formed id; raises AppError `invalid_id` naming `field`."""
    if isinstance(value, str) and _ID.fullmatch(value):
        return value
    message = "must be 1 to 128 characters of A-Z a-z 0-9 . _ : @ | ~ + = -"
    raise AppError(Code.INVALID_ID, f"{field} {message}", [FieldError(f"/{field}", message)])
