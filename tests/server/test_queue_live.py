"""`sync:item`: what has ended is brought to its user's sockets, on every instance."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from tests.clients_py import Client, joined
from tests.queues import EXPENSES, SALARY, Clock, Queue, one
from tests.rest import Api
from tests.serving import serving

pytestmark = pytest.mark.usefixtures("quiet", "no_worker", "shared_database", "clock")
ITEM = "sync:item"


class Two:
    """Two instances: a queue of ada's at the first, her sockets at both, and bob's."""

    def __init__(self, queue: Queue, sockets: list[Client], bob: Client) -> None:
        self.queue = queue
        self.sockets = sockets
        self.bob = bob

    async def told(self) -> Any:
        """The item that all of ada's sockets are told of next."""
        first, *others = [await socket.next(ITEM) for socket in self.sockets]
        assert all(other == first for other in others)
        return first

    async def nothing_more(self) -> None:
        """An answer comes behind what was sent before."""
        for client in (*self.sockets, self.bob):
            await client.call("presence:ping")
            assert client.pending(ITEM) == 0


@pytest.fixture
async def two(stores: dict[str, Any]) -> AsyncIterator[Two]:
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(serving(**stores))
        there = await stack.enter_async_context(serving(**stores))
        session = await stack.enter_async_context(aiohttp.ClientSession(here.url))
        sockets = [await stack.enter_async_context(joined(at.url)) for at in (here, there)]
        bob = await stack.enter_async_context(joined(there.url, "bob"))
        yield Two(Queue(Api(session)), sockets, bob)


async def test_an_item_is_brought_when_it_is_completed(two: Two) -> None:
    added = await two.queue.bulk([one(), one(priority=1)])
    await two.nothing_more()
    assert await two.queue.process() == (2, 2, 0)
    for item in (added[1], added[0]):
        told = await two.told()
        assert (told["_id"], told["status"]) == (item["_id"], "completed")
        assert told["responseData"]["amount"] == 100
        assert told.keys() == item.keys()
    await two.nothing_more()


async def test_an_item_is_brought_when_it_has_failed_for_good_and_not_before(
    two: Two, clock: Clock
) -> None:
    item = await two.queue.add(EXPENSES, "POST", {"amount": 1}, maxAttempts=2)
    assert await two.queue.process() == (1, 0, 1)
    await two.nothing_more()
    clock.forward(6)
    assert await two.queue.process() == (1, 0, 1)
    told = await two.told()
    assert (told["_id"], told["status"], told["attempts"]) == (item["_id"], "failed", 2)
    assert "category" in told["error"]
    assert told == (await two.queue.failed())[0] | {"updatedAt": told["updatedAt"]}
    await two.nothing_more()


async def test_an_item_is_brought_when_it_conflicts_and_when_that_is_resolved(two: Two) -> None:
    api, path = two.queue.api, f"{EXPENSES}/x"
    await api.post(EXPENSES, {**SALARY, "_id": "x"})
    items = await two.queue.bulk(
        [one(path, "PUT", {"amount": 1}), one(path, "PUT", {"amount": 2}, baseVersion=1)]
    )
    assert await two.queue.process() == (2, 1, 1)
    assert (await two.told())["status"] == "completed"
    told = await two.told()
    assert (told["_id"], told["status"]) == (items[1]["_id"], "conflict")
    assert (told["server"]["version"], told["server"]["amount"]) == (2, 1)
    (await two.queue.resolve(items[1], "server")).ok()
    told = await two.told()
    assert (told["_id"], told["status"]) == (items[1]["_id"], "completed")
    await two.nothing_more()


async def test_an_item_whose_last_worker_died_is_brought_as_failed(
    two: Two, clock: Clock, database: Any
) -> None:
    item = await two.queue.add(EXPENSES, "POST", SALARY, maxAttempts=1)
    taken = {"status": "processing", "attempts": 1, "lease": "dead"}
    doc = database["sync_queue"].find_one({"_id": item["_id"]})
    database["sync_queue"].update_one(
        {"_id": item["_id"]}, {"$set": {**taken, "leaseUntil": doc["createdAt"]}}
    )
    clock.forward(31)
    assert await two.queue.process() == (0, 0, 0)
    told = await two.told()
    assert (told["_id"], told["status"]) == (item["_id"], "failed")
    assert told["error"]
    await two.nothing_more()
