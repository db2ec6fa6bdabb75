"""Erasing a person's stats: only a tombstone stays, and no write gets past it."""

import asyncio
from dataclasses import replace
from typing import Any

import orjson
import pytest

from domain import patch
from domain.errors import AppError, Code
from domain.oplog import device_key, op_of
from domain.patch import Change, Patch, Replacement
from domain.stats import Kind, NumberField, Stats, StatsSchema
from domain.times import iso
from storage.holdings import Holding
from storage.mongo import Mongo
from storage.stats import NOBODY, Missed, StatsRepository
from tests.storage.conftest import NewMongo
from tests.storage.test_stats_memory import TIMEOUT, add, plus

NOW = 1_700_000_000_000
CHANGES: list[Change] = [
    Patch({"xp": 1}, {}, []),
    Patch({}, {}, []),
    Patch({"xp": 1}, {"level": 2}, [1], op_of("phone", "op 1", b"content")),
    Replacement({"level": 3}, NOW),
    Replacement({}, 1),
]


@pytest.fixture
def other(new_mongo: NewMongo, mongodb_uri: str, schema: StatsSchema) -> StatsRepository:
    """Another instance's repository."""
    return StatsRepository(new_mongo(mongodb_uri), schema)


async def stored(stats: StatsRepository, user: str = "u") -> Stats:
    return (await stats.read([user], TIMEOUT))[user]


async def document(stats: StatsRepository, user: str = "u") -> dict[str, Any]:
    """What MongoDB holds about the user."""
    found = await stats._stats.find_one({"_id": user})
    assert found is not None
    return found


async def used(stats: StatsRepository, schema: StatsSchema, user: str = "u") -> Stats:
    """A user with values and an op window."""
    for change in CHANGES[:4]:
        old = await stored(stats, user)
        new, _ = patch.apply(schema, old, change, NOW)
        if new is not old:
            assert await stats.write([(old, new)], TIMEOUT) == NOBODY
    return await stored(stats, user)


async def exported(stats: StatsRepository, user: str = "u") -> list[dict[str, Any]]:
    return [found async for found in stats.export(user, TIMEOUT)]


async def test_of_an_erased_person_a_tombstone_stays_and_nothing_else(
    stats: StatsRepository, schema: StatsSchema
) -> None:
    before = await used(stats, schema)
    assert before.devices
    await stats.erase("u", TIMEOUT)
    left = await document(stats)
    assert left.keys() == {"_id", "erased", "rev", "updatedAt", "_v", "_by"}
    assert (left["erased"], left["rev"], left["_v"]) == (True, before.rev + 1, before.version + 1)
    assert len(left["_by"]) == 4
    assert left["_by"] not in before.writers
    assert int(left["updatedAt"]) >= before.updated_at


async def test_a_tombstone_reads_as_erased_with_the_values_of_somebody_never_written(
    stats: StatsRepository, schema: StatsSchema
) -> None:
    before = await used(stats, schema)
    await stats.erase("u", TIMEOUT)
    read = await stored(stats)
    assert read.erased
    assert (read.values, read.devices) == (schema.fill({}), {})
    assert await stats.revs(["u"], TIMEOUT) == {"u": before.rev + 1}


async def test_a_person_without_stats_is_erased_too(stats: StatsRepository) -> None:
    await stats.erase("u", TIMEOUT)
    left = await document(stats)
    assert (left["erased"], left["rev"], left["_v"]) == (True, 1, 1)
    assert (await stored(stats)).erased


async def test_to_erase_again_changes_nothing(stats: StatsRepository, schema: StatsSchema) -> None:
    await used(stats, schema)
    await stats.erase("u", TIMEOUT)
    left = await document(stats)
    await stats.erase("u", TIMEOUT)
    assert await document(stats) == left


async def test_erasing_one_leaves_all_others_as_they_are(
    stats: StatsRepository, schema: StatsSchema
) -> None:
    bystander = await used(stats, schema, "bystander")
    await stats.erase("u", TIMEOUT)
    assert await stored(stats, "bystander") == bystander


async def test_a_time_of_change_that_is_ahead_does_not_go_back(
    stats: StatsRepository,
) -> None:
    old, ahead = await stored(stats), 4_000_000_000_000
    assert await stats.write([(old, replace(plus(old), updated_at=ahead))], TIMEOUT) == NOBODY
    await stats.erase("u", TIMEOUT)
    assert int((await document(stats))["updatedAt"]) == ahead


@pytest.mark.parametrize("change", CHANGES)
async def test_every_change_of_an_erased_person_is_refused(
    stats: StatsRepository, schema: StatsSchema, change: Change
) -> None:
    await used(stats, schema)
    await stats.erase("u", TIMEOUT)
    with pytest.raises(AppError) as caught:
        patch.apply(schema, await stored(stats), change, NOW)
    assert (caught.value.code, caught.value.retryable) == (Code.ERASED, False)


@pytest.mark.parametrize("written", [0, 1, 20])
async def test_a_write_under_way_is_told_overtaken_and_finds_the_tombstone(
    stats: StatsRepository, other: StatsRepository, written: int
) -> None:
    """Also a first write, which looks for nobody and inserts."""
    for _ in range(written):
        await add(stats, "u")
    old = await stored(stats)
    await other.erase("u", TIMEOUT)
    left = await document(stats)
    assert await stats.write([(old, plus(old))], TIMEOUT) == Missed({"u"}, set())
    assert await document(stats) == left
    assert (await stored(stats)).erased


async def test_a_write_upon_a_memory_is_overtaken_by_an_erasure(
    stats: StatsRepository, other: StatsRepository
) -> None:
    await add(stats, "u")
    [old] = stats.recall(["u"]).values()
    await other.erase("u", TIMEOUT)
    assert await stats.write([(old, plus(old))], TIMEOUT) == Missed({"u"}, set())
    assert stats.recall(["u"]) == {}, "a tombstone is read, not remembered"


async def test_a_write_upon_a_memory_of_long_ago_is_overtaken_and_not_unknown(
    stats: StatsRepository, other: StatsRepository
) -> None:
    """More writes came after than there are marks; of an erased person that does not matter."""
    await add(stats, "u")
    [old] = stats.recall(["u"]).values()
    for _ in range(20):
        await add(other, "u")
    await other.erase("u", TIMEOUT)
    assert await stats.write([(old, plus(old))], TIMEOUT) == Missed({"u"}, set())


async def test_in_a_mixed_batch_only_the_erased_are_overtaken(stats: StatsRepository) -> None:
    users = [f"u{n}" for n in range(20)]
    await add(stats, *users[::2])
    olds = await stats.read(users, TIMEOUT)
    gone = set(users[3:8])
    for user in gone:
        await stats.erase(user, TIMEOUT)
    writes = [(old, plus(old)) for old in olds.values()]
    assert await stats.write(writes, TIMEOUT) == Missed(gone, set())
    read = await stats.read(users, TIMEOUT)
    assert {user for user, one in read.items() if one.erased} == gone


async def test_what_is_remembered_of_an_erased_person_is_dropped(stats: StatsRepository) -> None:
    await add(stats, "u", "kept")
    await stats.erase("u", TIMEOUT)
    assert set(stats.recall(["u", "kept"])) == {"kept"}


async def test_of_first_writes_and_erasures_at_once_the_erasure_stands(
    stats: StatsRepository, other: StatsRepository, schema: StatsSchema
) -> None:
    users = [f"u{n}" for n in range(60)]

    async def first(user: str) -> None:
        fresh = schema.fresh(user)
        await other.write([(fresh, plus(fresh))], TIMEOUT)

    await asyncio.gather(
        *(work for user in users for work in (first(user), stats.erase(user, TIMEOUT)))
    )
    for user in users:
        left = await document(stats, user)
        assert left.keys() == {"_id", "erased", "rev", "updatedAt", "_v", "_by"}
        assert (left["rev"], left["_v"]) in {(1, 1), (2, 2)}


async def test_after_a_restored_backup_tombstones_get_higher_revs_and_stay_tombstones(
    stats: StatsRepository, schema: StatsSchema
) -> None:
    before = await used(stats, schema)
    await stats.erase("u", TIMEOUT)
    assert await stats.raise_revs(1_000, TIMEOUT) == 1
    read = await stored(stats)
    assert (read.erased, read.rev) == (True, before.rev + 1_001)
    await stats.erase("u", TIMEOUT)
    assert (await stored(stats)).rev == read.rev


async def test_an_apps_own_field_named_erased_is_a_number_like_others(mongo: Mongo) -> None:
    own = StatsSchema({"erased": NumberField(kind=Kind.COUNTER)})
    stats = StatsRepository(mongo, own)
    old = await stored(stats)
    new = replace(plus(old), values={**old.values, "erased": 1})
    assert await stats.write([(old, new)], TIMEOUT) == NOBODY
    read = await stored(stats)
    assert (read.erased, read.values["erased"]) == (False, 1)
    await stats.erase("u", TIMEOUT)
    read = await stored(stats)
    assert (read.erased, read.values["erased"]) == (True, 0)


async def test_the_export_is_the_stats_document_and_when_each_device_was_seen(
    stats: StatsRepository, schema: StatsSchema
) -> None:
    before = await used(stats, schema)
    holding: Holding = stats
    [found] = await exported(stats)
    assert holding.name == "stats"
    assert found == {**schema.document(before), "devices": {device_key("phone"): iso(NOW)}}
    orjson.dumps(found)


async def test_nothing_is_exported_of_an_erased_person_nor_of_one_never_written(
    stats: StatsRepository, schema: StatsSchema
) -> None:
    await used(stats, schema)
    await stats.erase("u", TIMEOUT)
    assert await exported(stats) == await exported(stats, "never") == []


async def test_documents_and_tombstones_are_held_and_nothing_else(
    stats: StatsRepository, schema: StatsSchema
) -> None:
    assert not await stats.holds("u", TIMEOUT)
    await used(stats, schema)
    assert await stats.holds("u", TIMEOUT)
    await stats.erase("u", TIMEOUT)
    assert await stats.holds("u", TIMEOUT)
