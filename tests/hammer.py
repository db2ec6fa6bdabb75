"""Load that keeps books: every operation sent, every one acknowledged, so that sums are exact."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiohttp
from socketio.exceptions import SocketIOError

from tests.clients_py import connected
from tests.rest import Api

IN_FLIGHT = 8  # of one device; the contract allows 31
AGAIN_AFTER = 0.2  # seconds, after a refusal that may be repeated


class Device:
    """One device that adds xp as fast as it is answered, and repeats what it should repeat."""

    def __init__(self, user: str, name: str) -> None:
        self.user = user
        self.name = name
        self.sent: list[int] = []  # operation -> xp
        self.unanswered: set[int] = set()
        self.refused: list[str] = []  # codes
        self._news = asyncio.Event()
        self._again: list[int] = []

    @property
    def acked(self) -> list[int]:
        """The xp of the operations that the server called durable."""
        return [xp for op, xp in enumerate(self.sent) if op not in self.unanswered]

    async def run(self, url: str, stop: asyncio.Event, auth: Any = None) -> None:
        """Send until `stop`, then wait for the answers; ends early when the connection ends."""
        async with connected(url, self.user, auth=auth) as client:
            answer = await client.call("presence:join", {"deviceId": self.name})
            assert answer["ok"], answer
            ended = asyncio.create_task(client.gone.wait())
            try:
                while not ended.done() and not (stop.is_set() and not self.unanswered):
                    await self._step(client.sio, stop.is_set(), ended)
            except SocketIOError:
                pass  # it went down between two lines of ours
            finally:
                ended.cancel()

    async def _step(self, sio: Any, stopping: bool, ended: asyncio.Task[Any]) -> None:
        if self._again:
            await asyncio.sleep(AGAIN_AFTER)
            again, self._again = self._again, []
            for op in sorted(again):
                await self._send(sio, op)
        elif stopping or len(self.unanswered) >= IN_FLIGHT or self._oldest_is_far_back():
            self._news.clear()
            news = asyncio.create_task(self._news.wait())
            await asyncio.wait([news, ended], return_when=asyncio.FIRST_COMPLETED)
            news.cancel()
        else:
            self.sent.append(random.randint(1, 9))
            self.unanswered.add(len(self.sent) - 1)
            await self._send(sio, len(self.sent) - 1)

    def _oldest_is_far_back(self) -> bool:
        return bool(self.unanswered) and len(self.sent) - min(self.unanswered) >= 31

    async def _send(self, sio: Any, op: int) -> None:
        await sio.emit("user:clientUpdate", self.patch(op), callback=partial(self._answered, op))

    def patch(self, op: int) -> dict[str, Any]:
        """The patch of an operation, the same every time it is sent."""
        return {"xp": self.sent[op], "opId": f"{self.name}-{op}", "deviceId": self.name}

    def _answered(self, op: int, answer: Any) -> None:
        if answer["ok"]:
            assert answer["stats"]["userId"] == self.user
            self.unanswered.discard(op)
        else:
            self.refused.append(answer["error"]["code"])
            if answer["error"]["retryable"]:
                self._again.append(op)
        self._news.set()

    async def repeat(self, api: Api) -> None:
        """Send once more, over REST, what was never acknowledged."""
        for op in sorted(self.unanswered):
            await api.patch(**self.patch(op))
        self.unanswered.clear()


@asynccontextmanager
async def hammering(urls: Sequence[str], *, users: int = 4) -> AsyncIterator[list[Device]]:
    """Two devices of each user at work, spread over `urls`; at the end all have been answered."""
    devices = [Device(f"user{n % users}", f"device{n}") for n in range(2 * users)]
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for n, device in enumerate(devices):
            group.create_task(device.run(urls[n // users % len(urls)], stop))
        try:
            yield devices
        finally:
            stop.set()


async def progress(devices: Sequence[Device], acks: int = 20) -> None:
    """Wait until every device has had that many more answers."""
    goals = {device: len(device.acked) + acks for device in devices}
    async with asyncio.timeout(20):
        while any(len(device.acked) < goal for device, goal in goals.items()):
            await asyncio.sleep(0.01)


async def check_sums(url: str, devices: Sequence[Device]) -> None:
    """Nothing acknowledged is missing; and once the rest is repeated nothing counted twice."""
    async with aiohttp.ClientSession(url) as http:
        service = Api(http, "backend", role="service")
        for user in {device.user for device in devices}:
            mine = [device for device in devices if device.user == user]
            acked = sum(sum(device.acked) for device in mine)
            assert (await service.stats(user))["xp"] >= acked
            for device in mine:
                await device.repeat(Api(http, user))
            document = await service.stats(user)
            assert document["xp"] == sum(sum(device.sent) for device in mine)
            assert document["rev"] == sum(len(device.sent) for device in mine)
