"""Two instances of one cluster, as processes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.serving import ServerProcess, free_port, server_process


class Pair(NamedTuple):
    """Two instances on the same MongoDB and Redis."""

    one: ServerProcess
    two: ServerProcess


@asynccontextmanager
async def two_processes(folder: Path, **settings: Any) -> AsyncIterator[Pair]:
    """Two instances with these settings, started at the same time."""
    ports = free_port(), free_port()
    async with AsyncExitStack() as stack:
        one, two = await asyncio.gather(
            *(
                stack.enter_async_context(server_process(folder, **{**settings, "port": port}))
                for port in ports
            )
        )
        yield Pair(one, two)


@pytest.fixture
async def pair(stores: dict[str, Any], tmp_path: Path) -> AsyncIterator[Pair]:
    async with two_processes(tmp_path, **stores) as both:
        yield both
