"""Long-polling requests that are wrong: 400, the session's end, and no traceback."""

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from server.embedded import PrivateServer
from tests.clients_py import joined
from tests.garbage import SOCKET
from tests.outages import frozen
from tests.polling import poller
from tests.rest import Api
from tests.serving import Served, serving
from tests.traces import eventually, nothing_stays, outcry

UPDATE = "user:clientUpdate"


async def test_a_bad_post_is_answered_400_and_ends_the_session_without_a_traceback(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    bodies: dict[str, bytes] = {
        "empty": b"",
        "unknown type": b"7",
        "a ping of Engine.IO 3": b"2",
        "not UTF-8": b"4\xff",
        "not base64": b"b!!!",
        "lonely separator": b"\x1e",
        "truncated JSON": b'42["presence:ping"',
        "form of a JSONP client": b"d=42%5B%22presence%3Aping%22%5D",
        "oversized": b"4" + b"x" * 140_000,
        "more than the server reads at all": b"4" + b"x" * 400_000,
        "too many packets": b"\x1e".join([b"3"] * 5000),
    }
    found = {}
    for name, body in bodies.items():
        async with poller(served.url) as session:
            await session.connect()
            status = await session.post_body(body)
            found[name] = status, await session.receive()
    late = {name: (200, None) for name in ("not UTF-8", "not base64") if found[name][0] == 200}
    assert found == {**dict.fromkeys(bodies, (400, None)), **late}
    await nothing_stays(served)
    assert outcry(caplog) == []


async def test_garbage_over_polling_ends_the_session_quietly(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    left = []
    for name, garbage in SOCKET.items():
        if garbage[1] & 0x7F == 127 or "attachment" in name or "placeholder" in name:
            continue
        size = 2 if garbage[1] & 0x7F < 126 else 4
        mask, masked = garbage[size : size + 4], garbage[size + 4 :]
        packet = bytes(byte ^ mask[n % 4] for n, byte in enumerate(masked))
        async with poller(served.url) as session:
            await session.connect()
            await session.post_body(packet)
            if await session.receive() is not None:
                left.append(name)
    assert left == []
    await nothing_stays(served)
    assert outcry(caplog) == []


async def test_binary_over_polling_is_refused_with_a_code(served: Served) -> None:
    async with poller(served.url) as session:
        await session.join()
        hole = {"_placeholder": True, "num": 0}
        assert await session.post(f"451-1{json.dumps([UPDATE, {'xp': hole}])}", "bAAEC") == 200
        assert (await session.answer(1))["error"]["code"] == "invalid_type"


@pytest.mark.parametrize(
    "headers",
    [{"Content-Encoding": "gzip"}, {"Content-Encoding": "deflate"}, {"Content-Encoding": "br"}],
)
async def test_a_body_that_does_not_match_its_encoding_is_refused_without_a_traceback(
    served: Served, headers: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    async with poller(served.url) as session:
        await session.connect()
        assert await session.post_body(b"not compressed at all", **headers) == 400
    assert outcry(caplog) == []


async def test_a_client_that_goes_in_the_middle_of_a_post_leaves_nothing(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    async with poller(served.url) as session:
        await session.join()
        address = urlsplit(served.url)
        _, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(
            f"POST {session.path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n42[".encode()
        )
        await writer.drain()
        await asyncio.sleep(0.05)  # no event tells that the server is waiting for the rest
        writer.transport.abort()
        await asyncio.sleep(0.05)
        await session.post("1")
    await nothing_stays(served)
    assert outcry(caplog) == []


async def test_requests_of_nobodys_session_are_answered_400(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    async with aiohttp.ClientSession(served.url) as http:
        for query in (
            "EIO=4&transport=polling&sid=nobody",
            "EIO=3&transport=polling",
            "transport=polling",
            "EIO=4&transport=carrier-pigeon",
            "EIO=4&transport=websocket",
            "EIO=4&transport=websocket&sid=nobody",
            "EIO=4&transport=polling&j=x",
        ):
            async with http.get(f"/socket.io/?{query}") as answer:
                assert answer.status == 400, query
            async with http.post(f"/socket.io/?{query}", data="3") as answer:
                assert answer.status == 400, query
    await nothing_stays(served)
    assert outcry(caplog) == []


async def test_where_polling_is_off_the_answer_says_what_to_do(stores: dict[str, Any]) -> None:
    async with (
        serving(**stores, transports=("websocket",)) as served,
        aiohttp.ClientSession(served.url) as http,
        joined(served.url),
    ):
        for query in ("EIO=4&transport=polling", "EIO=4"):
            problem = (await Api(http).get(f"/socket.io/?{query}")).problem(400, "bad_request")
            assert "websocket" in problem["detail"]


async def test_a_session_that_is_just_ending_refuses_requests_without_a_traceback(
    mortal_redis: tuple[Served, PrivateServer], caplog: pytest.LogCaptureFixture
) -> None:
    served, redis = mortal_redis
    async with poller(served.url) as session:
        await session.join()
        with frozen(redis):
            assert await session.post("1") == 200  # it leaves the roster now, which takes a while
            await eventually(lambda: not served.live.gateway.connections)
            assert await session.post("3") == 400
            status, _ = await session.get()
            assert status in (200, 400)
    assert outcry(caplog) == []
