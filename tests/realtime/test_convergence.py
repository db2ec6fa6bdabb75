"""What was lost on the way is made good without anybody asking."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from redis.asyncio import Redis

from server.embedded import PrivateServer
from tests.clients_py import joined
from tests.outages import frozen, unheard
from tests.serving import Served, serving
from tests.traces import eventually, nothing_stays
from tests.watchers import shown, watching

UPDATE = "user:clientUpdate"
MADE_GOOD = 5.0  # seconds; the servers here compare three times a second
QUICK = {
    "reconcile_interval": 0.3,
    "presence_lease": 0.9,
    "presence_grace": 0.5,
    "redis_timeout": 0.5,
}


@pytest.fixture
async def often(stores: dict[str, Any]) -> AsyncIterator[Served]:
    """A server that often compares."""
    async with serving(**stores, **QUICK) as server:
        yield server


@pytest.fixture
async def apart(
    own_redis: PrivateServer, mongodb_uri: str, mongodb_name: str
) -> AsyncIterator[tuple[Served, Served, PrivateServer]]:
    """Two instances, and their Redis, which this test may suspend."""
    stores: dict[str, Any] = {"mongodb_uri": mongodb_uri, "mongodb_db": mongodb_name}
    stores |= {"redis_url": own_redis.url, **QUICK}
    async with serving(**stores) as one, serving(**stores) as two:
        yield one, two, own_redis


async def test_a_document_whose_broadcast_was_lost_reaches_joined_sockets(often: Served) -> None:
    async with joined(often.url) as phone, unheard(often) as other:
        async with joined(other.url) as pc:
            sent = await pc.call(UPDATE, {"xp": 7})
        assert await phone.next("user:data:updated", timeout=MADE_GOOD) == sent["stats"]
    assert often.metric("livetally_reconciled_total") == 1


async def test_a_public_change_whose_broadcast_was_lost_reaches_followers(often: Served) -> None:
    async with joined(often.url, "eve") as eve, unheard(often) as other:
        assert (await eve.call("presence:watch", {"userIds": ["ada"]}))["ok"]
        async with joined(other.url) as pc:
            await pc.call(UPDATE, {"xp": 7})
            assert (await eve.next("user:update", timeout=MADE_GOOD))["xp"] == 7
            await pc.call(UPDATE, {"xp": 1})
            assert (await eve.next("user:update", timeout=MADE_GOOD))["xp"] == 8


async def test_a_status_whose_message_was_lost_reaches_watchers(often: Served) -> None:
    async with watching(often, "ada") as eve, joined(often.url), unheard(often) as other:
        await eve.next("presence:update")
        async with joined(other.url) as pc:
            await pc.call("presence:status", {"status": "busy", "note": "exam"})
        news = await eve.next("presence:update", timeout=MADE_GOOD)
        assert (news["online"], news["status"], news["note"]) == (True, "busy", "exam")


async def test_nothing_is_sent_when_nothing_was_missed(often: Served) -> None:
    async with (
        joined(often.url) as phone,
        joined(often.url) as tablet,
        watching(often, "ada") as eve,
    ):
        sent = await phone.call(UPDATE, {"xp": 1})
        assert await tablet.next("user:data:updated") == sent["stats"]
        assert (await eve.next("user:update"))["rev"] == 1
        await asyncio.sleep(1.0)
        assert tablet.pending("user:data:updated") == phone.pending("user:data:updated") == 0
        assert eve.pending("user:update") == eve.pending("presence:update") == 0


async def test_a_listener_that_lost_its_connection_catches_up_at_once(
    own_redis: PrivateServer, mongodb_uri: str, mongodb_name: str
) -> None:
    stores: dict[str, Any] = {"mongodb_uri": mongodb_uri, "mongodb_db": mongodb_name}
    stores |= {"redis_url": own_redis.url, "reconcile_interval": 60.0}
    async with (
        serving(**stores) as one,
        serving(**stores) as two,
        Redis.from_url(own_redis.url) as redis,
        joined(one.url) as phone,
        joined(two.url) as pc,
    ):
        for n in range(2):
            await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            sent = await pc.call(UPDATE, {"xp": 1, "opId": str(n)})
            await phone.until(
                "user:data:updated", lambda doc, rev=sent["rev"]: doc["rev"] == rev, MADE_GOOD
            )


async def test_while_redis_is_away_changes_are_taken_and_reach_both_instances(
    apart: tuple[Served, Served, PrivateServer],
) -> None:
    one, two, redis = apart
    async with joined(one.url) as phone, joined(one.url) as tablet, joined(two.url) as pc:
        with frozen(redis):
            sent = await phone.call(UPDATE, {"xp": 1})
            assert await tablet.next("user:data:updated", timeout=1) == sent["stats"]
            assert await pc.next("user:data:updated", timeout=MADE_GOOD) == sent["stats"]
            async with joined(two.url) as newcomer:
                back = await newcomer.call(UPDATE, {"xp": 1})
                assert await pc.next("user:data:updated", timeout=1) == back["stats"]
                await phone.until(
                    "user:data:updated", lambda doc: doc["rev"] == back["rev"], MADE_GOOD
                )
        final = await phone.call(UPDATE, {"xp": 1})
        await pc.until("user:data:updated", lambda doc: doc["rev"] == final["rev"], MADE_GOOD)


async def test_a_redis_that_lost_everything_is_filled_again_and_nobody_is_announced_gone(
    apart: tuple[Served, Served, PrivateServer],
) -> None:
    one, two, redis = apart
    async with watching(one, "ada") as eve, joined(two.url, deviceId="phone") as ada:
        await eve.next("presence:update")
        async with Redis.from_url(redis.url) as client:
            await client.flushall()
        await eventually(lambda: _counted(one), timeout=MADE_GOOD)
        await asyncio.sleep(1.6)  # a lease and a grace
        assert eve.pending("presence:update") == 0
        assert (await ada.join(deviceId="phone"))["presence"]["devices"] == 1
        assert (await one.live.presence.entries(["ada"]))["ada"]["devices"] == 1


def _counted(served: Served) -> bool:
    return bool(served.live.presence.reachable)


async def test_who_came_and_who_left_while_redis_was_away_is_told_when_it_is_back(
    apart: tuple[Served, Served, PrivateServer],
) -> None:
    one, two, redis = apart
    async with watching(one, "ada", "bob", "cid") as eve, AsyncExitStack() as stack:
        bob = await stack.enter_async_context(joined(two.url, "bob"))
        assert (await eve.next("presence:update"))["userId"] == "bob"
        with frozen(redis):
            await eventually(
                lambda: not (two.live.presence.reachable or one.live.presence.reachable)
            )
            await stack.enter_async_context(joined(two.url))
            await bob.sio.disconnect()
            assert (await shown(eve, "cid"))["online"] is False
        found = {}
        while found.keys() != {"ada", "bob"}:
            news = await eve.next("presence:update", timeout=2 * MADE_GOOD)
            assert news["userId"] not in found, "told twice"
            found[news["userId"]] = news["online"]
        assert found == {"ada": True, "bob": False}
    await nothing_stays(one)
    await nothing_stays(two)


async def test_the_users_of_an_instance_that_stops_are_gone_unless_they_come_back_elsewhere(
    stores: dict[str, Any],
) -> None:
    async with serving(**stores, presence_grace=0.7) as one, watching(one, "ada", "bob") as eve:
        async with serving(**stores, presence_grace=0.7) as two, AsyncExitStack() as stack:
            ada = await stack.enter_async_context(joined(two.url))
            bob = await stack.enter_async_context(joined(two.url, "bob"))
            await eve.next("presence:update")
            await eve.next("presence:update")
            await two.live.drain(0.1)
            await ada.gone.wait()
            await bob.gone.wait()
        async with joined(one.url, "bob"):
            news = await eve.next("presence:update", timeout=MADE_GOOD)
            assert (news["userId"], news["online"]) == ("ada", False)
            await asyncio.sleep(0.5)
            assert eve.pending("presence:update") == 0
