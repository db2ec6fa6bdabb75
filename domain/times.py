"""Times as integers: milliseconds since 1970-01-01 UTC inside, ISO 8601 on the wire."""

import math
from datetime import UTC, datetime
from functools import lru_cache

from domain.errors import AppError, Code, FieldError

LAST = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z


@lru_cache(maxsize=256)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@lru_cache(maxsize=256)  # thousands of answers share a millisecond
def iso(millis: int) -> str:
    """`2024-01-15T10:30:00.000Z` for milliseconds since the epoch."""
    seconds, rest = divmod(millis, 1000)
    return f"{_second(seconds)}.{rest:03d}Z"


def parse_time(value: object, field: str = "updatedAt") -> int:
    """Milliseconds from an ISO 8601 string (no offset: UTC) or epoch milliseconds.

    Raises AppError `invalid_value` naming `field`, also for times outside 1970..9999.
    """
    millis: int | None = None
    if isinstance(value, str) and len(value) <= 40:
        millis = _from_iso(value)
    elif isinstance(value, float) and math.isfinite(value):
        millis = int(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        millis = value
    if millis is None or not 0 <= millis <= LAST:
        message = "must be an ISO 8601 time or milliseconds since 1970"
        raise AppError(Code.INVALID_VALUE, f"{field} {message}", [FieldError(f"/{field}", message)])
    return millis


def _from_iso(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    except OverflowError:
        return None
    return (delta.days * 86_400 + delta.seconds) * 1000 + delta.microseconds // 1000
