"""Several at once: each item once, in its document's order, and nobody else's is touched."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import aiohttp
import pytest

from domain.queue import Status
from domain.resources import BUILT_IN
from storage.names import QUEUE
from tests.queueing import FAILING, TIMEOUT, Instance, a_mark, expense, instances
from tests.rest import Api
from tests.serving import serving

EXPENSES = BUILT_IN[0]


@pytest.fixture
async def two(stores: dict[str, Any]) -> AsyncIterator[Sequence[Instance]]:
    async with instances(stores) as both:
        yield both


@pytest.fixture
def failing() -> Iterator[set[str]]:
    yield FAILING
    FAILING.clear()


async def test_8_calls_on_two_instances_carry_out_200_items_once_each_and_at_most_50_per_call(
    stores: dict[str, Any],
) -> None:
    async with (
        serving(**stores) as one,
        serving(**stores) as two,
        aiohttp.ClientSession(one.url) as first,
        aiohttp.ClientSession(two.url) as second,
    ):
        item = {"endpoint": "/api/expenses", "method": "POST"}
        items = [{**item, "data": {"amount": n, "category": "Test"}} for n in range(200)]
        added = await Api(first).post("/api/sync/bulk", {"items": items})
        assert added.status == 201
        calls = [
            Api(http).post("/api/sync/process", {}) for _ in range(4) for http in (first, second)
        ]
        answers = [answer.ok() for answer in await asyncio.gather(*calls)]
        assert all(answer["processed"] <= 50 for answer in answers)
        assert sum(answer["processed"] for answer in answers) == 200
        assert sum(answer["successful"] for answer in answers) == 200
        assert not any(answer["failed"] for answer in answers)
        page = (await Api(first).get("/api/expenses?limit=200")).ok()
        assert (page["count"], page["total"]) == (200, sum(range(200)))
        made = {document["id"] for document in page["expenses"]}
        assert made == {shown["_id"] for shown in added.json["syncItems"]}
        assert (await Api(second).get("/api/sync/pending")).ok()["count"] == 0


async def test_operations_on_one_document_keep_their_order_whoever_carries_them_out(
    two: Sequence[Instance], stores: dict[str, Any]
) -> None:
    wished = [(f"doc{n % 3}", f"{n:02}") for n in range(30)]
    bodies = [a_mark(stores, text, on=doc, priority=int(text) % 5) for doc, text in wished]
    await two[0].add("ada", *bodies)
    while any(await asyncio.gather(*(i.service.step("ada") for i in two for _ in range(2)))):
        pass
    done = [(found["target"], found["text"]) for found in await two[0].marks()]
    for doc in ("doc0", "doc1", "doc2"):
        assert [d for d in done if d[0] == doc] == [w for w in wished if w[0] == doc]
    assert await two[0].items("ada", [Status.PENDING, Status.PROCESSING]) == []


async def test_items_of_different_documents_are_carried_out_by_priority_then_in_the_order_added(
    two: Sequence[Instance], stores: dict[str, Any]
) -> None:
    wished = [("a", 0), ("b", 5), ("c", -3), ("d", 5), ("e", 0)]
    await two[0].add("ada", *(a_mark(stores, text, priority=p) for text, p in wished))
    counts = await two[1].service.process("ada")
    assert counts[Status.COMPLETED] == 5
    assert await two[0].texts() == ["b", "d", "a", "e", "c"]


async def test_a_call_touches_nobody_elses_items(
    two: Sequence[Instance], stores: dict[str, Any]
) -> None:
    for user in ("ada", "bob", "ad", "ada1"):
        await two[0].add(user, a_mark(stores, user))
    await asyncio.gather(*(instance.service.process("ada") for instance in two))
    assert await two[0].texts() == ["ada"]
    for user in ("bob", "ad", "ada1"):
        (item,) = await two[0].items(user)
        assert (item.status, item.attempts) == (Status.PENDING, 0)


async def test_an_item_that_fails_holds_back_only_what_comes_after_it_on_its_document(
    two: Sequence[Instance], stores: dict[str, Any], failing: set[str]
) -> None:
    failing.add("bad")
    await two[0].add(
        "ada",
        a_mark(stores, "bad", on="x", maxAttempts=1),
        a_mark(stores, "after", on="x", priority=9),
        a_mark(stores, "other", on="y"),
    )
    counts = await two[0].service.process("ada")
    assert (counts[Status.FAILED], counts[Status.COMPLETED]) == (1, 1)
    assert await two[0].texts() == ["other"]
    failing.clear()
    bad = (await two[0].items("ada"))[0]
    await two[1].service.retry("ada", bad.id)
    assert (await two[1].service.process("ada"))[Status.COMPLETED] == 2
    assert await two[0].texts() == ["other", "bad", "after"]


async def test_adding_on_both_instances_while_both_carry_out_loses_and_doubles_nothing(
    two: Sequence[Instance], stores: dict[str, Any]
) -> None:
    async def add(instance: Instance, name: str) -> None:
        for n in range(15):
            await instance.add("ada", a_mark(stores, f"{name}{n:02}", on=name))

    async def carry_out(instance: Instance) -> None:
        while not done.is_set():
            await instance.service.process("ada")

    done = asyncio.Event()
    workers = asyncio.gather(*(carry_out(instance) for instance in two))
    await asyncio.gather(add(two[0], "x"), add(two[1], "y"), add(two[1], "z"))
    done.set()
    await workers
    while any((await two[0].service.process("ada")).values()):
        pass
    texts = await two[0].texts()
    for name in "xyz":
        assert [t for t in texts if t[0] == name] == [f"{name}{n:02}" for n in range(15)]


async def test_a_repeated_add_of_one_operation_at_once_on_two_instances_is_one_item(
    two: Sequence[Instance],
) -> None:
    adds = [instance.add("ada", expense(7, operationId="op")) for instance in two for _ in "abc"]
    answers = await asyncio.gather(*adds)
    assert len({item.id for (item,) in answers}) == 1
    assert len(await two[0].items("ada")) == 1


async def test_who_discards_or_clears_while_items_are_carried_out_stops_all_or_nothing_of_each(
    two: Sequence[Instance], stores: dict[str, Any]
) -> None:
    items = await two[0].add("ada", *(a_mark(stores, str(n), on=f"d{n % 4}") for n in range(40)))

    async def discard(item_id: str) -> str | None:
        try:
            await two[1].service.discard("ada", item_id)
        except Exception:  # it is being processed
            return None
        return item_id

    async def discards() -> set[str | None]:
        return {await discard(item.id) for item in items[30:20:-1]}

    processed, discarded = await asyncio.gather(two[0].service.process("ada"), discards())
    cleared = await two[1].service.clear("ada")
    left = {item.id: item.status for item in await two[0].items("ada")}
    marks = Counter(found["item"] for found in await two[0].marks())
    assert all(times == 1 for times in marks.values())
    assert sum(processed.values()) == len(marks)
    assert left.keys() & discarded == set()
    assert all(status is Status.COMPLETED for status in left.values())
    assert len(left.keys() | discarded - {None}) + cleared == 40


async def test_carrying_out_again_what_was_done_makes_no_second_document(
    two: Sequence[Instance],
) -> None:
    (item,) = await two[0].add("ada", expense(3))
    assert (await two[0].service.process("ada"))[Status.COMPLETED] == 1
    # As if the whole queue had been restored from before: the document's id is the item's.
    again = {"$set": {"status": "pending", "attempts": 0, "open": True}}
    await two[0].mongo.collection(QUEUE).update_one({"_id": item.id}, again)
    for instance in two:
        await instance.service.process("ada")
    assert await two[0].resources.total("ada", EXPENSES, TIMEOUT) == (1, 3)


async def test_discarding_one_in_the_middle_leaves_the_others_in_their_order(
    two: Sequence[Instance], stores: dict[str, Any], failing: set[str]
) -> None:
    failing.add("first")
    bodies = [a_mark(stores, text, on="x") for text in ("first", "second", "third")]
    first, second, _ = await two[0].add("ada", *bodies)
    await two[0].service.process("ada")
    await two[0].service.discard("ada", second.id)
    assert sum((await two[1].service.process("ada")).values()) == 0
    await two[0].service.discard("ada", first.id)
    assert (await two[1].service.process("ada"))[Status.COMPLETED] == 1
    assert await two[0].texts() == ["third"]


async def test_what_is_added_behind_an_item_that_is_under_way_or_done_is_carried_out_after_it(
    two: Sequence[Instance], stores: dict[str, Any]
) -> None:
    await two[0].add("ada", a_mark(stores, "0", on="x"))
    for n in range(1, 10):
        step = two[n % 2].service.step("ada")
        await asyncio.gather(step, two[0].add("ada", a_mark(stores, str(n), on="x")))
    while any((await two[0].service.process("ada")).values()):
        pass
    assert await two[1].texts() == [str(n) for n in range(10)]
