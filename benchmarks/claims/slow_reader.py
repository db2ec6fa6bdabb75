"""A reader that stops reading: what it costs, whom it hurts, and how it ends."""

import asyncio
import contextlib
from pathlib import Path

from benchmarks.claims.claim import Claim, Effort, Result, Say
from benchmarks.contenders import LIVETALLY, Instance, Stores
from benchmarks.loads import loading

SECONDS = 60.0
MAX_BYTES = 1_000_000
CLOSED = "livetally_sockets_closed_total{slow reader}"


async def run(at: Stores, _: Effort, say: Say) -> Result:
    """Others play on 100 sockets; a writer changes the stuck reader's document all the time."""
    async with (
        LIVETALLY.running(at) as instances,
        loading("slow", instances, seconds=SECONDS, users=100) as running,
    ):
        await running.says("stuck")
        base = instances[0].memory()
        watching = asyncio.ensure_future(_watch(instances[0]))
        figures = await running.figures()
        seen = await watching
    before, after = figures["extra"]["before"]["p99_ms"], figures["p99_ms"]
    grown = max(0, seen["memory"] - base) + seen["kernel"]
    measured = (
        f"{grown / 1000:.0f} KB at most, {seen['kernel'] / 1000:.0f} of them in the kernel; "
        f"disconnected after {seen['seconds']:.0f} s as slow reader; "
        f"others' p99 {after:.0f} ms, before {before:.0f}"
    )
    say(measured)
    reached = bool(
        grown <= MAX_BYTES and seen["seconds"] and not figures["wrong"] and after < 2 * before + 20
    )
    return Result(measured, reached, {"figures": figures, "seen": seen})


async def _watch(instance: Instance) -> dict[str, float]:
    """The most memory until the reader is disconnected, and when (seconds; 0: never)."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    memory = kernel = 0
    while loop.time() < started + SECONDS:
        memory = max(memory, instance.memory())
        kernel = max(kernel, _send_queue(instance))
        with contextlib.suppress(OSError):
            if (await instance.metrics()).get(CLOSED):
                return {"memory": memory, "kernel": kernel, "seconds": loop.time() - started}
        await asyncio.sleep(0.5)
    return {"memory": memory, "kernel": kernel, "seconds": 0.0}


def _send_queue(instance: Instance) -> int:
    """The longest send queue that the kernel holds for a connection of the server, bytes."""
    port = f":{instance.port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return max((int(row[4].split(":")[0], 16) for row in rows if row[1].endswith(port)), default=0)


CLAIM = Claim(
    "slow-reader",
    f"one reader that stops reading, {SECONDS:.0f} s of updates to it",
    "≤ 1 MB for it; others unaffected; disconnected with a reason",
    run,
)
