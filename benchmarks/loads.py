"""Load clients as processes of their own."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson

from benchmarks.contenders import ROOT, SECRET, Instance

Figures = dict[str, Any]


class Load:
    """A load client under way."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def says(self, word: str) -> None:
        """Wait until it prints `word`."""
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if line.decode().strip() != word:
            raise RuntimeError(f"the load client said {line!r} instead of {word!r}")

    async def figures(self) -> Figures:
        """Its report; one that waits for the end of its stdin gets it."""
        out, _ = await self.process.communicate(b"")
        if self.process.returncode:
            raise RuntimeError(f"the load client ended with {self.process.returncode}")
        figures: Figures = orjson.loads(out.splitlines()[-1])
        return figures


@asynccontextmanager
async def loading(
    scenario: str, instances: Sequence[Instance], **options: Any
) -> AsyncIterator[Load]:
    """A load on these instances; killed at the end of the block if it still runs."""
    flags = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        flags += [flag] if value is True else [] if value is False else [flag, str(value)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.load",
        scenario,
        *(instance.url for instance in instances),
        *flags,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "JWT_SECRET": SECRET},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Load(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def load(scenario: str, instances: Sequence[Instance], **options: Any) -> Figures:
    """One load from start to end, with the CPU that the instances used meanwhile."""
    async with loading(scenario, instances, **options) as running:
        before = sum(instance.cpu() for instance in instances)
        figures = await running.figures()
        figures["server_cpu_seconds"] = round(
            sum(instance.cpu() for instance in instances) - before, 2
        )
    return figures
