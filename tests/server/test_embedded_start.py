"""A private server that cannot start never hangs the one that starts it."""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from server import embedded
from server.embedded import StartError, start_redis


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="livetally-test-") as path:
        yield Path(path)


async def test_a_start_that_fails_ends_although_its_check_swallows_a_cancellation(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stubborn(_port: int, _pid: int) -> None:
        """As redis-py on Python 3.11: its `wait_for` may answer instead of being cancelled."""
        swallowed = False
        while True:
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                if swallowed:
                    raise
                swallowed = True

    command = ["sh", "-c", "sleep 0.1; exit 3"]
    program = embedded._Program("redis", lambda *_: command, str, stubborn, start_seconds=5)
    monkeypatch.setattr(embedded, "_REDIS", program)
    starting = asyncio.ensure_future(start_redis(folder, port=1))
    done, _ = await asyncio.wait([starting], timeout=2)
    if not done:
        while not starting.done():
            starting.cancel()
            await asyncio.wait([starting], timeout=0.1)
        pytest.fail("the start hangs")
    with pytest.raises(StartError, match="exit code 3"):
        await starting
