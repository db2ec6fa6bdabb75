"""What operators see of the queue: depth, oldest age, time to done, attempts."""

from typing import Any

from domain.queue import Status
from tests.queueing import FAILING, Instance, a_mark, expense, instances, working
from tests.waiting import soon

DEPTH, OLDEST = "livetally_queue_items", "livetally_queue_oldest_pending_seconds"


async def measured(instance: Instance) -> None:
    """Have the worker measure once."""
    await instance.worker()._measure()


async def test_depth_is_by_status_of_all_users_and_the_same_on_every_instance(
    stores: dict[str, Any],
) -> None:
    async with instances(stores) as two:
        FAILING.add("bad")
        await two[0].add("ada", expense(), a_mark(stores, "bad", maxAttempts=1))
        await two[0].service.process("ada")
        FAILING.clear()
        await two[0].add("ada", expense(), expense())
        await two[0].add("bob", expense())
        now = two[0].clock()
        await two[0].repository.claim("bob", now, "held", now + 9_000, 5.0, worker=False)
        for instance in two:
            await measured(instance)
            depths = {status: instance.metric(DEPTH, status=status.value) for status in Status}
            assert depths == {
                Status.PENDING: 2,
                Status.PROCESSING: 1,
                Status.FAILED: 1,
                Status.CONFLICT: 0,
                Status.COMPLETED: 0,
            }


async def test_oldest_is_the_age_of_the_oldest_pending_item_and_0_without_one(
    stores: dict[str, Any],
) -> None:
    async with instances(stores, 1) as (one,):
        await measured(one)
        assert one.metric(OLDEST) == 0
        await one.add("ada", expense())
        one.clock.ahead += 50_000
        await one.add("bob", expense())
        one.clock.ahead += 50_000
        await measured(one)
        assert 100 <= one.metric(OLDEST) < 110
        await one.service.process("ada")
        await measured(one)
        assert 50 <= one.metric(OLDEST) < 60
        await one.service.process("bob")
        await measured(one)
        assert one.metric(OLDEST) == 0


async def test_time_to_done_is_from_adding_to_completion_and_counts_completed_items_only(
    stores: dict[str, Any],
) -> None:
    async with instances(stores, 1) as (one,):
        FAILING.add("bad")
        await one.add("ada", expense(), a_mark(stores, "bad", maxAttempts=1))
        one.clock.ahead += 100_000
        await one.service.process("ada")
        FAILING.clear()
        assert one.metric("livetally_queue_done_seconds_count") == 1
        assert 100 <= one.metric("livetally_queue_done_seconds_sum") < 110


async def test_attempts_are_those_that_an_item_took_until_it_ended(
    stores: dict[str, Any],
) -> None:
    async with instances(stores) as (one, two):
        FAILING.add("bad")
        await one.add("ada", a_mark(stores, "bad"), expense())
        await one.service.process("ada")
        assert one.metric("livetally_queue_attempts_count", status="completed") == 1
        FAILING.clear()
        one.clock.ahead += 6_000
        await two.service.process("ada")
        assert two.metric("livetally_queue_attempts_count", status="completed") == 1
        assert two.metric("livetally_queue_attempts_sum", status="completed") == 2
        for instance in (one, two):
            assert instance.metric("livetally_queue_attempts_count", status="failed") == 0


async def test_the_worker_measures_by_itself(stores: dict[str, Any]) -> None:
    async with instances(stores, 1, queue_first_attempt_after=60.0) as (one,):
        await one.add("ada", expense())

        async def seen() -> None:
            assert one.metric(DEPTH, status="pending") == 1

        async with working(one):
            await soon(seen)
