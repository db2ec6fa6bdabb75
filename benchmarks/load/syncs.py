"""Sync over kept-alive connections: pushes of 100 changes, and pulls of 100 out of many rows."""

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import orjson

from benchmarks.load.figures import Figures, Meter, percentile
from benchmarks.load.people import crowd, token

WARM_UP = 1.0  # seconds
CHANGES = 100  # of a push, and rows of a pull
SMALL, LARGE = 1_000, 100_000
SEEDING = 200  # pushes that make a user's rows, however many these are


class Device:
    """A user's device with a connection of its own, and the user's items as it knows them."""

    def __init__(self, user: str, name: str) -> None:
        self.name = name
        self.cursor: str | None = None
        self.wrong = 0
        self.items: dict[str, int] = {}
        """The `order` of each item, as acknowledged."""
        self._token = token(user)
        self._numbers = count(1)
        self._now = datetime.now(UTC) - timedelta(hours=1)

    async def open(self, url: str) -> None:
        """Connect."""
        parts = urlsplit(url)
        self._reader, self._writer = await asyncio.open_connection(parts.hostname, parts.port)
        self._head = (
            f"POST /api/sync HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            f"Authorization: Bearer {self._token}\r\nContent-Type: application/json\r\n"
        ).encode()

    async def sync(self, changes: Sequence[dict[str, Any]] = ()) -> tuple[float, dict[str, Any]]:
        """Push and pull; answers how many seconds that took, and the answer's `data`."""
        asked = {"deviceId": self.name, "lastSyncTimestamp": self.cursor, "changes": changes}
        body = orjson.dumps(asked)
        sent = time.perf_counter()
        self._writer.write(b"%bContent-Length: %d\r\n\r\n%b" % (self._head, len(body), body))
        head = await self._reader.readuntil(b"\r\n\r\n")
        at = head.lower().index(b"content-length:")
        answer = await self._reader.readexactly(int(head[at + 15 :].split(b"\r\n", 1)[0]))
        took = time.perf_counter() - sent
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"a sync was answered with {answer[:500]!r}")
        data: dict[str, Any] = orjson.loads(answer)["data"]
        return took, data

    async def push(self, created: int, updated: int) -> float:
        """Create items, and update some that are there; answers how many seconds that took."""
        known = random.sample(list(self.items), updated)
        changes = list(self._changes("create", [str(uuid4()) for _ in range(created)]))
        changes += self._changes("update", known)
        took, data = await self.sync(changes)
        self.cursor = data["syncTimestamp"]
        for change, ack in zip(changes, data["acknowledged"], strict=True):
            done = ack["success"] and not ack.get("conflict") and not ack.get("duplicate")
            if done and (ack["operationId"], ack["id"]) == (change["operationId"], change["id"]):
                self.items[change["id"]] = change["data"]["order"]
            else:
                self.wrong += 1
        return took

    def _changes(self, operation: str, ids: Sequence[str]) -> Iterator[dict[str, Any]]:
        for item in ids:
            number = next(self._numbers)
            self._now += timedelta(milliseconds=1)
            data: dict[str, Any] = {"order": number, "isCompleted": False}
            if operation == "create":
                data |= {"title": f"Watch film {number}", "type": "movie", "movieId": str(number)}
            yield {
                "operationId": f"op-{number}",
                "id": item,
                "entityType": "item",
                "operation": operation,
                "data": data,
                "timestamp": self._now.isoformat(timespec="milliseconds"),
                "deviceId": self.name,
            }


async def push(urls: Sequence[str], *, seconds: float, users: int) -> Figures:
    """Closed loop, one push under way for each user; half of its changes create, half update.

    The rate is changes per second, each user's from the end of one push to the end of another:
    a push may take a good part of the time. In the end a new device of each user gets all that
    was acknowledged.
    """
    meter = Meter()
    names = crowd(users)
    devices = [Device(user, "phone") for user in names]
    for device in devices:
        await device.open(urls[0])
    loop = asyncio.get_running_loop()
    begin = loop.time() + WARM_UP
    end = begin + seconds
    ends: list[list[float]] = [[] for _ in devices]

    def enough() -> bool:
        return all(len(times) > 1 and times[-1] > end for times in ends)

    async def use(device: Device, times: list[float]) -> None:
        await device.push(CHANGES, 0)
        while not enough():
            took = await device.push(CHANGES // 2, CHANGES // 2)
            meter.note(took)
            if loop.time() > begin:
                times.append(loop.time())

    using = [asyncio.ensure_future(use(*pair)) for pair in zip(devices, ends, strict=True)]
    await asyncio.sleep(WARM_UP)
    meter.start()
    await asyncio.gather(*using)
    meter.stop()
    figures = meter.figures()
    figures.extra["pushes"] = figures.done
    figures.done *= CHANGES
    rates = [(len(times) - 1) / (times[-1] - times[0]) for times in ends]
    figures.rate = round(sum(rates) * CHANGES, 1)
    for user, device in zip(names, devices, strict=True):
        figures.wrong += device.wrong
        figures.lost += await _lost(urls[0], user, device.items)
    return figures


async def _lost(url: str, user: str, items: dict[str, int]) -> int:
    """How many of a user's items a new device gets otherwise, or not at all."""
    device = Device(user, "tablet")
    await device.open(url)
    _, data = await device.sync()
    found = {row["id"]: row["order"] for row in data["serverUpdates"]["items"]}
    return sum(found.get(item) != order for item, order in items.items())


async def pull(urls: Sequence[str], *, seconds: float) -> Figures:
    """Two users push as often, but have few rows and many; pulls of 100 rows in turns.

    The 100 are somewhere among the others. Latencies in the figures are those of the many;
    `extra` has both medians.
    """
    pairs = []
    figures = Figures()
    for user, size in zip(crowd(2), (SMALL, LARGE), strict=True):
        writer, puller = Device(user, "phone"), Device(user, "tablet")
        await writer.open(urls[0])
        await puller.open(urls[0])
        for _ in range(SEEDING):
            await writer.push(size // SEEDING, 0)
        puller.cursor = writer.cursor
        await writer.push(0, CHANGES)
        pairs.append((writer, puller))
    took: list[list[float]] = [[] for _ in pairs]
    loop = asyncio.get_running_loop()
    started = loop.time()
    until = started + seconds
    while loop.time() < until:
        for times, (_, puller) in zip(took, pairs, strict=True):
            spent, data = await puller.sync()
            times.append(spent * 1000)
            figures.wrong += len(data["serverUpdates"]["items"]) != CHANGES
    figures.done = len(took[1])
    figures.seconds = round(loop.time() - started, 3)
    figures.rate = round(figures.done / figures.seconds, 1)
    figures.p50_ms, figures.p99_ms = (round(percentile(took[1], share), 3) for share in (0.5, 0.99))
    figures.wrong += sum(writer.wrong for writer, _ in pairs)
    figures.extra = {"small_ms": round(percentile(took[0], 0.5), 3), "large_ms": figures.p50_ms}
    return figures
