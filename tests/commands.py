"""`python -m server ...` as a person types it: run to its end, output and exit code."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

from tests.serving import ROOT

PATIENCE = 30.0  # seconds


class Result(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


async def command(*arguments: str, **settings: Any) -> Result:
    """Run it with only these settings in its environment."""
    environment = {
        "PATH": os.environ["PATH"],
        **{name.upper(): str(value) for name, value in settings.items() if value is not None},
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "error", "-m", "server", *arguments),
        cwd=ROOT,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        out, err = await process.communicate()
        raise AssertionError(f"still running after {PATIENCE} s:\n{out!r}\n{err!r}") from None
    assert process.returncode is not None
    return Result(process.returncode, out.decode(), err.decode())


def path_of(folder: Path, name: str, text: str) -> Path:
    """A file with `text`."""
    path = folder / name
    path.write_text(text)
    return path
