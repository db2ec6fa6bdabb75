"""The stats document, its defaults, its public part, and an app's own fields."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from domain.errors import AppError
from domain.patch import apply, parse_patch
from domain.stats import (
    BUILT_IN,
    SAFE_INTEGER,
    Kind,
    NumberField,
    OwnFields,
    Stats,
    StatsSchema,
)
from tests.domain.strategies import SCHEMA, stored

PLAIN = StatsSchema()
FIELDS = {
    *("xp", "hearts", "diamonds", "level", "streak", "accuracy", "maxStreak"),
    *("completedQuestions", "correctAnswers", "wrongAnswers", "totalQuestions"),
    *("totalTimeSpent", "timePerQuestion", "lastGameResults"),
}


def own(**fields: dict[str, Any]) -> OwnFields:
    """As the file is read."""
    return OwnFields.model_validate_json(json.dumps({"fields": fields}))


def refused(**fields: dict[str, Any]) -> bool:
    try:
        own(**fields)
    except ValidationError:
        return True
    return False


# --- the document ---------------------------------------------------------------------------


def test_a_user_never_written_has_the_defaults() -> None:
    document = PLAIN.document(PLAIN.fresh("u"))
    assert document == {
        **dict.fromkeys(FIELDS, 0),
        "userId": "u",
        "rev": 0,
        "updatedAt": "1970-01-01T00:00:00.000Z",
        "hearts": 5,
        "level": 1,
        "timePerQuestion": [],
        "lastGameResults": {},
    }


def test_the_document_shows_nothing_of_versions_and_devices() -> None:
    stats, _ = apply(
        PLAIN, PLAIN.fresh("u"), parse_patch(PLAIN, {"xp": 1, "opId": "o", "deviceId": "d"}), 1
    )
    assert set(PLAIN.document(stats)) == {"userId", "rev", "updatedAt", *FIELDS}


@given(stored)
def test_a_document_is_json_and_reads_back_the_same(stats: Stats) -> None:
    document = SCHEMA.document(stats)
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert SCHEMA.fill(document) == stats.values


def test_fields_not_yet_stored_show_their_defaults() -> None:
    values = SCHEMA.fill({"xp": 9, "_id": "u", "gone": 1})
    assert values == {**SCHEMA.fresh("u").values, "xp": 9}


def test_only_public_fields_are_public() -> None:
    stats = PLAIN.fresh("u")
    assert PLAIN.public(stats) == {"xp": 0, "level": 1, "streak": 0, "maxStreak": 0}
    assert SCHEMA.public(SCHEMA.fresh("u")) == {**PLAIN.public(stats), "coins": 3}


@given(stored)
def test_the_public_part_of_a_document_says_who_when_and_which_rev(stats: Stats) -> None:
    document = SCHEMA.document(stats)
    assert SCHEMA.public_of_document(document) == {
        "userId": stats.user_id,
        **SCHEMA.public(stats),
        "rev": stats.rev,
        "updatedAt": document["updatedAt"],
    }


def test_one_users_defaults_are_not_anothers() -> None:
    one, other = SCHEMA.fresh("a"), SCHEMA.fresh("b")
    one.values["timePerQuestion"].append(1)
    one.values["lastGameResults"]["a"] = 1
    assert other.values == SCHEMA.fresh("b").values


# --- own fields -----------------------------------------------------------------------------


def test_own_fields_are_added_set_clamped_and_shown_like_the_others() -> None:
    schema = StatsSchema(own(gems={"kind": "counter", "max": 10, "public": True}).fields)
    stats = schema.fresh("u")
    stats, _ = apply(schema, stats, parse_patch(schema, {"gems": 4}), 1)
    assert schema.document(stats)["gems"] == 4
    assert schema.public(stats)["gems"] == 4
    stats, _ = apply(schema, stats, parse_patch(schema, {"gems": 400}), 1)
    assert stats.values["gems"] == 10
    with pytest.raises(AppError):
        parse_patch(schema, {"__set": {"gems": 11}})
    with pytest.raises(AppError):
        parse_patch(PLAIN, {"gems": 1})


def test_an_own_field_needs_its_kind_only() -> None:
    spec = own(gems={"kind": "counter"}).fields["gems"]
    assert spec == NumberField(kind=Kind.COUNTER, min=0, max=SAFE_INTEGER, default=0, public=False)


def test_a_gauge_may_have_decimals_everywhere() -> None:
    schema = StatsSchema(
        own(mood={"kind": "gauge", "min": -0.5, "max": 0.5, "default": 0.25}).fields
    )
    stats, _ = apply(schema, schema.fresh("u"), parse_patch(schema, {"mood": -0.125}), 1)
    assert stats.values["mood"] == 0.125


@pytest.mark.parametrize(
    "field",
    [
        {},
        {"kind": "set"},
        {"kind": "counter", "minimum": 1},
        {"kind": "counter", "min": 1},  # the default is below
        {"kind": "counter", "max": -1},
        {"kind": "gauge", "min": 2, "max": 1, "default": 2},
        {"kind": "gauge", "default": 2, "max": 1},
        {"kind": "counter", "max": 2**53},
        {"kind": "gauge", "min": -(2**53)},
        {"kind": "gauge", "max": 1e300},
        {"kind": "counter", "min": -0.5},
        {"kind": "counter", "max": 1.5},
        {"kind": "counter", "default": 0.5},
        {"kind": "gauge", "max": None},
        {"kind": "gauge", "max": float("nan")},
        {"kind": "gauge", "max": float("inf")},
        {"kind": "gauge", "min": float("-inf")},
        {"kind": "gauge", "public": "perhaps"},
    ],
)
def test_an_own_field_that_makes_no_sense_is_refused(field: dict[str, Any]) -> None:
    assert refused(gems=field)


@pytest.mark.parametrize("name", ["gems", "Gems2", "g", "a_b", "g" * 64])
def test_plain_names_are_free(name: str) -> None:
    assert not refused(**{name: {"kind": "counter"}})


@pytest.mark.parametrize(
    "name",
    [
        *BUILT_IN,
        "timePerQuestion",
        "lastGameResults",
        "userId",
        "rev",
        "updatedAt",
        "opId",
        "deviceId",
        "duplicate",
        "__set",
        "__proto__",
        "constructor",
        "prototype",
        "__x",
    ],
)
def test_names_with_a_meaning_are_refused(name: str) -> None:
    assert refused(**{name: {"kind": "counter"}})


@pytest.mark.parametrize("name", ["_id", "_v", "_by", "_devices"])
def test_names_that_the_stored_document_needs_are_refused(name: str) -> None:
    """Values are stored beside the id, the version and the op windows."""
    assert refused(**{name: {"kind": "counter"}})


@pytest.mark.parametrize(
    "name", ["", "a.b", "$inc", "a-b", "a b", "1st", "g" * 65, "\u00e9clat", "a\n", "\ud800"]
)
def test_names_that_are_no_plain_names_are_refused(name: str) -> None:
    assert refused(**{name: {"kind": "counter"}})


def test_an_app_has_at_most_100_own_fields() -> None:
    fields = {f"own{number}": {"kind": "counter"} for number in range(101)}
    assert refused(**fields)
    fields.popitem()
    assert len(own(**fields).fields) == 100


@pytest.mark.parametrize("document", ["{}", "[]", '{"gems": {"kind": "counter"}}', "null"])
def test_a_schema_file_of_another_shape_is_refused(document: str) -> None:
    with pytest.raises(ValidationError):
        OwnFields.model_validate_json(document)


@pytest.mark.parametrize("delta", [1, 100, -100])
def test_a_counter_is_an_integer_also_when_its_bounds_have_a_decimal_point(delta: int) -> None:
    spec = {"kind": "counter", "min": -5.0, "max": 10.0, "default": 2.0}
    schema = StatsSchema(own(gems=spec).fields)
    stats = schema.fresh("u")
    assert json.dumps(schema.document(stats)["gems"]) == "2"
    stats, _ = apply(schema, stats, parse_patch(schema, {"gems": delta}), 1)
    assert isinstance(stats.values["gems"], int)


@given(st.integers(-SAFE_INTEGER, SAFE_INTEGER), st.integers(-(10**12), 10**12))
def test_a_counter_clamps_to_the_nearest_end(value: int, delta: int) -> None:
    spec = SCHEMA.numbers["coins"]
    stats = SCHEMA.fresh("u")
    start = spec.clamp(value)
    stats = replace(stats, values={**stats.values, "coins": start})
    after, _ = apply(SCHEMA, stats, parse_patch(SCHEMA, {"coins": delta}), 1)
    assert after.values["coins"] == sorted([-10, start + delta, 1000])[1]
