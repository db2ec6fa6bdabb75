"""A connection that takes part in nothing is closed after `connect_timeout`."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.polling import poller
from tests.serving import Served, serving
from tests.traces import eventually, nothing_stays, outcry
from tests.wires import wire

TIMEOUT = 0.3


@pytest.fixture
async def strict(stores: dict[str, Any]) -> AsyncIterator[Served]:
    """A server that does not wait long for a CONNECT."""
    async with serving(**stores, connect_timeout=TIMEOUT, ping_interval=0.2) as server:
        yield server


def timeouts(served: Served) -> float:
    return served.metric("livetally_sockets_closed_total", reason="connect timeout")


async def test_a_socket_that_connects_to_no_namespace_is_closed_though_it_answers_pings(
    strict: Served,
) -> None:
    async with wire(strict.url) as socket:
        assert await socket.ended(timeout=4 * TIMEOUT) == []
        assert socket.close_code == 1000
    assert timeouts(strict) == 1
    await nothing_stays(strict)


async def test_a_socket_that_leaves_the_namespace_is_closed(strict: Served) -> None:
    async with wire(strict.url) as socket:
        await socket.connect()
        await socket.send("41")
        assert await socket.ended(timeout=4 * TIMEOUT) == []
    assert timeouts(strict) == 1
    await nothing_stays(strict)


async def test_a_socket_that_was_refused_is_closed(strict: Served) -> None:
    async with wire(strict.url) as socket:
        await socket.send("40")
        assert len(await socket.ended(timeout=4 * TIMEOUT)) == 1
    assert timeouts(strict) == 1


async def test_leaving_again_and_again_does_not_buy_time(strict: Served) -> None:
    async with wire(strict.url) as socket:

        async def stall() -> None:
            while True:
                await socket.send("41")
                await asyncio.sleep(TIMEOUT / 4)

        stalling = asyncio.create_task(stall())
        try:
            await socket.ended(timeout=4 * TIMEOUT)
        finally:
            stalling.cancel()
            await asyncio.gather(stalling, return_exceptions=True)


async def test_a_polling_session_that_connects_to_nothing_is_closed(strict: Served) -> None:
    async with poller(strict.url) as session:
        assert await session.receive(timeout=4 * TIMEOUT) is None
        assert await session.post("40") == 400
    assert timeouts(strict) == 1
    await nothing_stays(strict)


async def test_a_body_that_comes_after_the_session_has_ended_is_refused_quietly(
    strict: Served, caplog: pytest.LogCaptureFixture
) -> None:
    async with poller(strict.url) as session:

        async def late() -> AsyncIterator[bytes]:
            yield b"garb"
            await eventually(lambda: not strict.live.gateway.io.eio.sockets)
            yield b"age"

        assert await session.post_body(late()) == 400
    assert outcry(caplog) == []


async def test_who_takes_part_stays(strict: Served) -> None:
    async with wire(strict.url) as idle, wire(strict.url) as member:
        await member.connect()
        await idle.ended(timeout=4 * TIMEOUT)
        assert (await member.call(1, "presence:ping", {"t": 1}))["t"] == 1
