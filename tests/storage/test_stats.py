"""Stats in MongoDB: what is read is what was written, and only who was overtaken is told so."""

import json
from dataclasses import replace
from typing import Any

import pytest

from domain.oplog import OpWindow, device_key
from domain.stats import SAFE_INTEGER, Stats, StatsSchema
from domain.times import LAST
from storage.stats import NOBODY, Missed, StatsRepository

TIMEOUT = 10.0

ODD_RESULTS = {
    "": "an empty name",
    " ": " \t\n",
    "0": {"1": {"2": {"3": {"4": [1, 2.5, None, True, False]}}}},
    "ключ/名前/🎲": 'значение \0 " \\ 🏆 \u2028',
    "_id": 1,
    "__set": {"xp": 3},
    "-1": -SAFE_INTEGER,
    "big": SAFE_INTEGER,
    "small": 5e-324,
    "large": 1.7976931348623157e308,
    "third": 0.1 + 0.2,
    "empty": [{}, [], "", None, 0],
    "hasOwnProperty": "x" * 1000,
}


def changed(old: Stats, updated_at: int | None = None, **values: Any) -> Stats:
    """`old` after one more write, which sets `values`."""
    return replace(
        old,
        values={**old.values, **values},
        rev=old.rev + 1,
        version=old.version + 1,
        updated_at=old.updated_at + 1 if updated_at is None else updated_at,
    )


async def store(stats: StatsRepository, user: str, **values: Any) -> Stats:
    """`user`'s stats as they stand after one more write."""
    old = (await stats.read([user], TIMEOUT))[user]
    new = changed(old, **values)
    assert await stats.write([(old, new)], TIMEOUT) == NOBODY
    return await marked(stats, new)


async def marked(stats: StatsRepository, written: Stats) -> Stats:
    """What was written, with the marks that the storage has put to it."""
    return replace(written, writers=(await stored(stats, written.user_id)).writers)


async def stored(stats: StatsRepository, user: str) -> Stats:
    return (await stats.read([user], TIMEOUT))[user]


def as_json(schema: StatsSchema, stats: Stats) -> str:
    """What a client sees, with the difference between 1, 1.0 and true that == does not make."""
    return json.dumps(schema.document(stats), sort_keys=True)


async def test_users_never_written_read_as_defaults(
    stats: StatsRepository, schema: StatsSchema
) -> None:
    read = await stats.read({"new", "other"}, TIMEOUT)
    assert read == {"new": schema.fresh("new"), "other": schema.fresh("other")}
    assert read["new"].values | {"coins": 7, "hearts": 5, "level": 1} == read["new"].values
    assert (read["new"].rev, read["new"].version, read["new"].devices) == (0, 0, {})
    assert await stats.revs(["new"], TIMEOUT) == {}
    assert await stats.read([], TIMEOUT) == {}


async def test_unknown_users_are_not_created_by_reading(stats: StatsRepository) -> None:
    await stats.read(["nobody"], TIMEOUT)
    assert await stats.count(TIMEOUT) == 0


@pytest.mark.parametrize("at", [0, 1, 999, 1_000, 1_700_000_000_123, LAST])
async def test_a_time_keeps_its_milliseconds(stats: StatsRepository, at: int) -> None:
    old = await stored(stats, "u")
    window = OpWindow(b"", at)
    new = replace(changed(old, at), devices={"-": window})
    assert await stats.write([(old, new)], TIMEOUT) == NOBODY
    read = await stored(stats, "u")
    assert (read.updated_at, read.devices["-"].seen) == (at, at)


@pytest.mark.parametrize(
    "values",
    [
        {"xp": SAFE_INTEGER, "diamonds": 2**31, "streak": 2**31 - 1, "level": 2**32},
        {"hearts": 0, "coins": -100, "xp": 0},
        {"accuracy": 99.99999999999999, "totalTimeSpent": 0.1 + 0.2, "mood": -1.0},
        {"accuracy": 100, "totalTimeSpent": float(SAFE_INTEGER), "mood": 5e-324},
        {"timePerQuestion": [0, 0.25, 3, 1e-9, SAFE_INTEGER] * 200},
        {"lastGameResults": ODD_RESULTS},
        {},
    ],
)
async def test_what_was_written_is_read(
    stats: StatsRepository, schema: StatsSchema, values: dict[str, Any]
) -> None:
    written = await store(stats, "u", **values)
    read = await stored(stats, "u")
    assert read == written
    assert as_json(schema, read) == as_json(schema, written)


async def test_what_was_changed_later_is_read_and_the_rest_stays(
    stats: StatsRepository, schema: StatsSchema
) -> None:
    await store(stats, "u", xp=10, timePerQuestion=[1, 2, 3], lastGameResults={"a": {"b": 1}})
    await store(stats, "u", timePerQuestion=[4], lastGameResults={"a": {"c": 2}})
    last = await store(stats, "u", xp=0)
    read = await stored(stats, "u")
    assert read == last
    assert read.values == schema.fill(
        {"xp": 0, "timePerQuestion": [4], "lastGameResults": {"a": {"c": 2}}}
    )


@pytest.mark.parametrize(("before", "after"), [(1, True), (0, False), (True, 1)])
async def test_a_number_that_becomes_a_truth_value_is_stored(
    stats: StatsRepository, schema: StatsSchema, before: object, after: object
) -> None:
    await store(stats, "u", lastGameResults={"won": before})
    written = await store(stats, "u", xp=1, lastGameResults={"won": after})
    assert as_json(schema, await stored(stats, "u")) == as_json(schema, written)


async def test_a_write_of_op_windows_alone_keeps_the_values(stats: StatsRepository) -> None:
    old = await store(stats, "u", xp=5)
    new = replace(old, version=old.version + 1, devices={"-": OpWindow(b"x" * 12, 1)})
    assert await stats.write([(old, new)], TIMEOUT) == NOBODY
    assert await stored(stats, "u") == new


async def test_op_windows_are_kept_per_device_and_forgotten_ones_go(
    stats: StatsRepository,
) -> None:
    keys = ["-", *(device_key(f"device {n}") for n in range(32))]
    everything = bytes(range(256)) * 3
    devices = {key: OpWindow(everything[n : n + 12 * 60], n) for n, key in enumerate(keys)}
    first = replace(changed(await stored(stats, "u")), devices=devices)
    assert await stats.write([(await stored(stats, "u"), first)], TIMEOUT) == NOBODY
    assert await stored(stats, "u") == first

    kept = {key: window for key, window in first.devices.items() if key not in keys[3:6]}
    kept[keys[0]] = OpWindow(b"\0" * 12, 77)
    kept[device_key("a new one")] = OpWindow(b"\xff" * 12, 78)
    second = replace(changed(first), devices=kept)
    assert await stats.write([(await marked(stats, first), second)], TIMEOUT) == NOBODY
    assert await stored(stats, "u") == second


async def test_a_stale_write_is_told_overtaken_and_changes_nothing(
    stats: StatsRepository,
) -> None:
    fresh = await stored(stats, "u")
    first = await store(stats, "u", xp=1)
    second = await store(stats, "u", xp=2)
    for stale in (fresh, first):
        late = replace(changed(stale, xp=99), devices={"-": OpWindow(b"y" * 12, 9)})
        assert await stats.write([(stale, late)], TIMEOUT) == Missed({"u"}, set())
    assert await stored(stats, "u") == second


async def test_a_mixed_batch_tells_exactly_the_overtaken(stats: StatsRepository) -> None:
    current = [await store(stats, f"current{n}", xp=1) for n in range(30)]
    stale = [await store(stats, f"stale{n}", xp=1) for n in range(30)]
    newer = [await store(stats, f"stale{n}", xp=2) for n in range(30)]
    fresh = list((await stats.read([f"fresh{n}" for n in range(30)], TIMEOUT)).values())
    late = list((await stats.read([f"late{n}" for n in range(30)], TIMEOUT)).values())
    early = [await store(stats, f"late{n}", xp=2) for n in range(30)]
    # In turns, so that each kind has every place in the batch.
    olds = [old for four in zip(current, stale, fresh, late, strict=True) for old in four]

    missed = await stats.write([(old, changed(old, xp=50)) for old in olds], TIMEOUT)

    assert missed.unknown == set()
    assert missed.overtaken == {old.user_id for old in stale + late}
    read = await stats.read([old.user_id for old in olds], TIMEOUT)
    assert {user: s.values["xp"] for user, s in read.items()} == {
        old.user_id: 2 if old.user_id in missed.overtaken else 50 for old in olds
    }
    for untouched in newer + early:
        assert read[untouched.user_id] == untouched


async def test_a_batch_overtaken_as_a_whole_is_told_so(stats: StatsRepository) -> None:
    olds = list((await stats.read([f"u{n}" for n in range(20)], TIMEOUT)).values())
    for old in olds:
        await store(stats, old.user_id, xp=1)
    missed = await stats.write([(old, changed(old, xp=9)) for old in olds], TIMEOUT)
    assert missed == Missed({old.user_id for old in olds}, set())


async def test_revs_are_those_of_the_users_written(stats: StatsRepository) -> None:
    await store(stats, "once", xp=1)
    await store(stats, "twice", xp=1)
    await store(stats, "twice", xp=2)
    assert await stats.revs(["once", "twice", "never"], TIMEOUT) == {"once": 1, "twice": 2}
    assert await stats.revs([], TIMEOUT) == {}


async def test_count_tells_how_many_users_have_stats(stats: StatsRepository) -> None:
    for n in range(3):
        await store(stats, f"u{n}", xp=1)
        await store(stats, f"u{n}", xp=2)
    assert await stats.count(TIMEOUT) == 3
