"""kill -9 in the middle of an item: it comes back after its lease, and is done exactly once."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pymongo import AsyncMongoClient

from storage.names import QUEUE, RESOURCES
from tests.queueing import MARKS, Gate, a_mark, gate
from tests.rest import Api
from tests.serving import ServerProcess, server_process
from tests.waiting import soon

LEASE = 2.0


@pytest.fixture
def settings(stores: dict[str, Any]) -> dict[str, Any]:
    return {**stores, "queue_handlers": "tests.queueing:HANDLERS", "queue_lease": LEASE}


@pytest.fixture
async def other(settings: dict[str, Any], tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """The instance that stays."""
    async with server_process(tmp_path, **settings) as process:
        yield process


async def added(server: ServerProcess, *items: dict[str, Any]) -> list[str]:
    """Add items for ada; answers their ids."""
    async with aiohttp.ClientSession(server.url) as http:
        answer = await Api(http).post("/api/sync/bulk", {"items": items})
        assert answer.status == 201, answer
        return [item["_id"] for item in answer.json["syncItems"]]


async def process(server: ServerProcess) -> None:
    """Ask for ada's items until there are none, or the server is gone."""
    try:
        async with aiohttp.ClientSession(server.url) as http:
            while (await Api(http).post("/api/sync/process", {})).ok()["processed"]:
                pass
    except (aiohttp.ClientError, ConnectionError):
        pass


async def get(server: ServerProcess, path: str) -> Any:
    async with aiohttp.ClientSession(server.url) as http:
        return (await Api(http).get(path)).ok()


async def nothing_pends(server: ServerProcess) -> None:
    assert (await get(server, "/api/sync/pending"))["count"] == 0


def an_expense(amount: int) -> dict[str, Any]:
    data = {"amount": amount, "category": "Test"}
    return {"endpoint": "/api/expenses", "method": "POST", "data": data}


async def test_an_item_whose_worker_was_killed_comes_back_after_its_lease_and_is_done_once(
    settings: dict[str, Any], other: ServerProcess, tmp_path: Path
) -> None:
    closed: Gate
    async with server_process(tmp_path, **settings) as doomed, gate() as closed:
        body = a_mark(settings, "mark", closed).model_dump(by_alias=True, exclude_unset=True)
        (item_id,) = await added(doomed, body)
        calls = asyncio.create_task(process(doomed))
        await closed.waited_for()  # its effect is written, but not committed
        await doomed.kill()
        killed = time.monotonic()
        await calls
        closed.open()
        # Nobody asks: the worker of the instance that stays takes it up.
        await soon(lambda: nothing_pends(other), within=20.0)
        assert time.monotonic() - killed < LEASE + 8.0
    async with AsyncMongoClient[dict[str, Any]](settings["mongodb_uri"]) as client:
        marks = await client[settings["mongodb_db"]][MARKS].find().to_list()
    assert [(found["item"], found["text"]) for found in marks] == [(item_id, "mark")]
    async with aiohttp.ClientSession(other.url) as http:
        metrics = (await Api(http, None).get("/metrics")).raw.decode()
    assert "livetally_queue_leases_expired_total 1.0" in metrics


async def test_killed_while_it_carries_out_several_calls_leaves_one_document_for_each_item(
    settings: dict[str, Any], other: ServerProcess, tmp_path: Path
) -> None:
    async with server_process(tmp_path, **settings) as doomed:
        expected = await added(doomed, *(an_expense(n) for n in range(40)))

        async def begun() -> None:
            assert (await get(other, "/api/expenses"))["count"] > 5

        calls = asyncio.gather(*(process(doomed) for _ in range(3)))
        await soon(begun)
        await doomed.kill()
        await calls
    await process(other)
    await soon(lambda: nothing_pends(other), within=20.0)
    page = await get(other, "/api/expenses?limit=200")
    assert (page["count"], page["total"]) == (40, 780)
    assert {document["id"] for document in page["expenses"]} == set(expected)
    assert (await get(other, "/api/sync/failed"))["count"] == 0
    assert "ERROR" not in other.log


async def test_sigterm_while_the_worker_is_busy_ends_in_time_and_leaves_nothing_half_done(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    settings = {**settings, "queue_first_attempt_after": 0.001, "queue_lease": 30.0}
    async with server_process(tmp_path, **settings) as server, gate() as closed:
        body = a_mark(settings, "mark", closed).model_dump(by_alias=True, exclude_unset=True)
        await added(server, body, *(an_expense(n) for n in range(5)))
        await closed.waited_for()
        assert await asyncio.wait_for(server.terminate(), 8.0) == 0
        assert "ERROR" not in server.log
        assert "Traceback" not in server.log
    async with AsyncMongoClient[dict[str, Any]](settings["mongodb_uri"]) as client:
        database = client[settings["mongodb_db"]]
        assert await database[MARKS].count_documents({}) == 0
        statuses = [item["status"] async for item in database[QUEUE].find()]
        done = await database[RESOURCES].count_documents({})
    assert statuses.count("completed") == done
    assert len(statuses) == 6
