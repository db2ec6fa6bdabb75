"""From a client's JSON to a pydantic model, or to an error that names the field."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from domain.errors import AppError, Code, FieldError, pointer
from domain.ids import PATTERN, parse_id

MAX_FIELDS_SHOWN = 10
MAX_NAMES = 200  # of one object; each unknown one would cost time


class Payload(BaseModel):
    """What a client sends: camelCase names, strict types, no unknown fields."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", strict=True, frozen=True, allow_inf_nan=False
    )


class Query(Payload):
    """A query string: names and texts, so that numbers come as texts."""

    model_config = ConfigDict(strict=False)


def checked(check: Callable[[object], Any]) -> BeforeValidator:
    """For a field of a Payload: `check` takes what came, and its AppError refuses it."""

    def validate(value: object) -> Any:
        try:
            return check(value)
        except AppError as error:
            reason = {"reason": error.fields[0].message}
            raise PydanticCustomError(error.code.value, "{reason}", reason) from None

    return BeforeValidator(validate)


def _id(value: str) -> str:
    try:
        return parse_id(value)
    except AppError as error:
        reason = {"reason": error.fields[0].message}
        raise PydanticCustomError("invalid_id", "{reason}", reason) from None


ID_SCHEMA: Mapping[str, Any] = {
    "type": "string",
    "pattern": f"^{PATTERN}$",
    "examples": ["ada"],
}
"""What `Id` takes, as JSON Schema."""

Id = Annotated[str, AfterValidator(_id), WithJsonSchema(dict(ID_SCHEMA))]
"""The id of a user or a device."""

P = TypeVar("P", bound=Payload)


def parse(model: type[P], payload: object) -> P:
    """`payload` as a `model`; raises AppError with the code of its first fault."""
    if not isinstance(payload, dict):
        raise AppError(Code.INVALID_TYPE, "Expected a JSON object")
    if len(payload) > MAX_NAMES:
        raise AppError(Code.INVALID_VALUE, f"The object has more than {MAX_NAMES} fields")
    try:
        return model.model_validate(payload)
    except ValidationError as error:
        raise _refusal(error) from None


def _refusal(error: ValidationError) -> AppError:
    faults = error.errors(include_url=False, include_input=False)
    fields = [
        FieldError(pointer(*fault["loc"]), fault["msg"]) for fault in faults[:MAX_FIELDS_SHOWN]
    ]
    first = fields[0]
    return AppError(
        _code(faults[0]["type"]), f"{first.pointer.lstrip('/') or 'body'}: {first.message}", fields
    )


_CODES = frozenset(Code)  # of `checked` fields, whose faults are named by their code


def _code(kind: str) -> Code:
    if kind == "extra_forbidden":
        return Code.UNKNOWN_FIELD
    if kind in _CODES:
        return Code(kind)
    if kind == "missing":
        return Code.MISSING_FIELD
    if kind.endswith("_type"):
        return Code.INVALID_TYPE
    return Code.INVALID_VALUE
