"""A push as one transaction beside one statement per change."""

from dataclasses import replace
from statistics import median

from benchmarks.claims.claim import Claim, Effort, Result, Say
from benchmarks.contenders import LIVETALLY, NODE, Stores
from benchmarks.load.syncs import CHANGES
from benchmarks.loads import Figures, load

BAR = 3.0
USERS = 16
NODE_LOGGING = replace(
    NODE, name="node with log", environment={**NODE.environment, "SYNC_LOG": "1"}
)
CONTENDERS = (LIVETALLY, NODE_LOGGING, NODE)


async def run(at: Stores, effort: Effort, say: Say) -> Result:
    """Each round measures all contenders, one after the other, in changing order."""
    rounds: list[dict[str, Figures]] = []
    for number in range(effort.rounds):
        turn = number % len(CONTENDERS)
        figures = {}
        for contender in CONTENDERS[turn:] + CONTENDERS[:turn]:
            async with contender.running(at) as instances:
                found = await load("sync-push", instances, seconds=effort.seconds, users=USERS)
            figures[contender.name] = found
            say(f"{contender.name} {found['rate']:,.0f}/s, p99 {found['p99_ms']:.0f} ms")
        rounds.append(figures)
    ours = [figures[LIVETALLY.name] for figures in rounds]
    bare, logged = (
        [f[LIVETALLY.name]["rate"] / max(f[peer.name]["rate"], 0.1) for f in rounds]
        for peer in (NODE, NODE_LOGGING)
    )
    faults = sum(f["lost"] + f["wrong"] for f in ours)
    ratio = median(bare)
    p99 = [median(f[c.name]["p99_ms"] for f in rounds) for c in (LIVETALLY, NODE)]
    measured = (
        f"{ratio:.1f} × Node ({min(bare):.1f} to {max(bare):.1f}), "
        f"{median(logged):.1f} × Node with log; {median(f['rate'] for f in ours):,.0f} changes/s; "
        f"p99 of a push {p99[0]:.0f} ms, Node's {p99[1]:.0f}"
    )
    if faults:
        measured += f"; {faults} lost or wrong"
    details = {"ratios": bare, "ratios_with_log": logged, "rounds": rounds}
    return Result(measured, ratio >= BAR and not faults, details)


CLAIM = Claim(
    "sync-push",
    f"pushes of {CHANGES} changes, durable and logged, {USERS} users at once",
    f"≥ {BAR:.0f} × Node with one `findOneAndUpdate` per change and no log",
    run,
)
