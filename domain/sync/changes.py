"""A change as a device sends it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from domain.errors import AppError, Code, refuse_field
from domain.ids import parse_id
from domain.openjson import check_json
from domain.parsing import Id, Payload, parse
from domain.stats import canonical
from domain.sync.entities import BOOKKEEPING, EntityTypes, Key
from domain.times import parse_time

MAX_CHANGES = 500
MAX_OPERATION_ID = 128
MAX_DEPTH = 20  # levels of a change's data
MAX_SHOWN = 128  # characters of a malformed id that its acknowledgement repeats


class Operation(StrEnum):
    """What a change does."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


class ChangeBody(Payload):
    """One entry of `changes`."""

    operation_id: Annotated[str, Field(min_length=1, max_length=MAX_OPERATION_ID)]
    id: Id
    entity_type: str
    operation: str
    timestamp: Any
    data: Any = None
    device_id: Id | None = None


OpKey = tuple[str, str, str, str]
"""Device, operation id, entity type and entity id."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change that is valid by itself; `timestamp` in milliseconds, by the device's clock."""

    operation_id: str
    device_id: str
    type: str
    id: str
    operation: Operation
    data: dict[str, Any]
    timestamp: int
    content: bytes
    """A hash of what it does: the same operation id never has another one."""

    @property
    def key(self) -> Key:
        """The entity that it changes."""
        return self.type, self.id

    @property
    def op_key(self) -> OpKey:
        """What counts once."""
        return self.device_id, self.operation_id, self.type, self.id


def parse_change(types: EntityTypes, payload: object, device_id: str) -> Change:
    """A change, from `device_id` unless it names another; raises AppError naming the field."""
    body = parse(ChangeBody, payload)
    kind = types.find(body.entity_type)
    operation = _operation(body.operation)
    timestamp = parse_time(body.timestamp, "timestamp")
    data = _data(body, operation)
    try:
        parsed = parse(kind.model, data)
    except AppError as error:
        raise error.inside("data") from None
    stored = parsed.model_dump(by_alias=True, exclude_unset=True)
    check_json("data", stored, MAX_DEPTH)  # an own type's model may be more liberal
    content = canonical([operation.value, data, timestamp])
    return Change(
        operation_id=body.operation_id,
        device_id=body.device_id or device_id,
        type=kind.name,
        id=body.id,
        operation=operation,
        data=stored,
        timestamp=timestamp,
        content=hashlib.sha256(content.encode()).digest()[:16],
    )


def _operation(value: str) -> Operation:
    try:
        return Operation(value)
    except ValueError:
        raise refuse_field(
            Code.INVALID_VALUE, "operation", "must be create, update or delete"
        ) from None


def _data(body: ChangeBody, operation: Operation) -> dict[str, Any]:
    if operation is Operation.DELETE:
        return {}
    if not isinstance(body.data, dict):
        raise refuse_field(Code.INVALID_TYPE, "data", "must be an object")
    for name in ("id", "_id"):
        if body.data.get(name, body.id) != body.id:
            raise refuse_field(Code.INVALID_VALUE, "data", f"{name} must be the change's id")
    return {name: value for name, value in body.data.items() if name not in BOOKKEEPING}


def shown_ids(payload: object) -> dict[str, str | None]:
    """The ids that a malformed change's acknowledgement repeats, as far as they are texts."""
    given: Mapping[Any, Any] = payload if isinstance(payload, dict) else {}
    shown = {}
    for name in ("operationId", "id"):
        value = given.get(name)
        shown[name] = value[:MAX_SHOWN] if isinstance(value, str) else None
    return shown


def parse_device(value: object) -> str:
    """The pushing device's id; raises AppError."""
    return parse_id(value, "deviceId")
