"""`scripts/bench`: measures every claim beside its peers, prints a table, writes a JSON."""

import argparse
import asyncio
import resource
import sys
import time
from pathlib import Path
from typing import Any

import orjson

from benchmarks import claims, machine
from benchmarks.claims.claim import Claim, Effort, Result
from benchmarks.contenders import ROOT, stores


def main() -> int:
    """Measure what the arguments ask for; 1 when a bar was not reached."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    names = [claim.name for claim in claims.ALL]
    parser.add_argument("claims", nargs="*", help=f"of {', '.join(names)}; all without")
    parser.add_argument("--rounds", type=int, default=3, help="of each comparison (3)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load (5)")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), help="(bench.json)")
    options = parser.parse_args()
    if unknown := set(options.claims) - set(names):
        parser.error(f"there is no claim {', '.join(sorted(unknown))}")
    wanted = [claim for claim in claims.ALL if not options.claims or claim.name in options.claims]
    _raise_file_limit()
    results = asyncio.run(_run(wanted, Effort(options.seconds, options.rounds)))
    print(_table(results))
    options.json.write_bytes(orjson.dumps(_report(results), option=orjson.OPT_INDENT_2))
    return 0 if all(result.reached for _, result in results) else 1


async def _run(wanted: list[Claim], effort: Effort) -> list[tuple[Claim, Result]]:
    results = []
    for number, claim in enumerate(wanted, start=1):
        _say(f"[{number}/{len(wanted)}] {claim.name}: {claim.title}")
        async with stores() as at:
            started = time.monotonic()
            result = await claim.run(at, effort, lambda text: _say(f"    {text}"))
        _say(f"    {'reached' if result.reached else 'NOT REACHED'}: {result.measured}")
        _say(f"    ({time.monotonic() - started:.0f} s)")
        results.append((claim, result))
    return results


def _table(results: list[tuple[Claim, Result]]) -> str:
    lines = ["| claim | bar | measured | |", "|---|---|---|---|"]
    for claim, result in results:
        mark = "✓" if result.reached else "✗"
        lines.append(f"| {claim.title} | {claim.bar} | {result.measured} | {mark} |")
    return "\n".join(lines)


def _report(results: list[tuple[Claim, Result]]) -> dict[str, Any]:
    return {
        "machine": machine.facts(ROOT),
        "claims": {
            claim.name: {
                "bar": claim.bar,
                "measured": result.measured,
                "reached": result.reached,
                "details": result.details,
            }
            for claim, result in results
        },
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
