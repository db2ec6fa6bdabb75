"""Outages of MongoDB and Redis, made and ended on the spot."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from server.embedded import PrivateServer
from server.keys import SETTINGS
from tests.serving import Served, serving


@contextmanager
def frozen(server: PrivateServer) -> Iterator[None]:
    """The server answers nobody in the `with` block; its connections stay open."""
    server.suspend()
    try:
        while not _stopped(server.pid):
            time.sleep(0.001)  # the signal takes a moment to reach all threads
        yield
    finally:
        server.resume()


def _stopped(pid: int) -> bool:
    states = []
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        try:
            states.append(stat.read_text().rpartition(")")[2].split()[0])
        except FileNotFoundError:  # a thread that has just ended
            continue
    return set(states) == {"T"}


@asynccontextmanager
async def unheard(served: Served) -> AsyncIterator[Served]:
    """An instance on the same database, none of whose messages reach `served`: all are lost."""
    settings = served.app[SETTINGS]
    async with serving(
        mongodb_uri=settings.mongodb_uri,
        mongodb_db=settings.mongodb_db,
        redis_url=settings.redis_url,
        redis_prefix=f"{settings.redis_prefix}unheard:",
    ) as other:
        yield other
