"""Two devices change one document: the later item ends as a conflict, and the user decides."""

from typing import Any

import pytest

from tests.queues import EXPENSES, SALARY, Clock, Queue
from tests.rest import Api

pytestmark = pytest.mark.usefixtures("quiet", "no_worker", "shared_database", "clock")
X = f"{EXPENSES}/x"


@pytest.fixture
async def stale(api: Api, queue: Queue) -> Any:
    """An item made for version 1 of a document, which is version 2 by now, with amount 200."""
    assert (await api.post(EXPENSES, {**SALARY, "_id": "x"})).json["version"] == 1
    item = await queue.add(X, "PUT", {"amount": 300}, baseVersion=1)
    assert item["baseVersion"] == 1
    assert (await api.send("PUT", X, json={"amount": 200})).ok()["version"] == 2
    return item


async def test_a_change_of_the_version_that_stands_is_no_conflict(api: Api, queue: Queue) -> None:
    await api.post(EXPENSES, {**SALARY, "_id": "x"})
    await queue.add(X, "PUT", {"amount": 2}, baseVersion=1)
    await queue.add(EXPENSES, "PUT", {"_id": "x", "amount": 3}, baseVersion=2)
    await queue.add(X, "DELETE", baseVersion=3)
    assert await queue.process() == (3, 3, 0)
    assert await queue.failed() == []
    assert await queue.expenses() == {}


async def test_a_stale_change_ends_as_a_conflict_with_the_servers_copy(
    api: Api, queue: Queue, stale: Any, clock: Clock
) -> None:
    assert await queue.process() == (1, 0, 1)
    assert await queue.pending() == []
    (conflict,) = await queue.failed()
    assert (conflict["_id"], conflict["status"]) == (stale["_id"], "conflict")
    assert conflict["server"] == (await api.get(X)).ok()
    assert (conflict["server"]["amount"], conflict["server"]["version"]) == (200, 2)
    assert conflict["data"] == {"amount": 300}
    assert conflict["error"]
    clock.forward(86_400)
    assert await queue.process() == (0, 0, 0)  # it waits for its user
    (await queue.retry(stale)).problem(409, "item_busy")


async def test_a_stale_removal_is_a_conflict_too(api: Api, queue: Queue, stale: Any) -> None:
    await queue.discard(stale)
    item = await queue.add(X, "DELETE", baseVersion=1)
    assert await queue.process() == (1, 0, 1)
    assert (await queue.expenses())["x"]["amount"] == 200
    (await queue.resolve(item, "mine")).ok()
    assert await queue.process() == (1, 1, 0)
    assert await queue.expenses() == {}


async def test_keep_mine_carries_it_out_whatever_stands(api: Api, queue: Queue, stale: Any) -> None:
    await queue.process()
    (await queue.resolve(stale, "mine")).ok()
    assert await queue.failed() == []
    (await api.send("PUT", X, json={"amount": 250})).ok()
    assert await queue.process() == (1, 1, 0)
    assert (await queue.expenses())["x"]["amount"] == 300
    done = await queue.item(stale)
    assert (done["status"], done["error"]) == ("completed", None)
    assert done["responseData"]["version"] == 4


async def test_keep_server_ends_it_without_a_change(queue: Queue, stale: Any) -> None:
    await queue.process()
    (await queue.resolve(stale, "server")).ok()
    assert await queue.process() == (0, 0, 0)
    assert await queue.failed() == await queue.pending() == []
    assert (await queue.expenses())["x"]["amount"] == 200
    assert (await queue.item(stale))["status"] == "completed"


@pytest.mark.parametrize("end", ["mine", "server", "discard"])
async def test_a_conflict_holds_back_its_followers_until_it_is_ended(
    queue: Queue, stale: Any, end: str
) -> None:
    await queue.add(X, "PUT", {"category": "Rent"}, priority=9)
    other = await queue.add(EXPENSES, "POST", {**SALARY, "_id": "other"})
    assert await queue.process() == (2, 1, 1)
    assert (await queue.item(other))["status"] == "completed"
    assert await queue.process() == (0, 0, 0)
    if end == "discard":
        (await queue.discard(stale)).ok()
    else:
        (await queue.resolve(stale, end)).ok()
    done = 2 if end == "mine" else 1
    assert await queue.process() == (done, done, 0)
    expense = (await queue.expenses())["x"]
    assert expense["category"] == "Rent"
    assert expense["amount"] == (300 if end == "mine" else 200)


async def test_only_a_conflict_can_be_resolved_once_and_only_one_of_two_ways(
    queue: Queue, stale: Any
) -> None:
    (await queue.resolve(stale, "mine")).problem(409, "item_busy")
    await queue.process()
    for keep in ("both", "", None, 1, "MINE"):
        (await queue.resolve(stale, keep)).refused_name(400, "invalid_value", "keep")
    path = f"/api/sync/items/{stale['_id']}/resolve"
    (await queue.api.post(path, {})).refused_field(400, "missing_field", "/keep")
    (await queue.resolve(stale, "server")).ok()
    for keep in ("mine", "server"):
        (await queue.resolve(stale, keep)).problem(409, "item_busy")


async def test_nobody_resolves_another_ones_conflict(
    queue: Queue, others_queue: Queue, stale: Any
) -> None:
    await queue.process()
    for keep in ("mine", "server"):
        (await others_queue.resolve(stale, keep)).problem(404, "not_found")
    assert [item["status"] for item in await queue.failed()] == ["conflict"]


async def test_without_a_base_version_the_last_one_wins(queue: Queue, stale: Any) -> None:
    await queue.discard(stale)
    await queue.add(X, "PUT", {"amount": 300})
    assert await queue.process() == (1, 1, 0)
    assert (await queue.expenses())["x"]["amount"] == 300
