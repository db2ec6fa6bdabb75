"""Signs of life: pings on time, silence noticed, and absence counted from the last sign."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.clients_py import joined
from tests.polling import poller
from tests.serving import Served, serving
from tests.traces import nothing_stays
from tests.watchers import seen
from tests.wires import PING, PONG, frame, wire

INTERVAL = TIMEOUT = 0.4
GRACE = 1.2


@pytest.fixture
async def lively(stores: dict[str, Any]) -> AsyncIterator[Served]:
    """A server that pings often."""
    async with serving(
        **stores, ping_interval=INTERVAL, ping_timeout=TIMEOUT, presence_grace=GRACE
    ) as server:
        yield server


def silent(served: Served) -> float:
    return served.metric("livetally_sockets_closed_total", reason="ping timeout")


async def test_a_socket_that_answers_no_ping_is_closed_and_was_last_seen_when_it_last_spoke(
    lively: Served,
) -> None:
    async with joined(lively.url, "eve") as eve:
        assert (await eve.call("presence:watch", {"userIds": ["ada"]}))["ok"]
        async with wire(lively.url) as mute:
            await mute.join()
            spoke_at = time.time()
            await eve.next("presence:update")
            while await mute._frame() is not None:  # reads, and answers nothing
                assert time.time() - spoke_at < 2 * INTERVAL + TIMEOUT + 1
        assert silent(lively) == 1
        news = await eve.next("presence:update", timeout=GRACE + 1.5)
        assert news["online"] is False
        assert abs(seen(news) - spoke_at) < INTERVAL + 0.25
        assert time.time() - spoke_at < INTERVAL + TIMEOUT + GRACE + 0.6
    await nothing_stays(lively)


async def test_any_frame_is_a_sign_of_life(lively: Served) -> None:
    async with wire(lively.url) as talker:
        await talker.join()
        for n in range(1, 9):
            await talker.event("presence:ping", {"t": n}, n)
            await asyncio.sleep(INTERVAL / 3)
        assert silent(lively) == 0
        assert (await talker.call(9, "presence:ping", {"t": 9}))["t"] == 9


async def test_a_ping_of_the_websocket_itself_is_answered_with_what_it_carries(
    lively: Served,
) -> None:
    async with wire(lively.url) as socket:
        await socket.send(frame("are you there", PING))
        assert await socket._frame() == (PONG, b"are you there")


async def test_a_poller_that_stops_polling_is_closed(lively: Served) -> None:
    async with poller(lively.url) as session:
        await session.join()
        await asyncio.sleep(INTERVAL + TIMEOUT + 0.3)
        assert silent(lively) == 1
        assert (await session.get())[0] == 400
    await nothing_stays(lively)


async def test_a_poller_that_polls_lives_on(lively: Served) -> None:
    async with poller(lively.url) as session:
        await session.join()
        answer = asyncio.create_task(session.answer(1))
        await asyncio.sleep(2 * (INTERVAL + TIMEOUT))
        assert await session.post('421["presence:ping",{"t":1}]') == 200
        assert (await answer)["t"] == 1
        assert silent(lively) == 0
