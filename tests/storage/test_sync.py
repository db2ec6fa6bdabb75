"""Entities in MongoDB: pushes are atomic and in order, pulls are of one moment."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from domain.errors import AppError, Code
from domain.sync.changes import Change, parse_change
from domain.sync.entities import BUILT_IN, EntityTypes, Row
from domain.sync.fold import Fold, Logged
from server.embedded import PrivateServer
from storage.indexes import Indexes
from storage.mongo import Mongo
from storage.sync import Found, Result, SyncRepository
from tests.storage.conftest import NewMongo, suspended, unavailable

pytestmark = pytest.mark.usefixtures("half_open_closed")

TIMEOUT = 10.0
KEPT = 1000
TYPES = EntityTypes(BUILT_IN)
T0 = 1_700_000_000_000


@pytest.fixture
def entities(mongo: Mongo) -> SyncRepository:
    return SyncRepository(mongo, Indexes(mongo), KEPT)


@pytest.fixture
def another(new_mongo: NewMongo, mongodb_uri: str) -> SyncRepository:
    """That of another instance."""
    mongo = new_mongo(mongodb_uri)
    return SyncRepository(mongo, Indexes(mongo), KEPT)


def change(
    row_id: str, at: int = T0, operation: str = "create", op: str = "", **data: Any
) -> Change:
    payload = {
        "operationId": op or f"{row_id}-{at}-{operation}",
        "id": row_id,
        "entityType": "item",
        "operation": operation,
        "timestamp": at,
        "data": data,
    }
    return parse_change(TYPES, payload, "phone")


async def push(
    entities: SyncRepository,
    *changes: Change,
    user: str = "ada",
    now: int = T0,
    timeout: float = TIMEOUT,
    seen: Callable[[Found], None] = lambda found: None,
) -> int:
    """Push; answers the stamp."""
    stamp = 0

    def decide(found: Found) -> Result:
        nonlocal stamp
        seen(found)
        stamp = found.stamp
        fold = Fold(TYPES, found.rows, found.ops, found.stamp, now, 10_000)
        fold.run(changes)
        return Result([*fold.written.values()], fold.logged, found.count + 10_000 - fold.room)

    keys = {one.key for one in changes}
    await entities.push(user, changes, keys, now, decide, timeout)
    return stamp


async def pull(entities: SyncRepository, after: int = 0, user: str = "ada") -> list[Row]:
    got: list[Row] = []
    await entities.changed(user, after, 0, lambda rows, _: got.extend(rows), TIMEOUT)
    return got


async def logged(entities: SyncRepository, user: str = "ada") -> list[Logged]:
    return [op for _, op in await entities.operations(user, None, 1000, TIMEOUT)]


async def test_everything_is_unavailable_while_mongodb_does_not_answer(
    new_mongo: NewMongo, own_mongod: PrivateServer
) -> None:
    mongo = new_mongo(own_mongod.url)
    entities = SyncRepository(mongo, Indexes(mongo), KEPT)
    await push(entities, change("a"))

    async def exported() -> None:
        async for _ in entities.export("ada", 0.3):
            pass

    async with suspended(own_mongod):
        for call in (
            lambda: entities.changed("ada", 0, 0, lambda rows, _: None, 0.3),
            lambda: entities.page("ada", 0, 1, None, 1, 0.3),
            lambda: entities.stamp("ada", 0.3),
            lambda: entities.epoch(0.3),
            lambda: entities.operations("ada", None, 1, 0.3),
            lambda: entities.prune(T0, 0.3),
            lambda: entities.holds("bob", 0.3),
            exported,
        ):
            assert await unavailable(call) < 2
    assert [row.id for row in await pull(entities)] == ["a"]


async def test_a_push_cut_off_by_a_hanging_mongodb_works_when_sent_again(
    new_mongo: NewMongo, own_mongod: PrivateServer
) -> None:
    mongo = new_mongo(own_mongod.url)
    entities = SyncRepository(mongo, Indexes(mongo), KEPT)
    await push(entities, change("a"))
    async with suspended(own_mongod):
        assert await unavailable(lambda: push(entities, change("b"), timeout=0.5)) < 3
    await push(entities, change("b"), timeout=8.0)
    assert {row.id for row in await pull(entities)} == {"a", "b"}
    assert len(await logged(entities)) == 2


async def test_rows_and_operations_come_back_as_they_were_stored(entities: SyncRepository) -> None:
    made = Row("item", "a", {"title": "x", "tags": ["y"], "order": 1.5}, 5, 6, 7, "d", 8, 9, False)
    op = Logged("d", "\0é", "item", "a", "delete", 1, 2, 3, b"x" * 16, conflict=True)

    def decide(found: Found) -> Result:
        assert (found.rows, found.ops, found.count) == ({}, {}, 0)
        return Result([made], [op], 1)

    await entities.push("ada", [], [], T0, decide, TIMEOUT)
    stored = await entities.page("ada", 0, 8, None, 5, TIMEOUT)
    ops = await logged(entities)
    assert (stored, ops) == ([made], [op])


async def test_stamps_grow_by_at_least_one_and_follow_the_clock(entities: SyncRepository) -> None:
    stamps = [await push(entities, change(str(n)), now=T0 - n) for n in range(3)]
    stamps.append(await push(entities, change("later"), now=T0 + 100))
    assert stamps == [T0, T0 + 1, T0 + 2, T0 + 100]
    assert await entities.stamp("ada", TIMEOUT) == T0 + 100


async def test_a_push_that_stores_nothing_moves_nothing(entities: SyncRepository) -> None:
    stamp = await push(entities, change("a"))
    await push(entities, change("a"), now=T0 + 50)  # a duplicate
    assert await entities.stamp("ada", TIMEOUT) == stamp


async def test_a_push_knows_the_rows_operations_and_stamp_before_it(
    entities: SyncRepository,
) -> None:
    first = await push(entities, change("a"), change("b"))
    found: list[Found] = []
    known: list[Any] = []

    def seen(what: Found) -> None:
        found.append(what)
        known.append(({row_id for _, row_id in what.rows}, len(what.ops)))

    await push(entities, change("a"), change("c"), seen=seen)
    assert known[-1] == ({"a"}, 1)
    assert (found[-1].before, found[-1].count) == (first, 2)
    assert found[-1].stamp > first


async def test_what_fails_on_its_way_leaves_nothing(
    entities: SyncRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    await push(entities, change("a"))

    async def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("cut off")

    log: Any = entities._log
    monkeypatch.setattr(entities, "_log", _Failing(log, fails))
    with pytest.raises(RuntimeError):
        await push(entities, change("b"), change("a", T0 + 1, title="x"))
    monkeypatch.undo()
    assert [(row.id, row.data) for row in await pull(entities)] == [("a", {})]
    assert await entities.stamp("ada", TIMEOUT) == T0
    await push(entities, change("b"))
    assert len(await logged(entities)) == 2


class _Failing:
    """A collection that cannot write."""

    def __init__(self, inner: Any, fails: Any) -> None:
        self._inner = inner
        self.bulk_write = fails

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


async def test_pushes_of_two_instances_at_once_lose_nothing_and_share_no_stamp(
    entities: SyncRepository, another: SyncRepository
) -> None:
    both: Sequence[SyncRepository] = (entities, another)
    changes = [(change(f"i{n}"), change("all", T0 + n, title=str(n))) for n in range(12)]
    stamps = await asyncio.gather(
        *(push(both[n % 2], *some, now=T0 + 99) for n, some in enumerate(changes))
    )
    assert len({*stamps}) == 12
    rows = {row.id: row for row in await pull(entities)}
    assert rows.keys() == {"all", *(f"i{n}" for n in range(12))}
    assert rows["all"].data == {"title": "11"}
    assert len(await logged(entities)) == 24


async def test_the_first_pushes_of_a_user_at_once_are_all_stored(
    entities: SyncRepository, another: SyncRepository
) -> None:
    await asyncio.gather(
        *(push(one, change(f"{n}"), user="new") for n, one in enumerate([entities, another] * 3))
    )
    assert len(await pull(entities, user="new")) == 6


async def test_the_same_push_of_two_instances_at_once_is_stored_once(
    entities: SyncRepository, another: SyncRepository
) -> None:
    same = [change("a", title="x"), change("b")]
    await asyncio.gather(*(push(one, *same) for one in (entities, another) * 3))
    assert len(await logged(entities)) == 2
    assert len({row.stamp for row in await pull(entities)}) == 1


async def test_a_pull_has_what_is_behind_its_cursor_and_all_above_the_newest(
    entities: SyncRepository,
) -> None:
    stamps = [await push(entities, change(row_id)) for row_id in "abc"]
    assert [row.id for row in await pull(entities, stamps[0])] == ["b", "c"]
    assert await pull(entities, stamps[2]) == []
    assert [row.id for row in await pull(entities, stamps[2] + 1)] == ["a", "b", "c"]
    assert await pull(entities, user="bob") == []


async def test_a_pull_of_many_rows_is_of_one_moment(
    entities: SyncRepository, another: SyncRepository
) -> None:
    names = [f"i{n:04}" for n in range(1200)]
    for part in range(0, 1200, 400):
        await push(entities, *(change(name) for name in names[part : part + 400]))
    got: list[list[Row]] = []
    stamp = await entities.changed("ada", 0, 0, lambda rows, _: got.append(rows), TIMEOUT)
    assert len(got) > 1  # some at a time
    assert sorted(row.id for rows in got for row in rows) == names
    writing = asyncio.create_task(push(another, *(change(n, T0 + 1) for n in names[:400])))
    rows = await pull(entities)
    assert len(rows) == 1200
    assert {row.updated_at for row in rows[:1] + rows[-1:]} <= {T0, T0 + 1}
    changed = {row.updated_at for row in rows if row.id < "i0400"}
    assert len(changed) == 1  # none or all of that push
    assert await writing > stamp


async def test_pulls_while_the_collections_are_being_made_are_answered(
    entities: SyncRepository, another: SyncRepository
) -> None:
    pulls = [pull(another, user="nobody") for _ in range(10)]
    _, *answers = await asyncio.gather(push(entities, change("a")), *pulls)
    assert answers == [[]] * 10


async def test_pages_go_on_behind_their_last_row_also_within_one_push(
    entities: SyncRepository,
) -> None:
    stamp = await push(entities, *(change(f"i{n}") for n in range(5)))
    first = await entities.page("ada", 0, stamp, None, 2, TIMEOUT)
    second = await entities.page("ada", stamp, stamp, first[-1].key, 9, TIMEOUT)
    assert [row.id for row in (*first, *second)] == [f"i{n}" for n in range(5)]


async def test_only_old_tombstones_are_pruned_and_the_count_follows(
    entities: SyncRepository,
) -> None:
    await push(entities, change("a"), change("b"))
    await push(entities, change("a", T0 + 1, "delete"), now=T0 + 10)
    await push(entities, change("b", T0 + 1, "delete"), now=T0 + 20)
    assert await entities.prune(T0 + 10, TIMEOUT) == 0
    assert await entities.prune(T0 + 20, TIMEOUT) == 1
    assert [row.id for row in await pull(entities)] == ["b"]
    found: list[Found] = []
    await push(entities, change("c"), seen=found.append)
    assert found[-1].count == 1


async def test_the_epoch_is_made_once(entities: SyncRepository, another: SyncRepository) -> None:
    epochs = await asyncio.gather(*(one.epoch(TIMEOUT) for one in (entities, another) * 4))
    assert len({*epochs}) == 1


async def test_an_erased_user_is_refused_and_a_second_erasure_does_no_harm(
    entities: SyncRepository,
) -> None:
    await push(entities, change("a"))
    await push(entities, change("a"), user="bob")
    assert await entities.holds("ada", TIMEOUT)
    for _ in range(2):
        await entities.erase("ada", TIMEOUT)
        for refused in (
            push(entities, change("b")),
            pull(entities),
            entities.stamp("ada", TIMEOUT),
        ):
            with pytest.raises(AppError) as caught:
                await refused
            assert caught.value.code is Code.ERASED
    assert await logged(entities) == []
    assert [record async for record in entities.export("ada", TIMEOUT)] == []
    assert len(await pull(entities, user="bob")) == 1
    assert not await entities.holds("nobody", TIMEOUT)


async def test_the_export_has_rows_and_operations(entities: SyncRepository) -> None:
    await push(entities, change("a", title="x"))
    records = [record async for record in entities.export("ada", TIMEOUT)]
    assert [record.get("title") for record in records] == ["x", None]
    assert records[0]["entityType"] == "item"
    assert records[1]["operationId"] == f"a-{T0}-create"
