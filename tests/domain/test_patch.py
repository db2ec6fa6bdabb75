"""A patch folds into the document: numbers add, then values are set, then times append."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import AppError
from domain.patch import Outcome, apply, parse_patch
from domain.stats import SAFE_INTEGER, Kind, Stats
from tests.domain.strategies import (
    SCHEMA,
    as_json,
    assert_in_range,
    good_patches,
    moments,
    patch_like,
    stored,
)

NOW = 1_700_000_000_000


def with_values(**values: Any) -> Stats:
    fresh = SCHEMA.fresh("u")
    return replace(fresh, values={**fresh.values, **values})


def patched(stats: Stats, payload: dict[str, Any], now: int = NOW) -> Stats:
    return apply(SCHEMA, stats, parse_patch(SCHEMA, payload), now)[0]


def test_numbers_are_added() -> None:
    after = patched(with_values(xp=10, accuracy=50.5), {"xp": 5, "accuracy": -0.5, "coins": -1})
    assert after.values["xp"] == 15
    assert after.values["accuracy"] == 50.0
    assert after.values["coins"] == 2


@pytest.mark.parametrize("payload", [{"xp": 7, "__set": {"xp": 2}}, {"__set": {"xp": 2}, "xp": 7}])
def test_a_value_set_wins_over_a_number_added_in_the_same_patch(payload: dict[str, Any]) -> None:
    assert patched(with_values(xp=100), payload).values["xp"] == 2


@pytest.mark.parametrize(
    "payload",
    [
        {"timePerQuestion": [3, 4], "__set": {"timePerQuestion": [1, 2]}},
        {"__set": {"timePerQuestion": [1, 2]}, "timePerQuestion": [3, 4]},
    ],
)
def test_times_append_to_the_list_that_the_same_patch_sets(payload: dict[str, Any]) -> None:
    assert patched(with_values(timePerQuestion=[9]), payload).values["timePerQuestion"] == [
        1,
        2,
        3,
        4,
    ]


def test_the_newest_thousand_times_are_kept() -> None:
    after = patched(with_values(timePerQuestion=list(range(999))), {"timePerQuestion": [-0.0, 1.5]})
    assert after.values["timePerQuestion"] == [*range(1, 999), 0, 1.5]
    after = patched(after, {"timePerQuestion": list(range(1000))})
    assert after.values["timePerQuestion"] == list(range(1000))


def test_a_counter_stops_at_zero_and_at_the_largest_safe_integer() -> None:
    after = patched(with_values(xp=3, diamonds=SAFE_INTEGER - 1), {"xp": -4, "diamonds": 10**12})
    assert after.values["xp"] == 0
    assert after.values["diamonds"] == SAFE_INTEGER
    assert patched(after, {"xp": 1, "diamonds": -1}).values["xp"] == 1


def test_a_gauge_stops_at_the_ends_of_its_range() -> None:
    after = patched(with_values(accuracy=99.5, mood=-1), {"accuracy": 0.75, "mood": -0.75})
    assert after.values["accuracy"] == 100
    assert after.values["mood"] == -1.5


def test_a_whole_number_with_a_decimal_point_counts_as_an_integer() -> None:
    after = patched(with_values(xp=1), {"xp": 10.0, "__set": {"level": 4.0}})
    assert (after.values["xp"], after.values["level"]) == (11, 4)
    assert type(after.values["xp"]) is int
    assert type(after.values["level"]) is int


@given(stored, good_patches, moments)
def test_every_right_patch_is_accepted_and_folds_as_described(
    stats: Stats, payload: dict[str, Any], now: int
) -> None:
    expected = dict(stats.values)
    for name, spec in SCHEMA.numbers.items():
        if name in payload:
            expected[name] = max(spec.min, min(spec.max, stats.values[name] + payload[name]))
    expected |= payload.get("__set", {})
    appended = expected["timePerQuestion"] + payload.get("timePerQuestion", [])
    expected["timePerQuestion"] = appended[-1000:]

    after = patched(stats, payload, now)

    assert after.values == expected
    assert_in_range(after)


@given(stored, patch_like, moments)
def test_whatever_is_accepted_folds_into_a_document_within_all_ranges(
    stats: Stats, payload: dict[str, Any], now: int
) -> None:
    try:
        change = parse_patch(SCHEMA, payload)
    except AppError:
        return
    after, _ = apply(SCHEMA, stats, change, now)
    assert_in_range(after)


@given(stored, good_patches, moments)
def test_rev_grows_by_one_with_a_visible_change_and_stays_otherwise(
    stats: Stats, payload: dict[str, Any], now: int
) -> None:
    after = patched(stats, payload, now)
    changed = after is not stats
    assert after.rev == stats.rev + changed
    assert after.updated_at == (max(now, stats.updated_at) if changed else stats.updated_at)
    assert changed or as_json(after.values) == as_json(stats.values)
    assert not changed or as_json(after.values) != as_json(stats.values)


@given(stored, good_patches, moments)
def test_folding_leaves_the_document_it_was_given_alone(
    stats: Stats, payload: dict[str, Any], now: int
) -> None:
    times = list(stats.values["timePerQuestion"])
    before = replace(stats, values={**stats.values, "timePerQuestion": times})
    patched(stats, payload, now)
    assert stats == before


@pytest.mark.parametrize(
    "payload", [{}, {"xp": 0}, {"__set": {}}, {"timePerQuestion": []}, {"hearts": -9}]
)
def test_a_patch_that_changes_nothing_answers_the_document_as_it_is(
    payload: dict[str, Any],
) -> None:
    stats = with_values(hearts=0)
    after, outcome = apply(SCHEMA, stats, parse_patch(SCHEMA, payload), NOW)
    assert after is stats
    assert outcome == Outcome(applied=True, duplicate=False)


@pytest.mark.parametrize(("old", "new"), [(1, True), (0, False), (True, 1), ([0], [False])])
def test_true_is_not_one_in_game_results(old: object, new: object) -> None:
    stats = with_values(lastGameResults={"won": old})
    after = patched(stats, {"__set": {"lastGameResults": {"won": new}}})
    assert repr(after.values["lastGameResults"]) == repr({"won": new})
    assert after.rev == stats.rev + 1


@pytest.mark.parametrize(
    "values", [{"accuracy": 50.0}, {"timePerQuestion": [1.0]}, {"lastGameResults": {"a": [2.0]}}]
)
def test_a_decimal_point_is_no_change(values: dict[str, Any]) -> None:
    stats = with_values(accuracy=50, timePerQuestion=[1], lastGameResults={"a": [2]})
    assert patched(stats, {"__set": values}) is stats


def test_one_counter_of_several_deltas_never_disturbs_another() -> None:
    stats = SCHEMA.fresh("u")
    for name, spec in SCHEMA.numbers.items():
        step = 1 if spec.kind is Kind.COUNTER else 0.25
        after = patched(stats, {name: step})
        assert after.values == {**stats.values, name: spec.default + step}


@given(st.lists(good_patches, max_size=6), st.lists(moments, min_size=6, max_size=6))
def test_times_of_change_never_go_back_when_the_servers_clock_does(
    payloads: list[dict[str, Any]], clock: list[int]
) -> None:
    stats = SCHEMA.fresh("u")
    for payload, now in zip(payloads, clock, strict=False):
        after = patched(stats, payload, now)
        assert after.updated_at >= stats.updated_at
        assert after.rev - stats.rev in (0, 1)
        stats = after
