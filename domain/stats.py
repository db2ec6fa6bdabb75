"""The stats document: its fields, their ranges, and how it looks on the wire."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from domain.errors import Code, refuse_field
from domain.openjson import SAFE_INTEGER as SAFE_INTEGER
from domain.openjson import Number, check_json_object, check_number
from domain.oplog import OpWindow
from domain.times import iso

MAX_TIMES = 1_000
MAX_OWN_FIELDS = 100
GAME_RESULTS_BYTES = 8 * 1024
GAME_RESULTS_DEPTH = 6


def _plain(number: Number) -> Number:
    """`2.0` is 2, as in JSON, so that it is the same content when it is sent again."""
    if isinstance(number, float) and number.is_integer() and abs(number) <= SAFE_INTEGER:
        return int(number)
    return number


Bound = Annotated[Number, AfterValidator(_plain)]


class Kind(StrEnum):
    """How a numeric field behaves: a counter is an integer, a gauge may have decimals."""

    COUNTER = "counter"
    GAUGE = "gauge"


class NumberField(BaseModel):
    """A numeric field of the document, with its range (both ends included) and default."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Kind
    min: Bound = 0
    max: Bound = SAFE_INTEGER
    default: Bound = 0
    public: bool = False

    @model_validator(mode="after")
    def _range_makes_sense(self) -> Self:
        if not -SAFE_INTEGER <= self.min <= self.default <= self.max <= SAFE_INTEGER:
            raise ValueError("needs -(2^53-1) <= min <= default <= max <= 2^53-1")
        if self.kind is Kind.COUNTER and not all(
            float(bound).is_integer() for bound in (self.min, self.max, self.default)
        ):
            raise ValueError("a counter's min, max and default are integers")
        return self

    def clamp(self, value: Number) -> Number:
        """The nearest value inside the range."""
        return max(self.min, min(self.max, value))

    def accepts(self, name: str, value: object) -> Number:
        """`value` as this field stores it; raises AppError `invalid_type` or `invalid_value`."""
        number = as_number(name, value, self.kind)
        if not self.min <= number <= self.max:
            raise refuse_field(
                Code.INVALID_VALUE, name, f"must be between {self.min} and {self.max}"
            )
        return number


def as_number(name: str, value: object, kind: Kind) -> Number:
    """A finite JSON number, an integer for counters (`10.0` counts as 10)."""
    number = check_number(name, value)
    if kind is Kind.COUNTER:
        if number != int(number):
            raise refuse_field(Code.INVALID_TYPE, name, "must be an integer")
        return int(number)
    return _plain(number)


def _counter(default: int = 0, *, public: bool = False) -> NumberField:
    return NumberField(kind=Kind.COUNTER, default=default, public=public)


BUILT_IN: Mapping[str, NumberField] = {
    "xp": _counter(public=True),
    "hearts": _counter(5),
    "diamonds": _counter(),
    "level": _counter(1, public=True),
    "streak": _counter(public=True),
    "accuracy": NumberField(kind=Kind.GAUGE, max=100),
    "maxStreak": _counter(public=True),
    "completedQuestions": _counter(),
    "correctAnswers": _counter(),
    "wrongAnswers": _counter(),
    "totalQuestions": _counter(),
    "totalTimeSpent": NumberField(kind=Kind.GAUGE),
}

RESERVED = frozenset(
    {"userId", "opId", "deviceId", "updatedAt", "rev", "duplicate", "__set"}
    | {"timePerQuestion", "lastGameResults", "__proto__", "constructor", "prototype"}
    | set(BUILT_IN)
)


class OwnFields(BaseModel):
    """The file named by STATS_SCHEMA: `{"fields": {name: NumberField}}`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fields: dict[str, NumberField] = Field(max_length=MAX_OWN_FIELDS)

    @model_validator(mode="after")
    def _names_are_free(self) -> Self:
        for name in self.fields:
            if not name.isidentifier() or not name.isascii() or len(name) > 64:
                raise ValueError(f"{name!r}: use letters, digits and _, at most 64")
            if name in RESERVED or name.startswith("_"):
                raise ValueError(f"{name!r} is reserved")
        return self


@dataclass(frozen=True, slots=True)
class Stats:
    """One user's stats as stored.

    `rev` is what clients see; it grows by one with every change of a visible value.
    `version` and `writers` are the storage's: they say what a write replaces.
    Of an erased person a tombstone stays: `erased`, with the values of somebody never written.
    """

    user_id: str
    values: dict[str, Any]
    rev: int = 0
    updated_at: int = 0
    version: int = 0
    devices: dict[str, OpWindow] = field(default_factory=dict)
    writers: bytes = field(default=b"", compare=False)
    erased: bool = False


class StatsSchema:
    """All fields of the document: the built-in ones and the app's own."""

    def __init__(self, own: Mapping[str, NumberField] | None = None) -> None:
        self.numbers: dict[str, NumberField] = {**BUILT_IN, **(own or {})}
        self.public_names = [name for name, spec in self.numbers.items() if spec.public]
        self._own = list(own or {})

    def fresh(self, user_id: str) -> Stats:
        """The document of a user never written: defaults, `rev` 0."""
        return Stats(user_id, self.fill({}))

    def fill(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Every field's value: the stored one, else its default."""
        values = {name: stored.get(name, spec.default) for name, spec in self.numbers.items()}
        values["timePerQuestion"] = stored.get("timePerQuestion", [])
        values["lastGameResults"] = stored.get("lastGameResults", {})
        return values

    def document(self, stats: Stats) -> dict[str, Any]:
        """The stats document of PROTOCOL section 2: GET answer, ack and broadcast alike."""
        values = stats.values
        return {
            "userId": stats.user_id,
            "rev": stats.rev,
            "updatedAt": iso(stats.updated_at),
            **values,
        }

    def public(self, stats: Stats) -> dict[str, Any]:
        """What anyone may see of a user's stats."""
        return {name: stats.values[name] for name in self.public_names}

    def public_of_document(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """The public part of an encoded document, with who, `rev` and when."""
        names = ["userId", *self.public_names, "rev", "updatedAt"]
        return {name: document[name] for name in names}

    def check_value(self, name: str, value: object) -> Any:
        """`value` as stored when it replaces field `name`; raises AppError."""
        if name in self.numbers:
            return self.numbers[name].accepts(name, value)
        if name == "timePerQuestion":
            return check_times(value)
        if name == "lastGameResults":
            return check_game_results(value)
        raise refuse_field(Code.UNKNOWN_FIELD, name, "is not a stats field")


def check_times(value: object) -> list[Number]:
    """Seconds per question: at most 1,000 finite numbers from 0 up."""
    name = "timePerQuestion"
    if not isinstance(value, list):
        raise refuse_field(Code.INVALID_TYPE, name, "must be an array of seconds")
    if len(value) > MAX_TIMES:
        raise refuse_field(Code.INVALID_VALUE, name, f"must have at most {MAX_TIMES} entries")
    times = [as_number(name, entry, Kind.GAUGE) for entry in value]
    if any(not 0 <= entry <= SAFE_INTEGER for entry in times):
        raise refuse_field(Code.INVALID_VALUE, name, "entries must be 0 or more seconds")
    return times


def check_game_results(value: object) -> dict[str, Any]:
    """Any JSON object of at most 8 KiB, 6 levels deep, with harmless names."""
    return check_json_object("lastGameResults", value, GAME_RESULTS_BYTES, GAME_RESULTS_DEPTH)


def canonical(value: Any) -> str:
    """One text for JSON that means the same: names sorted, `2.0` as `2`; true is not 1."""
    text = _encode(value)
    if _MAYBE_FLOAT.search(text):  # a whole number has another text as a float
        return _encode(_plain_json(value))
    return text


_MAYBE_FLOAT = re.compile(r"\d[.e]")
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def _plain_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain_json(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain_json(inner) for inner in value]
    return _plain(value) if isinstance(value, float) else value
