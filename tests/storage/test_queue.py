"""The queue's repository: what is stored comes back, and no query reads more than it needs."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from bson.datetime_ms import DatetimeMS
from pymongo import monitoring

from domain.queue import Item, Method, Status
from storage.indexes import Indexes
from storage.mongo import Mongo
from storage.names import QUEUE
from storage.queue import QueueRepository
from storage.units import Unit, Units

NOW = 1_700_000_000_000
TIMEOUT = 10.0
MANY = 20_000
USERS = 20


@pytest.fixture
async def queue(mongo: Mongo) -> QueueRepository:
    made = QueueRepository(mongo, Indexes(mongo), 1_000, 2_000)
    await made.ready(30.0)
    return made


@pytest.fixture
def units(mongo: Mongo) -> Units:
    return Units(mongo)


def an_item(name: str, user: str = "ada", number: int = 1, **rest: Any) -> Item:
    wanted: dict[str, Any] = {
        "endpoint": "/api/expenses",
        "path": "/api/expenses",
        "method": Method.POST,
        "target_id": name,
        "data": {},
        "created_at": NOW,
        "updated_at": NOW,
        **rest,
    }
    return Item(id=name, user_id=user, number=number, **wanted)


async def insert(units: Units, queue: QueueRepository, items: Sequence[Item]) -> None:
    async def work(unit: Unit) -> None:
        await queue.insert(unit, items)

    await units.run(items[0].user_id, work, TIMEOUT)


async def claimed(queue: QueueRepository, now: int = NOW, user: str = "ada") -> Item | None:
    return await queue.claim(user, now, f"lease {now}", now + 1_000, TIMEOUT, worker=False)


async def test_every_field_comes_back_as_it_was(units: Units, queue: QueueRepository) -> None:
    item = an_item(
        "one",
        number=12_000_000_001,
        method=Method.PUT,
        data={"$set": {"a.b": 2**64 - 1}, "list": [1, None, 1.5, {"é": "\u0000"}]},
        max_attempts=7,
        priority=-3,
        device_id="phone",
        retry_at=NOW + 1,
        worker_at=NOW + 2,
        after="another",
        followed=True,
        base_version=4,
        operation="op",
        content=b"\x00\xff",
    )
    await insert(units, queue, [item])
    assert (await queue.page("ada", [Status.PENDING], 0, 10, TIMEOUT)) == (1, [item], False)


async def test_a_claim_is_by_priority_then_number_and_only_of_what_is_due_and_free(
    units: Units, queue: QueueRepository
) -> None:
    items = [
        an_item("late", number=1, priority=9, retry_at=NOW + 1),
        an_item("behind", number=2, priority=9, after="late"),
        an_item("low", number=3, priority=-1),
        an_item("second", number=5, priority=1),
        an_item("first", number=4, priority=1),
        an_item("plain", number=6),
    ]
    await insert(units, queue, items)
    await insert(units, queue, [an_item("bobs", "bob", priority=99)])
    taken = []
    while (item := await claimed(queue)) is not None:
        taken.append(item.id)
        assert (item.status, item.attempts) == (Status.PROCESSING, 1)
        assert item.lease_until == NOW + 1_000
    assert taken == ["first", "second", "plain", "low"]
    assert (await claimed(queue, NOW + 1)) is not None


async def test_an_item_ends_only_with_its_lease_and_frees_who_waits_for_it(
    units: Units, queue: QueueRepository
) -> None:
    await insert(
        units, queue, [an_item("one", followed=True), an_item("two", number=2, after="one")]
    )
    first = await claimed(queue)
    assert first is not None
    assert await queue.put_back(first, Status.PENDING, "no", NOW, NOW, TIMEOUT)
    assert not await queue.put_back(first, Status.FAILED, "no", NOW, NOW, TIMEOUT)
    second = await claimed(queue, NOW + 5)
    assert second is not None
    for held, gone in ((first, True), (second, False), (second, True)):

        async def end(unit: Unit, held: Item = held) -> str:
            try:
                await queue.complete(unit, held, {}, NOW)
            except Exception as error:
                return type(error).__name__
            return ""

        assert await units.run("ada", end, TIMEOUT) == ("LeaseLost" if gone else "")
    free = await claimed(queue, NOW + 6)
    assert free is not None
    assert free.id == "two"


async def test_completed_items_are_left_to_mongodb_and_failed_ones_to_be_discarded(
    units: Units, queue: QueueRepository, mongo: Mongo
) -> None:
    await insert(units, queue, [an_item("done"), an_item("bad", number=2)])
    done, bad = await claimed(queue), await claimed(queue)
    assert done is not None
    assert bad is not None
    await units.run("ada", lambda unit: queue.complete(unit, done, {}, NOW), TIMEOUT)
    await queue.put_back(bad, Status.FAILED, "no", NOW, NOW, TIMEOUT)
    kept = {doc["_id"]: doc async for doc in mongo.collection(QUEUE).find()}
    assert int(kept["done"]["goesAt"]) == NOW + 1_000
    assert "goesAt" not in kept["bad"]
    assert await queue.outdated(NOW + 1_999, TIMEOUT) == []
    assert [item.id for item in await queue.outdated(NOW + 2_000, TIMEOUT)] == ["bad"]


# --- what the queries read ----------------------------------------------------------------


class Commands(monitoring.CommandListener):
    """The commands that were sent."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command.get(event.command_name) == QUEUE:
            self.sent.append({"name": event.command_name, **event.command})

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        pass

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass


@pytest.fixture
def commands() -> Iterator[Commands]:
    """What the clients made from now on send about the queue."""
    made = Commands()
    listeners = monitoring._LISTENERS.command_listeners
    listeners.append(made)
    yield made
    listeners.remove(made)


@pytest.fixture
async def full(commands: Commands, mongo: Mongo, queue: QueueRepository) -> QueueRepository:
    """20,000 items of 20 users: some done, some failed, most wait, a third behind others."""
    documents = []
    for n in range(MANY):
        status = [Status.PENDING, Status.COMPLETED, Status.PENDING, Status.FAILED][n % 4]
        documents.append(
            {
                "_id": f"i{n}",
                "user": f"u{n % USERS}",
                "number": n,
                "endpoint": "/api/expenses",
                "path": "/api/expenses",
                "method": "POST",
                "target": f"d{n % 5_000}",
                "chain": f"/api/expenses d{n % 5_000}",
                "open": status is not Status.COMPLETED,
                "data": "{}",
                "status": status.value,
                "attempts": 0,
                "maxAttempts": 5,
                "priority": n % 7,
                "retryAt": DatetimeMS(0),
                # Half of the users' items are the workers' by now.
                "workerAt": DatetimeMS(NOW if n % 2 else NOW + 60_000),
                "after": f"i{n - 20}" if n % 3 == 0 else None,
                "followed": n % 3 == 1,
                "operation": f"op{n}" if n % 2 else None,
                "content": b"",
                "createdAt": DatetimeMS(NOW - n),
                "updatedAt": DatetimeMS(NOW),
            }
        )
        if status is Status.FAILED:
            documents[-1]["discardAt"] = DatetimeMS(NOW + n)
    await mongo.collection(QUEUE).insert_many(documents)
    commands.sent.clear()
    return queue


SHAPES = {
    "find": ("filter", "projection", "sort", "limit"),
    "count": ("query", "limit"),
    "aggregate": ("pipeline", "cursor"),
    "findAndModify": ("query", "sort", "update", "new", "fields"),
    "update": ("updates",),
    "delete": ("deletes",),
}


async def check_plans(mongo: Mongo, commands: Commands, most: int) -> None:
    """Each command sent uses an index, sorts nothing, and reads at most `most` documents."""
    assert commands.sent
    for sent in list(commands.sent):
        name = sent["name"]
        shown = {name: QUEUE, **{part: sent[part] for part in SHAPES[name] if part in sent}}
        answer = await mongo._database.command("explain", shown, verbosity="executionStats")
        found = answer if "queryPlanner" in answer else answer["stages"][0]["$cursor"]
        stages = str(found["queryPlanner"]["winningPlan"])
        assert "COLLSCAN" not in stages, shown
        assert "'SORT'" not in stages, shown
        assert found["executionStats"]["totalDocsExamined"] <= most, shown


async def test_with_20_000_items_claims_read_no_more_than_they_take(
    full: QueueRepository, units: Units, mongo: Mongo, commands: Commands
) -> None:
    await claimed(full, user="u3")
    assert await full.claim("u2", NOW, "l", NOW + 1, TIMEOUT, worker=False) is not None
    assert await full.due_user("u12", {"u13", "u14"}, NOW + 60_000, TIMEOUT) is not None
    assert await full.due_user("", set(), NOW - 1, TIMEOUT) is None
    await full.in_hand("u2", TIMEOUT)
    await full.expired(None, NOW, TIMEOUT)
    await full.expired("u2", NOW, TIMEOUT)
    await check_plans(mongo, commands, most=3)


async def test_with_20_000_items_lists_and_depths_sort_nothing(
    full: QueueRepository, mongo: Mongo, commands: Commands
) -> None:
    pending = (Status.PENDING, Status.PROCESSING)
    count, page, _ = await full.page("u2", pending, 0, 101, TIMEOUT)
    assert (count, len(page)) == (1_000, 101)
    _, behind, _ = await full.page("u2", pending, page[50].number, 101, TIMEOUT)
    assert behind[0] == page[51]
    await full.outdated(NOW, TIMEOUT)
    await check_plans(mongo, commands, most=1_000)
    commands.sent.clear()
    counts, oldest = await full.depths(TIMEOUT)
    assert (counts[Status.PENDING], counts[Status.FAILED]) == (MANY // 2, MANY // 4)
    assert oldest == NOW - (MANY - 2)
    await check_plans(mongo, commands, most=MANY // 2)


async def test_with_20_000_items_what_an_add_and_a_completion_look_up_is_found_at_once(
    full: QueueRepository, units: Units, mongo: Mongo, commands: Commands
) -> None:
    item = await full.claim("u2", NOW, "l", NOW + 1, TIMEOUT, worker=False)
    assert item is not None

    async def work(unit: Unit) -> None:
        await full.by_operation(unit, ["op2", "op22", "new"])
        await full.chain_ends(unit, ["/api/expenses d2", "/api/expenses new"])
        await full.follow(unit, {item.id})
        await full.complete(unit, item, {}, NOW)

    await units.run("u2", work, TIMEOUT)
    names = [sent["name"] for sent in commands.sent]
    assert "update" in names
    assert "getMore" not in names
    commands.sent[:] = [sent for sent in commands.sent if sent["name"] != "update"] + [
        {"name": "update", "updates": [update]}
        for sent in commands.sent
        if sent["name"] == "update"
        for update in sent["updates"]
    ]
    await check_plans(mongo, commands, most=5)
