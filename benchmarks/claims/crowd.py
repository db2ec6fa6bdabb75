"""As many joined sockets as one process is meant to hold, with a steady trickle of updates."""

from benchmarks.claims.claim import Claim, Effort, Result, Say
from benchmarks.contenders import LIVETALLY, Stores
from benchmarks.loads import load

SOCKETS = 18_000
UPDATES_PER_SECOND = 500
SECONDS = 60.0  # more than two heartbeats
MAX_P99_MS = 250.0


async def run(at: Stores, _: Effort, say: Say) -> Result:
    """Open loop: the updates come at their pace whatever the answers do."""
    async with LIVETALLY.running(at) as [instance]:
        figures = await load(
            "crowd",
            [instance],
            seconds=SECONDS,
            users=SOCKETS // 2,
            devices=2,
            updates_per_second=UPDATES_PER_SECOND,
        )
        metrics = await instance.metrics()
    timeouts = metrics.get("livetally_sockets_closed_total{ping timeout}", 0.0)
    faults = figures["lost"] + figures["doubled"] + figures["wrong"]
    measured = (
        f"p99 {figures['p99_ms']:.0f} ms, p50 {figures['p50_ms']:.0f} ms at "
        f"{figures['rate']:.0f}/s; {timeouts:.0f} ping timeouts"
    )
    if faults:
        measured += f"; {faults} lost, doubled or wrong"
    say(measured)
    reached = figures["p99_ms"] <= MAX_P99_MS and not timeouts and not faults
    return Result(measured, reached, {"figures": figures, "ping_timeouts": timeouts})


CLAIM = Claim(
    "crowd",
    f"{SOCKETS:,} joined sockets in one process, {UPDATES_PER_SECOND} updates/s",
    f"p99 ack ≤ {MAX_P99_MS:.0f} ms, no ping timeouts",
    run,
)
