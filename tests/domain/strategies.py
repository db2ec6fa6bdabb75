"""What clients send: any JSON at all, JSON under the real names, and patches that are right."""

import json
import math
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from domain.errors import AppError
from domain.stats import SAFE_INTEGER, Kind, NumberField, OwnFields, Stats, StatsSchema
from domain.times import LAST

OWN = OwnFields(
    fields={
        "coins": NumberField(kind=Kind.COUNTER, min=-10, max=1_000, default=3, public=True),
        "mood": NumberField(kind=Kind.GAUGE, min=-1.5, max=1.5),
    }
)
SCHEMA = StatsSchema(OWN.fields)
NAMES = sorted(SCHEMA.numbers)
RESERVED = ["opId", "deviceId", "userId", "updatedAt", "rev", "timePerQuestion"]
RESERVED += ["lastGameResults", "__set", "__proto__", "constructor", "a.b", "$inc", ""]

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:@|~+=-"
ids = st.text(ALPHABET, min_size=1, max_size=128)

# --- any JSON, also what only a lenient parser would let through -------------------------

any_text = st.text(st.characters(exclude_categories=()), max_size=80)
any_names = st.sampled_from(NAMES + RESERVED) | any_text
huge = st.sampled_from([2**53, -(2**53), 10**12 + 1, 10**30, 10**400, -(10**400), 1e308, -1e308])
any_numbers = st.integers() | st.floats() | huge
any_scalars = st.none() | st.booleans() | any_numbers | any_text | st.sampled_from(NAMES)
any_json = st.recursive(
    any_scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(any_names, inner, max_size=5),
    max_leaves=20,
)

# Real names on top, anything below them.
patch_like = st.fixed_dictionaries(
    {},
    optional={
        "__set": st.dictionaries(any_names, any_json, max_size=5) | any_json,
        "timePerQuestion": st.lists(any_numbers, max_size=5) | any_json,
        "opId": st.text(max_size=70) | any_json,
        "deviceId": ids | any_json,
        "userId": ids | any_json,
        **dict.fromkeys(NAMES, any_numbers | any_json),
    },
)

# --- what is right -----------------------------------------------------------------------


def deltas_of(spec: NumberField) -> st.SearchStrategy[int | float]:
    whole = st.integers(-(10**12), 10**12)
    if spec.kind is Kind.COUNTER:
        return whole | st.integers(-1000, 1000).map(float)
    return whole | st.floats(-1e12, 1e12)


def values_of(spec: NumberField) -> st.SearchStrategy[int | float]:
    whole = st.integers(math.ceil(spec.min), math.floor(spec.max))
    ends = st.sampled_from([spec.min, spec.max])
    if spec.kind is Kind.COUNTER:
        return whole | ends
    return whole | ends | st.floats(float(spec.min), float(spec.max))


_seconds = st.integers(0, SAFE_INTEGER) | st.floats(0, 1e9)
times = st.lists(_seconds, max_size=6) | st.builds(
    lambda entry, length: [entry] * length, _seconds, st.integers(990, 1000)
)

plain_text = st.text(st.characters(codec="utf-8"), max_size=10)


def is_harmless(name: str) -> bool:
    """Whether game results may use this name."""
    return not set(name) & set(".$\0") and name not in (
        "__proto__",
        "constructor",
        "prototype",
    )


harmless_names = plain_text.filter(is_harmless)
plain_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-SAFE_INTEGER, SAFE_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | plain_text
)


def _game_results() -> st.SearchStrategy[dict[str, Any]]:
    inner: st.SearchStrategy[Any] = plain_scalars
    for _ in range(5):
        inner = (
            plain_scalars
            | st.lists(inner, max_size=2)
            | st.dictionaries(harmless_names, inner, max_size=2)
        )
    return st.dictionaries(harmless_names, inner, max_size=2)


game_results = _game_results()
full_values = st.fixed_dictionaries(
    {name: values_of(spec) for name, spec in SCHEMA.numbers.items()}
    | {"timePerQuestion": times, "lastGameResults": game_results}
)
some_values = st.fixed_dictionaries(
    {},
    optional={name: values_of(spec) for name, spec in SCHEMA.numbers.items()}
    | {"timePerQuestion": times, "lastGameResults": game_results},
)
good_patches = st.fixed_dictionaries(
    {},
    optional={name: deltas_of(spec) for name, spec in SCHEMA.numbers.items()}
    | {
        "__set": some_values,
        "timePerQuestion": times,
        "userId": ids,
        "deviceId": ids,
        "updatedAt": plain_scalars,
    },
)
moments = st.integers(0, LAST)
stored = st.builds(
    Stats,
    user_id=ids,
    values=full_values,
    rev=st.integers(0, 10**9),
    updated_at=moments,
    version=st.integers(1, 10**9),
)


def as_json(value: object) -> str:
    """JSON text that tells values apart as clients do: `true` is not `1`, but `1.0` is."""
    return json.dumps(json.loads(json.dumps(value), parse_float=_number), sort_keys=True)


def _number(text: str) -> int | float:
    number = float(text)
    return int(number) if number.is_integer() else number


def fault_of(call: Callable[..., object], *args: object) -> AppError | None:
    """The AppError that a call raises, if it does; anything else is not caught."""
    try:
        call(*args)
    except AppError as error:
        return error
    return None


def assert_in_range(stats: Stats) -> None:
    """Every value of the document is of its kind and inside its range."""
    assert set(stats.values) == {*NAMES, "timePerQuestion", "lastGameResults"}
    for name, spec in SCHEMA.numbers.items():
        value = stats.values[name]
        assert not isinstance(value, bool)
        assert isinstance(value, int if spec.kind is Kind.COUNTER else int | float), name
        assert spec.min <= value <= spec.max, name
    assert len(stats.values["timePerQuestion"]) <= 1000
    assert all(0 <= entry <= SAFE_INTEGER for entry in stats.values["timePerQuestion"])
    assert isinstance(stats.values["lastGameResults"], dict)
