"""How many Redis messages reach each instance for an update, as instances are added."""

from benchmarks.claims.claim import Claim, Effort, Result, Say
from benchmarks.contenders import LIVETALLY, Instance, Stores
from benchmarks.loads import load

RECEIVED = "livetally_redis_received_total"
COUNTS = (1, 2, 4)


async def run(at: Stores, effort: Effort, say: Say) -> Result:
    """The users' devices are on the first two instances; the others hold nobody."""
    per_update = {}
    for count in COUNTS:
        async with LIVETALLY.running(at, count) as instances:
            before = [await _received(instance) for instance in instances]
            figures = await load("updates", instances[:2], seconds=effort.seconds, in_flight=1)
            after = [await _received(instance) for instance in instances]
        updates = figures["extra"]["updates"]
        per_update[count] = [
            round((then - now) / updates, 3) for now, then in zip(before, after, strict=True)
        ]
        say(f"{count} instances: {per_update[count]} messages an update")
    idle = max(per_update[4][2:])
    growth = max(per_update[4][:2]) - max(per_update[2])
    measured = "; ".join(
        f"{count}: {', '.join(map(str, each))}" for count, each in per_update.items()
    )
    return Result(
        measured,
        idle == 0 and growth < 0.1,
        {"per_update": {str(count): each for count, each in per_update.items()}},
    )


async def _received(instance: Instance) -> float:
    return (await instance.metrics()).get(RECEIVED, 0.0)


CLAIM = Claim(
    "redis-messages",
    "Redis messages that reach each of 1, 2, 4 instances per update",
    "constant; none for users it does not hold",
    run,
)
