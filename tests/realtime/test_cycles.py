"""Connections that end are freed at once: what waits for a full collection waits for long."""

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

import realtime.transport.session
import realtime.transport.wire
import storage.redis
import storage.roster_scripts
import storage.throttle
from storage.redis import Script
from tests.polling import poller
from tests.serving import Served, serving
from tests.traces import eventually, in_process
from tests.wires import Wire, wire

UPDATE = "user:clientUpdate"
LINGER = 0.05
UPGRADE = 0.5


@pytest.fixture
async def brisk(stores: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    """A server whose timers of ended connections run out soon, so that they hold nothing."""
    monkeypatch.setattr(realtime.transport.wire, "CLOSE_LINGER", LINGER)
    monkeypatch.setattr(realtime.transport.session, "UPGRADE_TIMEOUT", UPGRADE)
    await load_scripts(stores["redis_url"])
    async with serving(**stores) as served:
        yield served


async def load_scripts(redis_url: str) -> None:
    """Let Redis know all scripts: a timer's may run for the first time while garbage is counted."""
    modules = (storage.redis, storage.roster_scripts, storage.throttle)
    scripts = [one for module in modules for one in vars(module).values() if type(one) is Script]
    assert scripts
    async with Redis.from_url(redis_url) as redis:
        for script in scripts:
            await redis.script_load(script.source)


@contextmanager
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def only_collected() -> Counter[str]:
    """What nothing refers to but itself, by type."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        return Counter(f"{type(one).__module__}.{type(one).__name__}" for one in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


async def use(socket: Wire) -> None:
    """Join, watch, update and ask, as a client does."""
    await socket.join()
    assert (await socket.call(1, "presence:watch", {"userIds": ["bob"]}))["ok"]
    assert (await socket.call(2, UPDATE, {"xp": 1}))["ok"]
    assert (await socket.call(3, "presence:status", {"status": "away"}))["ok"]


async def disconnected(url: str) -> None:
    async with wire(url) as socket:
        await use(socket)
        await socket.send("41")
        await socket.send("1")
        await socket.ended()


async def killed(url: str) -> None:
    async with wire(url) as socket:
        await use(socket)


async def killed_while_busy(url: str) -> None:
    async with wire(url) as socket:
        await socket.join()
        await socket.event("presence:watch", {"userIds": ["bob"]}, 1)
        await socket.event("presence:status", {"status": "away"}, 2)
        await socket.event(UPDATE, {"xp": 1}, 3)


async def in_error(url: str) -> None:
    async with wire(url) as socket:
        await use(socket)
        await socket.send("7")
        await socket.ended()


async def refused(url: str) -> None:
    async with wire(url) as socket:
        await socket.send('40{"token":"x"}')
        await socket.receive()


async def asked(url: str, path: str, status: int, **headers: str) -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.get(url + path, headers={"Connection": "close", **headers}) as answer,
    ):
        assert answer.status == status


async def bad_handshake(url: str) -> None:
    await asked(url, "/socket.io/?EIO=4&transport=websocket", 400, Upgrade="websocket")


async def unknown_path(url: str) -> None:
    await asked(url, "/nowhere", 404)


async def wrong_method(url: str) -> None:
    await asked(url, "/api/users/data/patch", 405)


async def polled(url: str) -> None:
    async with poller(url) as socket:
        await socket.join()
        assert (await socket.call(1, UPDATE, {"xp": 1}))["ok"]
        await socket.post("1")


async def upgraded(url: str) -> None:
    async with poller(url) as socket:
        await socket.join()
        async with wire(url, f"EIO=4&transport=websocket&sid={socket.sid}") as after:
            await after.send("2probe")
            assert await after.receive() == "3probe"
            await after.send("5")
            assert (await after.call(1, UPDATE, {"xp": 1}))["ok"]


async def half_upgraded(url: str) -> None:
    async with poller(url) as socket:
        await socket.join()
        async with wire(url, f"EIO=4&transport=websocket&sid={socket.sid}") as after:
            await after.send("2probe")
            assert await after.receive() == "3probe"
            await socket.post("1")


async def garbage_of(
    served: Served, visit: Callable[[str], Awaitable[None]], times: int
) -> Counter[str]:
    """What `times` connections leave to the collector."""

    async def visits(count: int) -> None:
        for _ in range(count):
            await visit(served.url)
        await eventually(lambda: not in_process(served))
        over = asyncio.Event()
        served.live.gateway.io.wheel.after(
            UPGRADE if "upgraded" in visit.__name__ else LINGER, over.set
        )
        await over.wait()

    await visits(2)  # what is made once is made now
    with no_collector():
        await visits(times)
        return only_collected()


async def test_three_hundred_connections_leave_nothing_to_the_garbage_collector(
    brisk: Served,
) -> None:
    left = await garbage_of(brisk, killed, 300)
    assert left.total() < 100, left


@pytest.mark.parametrize(
    "visit",
    [
        disconnected,
        killed_while_busy,
        in_error,
        refused,
        bad_handshake,
        polled,
        upgraded,
        half_upgraded,
    ],
)
async def test_however_a_connection_ends_it_leaves_nothing_to_the_garbage_collector(
    brisk: Served, visit: Callable[[str], Awaitable[None]]
) -> None:
    left = await garbage_of(brisk, visit, 20)
    ours = {name for name in left if name.startswith(("realtime.", "uvloop.", "aiohttp."))}
    assert ours == set(), left
    assert left.total() < 100, left


@pytest.mark.parametrize("visit", [unknown_path, wrong_method])
async def test_a_request_for_what_is_not_there_leaves_little_to_the_garbage_collector(
    brisk: Served, visit: Callable[[str], Awaitable[None]]
) -> None:
    """aiohttp's route for it and its exception know each other; the request is not of them."""
    left = await garbage_of(brisk, visit, 20)
    assert left["aiohttp.web_protocol.RequestHandler"] == left["aiohttp.web_request.Request"] == 0
    assert left.total() <= 20 * 10, left
