"""JSON whose names the app chooses: any object within bounds of size and depth."""

import json
import math
from typing import Any

from domain.errors import AppError, Code, refuse_field

SAFE_INTEGER = 2**53 - 1

Number = int | float


def check_json_object(name: str, value: object, max_bytes: int, max_depth: int) -> dict[str, Any]:
    """`value` itself if it is a JSON object within its bounds, with harmless names.

    `max_bytes` counts compact JSON in UTF-8; the object itself is the first of `max_depth`
    levels. Raises AppError `invalid_type` or `invalid_value` naming the field `name`.
    """
    if not isinstance(value, dict):
        raise refuse_field(Code.INVALID_TYPE, name, "must be an object")
    _check(name, value, max_depth, depth=1)
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise refuse_field(Code.INVALID_VALUE, name, "must be valid Unicode") from None
    if size > max_bytes:
        raise refuse_field(Code.INVALID_VALUE, name, f"must be at most {_shown(max_bytes)} of JSON")
    return value


def check_json(name: str, value: object, max_depth: int) -> None:
    """Refuse what could harm a store: deeper objects, names with a meaning, huge integers."""
    _check(name, value, max_depth, depth=1)


def check_number(name: str, value: object) -> Number:
    """`value` if it is a finite JSON number; raises AppError `invalid_type` or `invalid_value`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refuse_field(Code.INVALID_TYPE, name, "must be a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise refuse_field(Code.INVALID_VALUE, name, "must be a finite number")
    return value


def _check(name: str, value: Any, max_depth: int, depth: int) -> None:
    if isinstance(value, dict | list) and depth > max_depth:
        raise refuse_field(Code.INVALID_VALUE, name, f"must be at most {max_depth} levels deep")
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_key(name, key)
            _check(name, inner, max_depth, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check(name, inner, max_depth, depth + 1)
    elif value is not None and not isinstance(value, str | bool):
        check_number(name, value)
        if isinstance(value, int) and not -SAFE_INTEGER <= value <= SAFE_INTEGER:
            raise refuse_field(Code.INVALID_VALUE, name, "integers must be within 2^53-1")


def _check_key(name: str, key: object) -> None:
    harmless = isinstance(key, str) and not any(char in key for char in ".$\0")
    if not harmless or key in ("__proto__", "constructor", "prototype"):
        shown = str(key)[:64]
        raise AppError(
            Code.INVALID_VALUE,
            f"{name}: the name {shown!r} is not allowed (no '.', '$' or prototype names)",
            refuse_field(Code.INVALID_VALUE, name, "has a name that is not allowed").fields,
        )


def _shown(size: int) -> str:
    return f"{size // 1024} KiB" if size % 1024 == 0 else f"{size} bytes"
