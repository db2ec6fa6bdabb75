"""Throughput beside the peers: the ratio of each round, and the median of the rounds."""

from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.claims.claim import Claim, Effort, Result, Say
from benchmarks.contenders import ALL, LIVETALLY, NODE, STOCK, Contender, Stores
from benchmarks.loads import Figures, load


@dataclass(frozen=True)
class Comparison:
    """A load, and how many times Node's rate livetally's shall be."""

    scenario: str
    bar: float
    options: dict[str, Any]
    instances: int = 1
    p99_too: bool = False
    """The p99 shall be no worse than Node's."""

    async def run(self, at: Stores, effort: Effort, say: Say) -> Result:
        """Each round measures all contenders, one after the other, in changing order."""
        rounds: list[dict[str, Figures]] = []
        for number in range(effort.rounds):
            turn = number % len(ALL)
            figures = {}
            for contender in ALL[turn:] + ALL[:turn]:
                figures[contender.name] = found = await self._measure(at, effort, contender)
                say(f"{contender.name} {found['rate']:,.0f}/s, p99 {found['p99_ms']:.0f} ms")
            rounds.append(figures)
        return self._judge(rounds)

    async def _measure(self, at: Stores, effort: Effort, contender: Contender) -> Figures:
        options = dict(self.options)
        if self.scenario == "updates":
            options["no_op_ids"] = not contender.op_ids
        async with contender.running(at, self.instances) as instances:
            return await load(self.scenario, instances, seconds=effort.seconds, **options)

    def _judge(self, rounds: list[dict[str, Figures]]) -> Result:
        ours = [figures[LIVETALLY.name] for figures in rounds]
        ratios = [_ratio(figures, NODE) for figures in rounds]
        ratio = median(ratios)
        faults = sum(f["lost"] + f["doubled"] + f["wrong"] for f in ours)
        p99 = [median(f[c.name]["p99_ms"] for f in rounds) for c in (LIVETALLY, NODE)]
        measured = (
            f"{ratio:.1f} × Node ({min(ratios):.1f} to {max(ratios):.1f}), "
            f"{median(_ratio(figures, STOCK) for figures in rounds):.1f} × stock; "
            f"{median(f['rate'] for f in ours):,.0f}/s; p99 {p99[0]:.0f} ms, Node's {p99[1]:.0f}"
        )
        if faults:
            measured += f"; {faults} lost, doubled or wrong"
        reached = ratio >= self.bar and not faults and (p99[0] <= p99[1] or not self.p99_too)
        return Result(measured, reached, {"ratios": ratios, "rounds": rounds})


def _ratio(figures: dict[str, Figures], peer: Contender) -> float:
    return float(figures[LIVETALLY.name]["rate"] / max(figures[peer.name]["rate"], 0.1))


def _claim(name: str, title: str, bar: str, comparison: Comparison) -> Claim:
    return Claim(name, title, bar, comparison.run)


_CROWD = {"users": 100, "devices": 2, "deflate": True}

UPDATES = [
    _claim(
        "updates",
        "durable acked `user:clientUpdate` with `opId`, delivered to the other device",
        "≥ 4 × Node without op ids; p99 no worse",
        Comparison("updates", 4.0, {**_CROWD, "in_flight": 1}, p99_too=True),
    ),
    _claim(
        "updates-4",
        "the same, 4 in flight per socket",
        "≥ 8 × Node",
        Comparison("updates", 8.0, {**_CROWD, "in_flight": 4}),
    ),
    _claim(
        "updates-2-instances",
        "the same, one in flight, the two devices on two instances",
        "≥ 3 × two Node instances",
        Comparison("updates", 3.0, {**_CROWD, "in_flight": 1}, instances=2),
    ),
    _claim(
        "pings",
        "`presence:ping` → `presence:pong`",
        "≥ 1.7 × Node",
        Comparison("pings", 1.7, _CROWD),
    ),
]

REST = [
    _claim(
        "connects",
        "connect, authenticate, join (32 at once)",
        "≥ 1.2 × Node",
        Comparison("connects", 1.2, {"users": 200, "in_flight": 32, "deflate": True}),
    ),
    _claim(
        "pulls",
        "REST stats pull, 32 connections",
        "≥ 2.5 × Node",
        Comparison("pulls", 2.5, {"in_flight": 32}),
    ),
    _claim(
        "patches",
        "REST patch, 32 connections",
        "≥ 2.5 × Node",
        Comparison("patches", 2.5, {"in_flight": 32}),
    ),
]
