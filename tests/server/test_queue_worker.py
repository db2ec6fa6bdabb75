"""The background worker: shared, fair, patient with first attempts, and quick to end."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from domain.queue import Status
from domain.resources import BUILT_IN
from server.embedded import PrivateServer
from tests.queueing import (
    DAY,
    FAILING,
    TIMEOUT,
    Gate,
    Instance,
    a_mark,
    expense,
    gate,
    instances,
    working,
)
from tests.waiting import soon

EXPENSES = BUILT_IN[0]
AT_ONCE: dict[str, Any] = {"queue_first_attempt_after": 0.001}


@pytest.fixture
async def two(stores: dict[str, Any]) -> AsyncIterator[Sequence[Instance]]:
    """Two instances whose workers take first attempts at once."""
    async with instances(stores, **AT_ONCE) as both:
        yield both


@pytest.fixture
async def closed() -> AsyncIterator[Gate]:
    async with gate() as made:
        yield made


async def all_done(instance: Instance, *users: str) -> None:
    """Wait until the users' items are all completed."""

    async def check() -> None:
        for user in users:
            items = await instance.items(user)
            assert {item.status for item in items} == {Status.COMPLETED}

    await soon(check, within=30.0)


async def test_two_instances_share_the_work_and_each_item_is_done_once_though_nobody_asks(
    two: Sequence[Instance],
) -> None:
    users = [f"user{n}" for n in range(12)]
    for user in users:
        await two[0].add(user, *(expense(n) for n in range(12)))
    async with working(*two):
        await all_done(two[0], *users)
    for user in users:
        assert await two[0].resources.total(user, EXPENSES, TIMEOUT) == (12, 66)
        assert all(item.attempts == 1 for item in await two[0].items(user))
    told = [len(instance.told.items) for instance in two]
    assert sum(told) == 144
    assert min(told) > 0


async def test_a_first_attempt_is_the_clients_own_for_a_while(
    stores: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with instances(stores, 1, queue_first_attempt_after=60.0) as (one,):
        await one.add("ada", expense())
        one.clock.ahead += 59_000
        assert await one.service.step("ada", worker=True) is None
        assert await one.service.due_user("", set()) is None
        one.clock.ahead += 1_001
        assert await one.service.due_user("", set()) == "ada"
        assert await one.service.step("ada", worker=True) is Status.COMPLETED


async def test_a_retry_is_done_when_it_is_due_and_not_earlier(
    stores: dict[str, Any],
) -> None:
    async with instances(stores, 1) as (one,):
        FAILING.add("bad")
        await one.add("ada", a_mark(stores, "bad"))
        await one.service.process("ada")
        FAILING.clear()
        one.clock.ahead += 4_500
        assert await one.service.step("ada", worker=True) is None
        one.clock.ahead += 501
        async with working(one):
            await all_done(one, "ada")


async def test_a_days_retries_have_the_documented_pauses_and_end_as_failed(
    stores: dict[str, Any],
) -> None:
    async with instances(stores, 1) as (one,):
        FAILING.add("bad")
        try:
            await one.add("ada", a_mark(stores, "bad", maxAttempts=8))
            pauses = []
            await one.service.process("ada")
            while (item := (await one.items("ada"))[0]).status is Status.PENDING:
                pauses.append((item.retry_at - item.updated_at) // 1000)
                one.clock.ahead += item.retry_at - one.clock() - 200
                assert await one.service.step("ada", worker=True) is None
                one.clock.ahead += 201
                assert await one.service.step("ada", worker=True) is not None
        finally:
            FAILING.clear()
        assert pauses == [5, 10, 20, 40, 80, 80, 80]
        assert (item.status, item.attempts) == (Status.FAILED, 8)
        one.clock.ahead += DAY
        assert await one.service.due_user("", set()) is None


async def test_a_users_backlog_does_not_hold_up_the_others(two: Sequence[Instance]) -> None:
    await two[0].add("hoarder", *(expense() for _ in range(300)))
    for name in ("ada", "zoe"):
        await two[0].add(name, expense())
    async with working(two[0]):
        await all_done(two[0], "ada", "zoe")
        waiting = await two[0].items("hoarder", [Status.PENDING])
    assert len(waiting) > 200


async def test_hanging_handlers_of_one_user_take_one_place_only(
    stores: dict[str, Any], two: Sequence[Instance], closed: Gate
) -> None:
    await two[0].add("ada", *(a_mark(stores, f"hangs{n}", closed) for n in range(10)))
    async with working(*two):
        await closed.waited_for()
        for n in range(2):  # again and again, not only in the first look
            await two[0].add("bob", a_mark(stores, f"bob{n}"))
            await all_done(two[0], "bob")
        assert closed.came == 1
        closed.open()
        await all_done(two[0], "ada")


async def test_a_poison_item_fails_alone(stores: dict[str, Any], two: Sequence[Instance]) -> None:
    await two[0].add(
        "ada",
        expense(data={"amount": "no number"}, maxAttempts=1),
        expense(data={"amount": {"$gt": 1}, "nested": [[[{}]]]}, maxAttempts=1),
        a_mark({"mongodb_db": "no/such name"}, "bad", maxAttempts=1),
        expense(9),
    )

    async def check() -> None:
        statuses = Counter(item.status for item in await two[0].items("ada"))
        assert statuses == {Status.FAILED: 3, Status.COMPLETED: 1}

    async with working(*two):
        await soon(check)
    assert all(item.error for item in await two[0].items("ada", [Status.FAILED]))


async def test_stopping_leaves_nothing_half_done_and_takes_a_few_seconds_at_most(
    stores: dict[str, Any],
    two: Sequence[Instance],
    closed: Gate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.queue.worker.FINISH", 0.5)
    await two[0].add("ada", a_mark(stores, "hangs", closed))
    for n in range(3):
        await two[0].add(f"user{n}", *(expense() for _ in range(30)))
    async with working(two[0]):
        await closed.waited_for()
        begun = time.monotonic()
    assert time.monotonic() - begun < 3.0
    assert await two[0].texts() == []
    for n in range(3):
        items = await two[0].items(f"user{n}")
        count, _ = await two[0].resources.total(f"user{n}", EXPENSES, TIMEOUT)
        statuses = Counter(item.status for item in items)
        assert statuses[Status.PROCESSING] == 0
        assert statuses[Status.COMPLETED] == count
    closed.open()
    two[1].clock.ahead += 40_000
    async with working(two[1]):
        await all_done(two[1], "ada", "user0", "user1", "user2")
    assert await two[1].texts() == ["hangs"]


async def test_stopping_waits_a_moment_for_what_is_about_to_be_done(
    stores: dict[str, Any], two: Sequence[Instance], closed: Gate
) -> None:
    await two[0].add("ada", a_mark(stores, "first", closed), a_mark(stores, "second"))
    worker = two[0].worker()
    worker.start()
    await closed.waited_for()
    stopping = asyncio.create_task(worker.stop())
    await asyncio.sleep(0)
    closed.open()
    await stopping
    assert await two[0].texts() == ["first"]
    assert [item.attempts for item in await two[0].items("ada")] == [1, 0]


async def test_erasing_a_user_while_the_worker_is_at_their_items_leaves_nothing(
    stores: dict[str, Any], two: Sequence[Instance], closed: Gate
) -> None:
    one = two[0]
    await one.add("ada", *(expense() for _ in range(60)), a_mark(stores, "m", closed, priority=-9))
    async with working(*two):

        async def begun() -> None:
            assert (await one.resources.total("ada", EXPENSES, TIMEOUT))[0] > 5

        await soon(begun)
        for holding in (one.units, one.repository, one.resources):
            await holding.erase("ada", TIMEOUT)
        closed.open()
        await one.add("bob", expense())
        await all_done(one, "bob")
        assert await one.service.due_user("", set()) is None
    assert not await one.repository.holds("ada", TIMEOUT)
    assert not await one.resources.holds("ada", TIMEOUT)
    assert await one.texts() == []


async def test_failed_items_leave_after_their_time_and_those_behind_them_go_on(
    stores: dict[str, Any],
) -> None:
    async with instances(stores, 1, queue_failed_kept=90 * 86_400.0) as (one,):
        FAILING.add("bad")
        await one.add(
            "ada", a_mark(stores, "bad", on="x", maxAttempts=1), a_mark(stores, "after", on="x")
        )
        await one.service.process("ada")
        FAILING.clear()
        one.clock.ahead += 89 * DAY
        await one.service.discard_outdated()
        assert [item.status for item in await one.items("ada")] == [Status.FAILED, Status.PENDING]
        one.clock.ahead += 2 * DAY
        async with working(one):
            await all_done(one, "ada")
        assert await one.texts() == ["after"]


async def test_an_item_that_is_tried_again_is_kept(stores: dict[str, Any]) -> None:
    async with instances(stores, 1) as (one,):
        FAILING.add("bad")
        (item,) = await one.add("ada", a_mark(stores, "bad", maxAttempts=1))
        await one.service.process("ada")
        FAILING.clear()
        await one.service.retry("ada", item.id)
        one.clock.ahead += 100 * DAY
        await one.service.discard_outdated()
        assert [found.status for found in await one.items("ada")] == [Status.PENDING]


async def test_mongodb_goes_away_and_comes_back_nothing_is_lost_or_doubled_and_the_log_stays_calm(
    stores: dict[str, Any], own_mongod: PrivateServer, caplog: pytest.LogCaptureFixture
) -> None:
    stores = {**stores, "mongodb_uri": own_mongod.url}
    async with instances(stores, queue_lease=2.0, **AT_ONCE) as (one, two):
        users = [f"user{n}" for n in range(4)]
        for user in users:
            await one.add(user, *(expense(n, maxAttempts=20) for n in range(25)))

        async def begun() -> None:
            assert (await one.resources.total("user0", EXPENSES, TIMEOUT))[0] > 2

        async def noticed() -> None:
            assert "MongoDB did not answer" in caplog.text

        async with working(one, two):
            await soon(begun)
            caplog.clear()
            away = time.monotonic()
            await own_mongod.kill()
            await soon(noticed)
            await own_mongod.restart()
            away = time.monotonic() - away
            one.clock.ahead += 3_000
            await all_done(one, *users)
    async with instances(stores, 1) as (fresh,):
        for user in users:
            assert await fresh.resources.total(user, EXPENSES, TIMEOUT) == (25, 300)
    records = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert all(record.levelno == logging.WARNING for record in records)
    # Two instances, each with four turns and a few loops: a line each in a few seconds.
    assert len(records) < 20 + 4 * away
