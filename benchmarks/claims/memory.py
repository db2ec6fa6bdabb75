"""Resident memory of an idle joined websocket whose client offers permessage-deflate."""

import asyncio

from benchmarks.claims.claim import Claim, Effort, Result, Say
from benchmarks.contenders import ALL, LIVETALLY, NODE, Contender, Stores
from benchmarks.loads import load, loading

SOCKETS = 5_000
SETTLE = 8.0  # seconds for what connecting left behind
BAR = 0.6


async def run(at: Stores, _: Effort, say: Say) -> Result:
    """The growth from a server that has warmed up to one that holds the sockets."""
    each = {}
    for contender in ALL:
        each[contender.name] = await _bytes_per_socket(at, contender)
        say(f"{contender.name} {each[contender.name] / 1000:.1f} KB a socket")
    ratio = each[LIVETALLY.name] / each[NODE.name]
    measured = ", ".join(f"{name} {size / 1000:.1f} KB" for name, size in each.items())
    return Result(f"{ratio:.2f} × Node: {measured}", ratio <= BAR, {"bytes": each})


async def _bytes_per_socket(at: Stores, contender: Contender) -> float:
    async with contender.running(at) as instances:
        await load("connects", instances, seconds=2, in_flight=32, deflate=True)
        await asyncio.sleep(1)
        before = instances[0].memory()
        options = {"users": SOCKETS // 2, "devices": 2, "deflate": True}
        async with loading("hold", instances, **options) as holding:
            await holding.says("ready")
            await asyncio.sleep(SETTLE)
            grown = instances[0].memory() - before
            figures = await holding.figures()
    if figures["lost"]:
        raise RuntimeError(f"{contender.name} lost {figures['lost']} idle sockets")
    return grown / SOCKETS


CLAIM = Claim(
    "memory", f"idle memory of a joined websocket, {SOCKETS:,} sockets", f"≤ {BAR} × Node", run
)
