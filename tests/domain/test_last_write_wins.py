"""updateStats: the newer or equal time wins, and every order of delivery ends the same."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import AppError, Code
from domain.patch import Outcome, Replacement, apply, parse_patch, parse_replacement
from domain.stats import Stats
from domain.times import LAST, iso
from tests.domain.strategies import (
    SCHEMA,
    as_json,
    assert_in_range,
    full_values,
    good_patches,
    moments,
    some_values,
    stored,
)

NOW = 1_700_000_000_000


def replaced(
    stats: Stats, fields: dict[str, Any], at: int | None, now: int = NOW
) -> tuple[Stats, Outcome]:
    return apply(SCHEMA, stats, Replacement(fields, at), now)


def written(at: int, **values: Any) -> Stats:
    fresh = SCHEMA.fresh("u")
    return replace(fresh, values={**fresh.values, **values}, rev=1, updated_at=at, version=1)


@pytest.mark.parametrize(
    ("at", "applied"), [(NOW - 1001, False), (NOW - 1000, True), (NOW - 999, True), (None, True)]
)
def test_newer_or_equal_applies_and_older_does_not(at: int | None, applied: bool) -> None:
    stats = written(NOW - 1000, xp=5)
    after, outcome = replaced(stats, {"xp": 7}, at)
    assert outcome == Outcome(applied=applied, duplicate=False)
    assert after.values["xp"] == (7 if applied else 5)
    assert after.rev == stats.rev + applied
    assert after.updated_at == (stats.updated_at if not applied else NOW if at is None else at)
    assert applied or after is stats


@pytest.mark.parametrize("at", [NOW, NOW + 1, NOW + 10**9, LAST])
def test_a_time_ahead_of_the_server_counts_as_now(at: int) -> None:
    after, outcome = replaced(written(NOW - 1), {"xp": 7}, at)
    assert outcome.applied
    assert after.updated_at == NOW
    assert replaced(after, {"xp": 8}, NOW)[0].values["xp"] == 8
    assert replaced(after, {"xp": 8}, NOW - 1)[0].values["xp"] == 7


def test_when_the_servers_clock_goes_back_nothing_else_does() -> None:
    stats = written(NOW, xp=5)
    early = NOW - 10**9
    for at in (None, NOW, NOW + 1):
        after, outcome = replaced(stats, {"xp": 7}, at, now=early)
        assert outcome.applied
        assert (after.updated_at, after.values["xp"]) == (NOW, 7)
    for at in (early, NOW - 1):
        assert replaced(stats, {"xp": 7}, at, now=early) == (stats, Outcome(applied=False))


def test_fields_given_replace_and_absent_ones_stay() -> None:
    stats = written(1, xp=5, timePerQuestion=[1, 2], lastGameResults={"a": 1, "b": 2})
    after, _ = replaced(stats, {"timePerQuestion": [3], "lastGameResults": {"c": 3}}, 2)
    assert after.values == {
        **stats.values,
        "timePerQuestion": [3],
        "lastGameResults": {"c": 3},
    }


@given(stored, some_values, st.none() | moments, moments)
def test_an_identical_replay_changes_nothing(
    stats: Stats, fields: dict[str, Any], at: int | None, now: int
) -> None:
    once, first = replaced(stats, fields, at, now)
    twice, second = replaced(once, fields, at, now)
    assert twice is once
    assert second == first


@given(stored, some_values, st.none() | moments, moments)
def test_a_replacement_applies_fully_or_not_at_all(
    stats: Stats, fields: dict[str, Any], at: int | None, now: int
) -> None:
    after, outcome = replaced(stats, fields, at, now)
    assert_in_range(after)
    assert after.updated_at >= stats.updated_at
    if outcome.applied:
        expected = {**stats.values, **fields}
        assert as_json(after.values) == as_json(expected)
        assert after.rev == stats.rev + (after is not stats)
    else:
        assert after is stats
        assert at is not None
        assert at < stats.updated_at


@given(st.data(), st.lists(full_values, min_size=1, max_size=5))
def test_any_order_of_delivery_ends_in_the_newest_values(
    data: st.DataObject, versions: list[dict[str, Any]]
) -> None:
    times = st.lists(
        st.integers(1, NOW), min_size=len(versions), max_size=len(versions), unique=True
    )
    changes = list(zip(data.draw(times), versions, strict=True))
    repeats = data.draw(st.lists(st.sampled_from(changes), max_size=5))
    clock = st.integers(NOW, NOW + 10**6)

    stats = SCHEMA.fresh("u")
    for at, fields in data.draw(st.permutations(changes + repeats)):
        stats, _ = replaced(stats, fields, at, now=data.draw(clock))

    newest, values = max(changes, key=lambda change: change[0])
    assert as_json(stats.values) == as_json(values)
    assert stats.updated_at == newest


mixed = st.one_of(
    good_patches.map(lambda payload: parse_patch(SCHEMA, payload)),
    st.builds(Replacement, some_values, st.none() | moments),
)


@given(st.lists(st.tuples(mixed, moments), max_size=8))
def test_rev_and_time_of_a_document_only_ever_grow(changes: list[tuple[Any, int]]) -> None:
    stats = SCHEMA.fresh("u")
    for change, now in changes:
        after, _ = apply(SCHEMA, stats, change, now)
        shown = as_json(SCHEMA.document(after)) != as_json(SCHEMA.document(stats))
        assert after.rev == stats.rev + (after is not stats)
        assert shown == (after is not stats)
        assert after.updated_at >= stats.updated_at
        stats = after


@given(stored, st.integers(0, 10**9))
def test_a_pulled_document_can_be_posted_back(stats: Stats, later: int) -> None:
    change = parse_replacement(SCHEMA, SCHEMA.document(stats))
    assert change == Replacement(stats.values, stats.updated_at)
    after, outcome = apply(SCHEMA, stats, change, stats.updated_at + later)
    assert outcome.applied
    assert after is stats


def test_the_document_of_a_user_never_written_can_be_posted_back() -> None:
    fresh = SCHEMA.fresh("u")
    change = parse_replacement(SCHEMA, SCHEMA.document(fresh))
    assert apply(SCHEMA, fresh, change, NOW) == (fresh, Outcome())


@pytest.mark.parametrize("at", ["2024-01-15T10:30:00.250Z", 1_705_314_600_250])
def test_both_forms_of_time_are_accepted(at: object) -> None:
    assert parse_replacement(SCHEMA, {"updatedAt": at}) == Replacement({}, 1_705_314_600_250)
    assert iso(1_705_314_600_250) == "2024-01-15T10:30:00.250Z"


def test_user_and_rev_inside_are_ignored_whatever_they_are() -> None:
    assert parse_replacement(SCHEMA, {"userId": {"$gt": ""}, "rev": -1, "xp": 1}) == Replacement(
        {"xp": 1}, None
    )


@pytest.mark.parametrize("name", ["opId", "deviceId", "__set", "__proto__", "a.b", "$set", "nope"])
def test_unknown_fields_of_a_replacement_are_refused_by_name(name: str) -> None:
    with pytest.raises(AppError) as caught:
        parse_replacement(SCHEMA, {"xp": 1, name: 1})
    assert caught.value.code == Code.UNKNOWN_FIELD
    assert name in caught.value.message


@pytest.mark.parametrize("fields", [{"xp": -1}, {"accuracy": 100.5}, {"coins": 1001}, {"mood": 2}])
def test_values_out_of_range_are_refused_not_clamped(fields: dict[str, Any]) -> None:
    with pytest.raises(AppError) as caught:
        parse_replacement(SCHEMA, fields)
    assert caught.value.code == Code.INVALID_VALUE


@pytest.mark.parametrize("at", [None, True, "soon", -1, LAST + 1, float("nan"), [], {}])
def test_a_time_that_is_none_is_refused(at: object) -> None:
    with pytest.raises(AppError) as caught:
        parse_replacement(SCHEMA, {"updatedAt": at})
    assert caught.value.code == Code.INVALID_VALUE


def test_true_replaces_one_in_game_results() -> None:
    stats = written(NOW - 1000, lastGameResults={"won": 1})
    after, _ = replaced(stats, {"lastGameResults": {"won": True}}, NOW - 1000)
    assert after.values["lastGameResults"]["won"] is True
