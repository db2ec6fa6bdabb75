"""What is due is carried out though nobody asks; what was just added is left to its client."""

from typing import Any

import pytest

from tests.clients_py import joined
from tests.queues import EXPENSES, SALARY, Clock, Queue
from tests.rest import Api
from tests.serving import Served

pytestmark = pytest.mark.usefixtures("quiet", "shared_database")


async def test_a_first_attempt_is_left_to_the_client_for_a_minute(
    clock: Clock, served: Served, queue: Queue
) -> None:
    async with joined(served.url) as phone:
        old = await queue.add(EXPENSES, "POST", SALARY)
        clock.forward(58)
        young = await queue.add(EXPENSES, "POST", SALARY, priority=9)
        clock.forward(3)
        told: Any = await phone.next("sync:item")
        assert (told["_id"], told["status"], told["attempts"]) == (old["_id"], "completed", 1)
        (left,) = await queue.pending()
        assert (left["_id"], left["attempts"]) == (young["_id"], 0)
        assert await queue.process() == (1, 1, 0)


async def test_what_failed_is_tried_again_when_its_time_has_come(
    clock: Clock, served: Served, api: Api, queue: Queue
) -> None:
    async with joined(served.url) as phone:
        item = await queue.add(f"{EXPENSES}/late", "PUT", {"amount": 1})
        follower = await queue.add(f"{EXPENSES}/late", "DELETE", {})
        assert await queue.process() == (1, 0, 1)
        await api.post(EXPENSES, {**SALARY, "_id": "late"})
        clock.forward(6)
        told = await phone.next("sync:item")
        assert (told["_id"], told["status"], told["attempts"]) == (item["_id"], "completed", 2)
        clock.forward(60)
        told = await phone.next("sync:item")
        assert (told["_id"], told["status"]) == (follower["_id"], "completed")
    assert await queue.expenses() == {}


async def test_what_is_done_is_counted(clock: Clock, served: Served, queue: Queue) -> None:
    await queue.add(EXPENSES, "POST", SALARY)
    await queue.add(EXPENSES, "POST", {}, maxAttempts=1)
    assert await queue.process() == (2, 1, 1)
    assert served.metric("livetally_queue_done_seconds_count") == 1
    for status in ("completed", "failed"):
        assert served.metric("livetally_queue_attempts_count", status=status) == 1
        assert served.metric("livetally_queue_attempts_sum", status=status) == 1
    text = (await queue.api.get("/metrics")).raw.decode()
    for name in ("items", "oldest_pending_seconds", "leases_expired_total"):
        assert f"livetally_queue_{name}" in text
