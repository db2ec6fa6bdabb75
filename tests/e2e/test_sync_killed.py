"""kill -9 in the middle of pushes, again and again: a resend loses nothing and doubles nothing."""

import asyncio
import random
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp

from domain.times import iso
from tests.rest import Api
from tests.serving import free_port, server_process

ROUNDS = 5
MOST_ROUNDS = 12  # until one kill has hit the moment between commit and answer
DEVICES = 4
BATCH = 4  # operations of a push; two changes each
TALLY = "the-tally"


class Device:
    """It adds to one tally of the user, and with each operation makes an item of its own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.written = 0
        self.queue: list[dict[str, Any]] = []
        self.acknowledged: set[tuple[str, str]] = set()
        self.unanswered = 0
        self.duplicates = 0

    @property
    def marker(self) -> int:
        """What operation `written` adds: no two sums of different operations are the same soon."""
        return self.written**2 + 1

    @property
    def sum(self) -> int:
        return sum(n**2 + 1 for n in range(1, self.written + 1))

    def write(self) -> None:
        self.written += 1
        at = iso(time.time_ns() // 1_000_000)
        item = {"title": self.name, "order": self.marker}
        for kind, row_id, data in (
            ("tally", TALLY, {"total": self.marker}),
            ("item", f"{self.name}-{self.written}", item),
        ):
            change = {"id": row_id, "entityType": kind, "operation": "create", "data": data}
            operation = f"{self.name}-{self.written}"
            self.queue.append({**change, "operationId": operation, "timestamp": at})

    async def push(self, api: Api) -> None:
        """The queue, and what it was told of it; a server that goes away tells nothing."""
        body = {"deviceId": self.name, "changes": self.queue, "lastSyncTimestamp": None, "limit": 1}
        try:
            answer = await api.post("/api/sync", body)
        except (aiohttp.ClientError, OSError, TimeoutError):
            self.unanswered += 1
            raise
        acks = answer.ok()["data"]["acknowledged"]
        assert all(ack["success"] for ack in acks)
        assert len(acks) == len(self.queue)
        self.duplicates += sum(ack.get("duplicate", False) for ack in acks)
        self.acknowledged |= {(c["entityType"], c["operationId"]) for c in self.queue}
        self.queue = []

    async def run(self, url: str) -> None:
        """Write and push until the server is gone."""
        async with aiohttp.ClientSession(url) as http:
            api = Api(http)
            with suppress(aiohttp.ClientError, OSError, TimeoutError):
                while True:
                    for _ in range(BATCH - len(self.queue) // 2):
                        self.write()
                    await self.push(api)


async def pages(api: Api, path: str, cursor: str, **query: Any) -> list[Any]:
    """The `data` of all pages; `cursor` is the name of what leads to the next one."""
    found = [(await api.get(path, params=query)).ok()["data"]]
    while found[-1][cursor] is not None:
        query[cursor] = found[-1][cursor]
        found.append((await api.get(path, params=query)).ok()["data"])
    return found


async def progress(devices: list[Device]) -> None:
    """Wait until something more was acknowledged."""
    before = sum(len(device.acknowledged) for device in devices)
    async with asyncio.timeout(10):
        while sum(len(device.acknowledged) for device in devices) == before:
            await asyncio.sleep(0.01)


async def test_every_operation_counts_exactly_once_and_nothing_acknowledged_is_lost(
    stores: dict[str, Any], tmp_path: Path
) -> None:
    settings = {**stores, "port": free_port(), "sync_types": "tests.e2e.sync_types:TYPES"}
    devices = [Device(f"phone-{n}") for n in range(DEVICES)]
    for round_ in range(MOST_ROUNDS):
        if round_ >= ROUNDS and any(device.duplicates for device in devices):
            break
        async with server_process(tmp_path, **settings) as server:
            pushing = asyncio.gather(*(device.run(server.url) for device in devices))
            await progress(devices)
            await asyncio.sleep(random.uniform(0, 0.3))
            await server.kill()
            await pushing

    async with (
        server_process(tmp_path, **settings) as server,
        aiohttp.ClientSession(server.url) as http,
    ):
        api = Api(http)
        acknowledged = {(d.name, *one) for d in devices for one in d.acknowledged}
        log = await logged(api)
        assert acknowledged <= set(log)
        for device in devices:
            if device.queue:
                await device.push(api)
        log = await logged(api)
        rows: dict[str, list[Any]] = {"tallies": [], "items": []}
        for page in await pages(api, "/api/sync/initial", "pageToken", limit=500):
            for plural in rows:
                rows[plural] += page["serverUpdates"][plural]

    written = [(d, n) for d in devices for n in range(1, d.written + 1)]
    assert sorted(log) == sorted(
        (d.name, kind, f"{d.name}-{n}") for d, n in written for kind in ("item", "tally")
    )
    assert {row["id"]: row["order"] for row in rows["items"]} == {
        f"{d.name}-{n}": n**2 + 1 for d, n in written
    }
    assert [row["total"] for row in rows["tallies"]] == [sum(d.sum for d in devices)]
    assert sum(device.unanswered for device in devices) >= ROUNDS  # it was killed at work
    assert any(device.duplicates for device in devices)
    print(
        f"{len(written)} operations, {sum(d.unanswered for d in devices)} pushes unanswered,"
        f" {sum(d.duplicates for d in devices)} changes found applied"
    )


async def logged(api: Api) -> list[tuple[str, str, str]]:
    """Device, type and operation id of all that the log has."""
    return [
        (op["deviceId"], op["entityType"], op["operationId"])
        for page in await pages(api, "/api/sync/log", "cursor", limit=200)
        for op in page["operations"]
    ]
