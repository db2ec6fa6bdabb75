"""Private servers for tests, in folders that go away with them."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from server.embedded import PrivateServer


@contextmanager
def running(start: Callable[[Path], Awaitable[PrivateServer]]) -> Iterator[PrivateServer]:
    """A server of its own from `start` (`start_mongod`, `start_redis`) for the `with` block.

    It outlives event loops: use it from synchronous code only.
    """

    async def started(folder: Path) -> PrivateServer:
        return await start(folder)

    with tempfile.TemporaryDirectory(prefix="livetally-test-") as folder:
        server = asyncio.run(started(Path(folder)))
        try:
            yield server
        finally:
            asyncio.run(server.kill())  # what it holds is thrown away
