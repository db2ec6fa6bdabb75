"""MongoDB is away: the queue and the resources say so in time, and go on when it is back."""

import asyncio
import time
from typing import Any

import aiohttp
import pytest

from server.embedded import PrivateServer
from tests.outages import frozen
from tests.queues import EXPENSES, SALARY, Queue, one
from tests.rest import Api
from tests.serving import serving

pytestmark = pytest.mark.usefixtures("no_worker")


async def test_while_mongodb_is_away_all_is_unavailable_and_goes_on_afterwards(
    own_mongod: PrivateServer, stores: dict[str, Any]
) -> None:
    settings = {**stores, "mongodb_uri": own_mongod.url}
    async with serving(**settings) as server, aiohttp.ClientSession(server.url) as session:
        queue = Queue(Api(session))
        item = await queue.add(EXPENSES, "POST", SALARY, operationId="op")
        started = time.monotonic()
        with frozen(own_mongod):
            refused = await asyncio.gather(
                queue.try_add(EXPENSES, "POST", SALARY, operationId="away"),
                Api(session, "bob").post("/api/sync/bulk", {"items": [one()]}),
                queue.api.get("/api/sync/pending"),
                queue.api.send("POST", "/api/sync/process"),
                queue.api.get(EXPENSES),
                Api(session, "cat").post(EXPENSES, SALARY),
            )
        for answer in refused:
            answer.problem(503, "unavailable")
            assert answer.headers["Retry-After"]
        assert time.monotonic() - started < 10
        await queue.add(EXPENSES, "POST", SALARY, operationId="away")
        assert (await queue.add(EXPENSES, "POST", SALARY, operationId="op"))["_id"] == item["_id"]
        assert await queue.process() == (2, 2, 0)
        assert len(await queue.expenses()) == 2
