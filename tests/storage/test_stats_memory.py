"""What was written last is remembered, within bounds, and believed by nobody without proof."""

from dataclasses import replace

import pytest

import storage.stats
from domain.stats import Stats, StatsSchema
from storage.stats import MAX_REMEMBERED, NOBODY, WRITES_PER_COMMAND, Missed, StatsRepository
from tests.storage.conftest import NewMongo

TIMEOUT = 10.0


def plus(old: Stats, xp: int = 1) -> Stats:
    """`old` with more xp, as a fold leaves it: its version is the storage's affair."""
    values = {**old.values, "xp": old.values["xp"] + xp}
    return replace(old, values=values, rev=old.rev + 1)


async def add(stats: StatsRepository, *users: str) -> Missed:
    read = await stats.read(users, TIMEOUT)
    return await stats.write([(old, plus(old)) for old in read.values()], TIMEOUT)


@pytest.fixture
def other(new_mongo: NewMongo, mongodb_uri: str, schema: StatsSchema) -> StatsRepository:
    """Another instance's repository."""
    return StatsRepository(new_mongo(mongodb_uri), schema)


async def test_what_was_latest_is_recalled_as_it_is_read(stats: StatsRepository) -> None:
    await add(stats, "u")
    await add(stats, "u")
    recalled = stats.recall(["u"])
    read = await stats.read(["u"], TIMEOUT)
    assert recalled == read
    assert recalled["u"].writers == read["u"].writers


async def test_what_was_recalled_can_be_latest_upon_again_and_again(
    stats: StatsRepository,
) -> None:
    await add(stats, "u")
    for _ in range(20):  # more than there are marks
        [old] = stats.recall(["u"]).values()
        assert await stats.write([(old, plus(old))], TIMEOUT) == NOBODY
    read = (await stats.read(["u"], TIMEOUT))["u"]
    assert (read.values["xp"], read.rev, read.version) == (21, 21, 21)
    assert stats.recall(["u"]) == {"u": read}


async def test_a_memory_is_told_once(stats: StatsRepository) -> None:
    await add(stats, "u")
    assert set(stats.recall(["u"])) == {"u"}
    assert stats.recall(["u"]) == {}


async def test_who_was_only_read_is_not_recalled(stats: StatsRepository) -> None:
    await stats.read(["u"], TIMEOUT)
    assert stats.recall(["u", "never"]) == {}


async def test_what_was_forgotten_is_not_recalled(stats: StatsRepository) -> None:
    await add(stats, "u", "kept")
    stats.forget("u", 2)
    stats.forget("never known", 2)
    assert set(stats.recall(["u", "kept"])) == {"kept"}


async def test_a_memory_is_kept_when_it_is_as_new_as_what_others_did(
    stats: StatsRepository,
) -> None:
    await add(stats, "u")
    stats.forget("u", 1)
    assert set(stats.recall(["u"])) == {"u"}


async def test_who_was_overtaken_is_recalled_as_the_other_left_it(
    stats: StatsRepository, other: StatsRepository
) -> None:
    await add(stats, "late", "fine")
    recalled = stats.recall(["late", "fine"])
    await add(other, "late")
    writes = [(old, plus(old)) for old in recalled.values()]
    assert await stats.write(writes, TIMEOUT) == Missed({"late"}, set())
    again = stats.recall(["late", "fine"])
    assert again == await stats.read(["late", "fine"], TIMEOUT)


async def test_a_write_upon_a_stale_memory_is_told_overtaken_and_changes_nothing(
    stats: StatsRepository, other: StatsRepository
) -> None:
    await add(stats, "u")
    await add(other, "u")
    [old] = stats.recall(["u"]).values()
    assert await stats.write([(old, plus(old, 100))], TIMEOUT) == Missed({"u"}, set())
    assert (await stats.read(["u"], TIMEOUT))["u"].values["xp"] == 2


async def test_a_write_upon_the_memory_of_a_deleted_document_is_told_overtaken(
    stats: StatsRepository,
) -> None:
    await add(stats, "u")
    [old] = stats.recall(["u"]).values()
    await stats._stats.delete_one({"_id": "u"})
    assert await stats.write([(old, plus(old))], TIMEOUT) == Missed({"u"}, set())
    assert (await stats.read(["u"], TIMEOUT))["u"].rev == 0


async def test_a_memory_of_what_a_restored_backup_has_undone_is_not_latest_upon(
    stats: StatsRepository, other: StatsRepository
) -> None:
    """The restored document comes to the version that is remembered, with another content."""
    await add(stats, "u")
    backup = await stats._stats.find_one({"_id": "u"})
    assert backup is not None
    await add(stats, "u")
    [old] = stats.recall(["u"]).values()
    await stats._stats.replace_one({"_id": "u"}, backup)
    await other.raise_revs(1_000, TIMEOUT)
    restored = (await other.read(["u"], TIMEOUT))["u"]
    assert restored.version == old.version
    assert await stats.write([(old, plus(old))], TIMEOUT) == Missed({"u"}, set())
    assert (await other.read(["u"], TIMEOUT))["u"] == restored


async def test_the_newest_memories_are_kept_and_no_more_than_the_bound(
    stats: StatsRepository, schema: StatsSchema
) -> None:
    for n in range(MAX_REMEMBERED + 300):
        stats._remember(schema.fresh(f"u{n}"))
    assert len(stats._latest) == MAX_REMEMBERED
    everybody = [f"u{n}" for n in range(MAX_REMEMBERED + 300)]
    assert list(stats.recall(everybody)) == everybody[300:]
    assert stats.recall(everybody) == {}


async def test_memory_stays_bounded_over_writes_of_many_users(
    stats: StatsRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.stats, "MAX_REMEMBERED", 10)
    for turn in range(3):
        await add(stats, *(f"{turn}-{n}" for n in range(15)))
        assert len(stats._latest) == 10


async def test_more_writes_than_a_command_takes_are_all_done(stats: StatsRepository) -> None:
    users = [f"u{n}" for n in range(2 * WRITES_PER_COMMAND + 1)]
    assert await add(stats, *users) == NOBODY
    recalled = stats.recall(users)
    assert await stats.write([(old, plus(old)) for old in recalled.values()], TIMEOUT) == NOBODY
    read = await stats.read(users, TIMEOUT)
    assert {(s.values["xp"], s.rev) for s in read.values()} == {(2, 2)}


async def test_in_several_commands_exactly_the_overtaken_are_told(
    stats: StatsRepository, other: StatsRepository
) -> None:
    users = [f"u{n}" for n in range(2 * WRITES_PER_COMMAND + 50)]
    await add(stats, *users[::2])  # the others are first written below
    olds = await stats.read(users, TIMEOUT)
    stale = {users[n] for n in (0, 1, WRITES_PER_COMMAND, WRITES_PER_COMMAND + 1, -1)}
    await add(other, *stale)
    missed = await stats.write([(old, plus(old, 100)) for old in olds.values()], TIMEOUT)
    assert missed == Missed(stale, set())
    read = await stats.read(users, TIMEOUT)
    assert {user for user, s in read.items() if s.values["xp"] < 100} == stale


async def test_a_call_without_writes_misses_nobody(stats: StatsRepository) -> None:
    assert await stats.write([], TIMEOUT) == NOBODY
