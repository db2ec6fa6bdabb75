"""Publishing by one script, and listening on the raw connection."""

import asyncio
from collections.abc import Iterator

import pytest
from redis import Redis

from server.embedded import PrivateServer
from storage.redis import _PUBLISH, CALLS_PER_TRIP, Listener, Message, RedisAway, RedisLink
from tests.storage.conftest import NewLink, eventually
from tests.storage.test_redis import channels_of, confirmed, read_until

END = b"end"


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """A plain client of the same Redis."""
    with Redis.from_url(redis_url) as client:
        yield client


async def published(link: RedisLink, messages: list[tuple[str, bytes]]) -> list[Message]:
    """What a listener of all their channels reads when `messages` are published."""
    channels = list(dict.fromkeys(channel for channel, _ in messages))
    async with link.listen() as listener:
        await listener.subscribe(channels)
        await confirmed(listener, channels)
        await link.publish(messages)
        await link.publish([(channels[0], END)])
        return (await read_until(listener, lambda m: m.data == END))[:-1]


async def test_more_than_a_trip_takes_over_many_channels_keep_one_order(link: RedisLink) -> None:
    channels = channels_of(link, 7)
    messages = [(channels[n % 7], b"%d" % n) for n in range(2 * CALLS_PER_TRIP + 3)]
    assert await published(link, messages) == [Message(*one) for one in messages]


@pytest.mark.parametrize("count", [1, CALLS_PER_TRIP, CALLS_PER_TRIP + 1])
async def test_as_many_as_a_trip_takes_and_one_more_arrive(link: RedisLink, count: int) -> None:
    [channel] = channels_of(link, 1)
    messages = [(channel, b"%d" % n) for n in range(count)]
    assert await published(link, messages) == [Message(*one) for one in messages]


async def test_bytes_of_any_kind_and_channels_in_any_script_arrive_unchanged(
    link: RedisLink,
) -> None:
    names = ["u", "ключ", "名前", "a b\r\nc", "{x}", "%s", "🎲"]
    channels = [link.names.user_channel(name) for name in names]
    payloads = [b"", b"\x00", b"\xff\xfe", b"\r\n", b"+OK\r\n", bytes(range(256)), b"x" * 100_000]
    messages = [(c, p) for c in channels for p in payloads]
    assert await published(link, messages) == [Message(*one) for one in messages]


async def test_nothing_to_publish_is_no_trouble(link: RedisLink) -> None:
    await link.publish([])


async def test_a_redis_that_has_lost_the_script_is_given_it_and_the_order_stays(
    link: RedisLink, redis: Redis
) -> None:
    [channel] = channels_of(link, 1)
    await link.publish([(channel, b"known")])
    redis.script_flush()  # as after a restart, with all connections kept
    messages = [(channel, b"%d" % n) for n in range(CALLS_PER_TRIP + 10)]
    assert await published(link, messages) == [Message(*one) for one in messages]
    assert redis.script_exists(_PUBLISH.sha) == [True]


async def test_a_script_lost_between_two_publishes_of_a_turn_costs_neither_and_no_message_twice(
    link: RedisLink, redis: Redis
) -> None:
    one, other = channels_of(link, 2)
    async with link.listen() as listener:
        await listener.subscribe([one, other])
        await confirmed(listener, [one, other])
        redis.script_flush()
        await asyncio.gather(
            link.publish([(one, b"1"), (one, b"2")]), link.publish([(other, b"3"), (one, END)])
        )
        found = await read_until(listener, lambda m: m.data == END)
    assert [m.data for m in found] == [b"1", b"2", b"3", END]


async def test_publishing_goes_on_after_a_restart_of_redis(
    new_link: NewLink, own_redis: PrivateServer
) -> None:
    link = new_link(own_redis.url, timeout=5)
    [channel] = channels_of(link, 1)
    await link.publish([(channel, b"before")])
    await own_redis.kill()
    await own_redis.restart()

    async def answers() -> bool:
        try:
            await link.ping()
        except RedisAway:
            return False
        return True

    await eventually(answers)
    messages = [(channel, b"%d" % n) for n in range(CALLS_PER_TRIP + 1)]
    assert await published(link, messages) == [Message(*one) for one in messages]


async def test_a_publisher_that_is_cancelled_takes_no_other_along(link: RedisLink) -> None:
    [channel] = channels_of(link, 1)
    async with link.listen() as listener:
        await listener.subscribe([channel])
        await confirmed(listener, [channel])
        for turn in range(12):
            gone = asyncio.create_task(link.publish([(channel, b"gone")]))
            kept = asyncio.create_task(link.publish([(channel, b"%d" % turn)]))
            for _ in range(turn):
                await asyncio.sleep(0)
            gone.cancel()
            await kept
            await asyncio.gather(gone, return_exceptions=True)
            await read_until(listener, lambda m: m.data == b"%d" % turn)  # noqa: B023


# --- listening ------------------------------------------------------------------------------


async def test_a_confirmation_names_its_channel_and_brings_no_data(link: RedisLink) -> None:
    channels = channels_of(link, 3)
    async with link.listen() as listener:
        await listener.subscribe(channels)
        assert [await listener.read() for _ in channels] == [Message(c, None) for c in channels]


async def test_a_confirmed_unsubscription_is_nothing_to_tell(link: RedisLink) -> None:
    kept, gone = channels_of(link, 2)
    async with link.listen() as listener:
        await listener.subscribe([kept, gone])
        await confirmed(listener, [kept, gone])
        await listener.unsubscribe([gone])
        async with asyncio.timeout(5):
            assert await listener.read() is None


async def test_the_library_knows_what_is_subscribed(link: RedisLink) -> None:
    kept, gone, back = channels_of(link, 3)
    async with link.listen() as listener:
        await listener.subscribe([kept, gone, back])
        await confirmed(listener, [kept, gone, back])
        await listener.unsubscribe([gone, back])
        await listener.subscribe([back])
        await read_until(listener, lambda m: m == Message(back, None))
        assert set(listener._pubsub.channels) == {kept.encode(), back.encode()}
        assert listener._pubsub.pending_unsubscribe_channels == set()


async def lose(listener: Listener, redis: Redis) -> None:
    """Let Redis cut the listener's connection."""
    number = next(one["id"] for one in redis.client_list(_type="pubsub"))
    redis.client_kill_filter(_id=number)


@pytest.mark.parametrize("reading", [True, False], ids=["while reading", "before reading"])
async def test_a_listener_whose_connection_is_cut_says_away(
    new_link: NewLink, own_redis: PrivateServer, reading: bool
) -> None:
    link = new_link(own_redis.url, timeout=5)
    [channel] = channels_of(link, 1)
    with Redis.from_url(own_redis.url) as redis:
        async with link.listen() as listener:
            await listener.subscribe([channel])
            await confirmed(listener, [channel])
            if reading:
                waiting = asyncio.create_task(listener.read())
                await asyncio.sleep(0)
                await lose(listener, redis)
            else:
                await lose(listener, redis)
                waiting = asyncio.create_task(listener.read())
            with pytest.raises(RedisAway):
                await asyncio.wait_for(waiting, 5)
        async with link.listen() as anew:
            await anew.subscribe([channel])
            await confirmed(anew, [channel])


async def test_a_listener_that_never_subscribed_says_away(link: RedisLink) -> None:
    async with link.listen() as listener:
        with pytest.raises(RedisAway):
            await listener.read()


async def test_a_cancelled_read_ends_as_cancelled_at_whatever_moment(link: RedisLink) -> None:
    [channel] = channels_of(link, 1)
    ended = []
    for turns in range(6):
        async with link.listen() as listener:
            await listener.subscribe([channel])
            await confirmed(listener, [channel])
            reading = asyncio.create_task(listener.read())
            for _ in range(turns):
                await asyncio.sleep(0)
            reading.cancel()
            await asyncio.wait([reading], timeout=5)
            ended.append(reading.cancelled())
    assert ended == [True] * 6


async def test_a_cancelled_read_loses_no_message(link: RedisLink) -> None:
    [channel] = channels_of(link, 1)
    async with link.listen() as listener:
        await listener.subscribe([channel])
        await confirmed(listener, [channel])
        for n in range(10):
            reading = asyncio.create_task(listener.read())
            await asyncio.sleep(0)
            reading.cancel()
            await asyncio.wait([reading])
            await link.publish([(channel, b"%d" % n)])
            async with asyncio.timeout(5):
                assert await listener.read() == Message(channel, b"%d" % n)
