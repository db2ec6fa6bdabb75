"""Where a page ends and the next one begins, as an opaque text."""

import base64
from dataclasses import dataclass, replace

import orjson

from domain.errors import Code, refuse_field
from domain.sync.entities import Key, Row
from domain.times import LAST


@dataclass(frozen=True, slots=True)
class PageToken:
    """A user's pull in pages: rows up to stamp `until`, this page behind `last` of stamp `after`.

    `cursor` is the stamp behind which the first page began, `pushed` that of the device's push in
    the first call, 0 if it stored nothing.
    """

    user: str
    cursor: int
    until: int
    pushed: int
    after: int
    last: Key

    def write(self) -> str:
        """As clients get it."""
        parts = [self.user, self.cursor, self.until, self.pushed, self.after, *self.last]
        return base64.urlsafe_b64encode(orjson.dumps(parts)).decode().rstrip("=")

    def behind(self, row: Row) -> "PageToken":
        """The token of the page behind `row`."""
        return replace(self, after=row.stamp, last=row.key)


def read_page_token(text: str, user: str) -> PageToken:
    """A token that `write` has made for this user; raises AppError."""
    try:
        padded = text + "=" * (-len(text) % 4)
        parts = orjson.loads(base64.b64decode(padded, b"-_", validate=True))
        owner, *numbers, kind, row_id = parts
        cursor, until, pushed, after = numbers
        numeric = all(type(number) is int and 0 <= number <= LAST for number in numbers)
        if numeric and owner == user and isinstance(kind, str) and isinstance(row_id, str):
            return PageToken(user, cursor, until, pushed, after, (kind, row_id))
    except (ValueError, TypeError):
        pass
    raise refuse_field(Code.INVALID_VALUE, "pageToken", "take it from the page before")


def write_log_cursor(stamp: int, op_id: bytes) -> str:
    """Behind which operation the next page of the log begins."""
    return f"{stamp}.{op_id.hex()}"


def read_log_cursor(text: str) -> tuple[int, bytes]:
    """What `write_log_cursor` has written; raises AppError."""
    stamp, _, op_id = text.partition(".")
    try:
        if 0 <= (millis := int(stamp)) <= LAST:
            return millis, bytes.fromhex(op_id)
    except ValueError:
        pass
    raise refuse_field(Code.INVALID_VALUE, "cursor", "take it from the page before")
