"""What the tests of Redis' and MongoDB's outages share."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from server.embedded import PrivateServer
from tests.rest import Answer, Api
from tests.serving import ServerProcess
from tests.waiting import soon

KINDS = ["suspended", "killed"]


@asynccontextmanager
async def away(server: PrivateServer, kind: str) -> AsyncIterator[None]:
    """The server is away in the `async with` block, and back after it."""
    if kind == "suspended":
        server.suspend()
    else:
        await server.kill()
    try:
        yield
    finally:
        if kind == "suspended":
            server.resume()
        else:
            await server.restart()


async def health(server: ServerProcess, path: str = "/health") -> Answer:
    """What a load balancer sees."""
    async with aiohttp.ClientSession(server.url) as http:
        return await Api(http, None).get(path)


async def until_health(server: ServerProcess, status: str, http_status: int) -> None:
    """Wait for this health."""

    async def check() -> None:
        answer = await health(server)
        assert (answer.json["status"], answer.status) == (status, http_status)

    await soon(check, within=15.0)


async def until_ready(server: ServerProcess) -> None:
    """Wait until it may get traffic."""

    async def check() -> Any:
        assert (await health(server, "/health/ready")).status == 200

    await soon(check, within=15.0)
