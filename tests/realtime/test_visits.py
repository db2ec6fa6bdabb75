"""Users who say their status without a socket: online for a while, then told off once."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from domain.errors import AppError, Code
from domain.presence import Profile, Status
from server.embedded import PrivateServer
from server.keys import SETTINGS
from storage.mongo import Mongo
from storage.presence import PresenceRepository
from tests.clients_py import joined
from tests.outages import frozen
from tests.serving import Served, serving
from tests.traces import eventually
from tests.watchers import GRACE, edges, seen, shown, told, told_each, watching

VISIT = 1.8  # seconds, of the servers here
SOON = VISIT + 1.5  # seconds until the end of a visit is told at the latest
CLOCKS = 0.05
TIMEOUT = 10.0

Pair = tuple[Served, Served]


@pytest.fixture
def quick(stores: dict[str, Any]) -> dict[str, Any]:
    return {
        **stores,
        "presence_lease": 0.9,
        "presence_grace": GRACE,
        "presence_visit": VISIT,
    }


@pytest.fixture
async def two(quick: dict[str, Any]) -> AsyncIterator[Pair]:
    """Two instances of one app."""
    async with serving(**quick) as one, serving(**quick) as other:
        yield one, other


@pytest.fixture
async def lasting(quick: dict[str, Any]) -> AsyncIterator[Served]:
    """A server whose visits outlast the test."""
    async with serving(**{**quick, "presence_visit": 60.0}) as served:
        yield served


async def visit(served: Served, status: Status = Status.ONLINE, note: str | None = None) -> Any:
    return await served.live.presence.visit("ada", status, note)


@pytest.fixture
async def profiles(stores: dict[str, Any]) -> AsyncIterator[PresenceRepository]:
    """What is kept in this test's database."""
    mongo = Mongo(stores["mongodb_uri"], stores["mongodb_db"])
    yield PresenceRepository(mongo)
    await mongo.close()


def all_edges(two: Pair, edge: str) -> float:
    return sum(edges(served, edge) for served in two)


async def kept(served: Served) -> set[str]:
    """What is in Redis, apart from the instances' leases."""
    settings = served.app[SETTINGS]
    prefix = f"{settings.redis_prefix}:"
    async with Redis.from_url(settings.redis_url, decode_responses=True) as redis:
        keys = {key async for key in redis.scan_iter(match=f"{prefix}*")}
    return {key.removeprefix(prefix) for key in keys} - {"instances", "clients"}


async def test_a_visit_is_told_once_on_every_instance_and_shown_without_devices(two: Pair) -> None:
    one, other = two
    async with watching(one, "ada") as eve, watching(other, "ada", name="mia") as mia:
        answer = await visit(one, Status.BUSY, "on the bus")
        assert (answer["online"], answer["status"], answer["devices"]) == (True, "busy", 0)
        assert answer["note"] == "on the bus"
        await visit(one, Status.BUSY)
        assert await told_each([eve, mia], one) == [[("ada", True, "busy")]] * 2
        for watcher in (eve, mia):
            entry = await shown(watcher, "ada")
            assert (entry["online"], entry["devices"], entry["note"]) == (True, 0, "on the bus")
        assert all_edges(two, "on") == 1 + 2 + 1  # ada, the watchers and the marker


async def test_the_end_of_a_visit_is_told_once_though_two_sweep_with_its_time_as_last_seen(
    two: Pair,
) -> None:
    one, other = two
    async with watching(one, "ada") as eve, watching(other, "ada", name="mia") as mia:
        await asyncio.sleep(0.5)  # a while after the start
        came = time.time()
        await visit(other)
        for watcher in (eve, mia):
            assert (await watcher.next("presence:update"))["online"] is True
            news = await watcher.next("presence:update", timeout=SOON)
            assert time.time() - came >= VISIT - CLOCKS
            assert (news["online"], news["status"], news["devices"]) == (False, "offline", 0)
            assert abs(seen(news) - came) < 0.4
        assert abs(seen(await shown(eve, "ada")) - came) < 0.4
        await asyncio.sleep(2 * GRACE)
        assert await told_each([eve, mia], one) == [[], []]
        assert all_edges(two, "off") == 1


async def test_a_visit_outlives_the_instance_that_served_it(
    quick: dict[str, Any], two: Pair
) -> None:
    async with watching(two[0], "ada") as eve:
        async with serving(**quick) as third:
            came = time.time()
            await visit(third)
            assert (await eve.next("presence:update"))["online"] is True
        assert (await shown(eve, "ada"))["online"] is True
        assert (await eve.next("presence:update", timeout=SOON))["online"] is False
        assert time.time() - came >= VISIT - CLOCKS


async def test_a_repeated_visit_prolongs_and_is_told_only_when_the_status_changes(
    two: Pair,
) -> None:
    async with watching(two[0], "ada") as eve:
        for served in (*two, *two):
            await visit(served)
            await asyncio.sleep(VISIT / 3)
        came = time.time()
        await visit(two[1], Status.AWAY)
        assert await told(eve, two[1]) == [("ada", True, "online"), ("ada", True, "away")]
        news = await eve.next("presence:update", timeout=SOON)
        assert (news["userId"], news["online"]) == ("ada", False)
        assert time.time() - came >= VISIT - CLOCKS
        assert abs(seen(news) - came) < 0.4


async def test_sockets_that_come_and_go_during_a_visit_are_no_news_until_it_ends(
    two: Pair,
) -> None:
    one, other = two
    async with watching(one, "ada") as eve:
        came = time.time()
        await visit(one)
        async with joined(other.url) as phone:
            assert (await shown(eve, "ada"))["devices"] == 1
            await phone.call("presence:leave")
            left_at = time.time()
        assert await told(eve, other) == [("ada", True, "online")]
        news = await eve.next("presence:update", timeout=SOON)
        assert news["online"] is False
        assert time.time() - came >= VISIT - CLOCKS
        assert abs(seen(news) - left_at) < 0.4


async def test_a_visit_beside_a_socket_keeps_its_user_online_after_it(two: Pair) -> None:
    one, other = two
    async with watching(one, "ada") as eve:
        async with joined(one.url):
            came = time.time()
            assert (await visit(other))["devices"] == 1
        assert await told(eve, one) == [("ada", True, "online")]
        assert (await eve.next("presence:update", timeout=SOON))["online"] is False
        assert time.time() - came >= VISIT - CLOCKS


async def test_a_visit_keeps_the_note_unless_it_brings_one(lasting: Served) -> None:
    assert (await visit(lasting, Status.BUSY, "exam"))["note"] == "exam"
    assert (await visit(lasting, Status.AWAY))["note"] == "exam"
    assert await lasting.live.presence.profile("ada") == Profile(Status.AWAY, "exam")
    assert "note" not in await visit(lasting, Status.AWAY, "")
    assert await lasting.live.presence.profile("ada") == Profile(Status.AWAY, "")


# --- hiding -------------------------------------------------------------------------------


async def test_a_visitor_who_hides_is_gone_at_once_and_told_once(lasting: Served) -> None:
    async with watching(lasting, "ada") as eve:
        await visit(lasting)
        assert (await eve.next("presence:update"))["online"] is True
        hidden_at = time.time()
        assert (await visit(lasting, Status.OFFLINE))["online"] is False
        news = await eve.next("presence:update")
        assert (news["online"], news["status"], news["devices"]) == (False, "offline", 0)
        assert abs(seen(news) - hidden_at) < 0.4
        await eventually(lambda: edges(lasting, "off") == 1)
        assert await told(eve, lasting) == []
        assert seen(await shown(eve, "ada")) == seen(news)


@pytest.mark.parametrize("by", ["status", "join", "visit"])
async def test_whoever_hides_has_no_visit_any_more(lasting: Served, by: str) -> None:
    """Shown again by a socket that leaves, they are there for a grace and no longer."""
    async with watching(lasting, "ada") as eve:
        async with joined(lasting.url) as ada:
            await visit(lasting)
            if by == "status":
                await ada.call("presence:status", {"status": "offline"})
            elif by == "join":
                await ada.join(status="offline")
            else:
                await visit(lasting, Status.OFFLINE)
            await ada.call("presence:status", {"status": "online"})
            on, off = ("ada", True, "online"), ("ada", False, "offline")
            assert await told(eve, lasting) == [on, off, on]
        news = await eve.next("presence:update", timeout=SOON)
        assert (news["userId"], news["online"]) == ("ada", False)


async def test_a_user_who_is_away_hides_without_a_word_to_anybody(lasting: Served) -> None:
    async with watching(lasting, "ada") as eve:
        assert (await visit(lasting, Status.OFFLINE))["online"] is False
        assert (await visit(lasting, Status.OFFLINE, "a note"))["online"] is False
        assert not {"visit:ada", "grace"} & await kept(lasting)
        assert await told(eve, lasting) == []


async def test_the_hidden_who_visit_are_shown_and_told_once(lasting: Served) -> None:
    async with watching(lasting, "ada") as eve, joined(lasting.url) as ada:
        await ada.call("presence:status", {"status": "offline"})
        await eve.until("presence:update", lambda news: not news["online"])
        answer = await visit(lasting, Status.ONLINE)
        assert (answer["online"], answer["devices"]) == (True, 1)
        assert await told(eve, lasting) == [("ada", True, "online")]
        assert edges(lasting, "on") == 2 + 1  # ada and the watcher, and the marker


async def test_nothing_of_a_visit_stays_in_redis(two: Pair) -> None:
    await visit(two[0])
    async with joined(two[1].url):
        assert "visit:ada" in await kept(two[0])
    await eventually(lambda: all_edges(two, "off") == 1, timeout=SOON + 1)
    assert await kept(two[0]) == set()


async def test_the_erased_do_not_visit_and_a_visit_ends_with_the_erasure(
    lasting: Served, profiles: PresenceRepository
) -> None:
    async with watching(lasting, "ada") as eve:
        await visit(lasting, Status.BUSY, "exam")
        assert (await eve.next("presence:update"))["online"] is True
        await profiles.erase("ada", TIMEOUT)
        await lasting.live.presence.erased("ada")
        # Between the two, who compares may find them online without a note.
        news = await eve.until("presence:update", lambda news: not news["online"])
        assert "note" not in news
        for status in Status:
            with pytest.raises(AppError) as caught:
                await visit(lasting, status)
            assert caught.value.code is Code.ERASED
        assert await told(eve, lasting) == []
        assert not {"visit:ada", "seen:ada"} & await kept(lasting)


# --- outages ------------------------------------------------------------------------------


async def test_with_redis_away_the_status_is_kept_and_nothing_fails(
    mortal_redis: tuple[Served, PrivateServer],
) -> None:
    served, redis = mortal_redis
    with frozen(redis):
        assert (await visit(served, Status.BUSY, "exam"))["online"] is False  # Redis is missed
        assert not served.live.presence.reachable
        assert (await visit(served, Status.OFFLINE))["online"] is False
        assert (await visit(served, Status.AWAY))["online"] is False
        await served.live.presence.erased("bob")
        assert await served.live.presence.profile("ada") != Profile()
        async with joined(served.url):
            assert (await visit(served, Status.BUSY))["devices"] == 1
    assert (await served.live.presence.profile("ada")).status is Status.BUSY
    await eventually(lambda: served.live.presence.reachable)
    assert (await visit(served, Status.AWAY))["online"] is True


async def test_with_redis_just_gone_hiding_is_kept_and_does_not_fail(
    mortal_redis: tuple[Served, PrivateServer],
) -> None:
    served, redis = mortal_redis
    await visit(served)
    with frozen(redis):
        assert (await visit(served, Status.OFFLINE))["online"] is False
    assert (await served.live.presence.profile("ada")).status is Status.OFFLINE
    await eventually(lambda: served.live.presence.reachable)
    with frozen(redis):
        await served.live.presence.erased("bob")
    assert not served.live.presence.reachable


async def test_with_mongodb_away_a_visit_is_refused_and_leaves_no_trace(
    mortal_mongo: tuple[Served, PrivateServer],
) -> None:
    served, mongod = mortal_mongo
    with frozen(mongod), pytest.raises(AppError) as caught:
        await visit(served)
    assert caught.value.code is Code.UNAVAILABLE
    assert await kept(served) == set()
