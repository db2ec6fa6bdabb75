"""Changes of a user's stats: parsed at the door, folded into the document purely."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from domain import oplog
from domain.errors import AppError, Code, erased, refuse_field
from domain.ids import parse_id
from domain.openjson import Number
from domain.oplog import Op
from domain.stats import (
    MAX_TIMES,
    Kind,
    Stats,
    StatsSchema,
    as_number,
    canonical,
    check_times,
)
from domain.times import parse_time

MAX_DELTA = 1e12


@dataclass(frozen=True, slots=True)
class Patch:
    """Numbers to add, then values to set, then times to append; once, if it has an op."""

    deltas: dict[str, Number]
    sets: dict[str, Any]
    append: list[Number]
    op: Op | None = None
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class Replacement:
    """Fields that replace the stored ones if `updated_at` is not older (None: now)."""

    fields: dict[str, Any]
    updated_at: int | None


Change = Patch | Replacement


class Outcome(NamedTuple):
    """What became of a change: `applied` is False for a lost last-write-wins."""

    applied: bool = True
    duplicate: bool = False


def parse_patch(schema: StatsSchema, payload: object) -> Patch:
    """A Patch from a client's JSON; raises AppError naming the field at fault."""
    if not isinstance(payload, dict):
        raise AppError(Code.INVALID_TYPE, "A stats patch must be a JSON object")
    deltas: dict[str, Number] = {}
    sets: dict[str, Any] = {}
    append: list[Number] = []
    op_id: str | None = None
    device_id = ""
    user_id: str | None = None
    for name, value in payload.items():
        spec = schema.numbers.get(name)
        if spec is not None:
            deltas[name] = _delta(name, value, spec.kind)
        elif name == "opId":
            op_id = _op_id(value)
        elif name == "deviceId":
            device_id = parse_id(value, "deviceId")
        elif name == "__set":
            sets = _sets(schema, value)
        elif name == "timePerQuestion":
            append = check_times(value)
        elif name == "userId":
            user_id = parse_id(value)
        elif name != "updatedAt":
            raise _unknown(name)
    op = None
    if op_id is not None:
        op = oplog.op_of(device_id, op_id, canonical([deltas, sets, append]).encode())
    return Patch(deltas, sets, append, op, user_id)


def _unknown(name: str) -> AppError:
    if name == "lastGameResults":
        return refuse_field(Code.INVALID_TYPE, name, "is not a number to add: use __set")
    return refuse_field(Code.UNKNOWN_FIELD, name, "is not a stats field")


def _delta(name: str, value: object, kind: Kind) -> Number:
    number = as_number(name, value, kind)
    if abs(number) > MAX_DELTA:
        raise refuse_field(Code.INVALID_VALUE, name, "must be at most 1e12 in size")
    return number


def _op_id(value: object) -> str:
    if not isinstance(value, str):
        raise refuse_field(Code.INVALID_TYPE, "opId", "must be a string")
    if not 1 <= len(value) <= oplog.MAX_OP_ID_LENGTH:
        raise refuse_field(Code.INVALID_VALUE, "opId", "must have 1 to 64 characters")
    return value


def _sets(schema: StatsSchema, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise refuse_field(Code.INVALID_TYPE, "__set", "must be an object")
    try:
        return {name: schema.check_value(name, entry) for name, entry in value.items()}
    except AppError as error:
        raise error.inside("__set") from None


def parse_replacement(schema: StatsSchema, stats: object) -> Replacement:
    """A Replacement from `stats` of updateStats; `userId` and `rev` inside are ignored."""
    if not isinstance(stats, dict):
        raise refuse_field(Code.INVALID_TYPE, "stats", "must be an object")
    try:
        return _replacement(schema, stats)
    except AppError as error:
        raise error.inside("stats") from None


def _replacement(schema: StatsSchema, stats: Mapping[str, Any]) -> Replacement:
    updated_at: int | None = None
    fields: dict[str, Any] = {}
    for name, value in stats.items():
        if name == "updatedAt":
            updated_at = parse_time(value)
        elif name not in ("userId", "rev"):
            fields[name] = schema.check_value(name, value)
    return Replacement(fields, updated_at)


def apply(schema: StatsSchema, stats: Stats, change: Change, now: int) -> tuple[Stats, Outcome]:
    """The stats after `change` at `now` (ms), and what became of it.

    Answers the same object when nothing at all is to be stored. Raises AppError
    `op_id_reused`, `device_limit` or `erased`.
    """
    if stats.erased:
        raise erased()
    if isinstance(change, Patch):
        return _apply_patch(schema, stats, change, now)
    return _apply_replacement(stats, change, now)


def _apply_patch(
    schema: StatsSchema, stats: Stats, patch: Patch, now: int
) -> tuple[Stats, Outcome]:
    devices = stats.devices
    if patch.op is not None:
        if oplog.seen_before(devices, patch.op):
            return _seen_again(stats, patch.op, now), Outcome(duplicate=True)
        devices = oplog.remember(devices, patch.op, now)
    values = dict(stats.values)
    for name, delta in patch.deltas.items():
        values[name] = schema.numbers[name].clamp(values[name] + delta)
    values.update(patch.sets)
    if patch.append:
        values["timePerQuestion"] = [*values["timePerQuestion"], *patch.append][-MAX_TIMES:]
    if _differ(values, stats.values):
        return _next(stats, values, max(now, stats.updated_at), devices), Outcome()
    if devices is not stats.devices:
        return replace(stats, devices=devices), Outcome()
    return stats, Outcome()


def _seen_again(stats: Stats, op: Op, now: int) -> Stats:
    devices = oplog.touch(stats.devices, op.device, now)
    if devices is stats.devices:
        return stats
    return replace(stats, devices=devices)


def _apply_replacement(stats: Stats, change: Replacement, now: int) -> tuple[Stats, Outcome]:
    given = max(now, stats.updated_at) if change.updated_at is None else change.updated_at
    at = min(given, max(now, stats.updated_at))
    if at < stats.updated_at:
        return stats, Outcome(applied=False)
    values = {**stats.values, **change.fields}
    if change.updated_at is None and not _differ(values, stats.values):
        return stats, Outcome()
    if at == stats.updated_at and not _differ(values, stats.values):
        return stats, Outcome()
    return _next(stats, values, at, stats.devices), Outcome()


def _differ(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    # In Python true equals 1; in the JSON of lastGameResults they are two things.
    return new != old or canonical(new["lastGameResults"]) != canonical(old["lastGameResults"])


def _next(
    stats: Stats, values: dict[str, Any], updated_at: int, devices: dict[str, oplog.OpWindow]
) -> Stats:
    return replace(
        stats,
        values=values,
        rev=stats.rev + 1,
        updated_at=updated_at,
        devices=devices,
    )
