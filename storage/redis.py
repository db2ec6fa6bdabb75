"""The connections to Redis: commands, scripts, publishing, and one for listening."""

import asyncio
import math
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from hashlib import sha1
from itertools import chain
from typing import Any, NamedTuple

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from storage.names import RedisNames

CALLS_PER_TRIP = 500
SUBSCRIBE_CHUNK = 500  # channels per command, so that one command stays small


_FAULTS = (RedisError, OSError, TimeoutError, AttributeError, RuntimeError)


class RedisAway(Exception):
    """Redis did not answer in time. Live delivery is degraded until it does."""


@asynccontextmanager
async def _reachable(timeout: float | None = None) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(timeout):
            yield
    except _FAULTS as error:
        raise _away(error) from error
    _raise_swallowed_cancellation()


def _away(error: Exception) -> RedisAway:
    if isinstance(error, AttributeError | RuntimeError):  # another task just lost the connection
        return RedisAway("the connection is lost")
    return RedisAway(f"{type(error).__name__}: {str(error)[:200]}")


def _raise_swallowed_cancellation() -> None:
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError  # redis-py has swallowed it; whoever cancelled waits


class RedisLink:
    """Commands and publishes; each raises RedisAway after `timeout` seconds at the latest."""

    def __init__(self, url: str, names: RedisNames, timeout: float) -> None:
        self.names = names
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=16,
            # `_reachable` ends every call after `timeout`. These are set apart from it: when two
            # of them fire in the same moment redis-py may swallow the cancellation.
            timeout=2 * timeout,
            socket_timeout=0.8 * timeout,
            socket_connect_timeout=0.8 * timeout,
            # A repeat could run a script twice and hide what the first run answered.
            retry=Retry(NoBackoff(), 0),
            protocol=2,  # with RESP3 the pool hands out connections that Redis has closed
        )
        self._redis = Redis.from_pool(pool)
        self._timeout = timeout
        self._calls: list[_Call] = []
        self._trips: set[asyncio.Task[None]] = set()  # each ends within the timeout

    async def ping(self) -> None:
        """Raise RedisAway unless Redis answers."""
        async with _reachable(self._timeout):
            await self._run("PING")

    async def script(self, script: "Script", *args: str | int | bytes) -> Any:
        """Run a Lua script; the prefix of all keys is its first argument.

        Calls made in the same turn of the loop share a round trip.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self._calls.append((script, (self.names.prefix, *args), answer))
        if len(self._calls) == 1:
            # A task, so that a caller who is cancelled takes no others along.
            trip = loop.create_task(self._round_trip(), name="redis scripts")
            self._trips.add(trip)
            trip.add_done_callback(self._trips.discard)
        return await answer

    async def _round_trip(self) -> None:
        calls, self._calls = self._calls, []
        for at in range(0, len(calls), CALLS_PER_TRIP):
            await self._answer(calls[at : at + CALLS_PER_TRIP])

    async def _answer(self, calls: "Sequence[_Call]") -> None:
        results: Sequence[Any]
        try:
            async with _reachable(self._timeout):
                results = await self._evaluate(calls)
        except Exception as error:  # whatever it is, somebody waits for each answer
            results = [error] * len(calls)
        for (_, _, answer), result in zip(calls, results, strict=True):
            if answer.done():
                continue  # its caller was cancelled
            if isinstance(result, RedisError):
                answer.set_exception(RedisAway(str(result)[:200]))
            elif isinstance(result, Exception):
                answer.set_exception(result)
            else:
                answer.set_result(result)

    async def _evaluate(self, calls: "Sequence[_Call]") -> list[Any]:
        results = await self._evaluate_known(calls)
        for at, result in enumerate(results):
            if isinstance(result, NoScriptError):  # the first time, or Redis was restarted
                script, args, _ = calls[at]
                results[at] = await self._run("EVAL", script.source, 0, *args)
        return results

    async def _evaluate_known(self, calls: "Sequence[_Call]") -> list[Any]:
        if len(calls) == 1:  # no pipeline around a single command
            script, args, _ = calls[0]
            try:
                return [await self._run("EVALSHA", script.sha, 0, *args)]
            except ResponseError as error:
                return [error]
        pipe = self._redis.pipeline(transaction=False)
        for script, args, _ in calls:
            pipe.evalsha(script.sha, 0, *args)
        results: list[Any] = await pipe.execute(raise_on_error=False)
        return results

    async def command(self, *args: str | int) -> Any:
        """Run one command."""
        async with _reachable(self._timeout):
            return await self._run(*args)

    async def _run(self, *args: str | int | bytes) -> Any:
        return await self._redis.execute_command(*args)  # type: ignore[no-untyped-call]

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Publish (channel, payload) pairs in order.

        As one command: it costs less CPU than a pipeline of as many.
        """
        for at in range(0, len(messages), CALLS_PER_TRIP):
            chunk: Iterable[Iterable[str | bytes]] = messages[at : at + CALLS_PER_TRIP]
            await self.script(_PUBLISH, *chain.from_iterable(chunk))

    @asynccontextmanager
    async def listen(self) -> AsyncIterator["Listener"]:
        """A connection of its own that receives from the channels it subscribes."""
        pubsub = self._redis.pubsub()
        try:
            yield Listener(pubsub)
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        """Wait for what is under way, then close all connections."""
        await asyncio.gather(*self._trips, return_exceptions=True)
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()


class Script:
    """A Lua script and the name that Redis knows it by."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.sha = sha1(source.encode(), usedforsecurity=False).hexdigest()


_Call = tuple[Script, tuple[str | int | bytes, ...], "asyncio.Future[Any]"]

_PUBLISH = Script("""
for at = 2, #ARGV, 2 do redis.call('PUBLISH', ARGV[at], ARGV[at + 1]) end
""")


class Message(NamedTuple):
    """What came on `channel`; `data` is None for the confirmation of its subscription."""

    channel: str
    data: bytes | None


class Listener:
    """Subscriptions and what comes from them."""

    def __init__(self, pubsub: PubSub) -> None:
        self._pubsub = pubsub

    async def subscribe(self, channels: Sequence[str]) -> None:
        """Receive from these channels too."""
        async with _reachable():
            for at in range(0, len(channels), SUBSCRIBE_CHUNK):
                await self._pubsub.subscribe(*channels[at : at + SUBSCRIBE_CHUNK])

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        """Receive from these channels no more."""
        async with _reachable():
            for at in range(0, len(channels), SUBSCRIBE_CHUNK):
                await self._pubsub.unsubscribe(*channels[at : at + SUBSCRIBE_CHUNK])

    async def read(self) -> Message | None:
        """The next message or confirmed subscription, waiting for it; None for anything else."""
        try:
            raw = await self._receive()
        except _FAULTS as error:
            raise _away(error) from error
        _raise_swallowed_cancellation()
        if raw[0] == b"message":
            return Message(raw[1].decode(), raw[2])
        # The library keeps account of what is subscribed.
        told = await self._pubsub.handle_message(raw)  # type: ignore[no-untyped-call]
        return Message(raw[1].decode(), None) if told and raw[0] == b"subscribe" else None

    async def _receive(self) -> Any:
        # PubSub.get_message would wrap every message in retries and timings we do not use.
        connection: Any = self._pubsub.connection
        return await connection.read_response(timeout=math.inf, disconnect_on_error=False)
