"""Waiting for what no event announces: a check repeated until it holds, with a deadline."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

EVERY = 0.05  # seconds


async def soon(check: Callable[[], Awaitable[T]], within: float = 10.0) -> T:
    """What `check` answers once it raises no AssertionError; its last one after `within` s."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while True:
        try:
            return await check()
        except AssertionError:
            if loop.time() > deadline:
                raise
        await asyncio.sleep(EVERY)
