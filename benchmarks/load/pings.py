"""`presence:ping` and its `presence:pong`, one under way on each socket."""

import asyncio
import time
from collections.abc import Sequence
from functools import partial

from benchmarks.load.figures import Figures, Meter
from benchmarks.load.people import crowd, open_all, token
from benchmarks.load.websocket import Joined, frame

WARM_UP = 1.0  # seconds


class Pinger(Joined):
    """A device that pings; the pong sends the next ping."""

    def __init__(self, user: str, device: str, meter: Meter) -> None:
        super().__init__(token(user), device)
        self.wrong = 0
        self.pinging = True
        self._meter = meter
        self._number = 0
        self._sent = 0.0
        self._due = b""

    def ping(self) -> None:
        """Send one."""
        self._number += 1
        self._due = b'["presence:pong",{"t":%d,"serverTime":"' % self._number
        self._sent = time.perf_counter()
        self.transport.write(frame(b'42["presence:ping",{"t":%d}]' % self._number))

    def on_event(self, body: bytes) -> None:
        if not body.startswith(self._due):
            self.wrong += 1
        self._meter.note(time.perf_counter() - self._sent)
        if self.pinging:
            self.ping()


async def run(
    urls: Sequence[str], *, seconds: float, users: int, devices: int, deflate: bool
) -> Figures:
    """Closed loop on every socket."""
    meter = Meter()
    make = [
        partial(Pinger, user, f"d{number}", meter)
        for user in crowd(users)
        for number in range(devices)
    ]
    pingers = await open_all(make, urls, deflate)
    for pinger in pingers:
        pinger.ping()
    await asyncio.sleep(WARM_UP)
    meter.start()
    await asyncio.sleep(seconds)
    meter.stop()
    for pinger in pingers:
        pinger.pinging = False
    figures = meter.figures()
    figures.wrong = sum(pinger.wrong + pinger.gone.done() for pinger in pingers)
    return figures
