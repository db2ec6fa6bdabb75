"""REST over kept-alive connections: pulls and patches, one under way on each."""

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import orjson

from benchmarks.load.figures import Figures, Meter
from benchmarks.load.people import crowd, token

WARM_UP = 1.0  # seconds


class Caller(asyncio.Protocol):
    """One HTTP/1.1 connection of one user."""

    def __init__(self, user: str, host: str, patches: bool, meter: Meter) -> None:
        self.user = user
        self.calling = True
        self.wrong = 0
        self.acked = self.xp = 0
        self.done = asyncio.Event()
        self._patches = patches
        self._meter = meter
        self._number = 0
        self._sent = 0.0
        self._rest = b""
        head = f"Host: {host}\r\nAuthorization: Bearer {token(user)}\r\n"
        self._pull = f"GET /api/users/{user}/stats HTTP/1.1\r\n{head}\r\n".encode()
        self._patch = (
            f"POST /api/users/data/patch HTTP/1.1\r\n{head}Content-Type: application/json\r\n"
        ).encode()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._call()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.is_set():
            self.wrong += 1
            self.done.set()

    def _call(self) -> None:
        self._sent = time.perf_counter()
        if not self._patches:
            self.transport.write(self._pull)
            return
        self._number += 1
        body = b'{"xp":1,"streak":1,"deviceId":"rest","opId":"%d"}' % self._number
        self.transport.write(b"%bContent-Length: %d\r\n\r\n%b" % (self._patch, len(body), body))

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        head, end, body = data.partition(b"\r\n\r\n")
        at = head.lower().find(b"content-length:")
        if not end or at < 0 or len(body) < int(head[at + 15 :].split(b"\r\n", 1)[0]):
            self._rest = data
            return
        self._rest = b""
        self._meter.note(time.perf_counter() - self._sent)
        self._check(head, body)
        if self.calling:
            self._call()
        else:
            self.done.set()

    def _check(self, head: bytes, body: bytes) -> None:
        answer = orjson.loads(body)
        if not head.startswith(b"HTTP/1.1 200") or answer.get("userId") != self.user:
            self.wrong += 1
        self.acked += self._patches
        self.xp = answer.get("xp", 0)


async def run(urls: Sequence[str], *, seconds: float, connections: int, patches: bool) -> Figures:
    """Closed loop; in the end every user's document has counted each patch once."""
    meter = Meter()
    parts = urlsplit(urls[0])
    loop = asyncio.get_running_loop()
    callers = []
    for user in crowd(connections):
        make = partial(Caller, user, parts.netloc, patches, meter)
        _, caller = await loop.create_connection(make, parts.hostname or "", parts.port or 80)
        callers.append(caller)
    await asyncio.sleep(WARM_UP)
    meter.start()
    await asyncio.sleep(seconds)
    meter.stop()
    for caller in callers:
        caller.calling = False
    async with asyncio.timeout(10):
        await asyncio.gather(*(caller.done.wait() for caller in callers))
    figures = meter.figures()
    figures.wrong = sum(caller.wrong for caller in callers)
    figures.lost = sum(max(0, caller.acked - caller.xp) for caller in callers)
    figures.doubled = sum(max(0, caller.xp - caller.acked) for caller in callers)
    return figures
