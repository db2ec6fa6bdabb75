"""Connect, authenticate, join, leave: again and again."""

import asyncio
import time
from collections.abc import Sequence

from benchmarks.load.figures import Figures, Meter
from benchmarks.load.people import crowd, token
from benchmarks.load.websocket import Joined, LoadError

WARM_UP = 1.0  # seconds


async def run(
    urls: Sequence[str], *, seconds: float, users: int, at_once: int, deflate: bool
) -> Figures:
    """`at_once` visitors, each coming back as soon as it has left."""
    meter = Meter()
    tokens = [token(user) for user in crowd(users)]
    failed = 0
    over = False

    async def visit(number: int) -> None:
        nonlocal failed
        while not over:
            started = time.perf_counter()
            guest = Joined(tokens[number % users], f"d{number}")
            number += at_once
            try:
                await guest.open(urls[number % len(urls)], deflate)
                meter.note(time.perf_counter() - started)
            except LoadError:
                failed += 1
            guest.transport.close()

    visitors = [asyncio.ensure_future(visit(number)) for number in range(at_once)]
    await asyncio.sleep(WARM_UP)
    meter.start()
    await asyncio.sleep(seconds)
    meter.stop()
    over = True
    await asyncio.gather(*visitors)
    figures = meter.figures()
    figures.wrong = failed
    return figures
