"""A Redis that does not answer: RedisAway in time, and work as before after it."""

import asyncio

import pytest
from redis.asyncio import Redis

from server.embedded import PrivateServer
from storage.redis import Message, RedisAway, RedisLink
from storage.roster import Roster
from tests.storage.conftest import REDIS_TIMEOUT, Call, NewLink, away, eventually, suspended

LATE = 0.5  # what a busy machine may add to the timeout
POOL = 16  # connections of a link


def calls_of(link: RedisLink) -> dict[str, Call]:
    """Everything that is asked of Redis, but listening."""
    roster = Roster(link, "a", 60_000, 1_000, 60_000)
    return {
        "ping": link.ping,
        "command": lambda: link.command("GET", link.names.prefix),
        "publish": lambda: link.publish([("c", b"1"), ("c", b"2")]),
        "renew": lambda: roster.renew(1),
        "join": lambda: roster.join("u", "s", "d", 0),
        "attendance": lambda: roster.attendance(["u"]),
        "counts": roster.counts,
        "held": roster.held,
        "sync": lambda: roster.sync("u", {"s": "d"}),
        "due": lambda: roster.due(10),
        "claim": lambda: roster.claim(["u"]),
        "purge": lambda: roster.purge("b", 10),
        "leave": lambda: roster.leave("u", "s", 0),
        "visit": lambda: roster.visit("u"),
        "end_visit": lambda: roster.end_visit("u"),
        "forget": lambda: roster.forget("u"),
        "resign": roster.resign,
    }


async def all_fail_in_time(calls: dict[str, Call]) -> None:
    took = await asyncio.gather(*(away(call) for call in calls.values()))
    assert max(took) < REDIS_TIMEOUT + LATE, dict(zip(calls, took, strict=True))


async def all_work(link: RedisLink, calls: dict[str, Call]) -> None:
    async def answers() -> bool:
        try:
            await link.ping()
        except RedisAway:
            return False
        return True

    await eventually(answers)
    for call in calls.values():
        await call()


@pytest.mark.parametrize("warm", [True, False], ids=["connected", "connecting"])
async def test_a_suspended_redis_fails_every_call_in_time_and_works_when_it_runs_on(
    new_link: NewLink, own_redis: PrivateServer, warm: bool
) -> None:
    link = new_link(own_redis.url)
    calls = calls_of(link)
    if warm:
        await asyncio.gather(*(call() for call in calls.values()))
    async with suspended(own_redis):
        await all_fail_in_time(calls)
    await all_work(link, calls)


async def test_a_killed_redis_fails_every_call_in_time_and_works_when_it_is_back(
    new_link: NewLink, own_redis: PrivateServer
) -> None:
    link = new_link(own_redis.url)
    calls = calls_of(link)
    await asyncio.gather(*(call() for call in calls.values()))
    await own_redis.kill()
    await all_fail_in_time(calls)
    await own_redis.restart()  # empty: without the scripts, too
    await all_work(link, calls)


@pytest.mark.parametrize("after", [0.0, 0.1], ids=["at once", "while others wait"])
async def test_more_calls_than_connections_all_fail_in_time(
    new_link: NewLink, own_redis: PrivateServer, after: float
) -> None:
    link = new_link(own_redis.url)
    calls = list(calls_of(link).values())
    await asyncio.gather(*(link.ping() for _ in range(POOL)))

    async def some(calls: list[Call], after: float) -> list[float]:
        await asyncio.sleep(after * REDIS_TIMEOUT)
        return await asyncio.gather(*(away(call) for call in calls))

    async with suspended(own_redis):
        first, later = await asyncio.gather(some([link.ping] * POOL, 0), some(calls * 3, after))
    assert max(first + later) < REDIS_TIMEOUT + LATE


async def test_a_redis_that_was_restarted_while_nobody_asked_is_not_away(
    new_link: NewLink, own_redis: PrivateServer
) -> None:
    link = new_link(own_redis.url, timeout=5)
    await asyncio.gather(*(link.ping() for _ in range(POOL)))
    await own_redis.kill()
    await own_redis.restart()
    await asyncio.gather(*(link.ping() for _ in range(POOL)))


async def test_connections_that_redis_closed_for_being_idle_are_replaced(
    new_link: NewLink, own_redis: PrivateServer
) -> None:
    link = new_link(own_redis.url, timeout=5)
    await asyncio.gather(*(link.ping() for _ in range(POOL)))
    async with Redis.from_url(own_redis.url) as admin:
        await admin.client_kill_filter(_type="normal", skipme=True)

        async def closed() -> bool:
            return len(await admin.client_list()) == 1

        await eventually(closed)
    await asyncio.sleep(0.05)
    await asyncio.gather(*(link.ping() for _ in range(POOL)))


async def test_scripts_that_redis_has_lost_are_given_to_it_again(
    new_link: NewLink, own_redis: PrivateServer
) -> None:
    link = new_link(own_redis.url, timeout=5)
    async with Redis.from_url(own_redis.url) as admin:
        for call in calls_of(link).values():
            await call()
            await admin.script_flush()
            await call()


async def test_a_listener_learns_that_redis_was_killed(
    new_link: NewLink, own_redis: PrivateServer
) -> None:
    link = new_link(own_redis.url)
    async with link.listen() as listener:
        await listener.subscribe(["c"])
        assert await listener.read() == Message("c", None)
        reading = asyncio.create_task(listener.read())
        await own_redis.kill()
        with pytest.raises(RedisAway):
            await asyncio.wait_for(reading, 5)
    await own_redis.restart()
    async with link.listen() as listener:
        await listener.subscribe(["c"])
        assert await listener.read() == Message("c", None)
        await link.publish([("c", b"again")])
        assert await listener.read() == Message("c", b"again")


async def test_a_listener_learns_that_its_connection_alone_was_closed(
    new_link: NewLink, own_redis: PrivateServer
) -> None:
    link = new_link(own_redis.url)
    async with link.listen() as listener, Redis.from_url(own_redis.url) as admin:
        await listener.subscribe(["c"])
        assert await listener.read() == Message("c", None)
        reading = asyncio.create_task(listener.read())
        await admin.client_kill_filter(_type="pubsub")
        with pytest.raises(RedisAway):
            await asyncio.wait_for(reading, 5)


async def test_subscribing_at_a_suspended_redis_fails_in_time(
    new_link: NewLink, own_redis: PrivateServer
) -> None:
    link = new_link(own_redis.url)
    async with suspended(own_redis), link.listen() as listener:
        assert await away(lambda: listener.subscribe(["c"])) < REDIS_TIMEOUT + LATE
