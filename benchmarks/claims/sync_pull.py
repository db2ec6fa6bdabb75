"""A pull costs what it brings, not what the user has."""

from statistics import median

from benchmarks.claims.claim import Claim, Effort, Result, Say
from benchmarks.contenders import LIVETALLY, Stores
from benchmarks.load.syncs import CHANGES, LARGE, SMALL
from benchmarks.loads import load

BAR = 2.0


async def run(at: Stores, effort: Effort, say: Say) -> Result:
    """Each round has a server and users of its own; both users' pulls come in turns."""
    rounds = []
    for _ in range(effort.rounds):
        async with LIVETALLY.running(at) as instances:
            found = await load("sync-pull", instances, seconds=effort.seconds)
        rounds.append(found)
        small, large = found["extra"]["small_ms"], found["extra"]["large_ms"]
        say(f"{large:.2f} ms, of the few {small:.2f} ms ({found['done']} pulls of each)")
    ratios = [found["extra"]["large_ms"] / found["extra"]["small_ms"] for found in rounds]
    small, large = (median(f["extra"][name] for f in rounds) for name in ("small_ms", "large_ms"))
    wrong = sum(found["wrong"] for found in rounds)
    ratio = median(ratios)
    measured = (
        f"{ratio:.2f} × ({min(ratios):.2f} to {max(ratios):.2f}): "
        f"{large:.1f} ms and {small:.1f} ms, medians"
    )
    if wrong:
        measured += f"; {wrong} wrong"
    return Result(measured, ratio <= BAR and not wrong, {"ratios": ratios, "rounds": rounds})


CLAIM = Claim(
    "sync-pull",
    f"a pull of {CHANGES} rows out of {LARGE:,} entities",
    f"≤ {BAR:.0f} × a pull of {CHANGES} out of {SMALL:,}",
    run,
)
