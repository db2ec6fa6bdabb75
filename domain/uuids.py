"""Ids that clients make for themselves."""

import re

from domain.errors import Code, refuse_field

_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")


def parse_uuid(value: object, field: str = "id") -> str:
    """`value`, a UUID (RFC 9562) as text, as it came; raises AppError `invalid_id`."""
    if isinstance(value, str) and _UUID.fullmatch(value):
        return value
    raise refuse_field(
        Code.INVALID_ID, field, "must be a UUID such as 123e4567-e89b-42d3-a456-426614174000"
    )
