"""`python -m benchmarks.load SCENARIO URL...`: one load, its figures as JSON on stdout."""

import argparse
import asyncio
import gc
import resource
import sys
from collections.abc import Awaitable, Callable

import orjson
import uvloop

from benchmarks.load import connects, crowd, pings, probe, rest, slow, syncs, updates
from benchmarks.load.figures import Figures

Options = argparse.Namespace

SCENARIOS: dict[str, Callable[[Options], Awaitable[Figures]]] = {
    "updates": lambda o: updates.run(
        o.url,
        seconds=o.seconds,
        users=o.users,
        devices=o.devices,
        in_flight=o.in_flight,
        op_ids=not o.no_op_ids,
        deflate=o.deflate,
    ),
    "pings": lambda o: pings.run(
        o.url, seconds=o.seconds, users=o.users, devices=o.devices, deflate=o.deflate
    ),
    "connects": lambda o: connects.run(
        o.url, seconds=o.seconds, users=o.users, at_once=o.in_flight, deflate=o.deflate
    ),
    "pulls": lambda o: rest.run(o.url, seconds=o.seconds, connections=o.in_flight, patches=False),
    "patches": lambda o: rest.run(o.url, seconds=o.seconds, connections=o.in_flight, patches=True),
    "sync-push": lambda o: syncs.push(o.url, seconds=o.seconds, users=o.users),
    "sync-pull": lambda o: syncs.pull(o.url, seconds=o.seconds),
    "hold": lambda o: crowd.hold(o.url, users=o.users, devices=o.devices, deflate=o.deflate),
    "crowd": lambda o: crowd.run(
        o.url,
        seconds=o.seconds,
        users=o.users,
        devices=o.devices,
        updates_per_second=o.updates_per_second,
        deflate=o.deflate,
    ),
    "probe": lambda o: probe.run(o.url, seconds=o.seconds),
    "slow": lambda o: slow.run(o.url, seconds=o.seconds, users=o.users),
}


def main() -> None:
    """Run one load."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("url", nargs="+")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--in-flight", type=int, default=1)
    parser.add_argument("--updates-per-second", type=float, default=500.0)
    parser.add_argument("--no-op-ids", action="store_true")
    parser.add_argument("--deflate", action="store_true", help="offer permessage-deflate")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.disable()  # a short-lived process, whose own pauses are not what is measured
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        figures = runner.run(_limited(options))
    sys.stdout.write(orjson.dumps(figures.as_dict()).decode() + "\n")


async def _limited(options: Options) -> Figures:
    """No load outlives its time by much, whatever the server does."""
    async with asyncio.timeout(options.seconds * 2 + 300):
        return await SCENARIOS[options.scenario](options)


if __name__ == "__main__":
    main()
