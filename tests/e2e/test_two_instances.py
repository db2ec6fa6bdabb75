"""Two real processes are one service."""

import asyncio
import json
from collections import Counter
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Any

import aiohttp

from tests.clients_py import RawSocket, connected, joined, raw_socket
from tests.e2e.conftest import Pair
from tests.hammer import check_sums, hammering, progress
from tests.rest import ISO, PUBLIC_DEFAULTS, Api


async def test_an_update_on_one_arrives_on_the_other(pair: Pair) -> None:
    async with (
        joined(pair.one.url, deviceId="phone") as phone,
        joined(pair.two.url, deviceId="tablet") as tablet,
        aiohttp.ClientSession(pair.two.url) as http,
    ):
        first = await phone.call("user:clientUpdate", {"xp": 10, "opId": "a"})
        assert await tablet.next("user:data:updated") == first["stats"]
        second = await tablet.call("user:clientUpdate", {"hearts": -1, "opId": "b"})
        assert await phone.next("user:data:updated") == second["stats"]
        third = await Api(http).patch(diamonds=1)
        del third["duplicate"]
        assert await phone.next("user:data:updated") == third
        assert await tablet.next("user:data:updated") == third
        assert (third["xp"], third["hearts"], third["rev"]) == (10, 4, 3)


async def test_watchers_see_presence_and_public_stats_across(pair: Pair) -> None:
    async with connected(pair.two.url, "eve") as watcher:
        await watcher.join()
        answer = await watcher.call("presence:watch", {"userIds": ["ada"]})
        [shown] = answer["users"]
        assert shown["stats"] == PUBLIC_DEFAULTS
        assert (shown["online"], shown["status"], shown["devices"]) == (False, "offline", 0)
        async with joined(pair.one.url, deviceId="phone") as phone:
            entry = await watcher.next("presence:update")
            assert entry.keys() == {"userId", "online", "status", "lastSeen", "devices"}
            assert (entry["userId"], entry["online"], entry["devices"]) == ("ada", True, 1)
            assert ISO.fullmatch(entry["lastSeen"])
            await phone.call("presence:status", {"status": "busy", "note": "in a game"})
            entry = await watcher.next("presence:update")
            assert (entry["status"], entry["note"]) == ("busy", "in a game")
            update = await phone.call("user:clientUpdate", {"xp": 10, "diamonds": 3})
            told = await watcher.next("user:update")
            known = {"rev": 1, "updatedAt": update["stats"]["updatedAt"], "userId": "ada"}
            assert told == {**PUBLIC_DEFAULTS, **known, "xp": 10}
            async with joined(pair.two.url, deviceId="tablet") as tablet:
                answer = await tablet.join(deviceId="tablet")
                assert answer["presence"]["devices"] == 2
            assert watcher.pending("presence:update") == 0
        entry = await watcher.next("presence:update")
        assert (entry["online"], entry["status"], entry["devices"]) == (False, "offline", 0)


async def test_50_concurrent_retries_of_one_op_id_over_both_doors_apply_once(pair: Pair) -> None:
    patch = {"xp": 10, "timePerQuestion": [2.5], "opId": "once", "deviceId": "phone"}
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(joined(server.url)) for server in pair for _ in range(3)
        ]
        apis = [
            Api(await stack.enter_async_context(aiohttp.ClientSession(server.url)))
            for server in pair
        ]
        answers: list[Any] = await asyncio.gather(
            *(clients[n % 6].call("user:clientUpdate", patch) for n in range(25)),
            *(apis[n % 2].patch(**patch) for n in range(25)),
        )
        assert Counter(answer["duplicate"] for answer in answers) == {False: 1, True: 49}
        document = await apis[0].stats()
        assert (document["xp"], document["rev"]) == (10, 1)
        assert document["timePerQuestion"] == [2.5]
        assert all(answer.get("stats", answer)["xp"] == 10 for answer in answers)


async def test_two_instances_that_write_the_same_users_lose_nothing(pair: Pair) -> None:
    async with hammering([pair.one.url, pair.two.url]) as devices:
        await progress(devices, 60)
    assert all(not device.unanswered and not device.refused for device in devices)
    await check_sums(pair.one.url, devices)


async def test_what_a_client_is_sent_never_goes_back_the_answer_to_its_join_included(
    pair: Pair,
) -> None:
    went_back: list[tuple[int, int]] = []

    async def joins(url: str) -> None:
        for _ in range(15):
            async with raw_socket(url) as raw:
                await raw.connect("user0")
                await raw.send('421["presence:join",{}]')
                revs = [await _next_rev(raw) for _ in range(8)]
                went_back.extend((a, b) for a, b in pairwise(revs) if b < a)

    async with hammering([pair.one.url, pair.two.url], users=2) as devices:
        await progress(devices)
        await asyncio.gather(joins(pair.one.url), joins(pair.two.url))
    assert went_back == []


async def _next_rev(raw: RawSocket) -> int:
    """The rev of the next document, in the order of the wire."""
    while (frame := await raw.receive()) is not None:
        if frame.startswith("431["):
            return int(json.loads(frame[3:])[0]["stats"]["rev"])
        if frame.startswith('42["user:data:updated",'):
            return int(json.loads(frame[2:])[1]["rev"])
    raise ConnectionError("closed")
