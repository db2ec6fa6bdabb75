"""One socket that pings every few milliseconds: how long the server's loop is ever blocked."""

import asyncio
import sys
import time
from collections.abc import Sequence

from benchmarks.load.figures import Figures, Meter
from benchmarks.load.people import crowd, token
from benchmarks.load.websocket import Joined, event

EVERY = 0.005  # seconds
PATIENCE = 10.0  # seconds for the last pong


class Probe(Joined):
    """A device that notes when each of its pings was answered."""

    def __init__(self, user: str, meter: Meter) -> None:
        super().__init__(token(user), "probe")
        self.sent: dict[int, float] = {}
        self.longest = 0.0
        self._meter = meter

    def ping(self, number: int) -> None:
        """Send one."""
        self.sent[number] = time.perf_counter()
        self.transport.write(event("presence:ping", {"t": number}))

    def on_event(self, body: bytes) -> None:
        number = int(body.split(b'"t":', 1)[1].split(b",", 1)[0])
        took = time.perf_counter() - self.sent.pop(number)
        self.longest = max(self.longest, took)
        self._meter.note(took)


async def run(urls: Sequence[str], *, seconds: float) -> Figures:
    """Open loop; says `probing` when it has begun."""
    meter = Meter()
    probe = Probe(crowd(1)[0], meter)
    await probe.open(urls[0])
    meter.start()
    sys.stdout.write("probing\n")
    sys.stdout.flush()
    until = time.perf_counter() + seconds
    number = 0
    while time.perf_counter() < until:
        number += 1
        probe.ping(number)
        await asyncio.sleep(EVERY)
    meter.stop()
    async with asyncio.timeout(PATIENCE):
        while probe.sent:
            await asyncio.sleep(EVERY)
    figures = meter.figures()
    figures.extra["longest_ms"] = round(probe.longest * 1000, 1)
    return figures
