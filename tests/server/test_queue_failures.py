"""What failed: listed, tried again, discarded; it holds back its followers and no others."""

from typing import Any

import aiohttp
import pytest
from pymongo.database import Database

from domain.queue import Status
from server.keys import QUEUE
from tests.queues import EXPENSES, ORDERS, SALARY, Clock, Queue, one
from tests.rest import Api
from tests.serving import Served, serving

pytestmark = pytest.mark.usefixtures("quiet", "no_worker", "shared_database", "clock")


async def failing(queue: Queue, doc_id: str = "x", **rest: Any) -> Any:
    """An item that has failed for good: the document that it changes is missing."""
    item = await queue.add(f"{EXPENSES}/{doc_id}", "PUT", {"amount": 1}, maxAttempts=1, **rest)
    assert await queue.process() == (1, 0, 1)
    return item


async def statuses(queue: Queue, *items: Any) -> list[str]:
    held = {item["_id"]: item["status"] for item in await queue.exported()}
    return [held.get(item["_id"], "gone") for item in items]


async def test_failed_items_are_listed_with_their_error_and_are_not_tried_again(
    queue: Queue, clock: Clock
) -> None:
    item = await failing(queue)
    (listed,) = await queue.failed()
    assert listed["_id"] == item["_id"]
    assert (listed["status"], listed["attempts"], listed["retryAt"]) == ("failed", 1, None)
    assert "x" in listed["error"]
    assert await queue.pending() == []
    clock.forward(40 * 86_400)
    assert await queue.process() == (0, 0, 0)


async def test_a_failed_item_that_is_retried_has_all_its_attempts_again(
    api: Api, queue: Queue, clock: Clock
) -> None:
    item = await failing(queue)
    (await queue.retry(item)).ok()
    assert await queue.failed() == []
    (again,) = await queue.pending()
    assert (again["status"], again["attempts"], again["error"]) == ("pending", 0, None)
    assert await queue.process() == (1, 0, 1)  # at once, and its cause is still there
    (await queue.retry(item)).ok()
    await api.post(EXPENSES, {**SALARY, "_id": "x"})
    assert await queue.process() == (1, 1, 0)
    assert (await queue.expenses())["x"]["amount"] == 1


async def test_a_discarded_item_is_gone(queue: Queue) -> None:
    failed = await failing(queue)
    done = await queue.add(EXPENSES, "POST", SALARY)
    await queue.process()
    waiting = await queue.add(EXPENSES, "POST", SALARY)
    (await queue.discard(done)).problem(409, "item_busy")  # its operationId would be forgotten
    for item in (failed, waiting):
        (await queue.discard(item)).ok()
        (await queue.discard(item)).problem(404, "not_found")
        (await queue.retry(item)).problem(404, "not_found")
    assert [item["_id"] for item in await queue.exported()] == [done["_id"]]
    assert await queue.process() == (0, 0, 0)


async def test_only_a_failed_item_can_be_retried(queue: Queue) -> None:
    item = await queue.add(EXPENSES, "POST", SALARY)
    (await queue.retry(item)).problem(409, "item_busy")
    await queue.process()
    (await queue.retry(item)).problem(409, "item_busy")
    assert len(await queue.expenses()) == 1


async def test_an_id_that_is_none_of_an_item_is_refused(queue: Queue) -> None:
    for doc_id, status, code in (("a%20b", 400, "invalid_id"), ("missing", 404, "not_found")):
        item = {"_id": doc_id}
        for answer in (
            await queue.retry(item),
            await queue.discard(item),
            await queue.resolve(item, "mine"),
        ):
            answer.problem(status, code)


async def test_a_failed_item_holds_back_its_followers_and_no_others(api: Api, queue: Queue) -> None:
    failed = await failing(queue)
    second = await queue.add(f"{EXPENSES}/x", "PUT", {"amount": 2}, priority=9)
    third = await queue.add(EXPENSES, "PUT", {"_id": "x", "amount": 3})
    other = await queue.add(EXPENSES, "POST", {**SALARY, "_id": "y"})
    order = await queue.add(f"{ORDERS}/x", "DELETE", {})
    assert await queue.process() == (2, 2, 0)
    assert await statuses(queue, failed, second, third, other, order) == [
        *("failed", "pending", "pending", "completed", "completed")
    ]
    assert [item["attempts"] for item in await queue.pending()] == [0, 0]

    await api.post(EXPENSES, {**SALARY, "_id": "x"})
    assert await queue.process() == (0, 0, 0)
    (await queue.retry(failed)).ok()
    assert await queue.process() == (3, 3, 0)
    assert (await queue.expenses())["x"]["amount"] == 3


async def test_one_that_will_be_tried_again_holds_back_its_followers_too(
    api: Api, queue: Queue, clock: Clock
) -> None:
    await queue.add(f"{EXPENSES}/x", "PUT", {"amount": 1})
    await queue.add(f"{EXPENSES}/x", "PUT", {"amount": 2}, priority=9)
    assert await queue.process() == (1, 0, 1)
    await api.post(EXPENSES, {**SALARY, "_id": "x"})
    assert await queue.process() == (0, 0, 0)
    clock.forward(6)
    assert await queue.process() == (2, 2, 0)
    assert (await queue.expenses())["x"]["amount"] == 2


async def test_when_a_failed_item_is_discarded_its_followers_go_on_in_their_order(
    api: Api, queue: Queue
) -> None:
    failed = await failing(queue)
    await api.post(EXPENSES, {**SALARY, "_id": "x"})
    middle, last = await queue.bulk(
        [one(f"{EXPENSES}/x", "PUT", {"amount": amount}) for amount in (2, 3)]
    )
    (await queue.discard(middle)).ok()
    assert await queue.process() == (0, 0, 0)  # the last one still waits for the first
    (await queue.discard(failed)).ok()
    assert await queue.process() == (1, 1, 0)
    assert await statuses(queue, failed, middle, last) == ["gone", "gone", "completed"]
    assert (await queue.expenses())["x"]["amount"] == 3


async def test_clear_leaves_what_failed_and_that_still_holds_back_what_comes(
    queue: Queue,
) -> None:
    failed = await failing(queue)
    follower = await queue.add(f"{EXPENSES}/x", "PUT", {"amount": 2})
    await queue.add(EXPENSES, "POST", SALARY)
    answer = (await queue.api.send("DELETE", "/api/sync/clear")).ok()
    assert answer["deletedCount"] == 2
    assert [item["_id"] for item in await queue.failed()] == [failed["_id"]]
    later = await queue.add(f"{EXPENSES}/x", "DELETE", {})
    assert await queue.process() == (0, 0, 0)
    (await queue.discard(failed)).ok()
    assert await queue.process() == (1, 1, 0)
    assert await statuses(queue, follower, later) == ["gone", "completed"]


async def test_an_item_whose_worker_died_comes_back_after_30_s_and_is_done_once(
    served: Served, queue: Queue, clock: Clock
) -> None:
    item = await queue.add(EXPENSES, "POST", SALARY)
    last = await queue.add(EXPENSES, "POST", SALARY, maxAttempts=1, priority=-1)
    for _ in range(2):
        await _claim_and_die(served, clock)
    for answer in (await queue.discard(item), await queue.retry(item)):
        answer.problem(409, "item_busy")
    assert (await queue.api.send("DELETE", "/api/sync/clear")).ok()["deletedCount"] == 0
    assert await queue.process() == (0, 0, 0)
    assert {one["status"] for one in await queue.pending()} == {"processing"}
    clock.forward(27)
    assert await queue.process() == (0, 0, 0)
    clock.forward(4)
    assert await queue.process() == (1, 1, 0)
    assert (await queue.item(item))["attempts"] == 2
    (failed,) = await queue.failed()  # it had one attempt only
    assert (failed["_id"], failed["attempts"]) == (last["_id"], 1)
    assert failed["error"]
    assert len(await queue.expenses()) == 1
    assert served.metric("livetally_queue_leases_expired_total") == 2


async def _claim_and_die(served: Served, clock: Clock) -> None:
    now = clock()
    repository = served.app[QUEUE]._repository
    claimed = await repository.claim("ada", now, "dead", now + 30_000, 5.0, worker=False)
    assert claimed is not None
    assert claimed.status is Status.PROCESSING


async def test_completed_items_go_after_30_days_and_failed_ones_after_90(
    queue: Queue, clock: Clock, database: Database[dict[str, Any]]
) -> None:
    items = database["sync_queue"]
    failed, done = await failing(queue), await queue.add(EXPENSES, "POST", SALARY)
    waiting = await queue.add(EXPENSES, "POST", SALARY, priority=-1)
    assert "goesAt" not in (items.find_one({"_id": waiting["_id"]}) or {"goesAt": 0})
    await queue.discard(waiting)
    await queue.process()
    # Failed ones are not MongoDB's to delete: others may wait for them.
    for item, when, days in ((done, "goesAt", 30), (failed, "discardAt", 90)):
        doc = items.find_one({"_id": item["_id"]})
        assert doc is not None
        assert (doc[when] - doc["updatedAt"]).total_seconds() == pytest.approx(days * 86_400, abs=1)
    (await queue.retry(failed)).ok()
    assert "discardAt" not in (items.find_one({"_id": failed["_id"]}) or {"discardAt": 0})
    lifetimes = [
        index["expireAfterSeconds"]
        for index in items.index_information().values()
        if index["key"] == [("goesAt", 1)]
    ]
    assert lifetimes == [0]


async def test_how_long_they_are_kept_can_be_set(
    stores: dict[str, Any], database: Database[dict[str, Any]]
) -> None:
    kept = {"queue_completed_kept": 3600.0, "queue_failed_kept": 7200.0}
    async with serving(**stores, **kept) as server, aiohttp.ClientSession(server.url) as session:
        queue = Queue(Api(session))
        await queue.bulk([one(), one(data={}, maxAttempts=1)])
        assert await queue.process() == (2, 1, 1)
    for doc in database["sync_queue"].find():
        goes_at = doc["goesAt" if doc["status"] == "completed" else "discardAt"]
        hours = (goes_at - doc["updatedAt"]).total_seconds() / 3600
        assert hours == pytest.approx({"completed": 1, "failed": 2}[doc["status"]], abs=0.01)
