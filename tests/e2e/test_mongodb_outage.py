"""MongoDB goes away and comes back: `unavailable` in time, sockets stay, nothing counts twice."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from server.embedded import PrivateServer
from tests.clients_py import Client, connected, joined
from tests.e2e.outages import KINDS, away, health, until_health, until_ready
from tests.hammer import check_sums, hammering, progress
from tests.rest import Api
from tests.serving import ServerProcess, server_process

IN_TIME = 5.0  # seconds to an answer, whatever happens
BOB_ON, CARL_OFF = ("bob", True), ("carl", False)


@pytest.fixture
async def server(
    stores: dict[str, Any], own_mongod: PrivateServer, tmp_path: Path
) -> AsyncIterator[ServerProcess]:
    """One instance on a MongoDB of its own."""
    settings = {**stores, "mongodb_uri": own_mongod.url}
    async with server_process(tmp_path, **settings) as process:
        yield process


async def in_time(answer: Any) -> Any:
    """The answer, which must come within the documented time."""
    return await asyncio.wait_for(answer, IN_TIME)


async def is_told_unavailable(client: Client, name: str, payload: Any) -> None:
    answer = await in_time(client.call(name, payload, timeout=2 * IN_TIME))
    assert answer["ok"] is False
    assert (answer["error"]["code"], answer["error"]["retryable"]) == ("unavailable", True)


def patch(n: int) -> dict[str, Any]:
    return {"xp": 1, "timePerQuestion": [n], "opId": f"op{n}", "deviceId": "phone"}


@pytest.mark.parametrize("kind", KINDS)
async def test_updates_answer_unavailable_in_time_and_their_repeats_are_exact(
    server: ServerProcess, own_mongod: PrivateServer, kind: str
) -> None:
    async with (
        joined(server.url) as phone,
        joined(server.url) as tablet,
        connected(server.url, "bob") as newcomer,
        connected(server.url, "carl") as carl,
        joined(server.url, "eve") as watcher,
        aiohttp.ClientSession(server.url) as http,
    ):
        await carl.join()
        await watcher.call("presence:watch", {"userIds": ["bob", "carl"]})
        assert (await phone.call("user:clientUpdate", patch(0)))["ok"]
        async with away(own_mongod, kind):
            doomed = [is_told_unavailable(phone, "user:clientUpdate", patch(n)) for n in (1, 2, 3)]
            pong = in_time(phone.call("presence:ping", {"t": 7}))
            rest = in_time(Api(http).post("/api/users/data/patch", patch(4)))
            pull = in_time(Api(http).get("/api/users/ada/stats"))
            join = is_told_unavailable(newcomer, "presence:join", {})
            _, _, _, answer, patched, pulled, _ = await asyncio.gather(
                *doomed, pong, rest, pull, join
            )
            assert answer["t"] == 7
            for refused in (patched, pulled):
                assert int(refused.headers["Retry-After"]) >= 1
                problem = refused.problem(503, "unavailable")
                assert "mongo" not in problem["detail"].lower()
                assert "127.0.0.1" not in problem["detail"]
            await until_health(server, "DOWN", 503)
            ready = await health(server, "/health/ready")
            assert (ready.status, ready.json["reasons"]) == (503, ["mongodb away"])
            assert (await health(server, "/health/live")).status == 200
            await carl.sio.disconnect()
        await until_ready(server)
        await until_health(server, "OK", 200)
        await watcher.until("presence:update", lambda e: (e["userId"], e["online"]) == CARL_OFF)
        for n in range(5):
            answer = await phone.call("user:clientUpdate", patch(n))
            assert answer["ok"], answer
        document = await Api(http).stats()
        assert document["xp"] == 5
        assert sorted(document["timePerQuestion"]) == [0, 1, 2, 3, 4]
        assert await tablet.until("user:data:updated", lambda d: d["rev"] == document["rev"])
        await newcomer.join()
        await watcher.until("presence:update", lambda e: (e["userId"], e["online"]) == BOB_ON)
        assert not any(client.gone.is_set() for client in (phone, tablet, newcomer, watcher))


async def test_pings_never_wait_behind_a_write(
    server: ServerProcess, own_mongod: PrivateServer
) -> None:
    async with joined(server.url) as phone:
        async with away(own_mongod, "suspended"):
            waiting = asyncio.gather(
                *(phone.call("user:clientUpdate", patch(n), 2 * IN_TIME) for n in range(10))
            )
            for t in range(20):
                assert (await phone.call("presence:ping", {"t": t}, 0.5))["t"] == t
            assert not waiting.done()
        # Frozen for less than its patience: nobody needs to know.
        assert all(answer["ok"] for answer in await waiting)
        assert (await phone.join())["stats"]["xp"] == 10


async def test_under_load_nothing_is_lost_and_nothing_counts_twice(
    server: ServerProcess, own_mongod: PrivateServer
) -> None:
    async with hammering([server.url]) as devices:
        await progress(devices)
        async with away(own_mongod, "killed"):
            await until_health(server, "DOWN", 503)
        await progress(devices)
    assert all(set(device.refused) <= {"unavailable"} for device in devices)
    assert not any(device.unanswered for device in devices)
    await check_sums(server.url, devices)
