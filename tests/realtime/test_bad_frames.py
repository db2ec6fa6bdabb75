"""Frames that are not valid protocol: that connection ends at once and cleanly, no other does."""

import asyncio
import json

import pytest

from tests.clients_py import joined
from tests.garbage import ENGINE, SOCKET, UNREADABLE, WEBSOCKET, two
from tests.serving import Served
from tests.traces import eventually, nothing_stays, outcry
from tests.wires import PING, Wire, frame, wire


async def outcome(url: str, garbage: bytes, *, connect: bool) -> str:
    """What becomes of a connection that sends `garbage`, and of one that is beside it."""
    async with wire(url) as socket:
        if connect:
            await socket.connect()
        try:
            await socket.send(garbage)
            await socket.ended(timeout=3)
        except TimeoutError:
            return "still open"
        except ConnectionError:
            return "reset"
        return f"closed with {socket.close_code}"


def surprising(found: dict[str, str]) -> dict[str, str]:
    """Whatever was not closed; a reset comes when the server leaves some of it unread."""
    return {
        name: what
        for name, what in found.items()
        if what not in ("closed with 1002", "closed with 1000", "closed with 1009", "reset")
    }


async def test_garbage_before_connect_ends_that_connection_cleanly_and_no_other(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    async with joined(served.url, "bystander") as bystander:
        found = {}
        for name, garbage in {**WEBSOCKET, **ENGINE, **SOCKET}.items():
            found[name] = await outcome(served.url, garbage, connect=False)
        assert surprising(found) == {}
        assert (await bystander.call("user:clientUpdate", {"xp": 1}))["ok"]
    await nothing_stays(served)
    assert outcry(caplog) == []


async def test_garbage_of_a_connected_client_ends_that_connection_cleanly_and_no_other(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    async with joined(served.url, "bystander") as bystander:
        found = {}
        for name, garbage in {**WEBSOCKET, **ENGINE, **SOCKET}.items():
            found[name] = await outcome(served.url, garbage, connect=True)
        assert surprising(found) == {}
        assert (await bystander.call("user:clientUpdate", {"xp": 1}))["ok"]
    await nothing_stays(served)
    assert outcry(caplog) == []


async def test_an_event_where_an_attachment_is_due_ends_the_connection(served: Served) -> None:
    half = '451-["x",{"_placeholder":true,"num":0}]'
    both = two(half, '42["presence:ping"]')
    assert await outcome(served.url, both, connect=True) == "closed with 1002"
    async with wire(served.url) as socket:
        await socket.connect()
        await socket.send(half)
        await socket.event("presence:ping", None)
        await socket.ended(timeout=3)


async def test_a_payload_that_is_json_by_its_form_only_gets_a_code_and_changes_nothing(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    async with wire(served.url) as socket:
        await socket.join()
        found = {}
        for name, payload in UNREADABLE.items():
            for event in ("presence:ping", "user:clientUpdate", "presence:status"):
                await socket.send(f'427["{event}",{payload}]')
                found[name, event] = (await socket.answer(7))["error"]["code"]
        assert set(found.values()) == {"invalid_value"}, found
        await socket.send('428["\\ud800",{}]')
        assert (await socket.answer(8))["error"]["code"] == "unknown_event"
        assert (await socket.call(9, "user:clientUpdate", {"xp": 1}))["rev"] == 1
    assert outcry(caplog) == []


async def test_a_protocol_error_is_told_in_the_close_frame_and_counted(served: Served) -> None:
    async with wire(served.url) as socket:
        await socket.connect()
        await socket.send(frame("7"))
        await socket.ended()
        assert socket.close_code == 1002
    await nothing_stays(served)
    assert served.metric("livetally_sockets_closed_total", reason="protocol error") == 1


async def test_the_bytes_of_a_frame_may_come_one_by_one(served: Served) -> None:
    async with wire(served.url) as socket:
        await socket.connect()
        for byte in frame('421["presence:ping",{"t":1}]'):
            await socket.send(bytes([byte]))
        assert (await socket.answer(1))["t"] == 1


async def test_an_event_in_fragments_with_a_ping_between_them_is_one_event(
    served: Served,
) -> None:
    async with wire(served.url) as socket:
        await socket.connect()
        await socket.send(
            frame('421["presence:', final=False)
            + frame("are you there", PING)
            + frame('ping",{"t":1', 0, final=False)
            + frame("}]", 0)
        )
        assert (await socket.answer(1))["t"] == 1


async def test_a_thousand_connects_end_the_connection_and_make_one_session(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    async with wire(served.url) as socket:
        await socket.connect()
        assert len(served.live.gateway.connections) == 1
        await socket.send(b"".join(frame("40{}") for _ in range(1000)))
        try:
            replies = await socket.ended()
        except ConnectionError:
            replies = []
        assert all(reply.startswith("44") for reply in replies)
    await nothing_stays(served)
    assert outcry(caplog) == []


async def test_acks_of_ids_that_nobody_asked_for_are_dropped(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    async with wire(served.url) as socket:
        await socket.join()
        for ack in ("43[]", '431["x"]', "43999999999999999[null]", '43/,5[{"a":1}]'):
            await socket.send("" + ack)
        assert (await socket.call(7, "presence:ping", None))["t"] is None
    assert outcry(caplog) == []


async def test_who_leaves_the_namespace_twice_or_a_foreign_one_is_not_in_it(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    async with wire(served.url) as socket:
        await socket.send("41")
        await socket.send("41/other,")
        await socket.send("40/other,")
        assert (await socket.receive() or "").startswith("44/other,")
        await socket.join()
        await socket.send("41")
        await eventually(lambda: not served.live.gateway.connections)
        await socket.send("41")
        await socket.connect("bob")
        assert (await socket.call(1, "presence:join", None))["userId"] == "bob"
    await nothing_stays(served)
    assert outcry(caplog) == []


async def test_a_storm_of_garbage_leaves_the_others_served(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    frames = [*WEBSOCKET.values(), *ENGINE.values(), *SOCKET.values()]

    async def misbehave(garbage: bytes) -> None:
        async with wire(served.url) as socket:
            await socket.connect("vandal")
            try:
                await socket.send(garbage * 20)
            except ConnectionError:
                return
            await asyncio.sleep(0)  # goes away with its garbage under way

    async with wire(served.url) as bystander:
        await bystander.join("bystander")
        storm = asyncio.gather(*(misbehave(garbage) for garbage in frames * 2))
        for n in range(30):
            await _update(bystander, n)
        await storm
    await nothing_stays(served)
    assert outcry(caplog) == []


async def _update(socket: Wire, n: int) -> None:
    answer = await socket.call(n + 1, "user:clientUpdate", {"xp": 1, "opId": str(n)})
    assert answer["ok"], json.dumps(answer)
