"""Tries counted in Redis: taken, given back, and forgotten at the end of their window."""

import asyncio

import pytest
from redis.asyncio import Redis

from storage.redis import RedisLink
from storage.throttle import Throttle, Tries
from tests.storage.conftest import NewLink, away, eventually

LONG = 60_000  # ms

ADA = Tries("account:ada", 3)
HOME = Tries("address:home", 5)


@pytest.fixture
def throttle(link: RedisLink) -> Throttle:
    return Throttle(link, LONG)


async def take(throttle: Throttle, *tries: Tries, times: int = 1) -> list[float]:
    return [await throttle.take(list(tries)) for _ in range(times)]


async def test_so_many_tries_are_granted_and_then_the_rest_of_the_window_is_to_wait(
    throttle: Throttle,
) -> None:
    assert await take(throttle, ADA, times=3) == [0.0] * 3
    (wait,) = await take(throttle, ADA)
    assert 50 < wait <= 60
    assert await take(throttle, Tries("account:bob", 3)) == [0.0]


async def test_what_is_given_back_may_be_taken_again(throttle: Throttle) -> None:
    await take(throttle, ADA, times=3)
    await throttle.give_back([ADA])
    assert await take(throttle, ADA) == [0.0]
    assert (await take(throttle, ADA))[0] > 0


async def test_more_given_back_than_taken_grants_no_more(throttle: Throttle) -> None:
    for _ in range(5):
        await throttle.give_back([ADA])
    assert await take(throttle, ADA, times=3) == [0.0] * 3
    assert (await take(throttle, ADA))[0] > 0


async def test_a_refused_try_counts_for_nobody(throttle: Throttle) -> None:
    await take(throttle, ADA, times=3)
    for wait in await take(throttle, ADA, HOME, times=20):
        assert wait > 0
    assert await take(throttle, Tries("account:bob", 9), HOME, times=5) == [0.0] * 5
    assert (await take(throttle, Tries("account:bob", 9), HOME))[0] > 0


async def test_of_two_waits_the_longer_one_counts(link: RedisLink) -> None:
    await take(Throttle(link, 5_000), ADA, times=3)
    await take(Throttle(link, LONG), HOME, times=5)
    for tries in ([ADA, HOME], [HOME, ADA]):
        assert 50 < await Throttle(link, LONG).take(tries) <= 60


async def test_a_window_ends_and_leaves_nothing_behind(
    link: RedisLink, redis_url: str, redis_prefix: str
) -> None:
    short = Throttle(link, 500)
    await take(short, ADA, times=3)
    assert 0 < (await take(short, ADA))[0] <= 0.5

    async def granted() -> bool:
        return await short.take([ADA]) == 0.0

    assert await eventually(granted)
    async with Redis.from_url(redis_url) as redis:

        async def forgotten() -> bool:
            return not [key async for key in redis.scan_iter(match=f"{redis_prefix}*")]

        assert await eventually(forgotten)


async def test_no_count_outlives_its_window(
    throttle: Throttle, redis_url: str, redis_prefix: str
) -> None:
    """Also after all was given back: the next try begins a window that ends."""
    await take(throttle, ADA)
    await throttle.give_back([ADA])
    await take(throttle, ADA, HOME)
    async with Redis.from_url(redis_url) as redis:
        keys = [key async for key in redis.scan_iter(match=f"{redis_prefix}*")]
        assert len(keys) == 2
        for key in keys:
            assert 0 < await redis.pttl(key) <= LONG


async def test_tries_at_once_over_two_links_are_counted_together(
    new_link: NewLink, redis_url: str
) -> None:
    throttles = [Throttle(new_link(redis_url, timeout=10), LONG) for _ in range(2)]
    waits = await asyncio.gather(
        *(throttle.take([ADA]) for throttle in throttles for _ in range(50))
    )
    assert sum(wait == 0.0 for wait in waits) == 3


async def test_names_of_any_characters_are_told_apart(throttle: Throttle) -> None:
    names = ["account:a b", "account:a:b", "account:é", "account:*", "account:\x00"]
    for name in names:
        assert await take(throttle, Tries(name, 1)) == [0.0]
        assert (await take(throttle, Tries(name, 1)))[0] > 0


async def test_without_redis_it_says_so(new_link: NewLink) -> None:
    throttle = Throttle(new_link("redis://127.0.0.1:1/0"), LONG)
    await away(lambda: throttle.take([ADA]))
    await away(lambda: throttle.give_back([ADA]))
