"""What clients leave behind: in the process, in Redis, in the log."""

import asyncio
import gc
import logging
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from server.keys import SETTINGS
from tests.clients_py import PATIENCE
from tests.serving import Served


async def eventually(holds: Callable[[], Any], timeout: float = PATIENCE) -> None:
    """Wait for a state that no event tells of; fails with what `holds` said last."""
    deadline = asyncio.get_running_loop().time() + timeout
    while not (said := holds()):
        assert asyncio.get_running_loop().time() < deadline, said
        await asyncio.sleep(0.01)


def in_process(served: Served) -> dict[str, Any]:
    """Everything that the process keeps for connections; empty when none is there."""
    live = served.live
    io = live.gateway.io
    kept = {
        "connections": set(live.gateway.connections),
        "engine sockets": set(io.eio.sockets),
        "environ": set(io.environ),
        "rooms of socketio": {
            room
            for rooms in io.manager.rooms.values()
            for room, members in rooms.items()
            if members
        },
        "pending": {**io.manager.pending_connect, **io.manager.pending_disconnect},
        "entered": set(io.manager._entered),
        "joined": live.rooms.joined(),
        "watched": live.rooms.watched(),
        "said": set(live.presence._said),
        "tasks": len(io.tasks),
    }
    return {name: what for name, what in kept.items() if what}


async def in_redis(served: Served) -> dict[str, Any]:
    """The cluster's roster: `instance|sid` by user, who is online, who is in the grace."""
    settings = served.app[SETTINGS]
    prefix = settings.redis_prefix
    async with Redis.from_url(settings.redis_url, decode_responses=True) as redis:
        rosters = [key async for key in redis.scan_iter(match=f"{prefix}:roster:*")]
        held = [key async for key in redis.scan_iter(match=f"{prefix}:held:*")]
        kept = {
            "roster": {key.split(":roster:")[1]: await redis.hkeys(key) for key in rosters},
            "online": await redis.smembers(f"{prefix}:online"),
            "held": {key: await redis.smembers(key) for key in held},
        }
    return {name: what for name, what in kept.items() if what}


async def nothing_stays(served: Served, timeout: float = PATIENCE) -> None:
    """Wait until nothing of any connection is left anywhere."""
    deadline = asyncio.get_running_loop().time() + timeout
    while (left := {**in_process(served), **await in_redis(served)}) != {}:
        assert asyncio.get_running_loop().time() < deadline, left
        await asyncio.sleep(0.02)


def outcry(log: pytest.LogCaptureFixture, *, collect: bool = True) -> list[str]:
    """What was logged as an error, and every traceback."""
    if collect:
        gc.collect()  # a task that nobody awaited complains when it is collected
    return [
        log.handler.format(record)
        for record in log.get_records("call")
        if record.levelno >= logging.ERROR or record.exc_info
    ]


def alive(kind: type) -> list[Any]:
    """All objects of that class that something still refers to."""
    gc.collect()
    return [found for found in gc.get_objects() if type(found) is kind]
