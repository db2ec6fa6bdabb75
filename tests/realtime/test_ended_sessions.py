"""Sessions that end elsewhere end their live connections: told why, closed, and only those."""

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest

from realtime.connection import Connection
from realtime.live import SESSION_ENDED
from storage.roster import Roster
from tests.clients_py import Client, connected, joined, raw_socket
from tests.polling import poller
from tests.serving import Served
from tests.tokens import token
from tests.traces import eventually, in_redis, nothing_stays, outcry
from tests.watchers import told, watching

TOLD = {
    "code": "invalid_token",
    "message": "The session has ended: log in again",
    "retryable": False,
}
UPDATE = "user:clientUpdate"


def live(served: Served, client: Client) -> Connection:
    """The server's side of a client."""
    return served.live.gateway.connections[client.sio.get_sid()]


async def in_session(served: Served, client: Client, session: str) -> None:
    """Make it a connection whose token has that session."""
    connection = live(served, client)
    connection.identity = replace(connection.identity, session_id=session)


async def has_ended(client: Client) -> None:
    """Told why, and closed."""
    assert await client.next("auth:expired") == TOLD
    await asyncio.wait_for(client.gone.wait(), 10)


async def goes_on(client: Client) -> None:
    """Neither told nor closed: it is answered."""
    assert (await client.call("presence:ping"))["serverTime"]
    assert client.pending("auth:expired") == 0


def closed(served: Served) -> float:
    """How many were closed for that reason."""
    return served.metric("livetally_sockets_closed_total", reason=SESSION_ENDED)


async def test_who_is_connected_and_not_joined_is_told_and_closed(served: Served) -> None:
    async with connected(served.url) as phone, connected(served.url) as other:
        await in_session(served, phone, "s1")
        await in_session(served, other, "s2")
        assert served.live.end_sessions(["s1"], []) == 1
        await has_ended(phone)
        await goes_on(other)
        assert closed(served) == 1


async def test_all_devices_of_a_session_end_and_leave_the_roster_and_others_stay(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncExitStack() as stack:
        devices = [
            await stack.enter_async_context(joined(served.url, deviceId=f"d{n}")) for n in range(4)
        ]
        bob = await stack.enter_async_context(joined(served.url, "bob"))
        for n, device in enumerate(devices):
            await in_session(served, device, f"s{n // 2}")
        assert served.live.end_sessions({"s0", "unknown"}, ()) == 2
        for device in devices[:2]:
            await has_ended(device)
        await eventually(lambda: served.live.rooms.members() == 3)
        for client in (*devices[2:], bob):
            await goes_on(client)
        stay = {f"|{live(served, device).sid}" for device in devices[2:]}
        [*left] = (await in_redis(served))["roster"]["ada"]
        assert {field[field.index("|") :] for field in left} == stay
        answer = await devices[2].call(UPDATE, {"xp": 1})
        assert answer["ok"]
        assert (await devices[3].next("user:data:updated"))["rev"] == 1
    await nothing_stays(served)
    assert outcry(caplog) == []


async def test_all_connections_of_a_user_end_whatever_their_session(served: Served) -> None:
    async with (
        joined(served.url) as phone,
        connected(served.url) as tablet,
        joined(served.url, "bob") as bob,
        watching(served, "ada") as eve,
    ):
        await in_session(served, phone, "s1")
        assert served.live.end_sessions([], ["ada", "nobody"]) == 2
        await has_ended(phone)
        await has_ended(tablet)
        await goes_on(bob)
        await goes_on(eve)
        await eventually(lambda: served.live.rooms.room("ada") is None)


async def test_a_service_that_acts_for_an_ended_user_is_closed_and_for_an_ended_session_not(
    served: Served,
) -> None:
    service = {"token": token("job", role="service")}
    async with (
        connected(served.url, auth=service) as for_ada,
        connected(served.url, auth=service) as for_bob,
        joined(served.url) as ada,
    ):
        await for_ada.join(userId="ada")
        await for_bob.join(userId="bob")
        await in_session(served, ada, "s1")
        assert served.live.end_sessions(["s1"], []) == 1
        await has_ended(ada)
        await goes_on(for_ada)
        assert served.live.gateway.end([], ["ada"], "gone") == 1
        await has_ended(for_ada)
        await goes_on(for_bob)
        assert served.metric("livetally_sockets_closed_total", reason="gone") == 1


async def test_a_service_that_is_about_to_join_as_an_ended_user_is_closed(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    entering, go_on = asyncio.Event(), asyncio.Event()
    join = Roster.join

    async def slow(self: Roster, *args: Any) -> Any:
        entering.set()
        await go_on.wait()
        return await join(self, *args)

    monkeypatch.setattr(Roster, "join", slow)
    service = {"token": token("job", role="service")}
    async with connected(served.url, auth=service) as client:
        await client.emit("presence:join", {"userId": "ada"})
        await entering.wait()
        assert served.live.end_sessions([], ["ada"]) == 1
        await has_ended(client)
        go_on.set()
        await nothing_stays(served)


async def test_the_word_and_the_end_reach_a_poll_that_waits(served: Served) -> None:
    async with poller(served.url) as phone:
        await phone.join()
        poll = asyncio.create_task(phone.get())
        [socket] = served.live.gateway.io.sockets
        await eventually(lambda: socket._polling)
        assert served.live.end_sessions([], ["ada"]) == 1
        status, [event, end] = await poll
        assert (status, json.loads(event[2:]), end) == (200, ["auth:expired", TOLD], "1")
        assert (await phone.get())[0] == 400
        assert closed(served) == 1
    await nothing_stays(served)


async def test_the_word_and_the_end_wait_for_the_next_poll_and_nothing_is_taken_meanwhile(
    served: Served,
) -> None:
    async with poller(served.url) as phone, joined(served.url, "bob") as bob:
        await phone.join()
        assert served.live.end_sessions([], ["ada"]) == 1
        assert served.live.end_sessions([], ["ada"]) == 0, "it is ending already"
        assert await phone.post('421["user:clientUpdate",{"xp":1}]') == 200
        status, [event, end] = await phone.get()
        assert (status, json.loads(event[2:]), end) == (200, ["auth:expired", TOLD], "1")
        assert (await phone.get())[0] == 400
        await eventually(lambda: served.live.rooms.joined() == ["bob"])
        assert (await served.live.stats.read("ada")).rev == 0
        await goes_on(bob)


async def test_who_does_not_poll_again_is_closed_all_the_same(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("realtime.transport.session.FAREWELL", 0.1)
    async with poller(served.url) as phone:
        await phone.join()
        assert served.live.end_sessions([], ["ada"]) == 1
        await nothing_stays(served)
        assert closed(served) == 1


async def test_a_session_that_moves_from_polling_to_a_websocket_is_ended_there(
    served: Served,
) -> None:
    async with connected(served.url, transports=["polling", "websocket"]) as phone:
        connection = live(served, phone)
        await eventually(lambda: connection.socket.wire is not None)
        assert served.live.end_sessions([], ["ada"]) == 1
        await has_ended(phone)


async def test_what_a_client_sends_after_the_end_is_not_carried_out(served: Served) -> None:
    async with raw_socket(served.url) as phone:
        await phone.connect()
        assert (await phone.call(0, "presence:join", None))["ok"]
        await phone.send('42["presence:ping"]')
        assert served.live.end_sessions([], ["ada"]) == 1
        await phone.send('421["user:clientUpdate",{"xp":1}]')
        assert json.loads((await phone.receive() or "")[2:]) == ["auth:expired", TOLD]
        assert await phone.receive() is None
    await nothing_stays(served)
    assert (await served.live.stats.read("ada")).rev == 0


async def test_watchers_are_told_that_an_ended_user_has_gone(brief: Served) -> None:
    async with watching(brief, "ada") as eve, joined(brief.url) as ada:
        assert await told(eve, brief) == [("ada", True, "online")]
        brief.live.end_sessions([], ["ada"])
        await has_ended(ada)
        news = await eve.until("presence:update", lambda news: not news["online"])
        assert news["userId"] == "ada"


async def test_with_nothing_to_end_no_connection_is_looked_at(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with joined(served.url) as phone:
        monkeypatch.setattr(served.live.gateway, "connections", None)
        assert served.live.end_sessions([], []) == 0
        monkeypatch.undo()
        assert served.live.end_sessions(["none"], ["nobody"]) == 0
        await goes_on(phone)
