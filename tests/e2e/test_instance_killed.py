"""kill -9 of one instance: the other makes good what it leaves behind."""

import asyncio

import aiohttp
import pytest

from tests.clients_py import connected, joined
from tests.e2e.conftest import Pair
from tests.hammer import check_sums, hammering, progress
from tests.rest import Api
from tests.serving import QUICK

CLEARED = QUICK["presence_lease"] + QUICK["presence_grace"] + 3  # seconds


async def test_presence_of_its_users_clears_and_the_others_go_on(pair: Pair) -> None:
    async with (
        connected(pair.one.url, "ada") as ada,
        joined(pair.one.url, "bob"),
        joined(pair.two.url, "bob") as bob,
        joined(pair.two.url, "eve") as watcher,
    ):
        await ada.join()
        answer = await watcher.call("presence:watch", {"userIds": ["ada", "bob"]})
        assert [user["online"] for user in answer["users"]] == [True, True]
        await pair.one.kill()
        killed = asyncio.get_running_loop().time()
        assert (await bob.call("user:clientUpdate", {"xp": 1}))["ok"]
        entry = await watcher.next("presence:update", timeout=CLEARED)
        assert (entry["userId"], entry["online"], entry["devices"]) == ("ada", False, 0)
        assert asyncio.get_running_loop().time() - killed > 0.5  # not at the first hiccup
        assert (await bob.call("user:clientUpdate", {"xp": 1}))["stats"]["xp"] == 2
        answer = await watcher.call("presence:watch", {"userIds": ["ada", "bob"]})
        assert [user["online"] for user in answer["users"]] == [False, True]
        assert [user["devices"] for user in answer["users"]] == [0, 1]
        assert watcher.pending("presence:update") == 0
        assert not bob.gone.is_set()


async def test_who_comes_back_on_the_other_instance_was_never_offline(pair: Pair) -> None:
    async with joined(pair.one.url, "ada"), joined(pair.two.url, "eve") as watcher:
        await watcher.call("presence:watch", {"userIds": ["ada"]})
        await pair.one.kill()
        async with joined(pair.two.url, "ada"):
            with pytest.raises(TimeoutError):
                await watcher.until("presence:update", lambda e: not e["online"], CLEARED - 2)


async def test_no_acknowledged_update_is_lost_and_none_counts_twice(pair: Pair) -> None:
    async with hammering([pair.one.url, pair.two.url]) as devices:
        await progress(devices, 30)
        await pair.one.kill()
        await progress(devices[4:], 30)
    cut_off, went_on = devices[:4], devices[4:]
    assert any(device.unanswered for device in cut_off)
    assert not any(device.unanswered or device.refused for device in went_on)
    await check_sums(pair.two.url, devices)


async def test_a_joined_client_gets_the_document_that_the_dead_instance_did_not_tell(
    pair: Pair,
) -> None:
    async with (
        joined(pair.one.url) as phone,
        joined(pair.two.url) as tablet,
        aiohttp.ClientSession(pair.two.url) as http,
    ):
        answers = asyncio.gather(
            *(phone.call("user:clientUpdate", {"xp": 1, "opId": str(n)}, 2) for n in range(100)),
            return_exceptions=True,
        )
        seen = (await tablet.next("user:data:updated"))["rev"]
        await pair.one.kill()
        await answers
        rev = (await Api(http).stats())["rev"]
        while seen < rev:
            seen = (await tablet.next("user:data:updated"))["rev"]
        assert seen == rev
