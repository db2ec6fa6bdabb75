"""What Engine.IO 4 and Socket.IO 5 ask of a server, on the apps of `scripts/conformance-server`."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web

from realtime.transport import SocketServer
from tests.conformance import PING_INTERVAL, PING_TIMEOUT, engine_app, socket_app
from tests.polling import poller
from tests.serving import Served
from tests.traces import eventually, nothing_stays, outcry
from tests.wires import BINARY, TEXT, Wire, frame, wire

ENGINE = "/engine.io/"
UPGRADE = "EIO=4&transport=websocket&sid="


@asynccontextmanager
async def on_a_port(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def engine() -> AsyncIterator[str]:
    """Engine.IO that echoes."""
    async with on_a_port(engine_app()[1]) as url:
        yield url


@pytest.fixture
async def sio() -> AsyncIterator[tuple[SocketServer, str]]:
    """Socket.IO with the namespaces `/` and `/custom`."""
    io, app = socket_app()
    async with on_a_port(app) as url:
        yield io, url


async def frames(socket: Wire, count: int) -> list[tuple[int, bytes]]:
    """The next frames of a websocket, pings left out."""
    taken: list[tuple[int, bytes]] = []
    while len(taken) < count:
        found = await socket._frame()
        assert found is not None
        if found != (TEXT, b"2"):
            taken.append(found)
    return taken


async def test_texts_and_binaries_come_back_in_one_payload(engine: str) -> None:
    async with poller(engine, ENGINE) as session:
        assert await session.post("4one", "bAQIDBA==", "4two") == 200
        assert await session.get() == (200, ["4one", "bAQIDBA==", "4two"])


async def test_texts_and_binaries_come_back_over_a_websocket(engine: str) -> None:
    async with wire(engine, path=ENGINE) as socket:
        await socket.send(frame("4one") + frame(b"\x01\x02", BINARY))
        assert await frames(socket, 2) == [(TEXT, b"4one"), (BINARY, b"\x01\x02")]


async def test_a_post_is_answered_ok(engine: str) -> None:
    async with (
        poller(engine, ENGINE) as session,
        session.http.post(session.path, data="3") as answer,
    ):
        assert (answer.status, await answer.text()) == (200, "ok")


@pytest.mark.parametrize("query", ["EIO=4", "EIO=4&transport=", "EIO=4&transport=abc"])
async def test_a_request_without_a_known_transport_is_refused(engine: str, query: str) -> None:
    async with aiohttp.ClientSession(engine) as http:
        for method in ("GET", "POST"):
            async with http.request(method, f"{ENGINE}?{query}") as answer:
                assert answer.status == 400


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD"])
async def test_a_method_that_the_protocol_does_not_have_is_refused(
    engine: str, method: str
) -> None:
    async with (
        aiohttp.ClientSession(engine) as http,
        http.request(method, f"{ENGINE}?EIO=4&transport=polling") as answer,
    ):
        assert answer.status == 400


async def test_a_second_poll_at_once_ends_the_session(engine: str) -> None:
    async with poller(engine, ENGINE) as session:
        first = asyncio.create_task(session.get())
        await asyncio.sleep(0.05)  # no event tells that the server is holding it
        assert await session.get() == (400, [])
        assert await first == (200, ["1"])
        assert await session.get() == (400, [])
        assert await session.post("4hello") == 400


async def test_a_poll_that_is_cut_off_ends_the_session_at_once(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    async with poller(served.url) as session:
        await session.join()
        address = urlsplit(served.url)
        _, cut = await asyncio.open_connection(address.hostname, address.port)
        cut.write(f"GET {session.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await cut.drain()
        await asyncio.sleep(0.05)  # no event tells that the server is holding it
        cut.transport.abort()
        await eventually(lambda: not served.live.gateway.io.sockets)
        assert await session.get() == (400, [])
    await nothing_stays(served)
    assert outcry(caplog) == []


async def test_a_connection_lost_between_polls_is_nothing(served: Served) -> None:
    async with poller(served.url) as session:
        await session.join()
        async with aiohttp.ClientSession(served.url) as other:
            session.http, kept = other, session.http
            assert (await session.call(1, "presence:ping", {"t": 1}))["t"] == 1
        session.http = kept
        assert (await session.call(2, "presence:ping", {"t": 2}))["t"] == 2


async def test_requests_are_refused_from_the_moment_a_pong_is_overdue(engine: str) -> None:
    async def late(n: int) -> int:
        await asyncio.sleep(n * 0.009)  # sessions begin all over the ticks of the wheel
        async with poller(engine, ENGINE) as session:
            await asyncio.sleep(PING_INTERVAL + PING_TIMEOUT + 0.002)
            return await session.post("3") if n % 2 else (await session.get())[0]

    assert await asyncio.gather(*map(late, range(12))) == [400] * 12


async def test_requests_are_served_until_a_pong_is_overdue(engine: str) -> None:
    async def in_time(n: int) -> int:
        await asyncio.sleep(n * 0.009)
        async with poller(engine, ENGINE) as session:
            await asyncio.sleep(PING_INTERVAL + PING_TIMEOUT - 0.1)
            return await session.post("3") if n % 2 else (await session.get())[0]

    assert await asyncio.gather(*map(in_time, range(12))) == [200] * 12


async def test_the_poll_of_a_client_that_says_goodbye_ends_with_a_noop(engine: str) -> None:
    async with poller(engine, ENGINE) as session:
        poll = asyncio.create_task(session.get())
        await asyncio.sleep(0.05)  # no event tells that the server is holding it
        assert await session.post("1") == 200
        assert await poll == (200, ["6"])
        assert await session.get() == (400, [])


async def test_nothing_behind_a_goodbye_is_taken(served: Served) -> None:
    async with poller(served.url) as session:
        await session.join()
        assert await session.post("1", '42["presence:ping",{"t":1}]') == 200
        assert served.metric("livetally_events_total", event="presence:ping") == 0
    await nothing_stays(served)


async def test_an_attachment_that_is_not_base64_ends_the_session(served: Served) -> None:
    for attachment in ("b*AQI=", "bAQI", "bAQI=AQI="):
        async with poller(served.url) as session:
            await session.join()
            event = '451-["presence:ping",{"_placeholder":true,"num":0}]'
            assert await session.post(event, attachment) == 400
            assert await session.get() == (400, [])


async def test_binary_for_everybody_reaches_each_in_the_way_of_its_transport(
    sio: tuple[SocketServer, str],
) -> None:
    io, url = sio
    async with poller(url) as before, wire(url) as socket, poller(url) as after:
        for session in (before, after):
            assert await session.post("40") == 200
            assert await session.get() == (200, [AnySid(), '42["auth",{}]'])
        await socket.send("40")
        await frames(socket, 2)
        await io.emit("news", {"of": b"\x01\x02"})
        event = '451-["news",{"of":{"_placeholder":true,"num":0}}]'
        assert await before.get() == (200, [event, "bAQI="])
        assert await frames(socket, 2) == [(TEXT, event.encode()), (BINARY, b"\x01\x02")]
        assert await after.get() == (200, [event, "bAQI="])


class AnySid(str):
    """Equals every successful answer to a CONNECT."""

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and other.startswith('40{"sid":"')


async def test_what_waits_for_a_poll_at_an_upgrade_comes_over_the_websocket_and_no_noop(
    engine: str,
) -> None:
    async with (
        poller(engine, ENGINE) as session,
        wire(engine, UPGRADE + session.sid, path=ENGINE) as socket,
    ):
        await socket.send("2probe")
        assert await socket.receive() == "3probe"
        assert await session.post("4text", "bAQI=") == 200
        await socket.send("5")
        assert await frames(socket, 2) == [(TEXT, b"4text"), (BINARY, b"\x01\x02")]
        await socket.send("4next")
        assert await frames(socket, 1) == [(TEXT, b"4next")]


async def test_a_second_websocket_is_closed_and_the_first_lives_on(engine: str) -> None:
    async with (
        poller(engine, ENGINE) as session,
        wire(engine, UPGRADE + session.sid, path=ENGINE) as first,
    ):
        await first.send("2probe")
        assert await first.receive() == "3probe"
        for state in ("upgrading", "upgraded"):
            async with wire(engine, UPGRADE + session.sid, path=ENGINE) as second:
                await second.send("2probe")
                assert await second.ended() == [], state
                assert second.close_code == 1000
            if state == "upgrading":
                await first.send("5")
        await first.send("4hello")
        assert await first.receive() == "4hello"
        assert await session.get() == (400, [])


@pytest.mark.parametrize("prefix", ["", "/custom,"])
async def test_namespaces_connect_and_answer(sio: tuple[SocketServer, str], prefix: str) -> None:
    _, url = sio
    async with wire(url) as socket:
        await socket.send(f'40{prefix}{{"token":"x"}}')
        connected = await socket.receive()
        assert connected is not None
        assert json.loads(connected.removeprefix(f"40{prefix}")).keys() == {"sid"}
        assert await socket.receive() == f'42{prefix}["auth",{{"token":"x"}}]'
        await socket.send(f'42{prefix}["message",1,{{"a":[null]}}]')
        assert await socket.receive() == f'42{prefix}["message-back",1,{{"a":[null]}}]'
        await socket.send(f'42{prefix}7["message-with-ack",1,"2"]')
        assert await socket.receive() == f'43{prefix}7[1,"2"]'
        hole = '{"_placeholder":true,"num":0}'
        await socket.send(f'451-{prefix}8["message-with-ack",{hole}]')
        await socket.send(frame(b"\x01", BINARY))
        acknowledged = f"461-{prefix}8[{hole}]".encode()
        assert await frames(socket, 2) == [(TEXT, acknowledged), (BINARY, b"\x01")]
