"""All sockets of a process gone at once: how long the loop is blocked, and what stays."""

import asyncio

from redis.asyncio import Redis

from benchmarks.claims.claim import Claim, Effort, Result, Say
from benchmarks.contenders import LIVETALLY, Instance, Stores
from benchmarks.loads import loading

SOCKETS = 10_000
MAX_BLOCK_MS = 100.0
PROBE_SECONDS = 12.0
CLEAN_SECONDS = 60.0
LEFT = ("livetally_sockets", "livetally_joined_sockets", "livetally_redis_subscriptions")


async def run(at: Stores, _: Effort, say: Say) -> Result:
    """A probe pings every 5 ms while the client with all the others is killed."""
    async with LIVETALLY.running(at) as [instance]:
        async with loading("hold", [instance], users=SOCKETS // 2, devices=2) as holding:
            await holding.says("ready")
            async with loading("probe", [instance], seconds=PROBE_SECONDS) as probe:
                await probe.says("probing")
                holding.process.kill()
                figures = await probe.figures()
        left = await _until_clean(instance)
        keys = await _roster_keys(at, instance)
    blocked = figures["extra"]["longest_ms"]
    say(f"longest answer to a ping {blocked:.0f} ms; left {left}, {keys} keys in Redis")
    clean = not any(left.values()) and not keys
    measured = f"blocked {blocked:.0f} ms at most; " + (
        "nothing left" if clean else f"left: {left}, {keys} keys"
    )
    return Result(measured, clean and blocked <= MAX_BLOCK_MS, {"left": left, "probe": figures})


async def _until_clean(instance: Instance) -> dict[str, float]:
    left: dict[str, float] = {}
    for _ in range(int(CLEAN_SECONDS)):
        metrics = await instance.metrics()
        left = {name: metrics[name] for name in LEFT}
        if not any(left.values()):
            break
        await asyncio.sleep(1)
    return left


async def _roster_keys(at: Stores, instance: Instance) -> int:
    async with Redis.from_url(at.redis) as redis:
        patterns = [f"{instance.database}:{kind}:*" for kind in ("roster", "held")]
        return sum([len([key async for key in redis.scan_iter(p)]) for p in patterns])


CLAIM = Claim(
    "mass-drop",
    f"all {SOCKETS:,} sockets of a process dropped at once",
    f"loop never blocked > {MAX_BLOCK_MS:.0f} ms; rooms, leases, subscriptions gone",
    run,
)
