"""Long-polling, by clients with default options and by hand: the same behaviour."""

import asyncio
import json
from urllib.parse import urlsplit

import pytest

from tests.clients_py import joined
from tests.polling import poller
from tests.serving import Served
from tests.traces import eventually, nothing_stays, outcry
from tests.wires import wire

UPDATE = "user:clientUpdate"


@pytest.mark.parametrize("transports", [["polling"], ["polling", "websocket"], ["websocket"]])
async def test_every_transport_behaves_the_same(
    served: Served, transports: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        joined(served.url, transports=transports) as phone,
        joined(served.url, "bob", transports=transports) as bob,
        joined(served.url) as tablet,
    ):
        kinds = [socket.wire is not None for socket in served.live.gateway.io.sockets]
        assert kinds.count(False) == (2 if transports == ["polling"] else 0)
        assert (await bob.call("presence:watch", {"userIds": ["ada"]}))["ok"]
        answer = await phone.call(UPDATE, {"xp": 1, "opId": "one"})
        assert answer["rev"] == 1
        assert await tablet.next("user:data:updated") == answer["stats"]
        assert (await bob.next("user:update"))["xp"] == 1
        back = await tablet.call(UPDATE, {"xp": 1})
        assert await phone.next("user:data:updated") == back["stats"]
        await phone.emit("presence:ping", {"t": 5})
        assert (await phone.next("presence:pong"))["t"] == 5
        await phone.emit("presence:status", {"status": "away"})
        assert (await bob.next("presence:update"))["status"] == "away"
        assert (await phone.call(UPDATE, {"xp": "1"}))["error"]["code"] == "invalid_type"
    await nothing_stays(served)
    assert outcry(caplog) == []


async def test_sixty_updates_at_once_by_a_polling_client_of_python_are_all_answered(
    served: Served,
) -> None:
    async with joined(served.url, transports=["polling"]) as phone:
        answers = await asyncio.gather(
            *(phone.call(UPDATE, {"xp": 1, "opId": str(n)}) for n in range(60))
        )
        assert [answer["ok"] for answer in answers] == [True] * 60


async def test_documents_that_come_fast_reach_a_polling_client_of_python(served: Served) -> None:
    async with joined(served.url, transports=["polling"]) as slow, joined(served.url) as phone:
        for n in range(60):
            await phone.call(UPDATE, {"xp": 1, "opId": str(n)})
        await slow.until("user:data:updated", lambda document: document["rev"] == 60)


async def test_hundreds_of_packets_in_one_post_are_taken_in_order(served: Served) -> None:
    async with poller(served.url) as session:
        await session.join()
        packets = [
            f"42{n}" + json.dumps([UPDATE, {"xp": 1, "timePerQuestion": [n]}])
            for n in range(1, 101)
        ]
        assert await session.post(*packets) == 200
        answers = [await session.answer(n) for n in range(1, 101)]
        assert answers[-1]["stats"]["timePerQuestion"] == list(range(1, 101))


async def test_an_upgrade_under_traffic_loses_and_repeats_nothing(served: Served) -> None:
    async with poller(served.url) as session, joined(served.url) as phone:
        await session.join()
        query = f"EIO=4&transport=websocket&sid={session.sid}"
        polled: list[str] = []

        async def poll() -> None:
            while True:
                status, packets = await session.get()
                if status != 200:
                    return
                polled.extend(packets)

        async def write() -> None:
            for n in range(60):
                await phone.call(UPDATE, {"xp": 1, "opId": str(n)})

        polling, writing = asyncio.create_task(poll()), asyncio.create_task(write())
        async with wire(served.url, query) as socket:
            await socket.send("2probe")
            assert await socket.receive() == "3probe"
            await socket.send("5")
            await writing
            await polling
            news = [json.loads(p[2:])[1]["rev"] for p in polled if p.startswith("42")]
            while 60 not in news:
                text = await socket.receive()
                assert text is not None
                news.append(json.loads(text[2:])[1]["rev"])
            assert news == sorted(set(news))
            assert (await socket.call(7, "presence:ping", {"t": 1}))["t"] == 1
            assert await session.post("3") == 400
    await nothing_stays(served)


async def test_an_upgrade_that_fails_leaves_the_session_on_polling(served: Served) -> None:
    async with poller(served.url) as session:
        await session.join()
        query = f"EIO=4&transport=websocket&sid={session.sid}"
        for first in ("2probe", "garbage"):
            async with wire(served.url, query) as socket:
                await socket.send(first)
                await socket.receive(timeout=2)
            await eventually(lambda: not any(s.upgrading for s in served.live.gateway.io.sockets))
        assert (await session.call(1, UPDATE, {"xp": 1}))["ok"]
        async with wire(served.url, query) as socket:
            await socket.send("2probe")
            assert await socket.receive() == "3probe"
            await socket.send("5")
            assert (await socket.call(2, UPDATE, {"xp": 1}))["stats"]["xp"] == 2


async def test_a_poll_that_was_cut_off_loses_no_document(served: Served) -> None:
    async with poller(served.url) as session, joined(served.url) as phone:
        await session.join()
        address = urlsplit(served.url)
        _, cut = await asyncio.open_connection(address.hostname, address.port)
        cut.write(f"GET {session.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await cut.drain()
        await asyncio.sleep(0.05)  # no event tells that the server is holding it
        cut.transport.abort()
        news = asyncio.create_task(session.receive(timeout=3))
        await asyncio.sleep(0.05)
        sent = (await phone.call(UPDATE, {"xp": 1}))["stats"]
        packet = await news  # None would do: it would connect again
        assert packet is None or json.loads(packet[2:])[1] == sent
