"""Users with devices: tokens, and opening many connections a few at a time."""

import asyncio
import os
import secrets
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import jwt

from benchmarks.load.websocket import Client

OPENING = 50  # connections under way at once
C = TypeVar("C", bound=Client)


def token(user: str) -> str:
    """A token for `user`, good for an hour, signed with JWT_SECRET."""
    claims = {"sub": user, "exp": int(time.time()) + 3600}
    return jwt.encode(claims, os.environ["JWT_SECRET"], algorithm="HS256")


def crowd(count: int) -> list[str]:
    """`count` users whom no database knows yet."""
    prefix = secrets.token_hex(4)
    return [f"{prefix}-{number}" for number in range(count)]


async def open_all(
    make: Sequence[Callable[[], C]], urls: Sequence[str], deflate: bool = False
) -> list[C]:
    """The clients that `make` makes, opened, the nth at the nth URL (round and round)."""
    gate = asyncio.Semaphore(OPENING)
    clients = [one() for one in make]

    async def open_one(number: int, client: C) -> None:
        async with gate:
            await client.open(urls[number % len(urls)], deflate)

    await asyncio.gather(*(open_one(*pair) for pair in enumerate(clients)))
    return clients
