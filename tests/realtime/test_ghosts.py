"""Whoever goes away while the server waits for something leaves nothing behind."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from domain.patch import parse_patch
from realtime.connection import Connection
from realtime.transport import Socket
from realtime.transport.wire import Wire as ServerWire
from server.embedded import PrivateServer
from tests.clients_py import joined
from tests.issuer import Key, issuing
from tests.outages import frozen
from tests.polling import poller
from tests.serving import Served, serving
from tests.tokens import token
from tests.traces import alive, eventually, nothing_stays, outcry
from tests.wires import Wire, frame, wire


@pytest.fixture
async def frail(
    own_mongod: PrivateServer, own_redis: PrivateServer
) -> AsyncIterator[tuple[Served, PrivateServer, PrivateServer]]:
    """A server whose MongoDB and Redis this test may suspend."""
    async with serving(mongodb_uri=own_mongod.url, redis_url=own_redis.url) as served:
        yield served, own_mongod, own_redis


async def taken(served: Served, name: str, times: int = 1) -> None:
    """Wait until the server has received so many events `name`."""
    await eventually(lambda: served.metric("livetally_events_total", event=name) == times)


async def test_a_client_that_goes_while_its_token_is_verified_leaves_nothing(
    stores: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    key = Key("EdDSA")
    async with (
        issuing(key) as issuer,
        serving(**stores, jwt_secret=None, jwt_jwks_url=issuer.url) as served,
    ):
        connect = "40" + json.dumps({"token": key.token()})
        issuer.may_answer.clear()
        async with wire(served.url) as killed, wire(served.url) as polite:
            await killed.send(connect)
            await polite.send(connect)
            await polite.send("1")  # Engine.IO close
            await issuer.asked.wait()
        async with poller(served.url) as polling:
            assert await polling.post(connect) == 200
            assert await polling.post("1") == 200
        await eventually(lambda: not served.live.gateway.io.eio.sockets)
        issuer.may_answer.set()
        await nothing_stays(served)
    assert outcry(caplog) == []


@pytest.mark.parametrize("which", ["mongodb", "redis"])
async def test_a_client_that_goes_while_its_join_waits_leaves_nothing(
    frail: tuple[Served, PrivateServer, PrivateServer], which: str, caplog: pytest.LogCaptureFixture
) -> None:
    served, mongod, redis = frail
    store = mongod if which == "mongodb" else redis
    async with wire(served.url) as watcher:
        await watcher.join("watcher")
        assert (await watcher.call(1, "presence:watch", {"userIds": ["ada"]}))["ok"]
        async with wire(served.url) as socket:
            await socket.connect()
            with frozen(store):
                await socket.event("presence:join", {"deviceId": "phone"}, 1)
                await taken(served, "presence:join", 2)
                socket.leave()
                await eventually(lambda: len(served.live.gateway.connections) == 1)
        await eventually(lambda: served.live.rooms.joined() == ["watcher"])
        watcher.leave()
    await nothing_stays(served)
    assert outcry(caplog) == []


async def test_a_client_that_goes_while_its_watch_waits_leaves_nothing(
    frail: tuple[Served, PrivateServer, PrivateServer], caplog: pytest.LogCaptureFixture
) -> None:
    served, mongod, _ = frail
    async with wire(served.url) as socket:
        await socket.join()
        with frozen(mongod):
            await socket.event("presence:watch", {"userIds": ["bob", "eve"]}, 1)
            await taken(served, "presence:watch")
            socket.leave()
            await eventually(lambda: not served.live.gateway.connections)
    await nothing_stays(served)
    assert outcry(caplog) == []


async def test_a_client_that_goes_before_its_updates_are_committed_leaves_only_them(
    frail: tuple[Served, PrivateServer, PrivateServer], caplog: pytest.LogCaptureFixture
) -> None:
    served, mongod, _ = frail
    async with wire(served.url) as socket:
        await socket.join()
        with frozen(mongod):
            for n in range(10):
                await socket.event("user:clientUpdate", {"xp": 1, "opId": str(n)}, n)
            await taken(served, "user:clientUpdate", 10)
            socket.leave()
    await nothing_stays(served)
    await served.live.stats.apply("ada", parse_patch(served.live.stats.schema, {}))  # comes after
    assert (await served.live.stats.read("ada")).values["xp"] == 10
    assert outcry(caplog) == []


async def test_a_join_that_failed_leaves_nothing_may_be_repeated_and_cuts_off_nobody(
    frail: tuple[Served, PrivateServer, PrivateServer],
) -> None:
    served, mongod, _ = frail
    async with (
        wire(served.url) as phone,
        joined(served.url) as tablet,
        wire(served.url) as newcomer,
    ):
        await phone.join()
        await newcomer.connect("bob")
        with frozen(mongod):
            await newcomer.event("presence:join", None, 1)
            again = await phone.call(1, "presence:join", None)
            first = await newcomer.answer(1)
        for answer in (again, first):
            assert (answer["error"]["code"], answer["error"]["retryable"]) == ("unavailable", True)
        assert served.live.rooms.joined() == ["ada"]
        assert (await newcomer.call(2, "presence:join", None))["ok"]
        sent = await tablet.call("user:clientUpdate", {"xp": 1})
        news = await phone.receive(timeout=3)  # it was joined before and is so still
        assert news is not None
        assert json.loads(news[2:]) == ["user:data:updated", sent["stats"]]
    await nothing_stays(served)


async def test_hundreds_that_vanish_at_once_leave_nothing(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    async def enter(stack: AsyncExitStack, n: int) -> Wire:
        socket = await stack.enter_async_context(wire(served.url))
        await socket.join(f"user-{n % 50}")
        assert (await socket.call(1, "presence:watch", {"userIds": [f"user-{n % 7}"]}))["ok"]
        return socket

    async with AsyncExitStack() as stack:
        sockets = await asyncio.gather(*(enter(stack, n) for n in range(200)))
        assert served.metric("livetally_joined_sockets") == 200
        for socket in sockets:
            socket.leave()
    await nothing_stays(served)
    assert served.metric("livetally_sockets") == 0
    assert served.metric("livetally_redis_subscriptions") == 0
    assert outcry(caplog) == []
    for kind in (Connection, Socket, ServerWire):  # the close frame may take two seconds
        await eventually(lambda kind=kind: not alive(kind), timeout=5)


async def test_a_join_that_fails_in_one_part_is_undone_in_the_others(
    stores: dict[str, Any],
) -> None:
    async with serving(**stores) as served, AsyncMongoClient(stores["mongodb_uri"]) as mongo:
        # A document that somebody has put there by hand: reading it fails at once.
        await mongo[stores["mongodb_db"]]["stats"].insert_one({"_id": "ada"})
        async with wire(served.url) as socket:
            await socket.connect()
            for n in range(5):
                assert (await socket.call(n, "presence:join", None))["ok"] is False
        await nothing_stays(served)


async def test_who_leaves_the_namespace_right_behind_its_join_leaves_nothing(
    served: Served,
) -> None:
    async with wire(served.url) as socket:
        await socket.connect()
        for _ in range(3):
            await socket.event("presence:join", None)
            await socket.event("presence:watch", {"userIds": ["bob"]})
            await socket.send("41")
            await socket.send("40" + json.dumps({"token": token()}))
        await socket.send("41")
        await eventually(
            lambda: served.metric("livetally_events_total", event="presence:join") == 3
        )
        await eventually(lambda: not served.live.gateway.connections)
        assert len(served.live.gateway.io.sockets) == 1
    await nothing_stays(served)


async def test_clients_that_go_at_any_moment_leave_nothing(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    script = [
        "40" + json.dumps({"token": token()}),
        '421["presence:join"]',
        '422["presence:watch",{"userIds":["bob","ada"]}]',
        '423["user:clientUpdate",{"xp":1}]',
        '424["presence:status",{"status":"away"}]',
        '425["presence:leave"]',
        '426["presence:join",{"deviceId":"phone"}]',
        "41",
    ]

    async def misbehave(steps: int, turns: int) -> None:
        async with wire(served.url) as socket:
            await socket.send(b"".join(frame(text) for text in script[:steps]))
            for _ in range(turns):
                await asyncio.sleep(0)
            socket.leave()

    for turns in range(0, 60, 3):
        await asyncio.gather(*(misbehave(steps, turns) for steps in range(1, len(script) + 1)))
    await nothing_stays(served)
    assert outcry(caplog) == []
