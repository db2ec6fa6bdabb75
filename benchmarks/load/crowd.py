"""Many joined sockets that mostly wait: `hold` until stdin ends, or some updates a second."""

import asyncio
import random
import sys
import time
from collections.abc import Sequence
from functools import partial

from benchmarks.load.figures import Figures, Meter
from benchmarks.load.people import crowd, open_all, token
from benchmarks.load.updates import gather, judged, settle
from benchmarks.load.websocket import Joined

SLOT = 0.01  # seconds between sendings


async def hold(urls: Sequence[str], *, users: int, devices: int, deflate: bool) -> Figures:
    """Open the sockets, say `ready`, and keep them until stdin ends; pings are answered."""
    make = [
        partial(Joined, token(user), f"d{number}")
        for user in crowd(users)
        for number in range(devices)
    ]
    started = time.perf_counter()
    sockets = await open_all(make, urls, deflate)
    took = time.perf_counter() - started
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    gone = sum(socket.gone.done() for socket in sockets)
    return Figures(done=len(sockets), seconds=took, lost=gone)


async def run(
    urls: Sequence[str],
    *,
    seconds: float,
    users: int,
    devices: int,
    updates_per_second: float,
    deflate: bool,
) -> Figures:
    """`updates_per_second` in all, from sockets picked at random."""
    meter = Meter()
    people, players = await gather(urls, users, devices, meter, deflate)
    pick = random.Random(1)
    meter.start()
    began = time.perf_counter()
    sent = 0
    while (now := time.perf_counter()) < began + seconds:
        while sent < (now - began) * updates_per_second:
            pick.choice(players).play(op_ids=True)
            sent += 1
        await asyncio.sleep(SLOT)
    meter.stop()
    await settle(players)
    figures = judged(meter.figures(), people, players)
    figures.extra["gone"] = sum(player.gone.done() for player in players)
    figures.extra["pings"] = sum(player.pings for player in players)
    return figures
