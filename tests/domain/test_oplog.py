"""A device's repeats are recognised; 32 devices a user are remembered."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import AppError, Code
from domain.oplog import OpWindow, op_of
from domain.patch import Outcome, apply, parse_patch
from domain.stats import Stats
from tests.domain.strategies import SCHEMA, game_results, ids, stored

NOW = 1_700_000_000_000
DEVICES = 32
DAY = 24 * 3600 * 1000


def send(stats: Stats, payload: dict[str, Any], now: int = NOW) -> tuple[Stats, Outcome]:
    return apply(SCHEMA, stats, parse_patch(SCHEMA, payload), now)


def op(device: str, number: int = 0, **patch: Any) -> dict[str, Any]:
    sender = {"deviceId": device} if device else {}
    return {"xp": 1, **patch, "opId": f"op-{number}", **sender}


def with_devices(count: int, now: int = NOW) -> Stats:
    stats = SCHEMA.fresh("u")
    for number in range(count):
        stats, _ = send(stats, op(f"device-{number}"), now)
    return stats


def code_of(stats: Stats, payload: dict[str, Any], now: int = NOW) -> Code:
    with pytest.raises(AppError) as caught:
        send(stats, payload, now)
    return caught.value.code


# --- repeats ------------------------------------------------------------------------------


def test_a_repeat_answers_duplicate_with_the_current_document() -> None:
    stats, first = send(SCHEMA.fresh("u"), op("phone"))
    stats, _ = send(stats, {"xp": 10})
    after, second = send(stats, op("phone"), NOW + DAY)
    assert first == Outcome(applied=True, duplicate=False)
    assert second == Outcome(applied=True, duplicate=True)
    assert SCHEMA.document(after) == SCHEMA.document(stats)


def test_a_patch_without_op_id_counts_each_time() -> None:
    stats, _ = send(SCHEMA.fresh("u"), {"xp": 1, "deviceId": "phone"})
    stats, outcome = send(stats, {"xp": 1, "deviceId": "phone"})
    assert (stats.values["xp"], stats.devices, outcome.duplicate) == (2, {}, False)


def test_op_ids_of_different_devices_and_of_no_device_are_different_ops() -> None:
    stats = SCHEMA.fresh("u")
    for device in ("phone", "tablet", "-", ""):
        stats, outcome = send(stats, op(device))
        assert not outcome.duplicate
    assert stats.values["xp"] == 4


def test_an_op_that_changes_nothing_is_remembered_without_a_new_rev() -> None:
    before = SCHEMA.fresh("u")
    stats, outcome = send(before, op("phone", xp=0))
    assert not outcome.duplicate
    assert (stats.rev, stats.updated_at) == (before.rev, before.updated_at)
    assert send(stats, op("phone", xp=0))[1].duplicate


@pytest.mark.parametrize(
    "other",
    [
        {"xp": 2},
        {"level": 0},
        {"timePerQuestion": [1]},
        {"__set": {"streak": 1}},
        {"__set": {"xp": 1}},
        {"__set": {"lastGameResults": {}}},
    ],
)
def test_the_same_op_id_with_another_content_is_refused(other: dict[str, Any]) -> None:
    stats, _ = send(SCHEMA.fresh("u"), op("phone"))
    assert code_of(stats, op("phone", **other)) == Code.OP_ID_REUSED


def test_true_instead_of_one_is_another_content() -> None:
    one, true = (op("phone", __set={"lastGameResults": {"won": won}}) for won in (1, True))
    stats, _ = send(SCHEMA.fresh("u"), one)
    assert code_of(stats, true) == Code.OP_ID_REUSED


def test_the_order_of_names_and_the_reserved_keys_are_no_content() -> None:
    results = {"a": 1, "b": {"c": 1, "d": 2}}
    turned = {"b": {"d": 2, "c": 1}, "a": 1}
    first = {"xp": 1, "level": 2, "__set": {"streak": 3, "lastGameResults": results}}
    again = {"__set": {"lastGameResults": turned, "streak": 3}, "level": 2, "xp": 1}
    stats, _ = send(SCHEMA.fresh("u"), {**first, "opId": "o"})
    assert send(stats, {"updatedAt": NOW, **again, "userId": "u", "opId": "o"})[1].duplicate


@pytest.mark.parametrize(
    ("whole", "decimal"),
    [
        ({"xp": 2}, {"xp": 2.0}),
        ({"totalTimeSpent": 2}, {"totalTimeSpent": 2.0}),
        ({"__set": {"accuracy": 50}}, {"__set": {"accuracy": 50.0}}),
        ({"timePerQuestion": [1]}, {"timePerQuestion": [1.0]}),
        ({"__set": {"timePerQuestion": [1]}}, {"__set": {"timePerQuestion": [1.0]}}),
        ({"__set": {"lastGameResults": {"a": [2]}}}, {"__set": {"lastGameResults": {"a": [2.0]}}}),
    ],
)
def test_a_repeat_may_write_the_same_number_with_a_decimal_point(
    whole: dict[str, Any], decimal: dict[str, Any]
) -> None:
    """An outbox that keeps numbers as doubles sends `2` first and `2.0` after a restart."""
    stats, _ = send(SCHEMA.fresh("u"), {**whole, "opId": "o"})
    assert send(stats, {**decimal, "opId": "o"})[1].duplicate


@given(stored, game_results, ids, st.text(min_size=1, max_size=64))
def test_every_op_is_recognised_at_once(
    stats: Stats, results: dict[str, Any], device: str, op_id: str
) -> None:
    payload = {"__set": {"lastGameResults": results}, "deviceId": device, "opId": op_id}
    after, first = send(stats, payload)
    again, second = send(after, payload)
    assert not first.duplicate
    assert second.duplicate
    assert again.values == after.values


# --- the window ---------------------------------------------------------------------------


@given(st.integers(0, 200))
def test_exactly_the_newest_64_ops_of_a_device_are_remembered(count: int) -> None:
    ops = [op_of("phone", str(number), b"") for number in range(count)]
    window = OpWindow()
    for one in ops:
        window = window.remember(one, NOW)
    known = [window.find(one) is not None for one in ops]
    assert known == [number >= count - 64 for number in range(count)]


def test_bytes_that_straddle_two_entries_are_no_op() -> None:
    first, second = op_of("phone", "1", b"1"), op_of("phone", "2", b"2")
    window = OpWindow().remember(first, NOW).remember(second, NOW)
    for shift in range(1, 12):
        straddling = type(first)(first.device, window.entries[shift : shift + 8], b"")
        assert window.find(straddling) is None


def test_other_devices_do_not_push_an_op_out() -> None:
    stats, _ = send(SCHEMA.fresh("u"), op("phone"))
    for number in range(200):
        stats, _ = send(stats, op("tablet", number))
        stats, _ = send(stats, op("", number))
    assert send(stats, op("phone"), NOW + 365 * DAY)[1].duplicate


# --- devices ------------------------------------------------------------------------------


def test_the_33rd_device_is_refused_while_all_were_seen_within_30_days() -> None:
    stats = with_devices(DEVICES)
    assert code_of(stats, op("new"), NOW + 30 * DAY - 1) == Code.DEVICE_LIMIT
    assert not send(stats, op("device-0", 1))[1].duplicate


def test_the_33rd_device_takes_the_place_of_the_one_unseen_longest() -> None:
    stats = with_devices(DEVICES)
    for number in range(DEVICES):
        if number != 7:
            stats, _ = send(stats, op(f"device-{number}", 1), NOW + 1)
    known = set(stats.devices)
    after, _ = send(stats, op("new"), NOW + 32 * DAY)
    assert len(after.devices) == DEVICES
    assert len(known - set(after.devices)) == 1
    assert not send(after, op("device-7"), NOW + 32 * DAY)[1].duplicate
    assert send(after, op("device-8"), NOW + 32 * DAY)[1].duplicate
    assert send(after, op("new"), NOW + 32 * DAY)[1].duplicate


def test_patches_without_a_device_are_not_counted_and_never_forgotten() -> None:
    stats, _ = send(SCHEMA.fresh("u"), op(""), NOW - 365 * DAY)
    for number in range(DEVICES):
        stats, _ = send(stats, op(f"device-{number}"))
    stats, _ = send(stats, op("", 1))
    assert code_of(stats, op("new")) == Code.DEVICE_LIMIT
    after, _ = send(stats, op("new"), NOW + 400 * DAY)
    assert send(after, op(""), NOW + 400 * DAY)[1].duplicate
    assert code_of(with_devices(DEVICES), op("new")) == Code.DEVICE_LIMIT
    assert not send(with_devices(DEVICES), op(""))[1].duplicate


def test_a_device_that_only_repeats_itself_counts_as_seen() -> None:
    """Its op is still unacknowledged: forgotten now, the next repeat would count twice."""
    stats, outcome = send(with_devices(DEVICES), op("device-0"), NOW + 29 * DAY)
    assert outcome.duplicate
    stats, _ = send(stats, op("new"), NOW + 31 * DAY)  # there are 31 unseen for longer
    xp = stats.values["xp"]
    stats, outcome = send(stats, op("device-0"), NOW + 31 * DAY)
    assert (outcome.duplicate, stats.values["xp"]) == (True, xp)


def test_a_repeat_is_noted_and_makes_no_rev() -> None:
    stats = with_devices(1)
    assert send(stats, op("device-0"), NOW - DAY)[0] is stats
    later, _ = send(stats, op("device-0"), NOW + DAY)
    assert later.rev == stats.rev
    assert later is not stats
    assert SCHEMA.document(later) == SCHEMA.document(stats)
    assert send(later, op("device-0"), NOW + DAY)[0] is later


def test_no_device_is_forgotten_within_30_days_of_its_last_repeat() -> None:
    """Also when that repeat was not noted, being of the same day as the op."""
    stats, last = with_devices(DEVICES), NOW + DAY - 1
    for number in range(DEVICES):
        stats, outcome = send(stats, op(f"device-{number}"), last)
        assert outcome.duplicate
    assert code_of(stats, op("new"), last + 30 * DAY - 1) == Code.DEVICE_LIMIT


def test_a_refused_device_changes_nothing() -> None:
    stats = with_devices(DEVICES)
    before = dict(stats.devices)
    assert code_of(stats, op("new")) == Code.DEVICE_LIMIT
    assert stats.devices == before


def test_a_device_stays_seen_when_the_servers_clock_goes_back() -> None:
    stats = with_devices(DEVICES)
    stats, _ = send(stats, op("device-0", 1), NOW - 300 * DAY)
    assert code_of(stats, op("new"), NOW + 29 * DAY) == Code.DEVICE_LIMIT
