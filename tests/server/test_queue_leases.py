"""Leases: what a dead or slow worker holds comes back, and only who holds an item can end it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
import pytest

from domain.queue import Status
from domain.resources import BUILT_IN
from storage.names import QUEUE
from tests.queueing import Gate, Instance, a_mark, expense, gate, instances
from tests.waiting import soon

EXPENSES = BUILT_IN[0]
LEASE = 30.0
EXPIRED = "livetally_queue_leases_expired_total"


@pytest.fixture
async def two(stores: dict[str, Any]) -> AsyncIterator[Sequence[Instance]]:
    async with instances(stores, queue_lease=LEASE) as both:
        yield both


@pytest.fixture
async def closed() -> AsyncIterator[Gate]:
    """A gate where handlers wait."""
    async with gate() as made:
        yield made


def after_the_lease(instance: Instance) -> None:
    instance.clock.ahead += round(LEASE * 1000) + 60_000


async def only(instance: Instance, user: str = "ada") -> Any:
    (item,) = await instance.items(user)
    return item


async def dies_with_the_item(instance: Instance, user: str = "ada") -> None:
    """A worker that ends between its claim and anything else."""
    now = instance.clock()
    claimed = await instance.repository.claim(
        user, now, "of the dead", now + round(LEASE * 1000), 5.0, worker=False
    )
    assert claimed is not None


async def test_until_the_lease_ends_nobody_takes_the_item_and_then_it_is_done_once(
    two: Sequence[Instance],
) -> None:
    await two[0].add("ada", expense(5))
    await dies_with_the_item(two[0])
    assert sum((await two[1].service.process("ada")).values()) == 0
    assert (await only(two[1])).status is Status.PROCESSING
    after_the_lease(two[1])
    counts = await asyncio.gather(*(instance.service.process("ada") for instance in two))
    assert sum(count[Status.COMPLETED] for count in counts) == 1
    item = await only(two[0])
    assert (item.status, item.attempts, item.error) == (Status.COMPLETED, 2, None)
    assert await two[0].resources.total("ada", EXPENSES, 5.0) == (1, 5)


async def test_each_lease_that_ends_is_counted_once_whoever_sees_it(
    two: Sequence[Instance],
) -> None:
    for user in ("ada", "bob"):
        await two[0].add(user, expense())
        await dies_with_the_item(two[0], user)
    after_the_lease(two[0])
    looks = [instance.service.release_expired(None) for instance in two for _ in range(3)]
    await asyncio.gather(*looks)
    assert sum(instance.metric(EXPIRED) for instance in two) == 2
    assert (await only(two[0], "bob")).status is Status.PENDING


async def test_the_last_attempts_worker_dies_and_the_item_has_failed_and_its_user_is_told(
    two: Sequence[Instance],
) -> None:
    (item,) = await two[0].add("ada", expense(maxAttempts=1))
    await dies_with_the_item(two[0])
    after_the_lease(two[0])
    await two[1].service.release_expired(None)
    ended = await only(two[0])
    assert ended.status is Status.FAILED
    assert "worker ended" in ended.error
    ((user, shown),) = two[1].told.items
    assert (user, shown["_id"], shown["status"]) == ("ada", item.id, "failed")
    assert two[1].metric("livetally_queue_attempts_count", status="failed") == 1
    assert sum((await two[0].service.process("ada")).values()) == 0


async def test_a_call_of_one_user_leaves_the_leases_of_others_alone(
    two: Sequence[Instance],
) -> None:
    await two[0].add("bob", expense())
    await dies_with_the_item(two[0], "bob")
    after_the_lease(two[0])
    await two[1].service.process("ada")
    assert (await only(two[0], "bob")).status is Status.PROCESSING


async def test_a_slow_worker_whose_item_another_one_has_done_leaves_neither_effect_nor_completion(
    stores: dict[str, Any], two: Sequence[Instance], closed: Gate
) -> None:
    slow, quick = two
    (item,) = await slow.add("ada", a_mark(stores, "slow", closed))
    calls = asyncio.create_task(slow.service.process("ada"))
    await closed.waited_for()
    # Its lease ends; another one takes the item, and does it without the gate.
    after_the_lease(quick)
    await quick.service.release_expired(None)
    raw = orjson.dumps(a_mark(stores, "quick").data).decode()
    await quick.mongo.collection(QUEUE).update_one({"_id": item.id}, {"$set": {"data": raw}})
    quicker = asyncio.create_task(quick.service.process("ada"))

    async def taken() -> None:
        assert (await only(quick)).attempts == 2

    await soon(taken)
    closed.open()
    counts = await calls
    assert sum(counts.values()) == 0  # it did nothing, as far as anybody can see
    assert (await quicker)[Status.COMPLETED] == 1
    assert await quick.texts() == ["quick"]
    assert (await only(slow)).response == {"text": "quick"}
    assert len(slow.told.items) + len(quick.told.items) == 1


async def test_a_slow_worker_cannot_note_a_failure_for_an_item_that_is_anothers_by_now(
    two: Sequence[Instance],
) -> None:
    await two[0].add("ada", expense())
    now = two[0].clock()
    mine = await two[0].repository.claim("ada", now, "slow", now + 1, 5.0, worker=False)
    assert mine is not None
    after_the_lease(two[0])
    await two[1].service.process("ada")
    before = await only(two[0])
    assert not await two[0].repository.put_back(mine, Status.FAILED, "no", now, now, 5.0)
    assert await only(two[0]) == before
    assert before.status is Status.COMPLETED


async def test_a_handler_that_hangs_is_ended_within_its_lease_and_tried_again_with_back_off(
    stores: dict[str, Any], closed: Gate
) -> None:
    async with instances(stores, 2, queue_lease=1.0) as (one, other):
        await one.add("ada", a_mark(stores, "late", closed))
        (item,) = await one.items("ada")
        counts = await one.service.process("ada")
        noted = await only(one)
        assert (counts[Status.PENDING], noted.status) == (1, Status.PENDING)
        assert noted.error == "It took too long"
        assert noted.updated_at <= item.updated_at + 3_000
        assert noted.retry_at == noted.updated_at + 5_000
        assert await one.texts() == []
        await other.service.release_expired(None)
        assert other.metric(EXPIRED) == 0  # it was put back, not taken away
        closed.open()
        assert sum((await other.service.process("ada")).values()) == 0
        other.clock.ahead += 5_001
        assert (await other.service.process("ada"))[Status.COMPLETED] == 1
        assert await one.texts() == ["late"]


async def test_a_handler_may_take_as_long_as_its_lease_though_the_store_has_less_patience(
    stores: dict[str, Any], closed: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.queue.service.TIMEOUT", 0.5)
    async with instances(stores, 1, queue_lease=20.0) as (one,):
        await one.add("ada", a_mark(stores, "long", closed))
        calls = asyncio.create_task(one.service.process("ada"))
        await closed.waited_for()
        _, still = await asyncio.wait({calls}, timeout=0.8)
        assert still
        closed.open()
        assert (await calls)[Status.COMPLETED] == 1


async def test_while_one_handler_hangs_the_other_users_are_served(
    stores: dict[str, Any], two: Sequence[Instance], closed: Gate
) -> None:
    await two[0].add("ada", a_mark(stores, "hangs", closed))
    await two[0].add("bob", a_mark(stores, "bob"))
    calls = asyncio.create_task(two[0].service.process("ada"))
    await closed.waited_for()
    assert (await two[0].service.process("bob"))[Status.COMPLETED] == 1
    assert await two[0].texts() == ["bob"]
    closed.open()
    assert (await calls)[Status.COMPLETED] == 1
