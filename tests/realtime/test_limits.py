"""What one connection may ask of the server: events a second, changes in flight, sockets."""

import asyncio
import json
import time
from contextlib import AsyncExitStack
from typing import Any

import pytest

from server.embedded import PrivateServer
from tests.clients_py import joined
from tests.outages import frozen
from tests.serving import Served, serving
from tests.traces import nothing_stays, outcry
from tests.wires import Wire, frame, wire

RATE = 5
BURST = 2 * RATE  # two seconds' worth at once
FLOOD = 10 * RATE  # refused in a row, then the connection ends
IN_FLIGHT = 128


def event(ack: int, name: str, payload: Any) -> bytes:
    return frame(f"42{ack}" + json.dumps([name, payload]))


async def test_events_beyond_the_rate_are_refused_with_when_to_come_back(
    stores: dict[str, Any],
) -> None:
    async with serving(**stores, socket_events_per_second=RATE) as served:
        async with joined(served.url, "other") as other, joined(served.url) as client:
            await client.join()
            answers = [await client.call("user:clientUpdate", {"xp": 1}) for _ in range(BURST + 5)]
            done = [answer for answer in answers if answer["ok"]]
            late = [answer["error"] for answer in answers if not answer["ok"]]
            assert len(done) >= BURST - 2  # two joins were events, too
            assert {error["code"] for error in late} == {"rate_limited"}
            assert all(error["retryable"] for error in late)
            assert all(0 < error["retryAfter"] <= 1 / RATE + 0.01 for error in late)
            assert (await served.live.stats.read("ada")).values["xp"] == len(done)
            await asyncio.sleep(late[-1]["retryAfter"] + 0.05)
            assert (await client.call("user:clientUpdate", {"xp": 1}))["ok"]
            assert (await other.call("presence:ping"))["serverTime"]
        await nothing_stays(served)


async def test_a_flood_ends_the_connection_and_no_other(
    stores: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(**stores, socket_events_per_second=RATE) as served:
        async with joined(served.url) as neighbour, wire(served.url) as socket:
            await socket.join()
            await socket.send(
                b"".join(event(n, "presence:ping", None) for n in range(1, BURST + 2 * FLOOD))
            )
            answers = await socket.ended()
            assert BURST + FLOOD - 5 <= len(answers) <= BURST * 2 + FLOOD + 25
            assert (await neighbour.call("presence:ping"))["serverTime"]
        assert served.metric("livetally_sockets_closed_total", reason="flood") == 1
        await nothing_stays(served)
    assert outcry(caplog) == []


async def test_refusals_count_in_a_row_so_that_a_slow_offender_stays(
    stores: dict[str, Any],
) -> None:
    async with (
        serving(**stores, socket_events_per_second=RATE) as served,
        wire(served.url) as socket,
    ):
        await socket.join()
        for turn in range(3):
            await socket.send(
                b"".join(event(n, "presence:ping", None) for n in range(1, FLOOD - 5))
            )
            await socket.answer(FLOOD - 6)
            await asyncio.sleep(1.5 / RATE)
            assert "serverTime" in await socket.call(turn + 100, "presence:ping", None)


async def test_more_updates_than_may_be_in_flight_are_refused_in_their_place(
    mortal_mongo: tuple[Served, PrivateServer],
) -> None:
    served, mongod = mortal_mongo
    total = IN_FLIGHT + 20
    async with wire(served.url) as socket, joined(served.url, "bob") as bob:
        await socket.join()
        with frozen(mongod):
            for n in range(1, total + 1):
                await socket.send(event(n, "user:clientUpdate", {"xp": 1, "opId": str(n)}))
            await socket.send(event(999, "presence:ping", None))
            assert "serverTime" in await socket.answer(999)  # everything before was taken
        answers = [await socket.answer(n) for n in range(1, total + 1)]
        assert [answer["ok"] for answer in answers] == [True] * IN_FLIGHT + [False] * 20
        late = [answer["error"] for answer in answers[IN_FLIGHT:]]
        assert {(e["code"], e["retryable"]) for e in late} == {("too_many_in_flight", True)}
        again = await socket.call(1000, "user:clientUpdate", {"xp": 1, "opId": str(total)})
        assert (again["ok"], again["duplicate"]) == (True, False)
        assert again["stats"]["xp"] == IN_FLIGHT + 1
        assert (await bob.call("user:clientUpdate", {"xp": 1}))["ok"]


async def test_one_user_has_at_most_100_sockets_and_a_place_is_free_when_one_leaves(
    served: Served,
) -> None:
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(wire(served.url)) for _ in range(101)]
        for socket in sockets[:100]:
            await socket.join()
        last = await sockets[100].connect()
        error = (await last.call(1, "presence:join", None))["error"]
        assert (error["code"], error["retryable"]) == ("socket_limit", False)
        assert (await last.call(2, "user:clientUpdate", {"xp": 1}))["error"]["code"] == "not_joined"
        assert (await sockets[0].call(3, "presence:join", None))["ok"]  # it is in already
        assert (await sockets[1].call(4, "presence:leave", None))["ok"]
        assert (await last.call(5, "presence:join", None))["ok"]
    await nothing_stays(served)


async def test_a_frame_full_of_faults_is_refused_without_holding_up_the_others(
    served: Served,
) -> None:
    full: list[tuple[str, Any]] = [
        ("presence:watch", {"userIds": [1] * 40_000}),
        ("presence:watch", {"userIds": ["$"] * 25_000}),
        ("presence:unwatch", {"userIds": ["$"] * 25_000}),
        ("presence:join", {f"{n:x}": 1 for n in range(11_000)}),
        ("user:clientUpdate", {f"{n:x}": 1 for n in range(11_000)}),
        ("user:clientUpdate", {"__set": {"lastGameResults": {"a": [1] * 40_000}}}),
        ("user:clientUpdate", {"timePerQuestion": ["x"] * 25_000}),
    ]
    async with wire(served.url) as socket:
        await socket.join()
        slow = {}
        for name, payload in full:
            took = [await refused_in(socket, name, payload) for _ in range(3)]
            if min(took) > 0.1:
                slow[name, str(payload)[:30]] = round(min(took), 3)
        assert slow == {}


async def refused_in(socket: Wire, name: str, payload: Any) -> float:
    """Seconds that the server takes to refuse it."""
    began = time.perf_counter()
    assert (await socket.call(1, name, payload))["ok"] is False
    return time.perf_counter() - began
