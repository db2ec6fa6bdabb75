"""8 writers on two instances and one who only pulls: stamps are in the order of the commits.

FUZZ_SECONDS makes it longer.
"""

import asyncio
import os
import random
import time
from collections import defaultdict
from typing import Any

import aiohttp
import pytest

from domain.times import parse_time
from tests.devices import Device, alive, rows_of
from tests.e2e.conftest import Pair
from tests.rest import Api

SECONDS = float(os.environ.get("FUZZ_SECONDS", "6"))
WRITERS = 8
ROWS = 30  # that all write to
PARENT = "the-space"


class Writer:
    """A device that never rests, and sends half of its pushes twice."""

    def __init__(self, number: int) -> None:
        self.device = Device("ada", f"writer-{number}")
        self.stamps: list[int] = []
        self.acknowledged: set[tuple[str, str]] = set()

    async def run(self, api: Api, stop: asyncio.Event) -> None:
        """Write and push until `stop`, and then the rest."""
        while not stop.is_set():
            for _ in range(random.randint(1, 4)):
                self._write()
            await self._push(api)
        while self.device.queue:
            await self._push(api)

    def _write(self) -> None:
        row_id = f"shared-{random.randrange(ROWS)}"
        own = f"{self.device.name}-{self.device.written}"
        kind, operation, data = random.choice(
            [
                ("item", "create", {"title": own, "spaceId": PARENT}),
                ("item", "create", {"notes": own}),
                ("item", "create", {"order": self.device.written, "notes": None}),
                ("item", "delete", None),
                ("category", "create", {"name": own}),
            ]
        )
        if random.random() < 0.2:
            row_id = own  # one of its own, so that the number of rows grows
        self.device.write(kind, row_id, operation, data, time.time_ns() // 1_000_000)

    async def _push(self, api: Api) -> None:
        body = self.device.body()
        if random.random() < 0.5:
            (await api.post("/api/sync", body)).ok()  # its answer is lost
        data = (await api.post("/api/sync", body)).ok()["data"]
        assert all(ack["success"] for ack in data["acknowledged"])
        self.acknowledged |= {
            (self.device.name, ack["operationId"]) for ack in data["acknowledged"]
        }
        self.device.take(data)
        self.stamps.append(parse_time(data["syncTimestamp"]))


class Puller:
    """A device that pulls by its cursor only, whole or in pages."""

    def __init__(self) -> None:
        self.device = Device("ada", "puller")
        self.stamps: list[int] = []
        self.rows = 0

    async def run(self, api: Api, stop: asyncio.Event) -> None:
        """Pull until `stop`, and once more."""
        paged = False
        while not stop.is_set():
            await self.pull(api, paged=paged)
            paged = not paged
            await asyncio.sleep(random.uniform(0, 0.03))

    async def pull(self, api: Api, *, paged: bool) -> None:
        body = self.device.body(**({"limit": random.randint(1, 20)} if paged else {}))
        while True:
            data = (await api.post("/api/sync", body)).ok()["data"]
            self.rows += sum(len(rows) for rows in data["serverUpdates"].values())
            self.device.take(data)
            if not data.get("hasMore"):
                break
            body["pageToken"] = data["pageToken"]
        self.stamps.append(parse_time(self.device.cursor))


@pytest.mark.timeout(SECONDS + 120)
async def test_nobody_misses_a_row_though_transactions_overlap(pair: Pair) -> None:
    writers, pullers = [Writer(n) for n in range(WRITERS)], [Puller(), Puller()]
    stop = asyncio.Event()
    async with (
        aiohttp.ClientSession(pair.one.url) as one,
        aiohttp.ClientSession(pair.two.url) as two,
    ):
        apis = [Api(one), Api(two)]
        first = Device("ada", "first")
        first.write("space", PARENT, "create", {"name": "shared"}, 0)
        (await apis[0].post("/api/sync", first.body())).ok()
        async with asyncio.TaskGroup() as group:
            for n, party in enumerate([*writers, *pullers]):
                group.create_task(party.run(apis[n % 2], stop))
            await asyncio.sleep(SECONDS)
            stop.set()
        for puller in pullers:
            await puller.pull(apis[0], paged=False)
        for writer in writers:
            await writer._push(apis[0])
        initial = (await apis[0].get("/api/sync/initial")).ok()["data"]
        log = await _log(apis[0])

    for puller in pullers:
        assert alive(puller.device.rows) == rows_of(initial["serverUpdates"])
        assert puller.device.cursor == initial["syncTimestamp"]
        assert puller.stamps == sorted(puller.stamps)
    for writer in writers:
        assert alive(writer.device.rows) == rows_of(initial["serverUpdates"])
        assert writer.stamps == sorted(writer.stamps)

    # A stamp is of one push alone, and each operation has been carried out in one.
    pushes = defaultdict(set)
    for op in log:
        pushes[op["syncTimestamp"]].add(op["deviceId"])
    assert all(len(devices) == 1 for devices in pushes.values())
    done = [(op["deviceId"], op["operationId"]) for op in log]
    assert len(done) == len(set(done))
    assert set(done) == {("first", "op-1")}.union(*(writer.acknowledged for writer in writers))
    print(f"{len(pushes)} pushes, {sum(p.rows for p in pullers)} rows pulled")


async def _log(api: Api) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    query: dict[str, Any] = {"limit": 200}
    while True:
        data = (await api.get("/api/sync/log", params=query)).ok()["data"]
        found += data["operations"]
        if data["cursor"] is None:
            return found
        query["cursor"] = data["cursor"]
