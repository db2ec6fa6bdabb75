"""One at a time per user in this process: MongoDB would repeat what overlaps, at a price."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from domain.errors import AppError, Code


class UserLocks:
    """A lock for each user who has one in use."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def held(self, user_id: str, timeout: float) -> AsyncIterator[None]:
        """Hold the user's lock; raises AppError `overloaded` after `timeout` seconds without it."""
        lock = self._locks.get(user_id)
        if lock is None:
            lock = self._locks[user_id] = asyncio.Lock()
        try:
            await asyncio.wait_for(lock.acquire(), timeout)
        except TimeoutError:
            raise AppError(
                Code.OVERLOADED, "Too much at once for this user: try again", retry_after=1.0
            ) from None
        try:
            yield
        finally:
            lock.release()
