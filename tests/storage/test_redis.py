"""Publishing and listening: in order, whole, and confirmed."""

import asyncio
from collections.abc import Callable

from storage.redis import Listener, Message, RedisLink
from tests.storage.conftest import NewLink


async def read_until(listener: Listener, done: Callable[[Message], bool]) -> list[Message]:
    """What is read up to and with the first message that is `done`."""
    found: list[Message] = []
    async with asyncio.timeout(10):
        while not found or not done(found[-1]):
            if (message := await listener.read()) is not None:
                found.append(message)
    return found


async def confirmed(listener: Listener, channels: list[str]) -> None:
    """Return when every subscription of `channels` has been confirmed, each once, in order."""
    async with asyncio.timeout(10):
        found = [await listener.read() for _ in channels]
    assert found == [Message(channel, None) for channel in channels]


def channels_of(link: RedisLink, count: int) -> list[str]:
    return [link.names.user_channel(f"u{n}") for n in range(count)]


async def test_messages_keep_their_order_and_every_byte(link: RedisLink) -> None:
    [channel] = channels_of(link, 1)
    payloads = [bytes(range(256)), b"", b"\r\n$3\r\n", b"\x00" * 1000, b"x" * 200_000]
    payloads += [b"%d" % n for n in range(2_000)]
    async with link.listen() as listener:
        await listener.subscribe([channel])
        await confirmed(listener, [channel])
        await link.publish([(channel, payload) for payload in payloads])
        await link.publish([(channel, b"end")])
        found = await read_until(listener, lambda m: m.data == b"end")
    assert found == [Message(channel, payload) for payload in [*payloads, b"end"]]


async def test_twelve_hundred_channels_are_confirmed_and_heard(link: RedisLink) -> None:
    channels = channels_of(link, 1_200)
    async with link.listen() as listener:
        await listener.subscribe(channels)
        await confirmed(listener, channels)
        await link.publish([(channel, channel.encode()) for channel in channels])
        found = await read_until(listener, lambda m: m.channel == channels[-1])
    assert found == [Message(channel, channel.encode()) for channel in channels]


async def test_every_listener_hears_every_message(link: RedisLink) -> None:
    channels = channels_of(link, 20)
    async with link.listen() as one, link.listen() as other:
        for listener in (one, other):
            await listener.subscribe(channels)
            await confirmed(listener, channels)
        await link.publish([(channel, b"x") for channel in channels])
        for listener in (one, other):
            found = await read_until(listener, lambda m: m.channel == channels[-1])
            assert found == [Message(channel, b"x") for channel in channels]


async def test_what_is_published_after_the_confirmation_is_not_missed(link: RedisLink) -> None:
    async with link.listen() as listener:
        for n, channel in enumerate(channels_of(link, 200)):
            await listener.subscribe([channel])
            await confirmed(listener, [channel])
            await link.publish([(channel, b"%d" % n)])
            assert await listener.read() == Message(channel, b"%d" % n)


async def test_channels_are_not_heard_after_unsubscribing(link: RedisLink) -> None:
    mark, kept, *gone = channels_of(link, 702)
    async with link.listen() as listener:
        await listener.subscribe([kept, *gone])
        await confirmed(listener, [kept, *gone])
        await listener.unsubscribe(gone)
        await listener.subscribe([mark])
        await read_until(listener, lambda m: m == Message(mark, None))
        await link.publish([*((channel, b"x") for channel in gone), (kept, b"y")])
        assert await read_until(listener, lambda m: m.channel == kept) == [Message(kept, b"y")]


async def test_a_channel_can_be_left_and_taken_again(link: RedisLink) -> None:
    kept, channel = channels_of(link, 2)
    async with link.listen() as listener:
        await listener.subscribe([kept, channel])
        await confirmed(listener, [kept, channel])
        for n in range(20):
            await listener.unsubscribe([channel])
            await listener.subscribe([channel])
            await read_until(listener, lambda m: m == Message(channel, None))
            await link.publish([(channel, b"%d" % n)])
            assert await listener.read() == Message(channel, b"%d" % n)


async def test_a_quiet_listener_waits_longer_than_the_timeout(
    new_link: NewLink, redis_url: str
) -> None:
    link = new_link(redis_url, timeout=0.2)
    [channel] = channels_of(link, 1)
    async with link.listen() as listener:
        await listener.subscribe([channel])
        await confirmed(listener, [channel])
        reading = asyncio.create_task(listener.read())
        assert not (await asyncio.wait([reading], timeout=0.7))[0]
        await link.publish([(channel, b"at last")])
        assert await asyncio.wait_for(reading, 5) == Message(channel, b"at last")


async def test_channels_are_subscribed_while_another_task_reads(link: RedisLink) -> None:
    first, *channels = channels_of(link, 101)
    async with link.listen() as listener:
        await listener.subscribe([first])
        reading = asyncio.create_task(
            read_until(listener, lambda m: m == Message(channels[-1], None))
        )
        for channel in channels:
            await listener.subscribe([channel])
            await link.publish([(first, b"x")])
        found = await reading
    assert [m.channel for m in found if m.data is None] == [first, *channels]


async def test_a_cancelled_call_leaves_no_foreign_answer_behind(link: RedisLink) -> None:
    keys = [f"{link.names.prefix}{n}" for n in range(50)]
    for n, key in enumerate(keys):
        await link.command("SET", key, n)
    for turn in range(200):
        call = asyncio.create_task(link.command("GET", keys[turn % 50]))
        await asyncio.sleep((turn % 10) * 0.0001)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        n = (turn + 7) % 50
        assert await link.command("GET", keys[n]) == b"%d" % n


async def test_a_cancelled_call_ends_as_cancelled(link: RedisLink) -> None:
    """Loops are stopped like this: one that does not notice runs on."""
    ended: dict[int, bool] = {}
    for ticks in range(6):
        await link.ping()
        call = asyncio.create_task(link.ping())
        for _ in range(ticks):
            await asyncio.sleep(0)
        if call.cancel():
            await asyncio.wait([call])
            ended[ticks] = call.cancelled()
    assert all(ended.values()), ended
