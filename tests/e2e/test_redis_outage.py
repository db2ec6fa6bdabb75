"""Redis goes away and comes back: instances go on by themselves, and nobody has to ask."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from server.embedded import PrivateServer
from tests.clients_py import Client, connected, joined
from tests.e2e.conftest import Pair, two_processes
from tests.e2e.outages import KINDS, away, health, until_health
from tests.hammer import check_sums, hammering, progress
from tests.rest import Api
from tests.serving import QUICK

LEASE, GRACE = QUICK["presence_lease"], QUICK["presence_grace"]


@pytest.fixture
async def lonely(
    stores: dict[str, Any], own_redis: PrivateServer, tmp_path: Path
) -> AsyncIterator[Pair]:
    """Two instances on a Redis of their own."""
    async with two_processes(tmp_path, **{**stores, "redis_url": own_redis.url}) as both:
        yield both


async def test_local_sockets_go_on_and_the_others_converge_without_asking(
    lonely: Pair, own_redis: PrivateServer
) -> None:
    async with (
        joined(lonely.one.url, deviceId="phone") as phone,
        joined(lonely.one.url, deviceId="laptop") as laptop,
        joined(lonely.two.url, deviceId="tablet") as tablet,
    ):
        for kind in KINDS:
            async with away(own_redis, kind):
                for _ in range(3):
                    answer = await phone.call("user:clientUpdate", {"xp": 1}, 2)
                    assert await laptop.next("user:data:updated", 2) == answer["stats"]
                async with connected(lonely.two.url, "bob") as newcomer:
                    assert (await newcomer.join())["presence"]["devices"] == 1
                    assert (await newcomer.call("user:clientUpdate", {"xp": 1}))["ok"]
                    assert (await newcomer.call("presence:watch", {"userIds": ["ada"]}))["ok"]
                await until_health(lonely.one, "DEGRADED", 200)  # what it told is lost by now
            await _until_rev(tablet, answer["rev"])
            for server in lonely:
                await until_health(server, "OK", 200)
            # and what is told from here on arrives live again, both ways
            rev = (await phone.call("user:clientUpdate", {"xp": 1}))["rev"]
            await _until_rev(tablet, rev, 2.0)
            rev = (await tablet.call("user:clientUpdate", {"xp": 1}))["rev"]
            await _until_rev(phone, rev, 2.0)
            await _until_rev(laptop, rev, 2.0)


async def _until_rev(client: Client, rev: int, timeout: float = 10.0) -> None:
    await client.until("user:data:updated", lambda document: document["rev"] == rev, timeout)


@pytest.mark.parametrize("kind", KINDS)
async def test_health_is_degraded_and_nobody_still_connected_is_announced_offline(
    lonely: Pair, own_redis: PrivateServer, kind: str
) -> None:
    users = ["ada", "bob", "carl"]
    async with (
        joined(lonely.one.url, "ada"),
        joined(lonely.two.url, "bob"),
        connected(lonely.one.url, "carl") as carl,
        joined(lonely.one.url, "eve") as near,
        joined(lonely.two.url, "eve") as far,
    ):
        await carl.join()
        for watcher in (near, far):
            answer = await watcher.call("presence:watch", {"userIds": users})
            assert [user["online"] for user in answer["users"]] == [True] * 3
        clock = asyncio.get_running_loop().time
        began = clock()
        async with away(own_redis, kind):
            for server in lonely:
                await until_health(server, "DEGRADED", 200)
                assert (await health(server, "/health/ready")).status == 200
            await carl.sio.disconnect()  # he really goes, unseen by the other instance
            await asyncio.sleep(max(0.0, began + LEASE + 0.3 - clock()))  # every lease ran out
        settled = clock() + LEASE + GRACE + 1.5
        gone = [await _gone_until(settled - clock(), watcher, users[:2]) for watcher in (near, far)]
        assert gone == [["carl"], ["carl"]]
        for watcher in (near, far):
            answer = await watcher.call("presence:watch", {"userIds": users})
            assert [user["online"] for user in answer["users"]] == [True, True, False]
        for server in lonely:
            await until_health(server, "OK", 200)


async def _gone_until(seconds: float, watcher: Client, stay: list[str]) -> list[str]:
    """Who was announced offline within these seconds; ends at once for one of `stay`."""
    gone: list[str] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.1, seconds)):
            while not set(gone) & set(stay):
                entry = await watcher.next("presence:update")
                if not entry["online"]:
                    gone.append(entry["userId"])
    return gone


async def test_in_the_middle_of_things_no_update_is_lost_and_no_traceback_logged(
    lonely: Pair, own_redis: PrivateServer
) -> None:
    stop = asyncio.Event()

    async def restless(number: int) -> None:
        users = {"userIds": [f"someone{number}"]}
        async with joined(lonely[number % 2].url, f"user{number}") as client:
            while not stop.is_set():
                assert (await client.call("presence:watch", users))["ok"]
                assert (await client.call("presence:unwatch", users))["ok"]

    async with (
        hammering([lonely.one.url, lonely.two.url], users=2) as devices,
        asyncio.TaskGroup() as group,
    ):
        for number in range(10):
            group.create_task(restless(number))
        for kind in [*KINDS, *["killed"] * 6]:
            for server in lonely:
                await until_health(server, "OK", 200)
            async with away(own_redis, kind):
                await progress(devices, 5)
        stop.set()
    assert not any(device.unanswered or device.refused for device in devices)
    await check_sums(lonely.one.url, devices)
    for server in lonely:
        errors = [line for line in server.log.splitlines() if '"level":"ERROR"' in line]
        assert not [line for line in errors if "is away" not in line]
        assert "Traceback" not in server.log


async def test_servers_that_start_without_redis_serve_and_find_each_other_later(
    stores: dict[str, Any], own_redis: PrivateServer, tmp_path: Path
) -> None:
    await own_redis.kill()
    settings = {**stores, "redis_url": own_redis.url}
    async with (
        two_processes(tmp_path, **settings) as (one, two),
        joined(one.url) as phone,
        joined(two.url) as tablet,
        aiohttp.ClientSession(one.url) as http,
    ):
        assert (await Api(http, None).get("/health")).json["status"] == "DEGRADED"
        assert (await phone.call("user:clientUpdate", {"xp": 1}))["ok"]
        await own_redis.restart()
        assert (await tablet.next("user:data:updated"))["xp"] == 1
        for server in (one, two):
            await until_health(server, "OK", 200)
        assert (await phone.call("user:clientUpdate", {"xp": 1}))["ok"]
        await _until_rev(tablet, 2, 2.0)
