"""Many reads in one: what is asked for while reads are under way becomes the next read."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Generic, TypeVar

from domain.errors import AppError, Code
from realtime.tasks import Tasks

log = logging.getLogger(__name__)

READS_AT_ONCE = 2
MAX_READ = 500  # users in one read
SHORTEST_TRY = 0.5  # seconds; who has less left to wait is answered `unavailable`

T = TypeVar("T")
Fetch = Callable[[Collection[str], float], Awaitable[dict[str, T]]]
"""Takes users and seconds; answers something for each of them, or raises AppError."""


@dataclass(slots=True)
class _Wish(Generic[T]):
    """What somebody waits for, asked for at `since` (loop time)."""

    answer: asyncio.Future[T | AppError]
    since: float


class GroupRead(Generic[T]):
    """Reads users one by one for its callers and many at a time from the store.

    A read begins after the request for it, so that it sees all that was acknowledged before.
    """

    def __init__(self, fetch: Fetch[T], timeout: float, most: int) -> None:
        self._fetch = fetch
        self._timeout = timeout
        self._most = most
        self._wishes: dict[str, _Wish[T]] = {}
        self._under_way = 0
        self._trips = Tasks()

    async def read(self, user: str) -> T:
        """What the store has for `user`; raises AppError `unavailable` or `overloaded`."""
        loop = asyncio.get_running_loop()
        wish = self._wishes.get(user)
        if wish is None:
            if len(self._wishes) >= self._most:
                raise AppError(Code.OVERLOADED, "Too many reads wait; try again", retry_after=1.0)
            wish = self._wishes[user] = _Wish(loop.create_future(), loop.time())
            self._go()
        found = await asyncio.shield(wish.answer)
        if isinstance(found, AppError):
            raise found
        return found

    def waiting(self) -> int:
        """How many users wait for the next read."""
        return len(self._wishes)

    async def close(self) -> None:
        """End what is under way; whoever waits is answered `unavailable`."""
        await self._trips.close()
        while self._wishes:
            self._tell(self._take(), {}, _unavailable())

    def _go(self) -> None:
        if self._under_way < READS_AT_ONCE:
            self._under_way += 1
            self._trips.spawn(self._trip(), "group read")  # what this turn still brings joins it

    async def _trip(self) -> None:
        try:
            while self._wishes:
                await self._answer(self._take())
        finally:
            self._under_way -= 1

    def _take(self) -> dict[str, _Wish[T]]:
        users = list(self._wishes)[:MAX_READ]
        return {user: self._wishes.pop(user) for user in users}

    async def _answer(self, wishes: dict[str, _Wish[T]]) -> None:
        found: dict[str, T] = {}
        missing = _unavailable()
        oldest = min(wish.since for wish in wishes.values())
        left = oldest + self._timeout - asyncio.get_running_loop().time()
        try:
            if left > SHORTEST_TRY:
                found = await self._fetch(wishes, left)
        except AppError as error:
            missing = error
        except Exception:  # whatever it is, others wait for the next read
            log.exception("a group read failed")
        finally:
            self._tell(wishes, found, missing)

    def _tell(self, wishes: dict[str, _Wish[T]], found: dict[str, T], missing: AppError) -> None:
        for user, wish in wishes.items():
            wish.answer.set_result(found.get(user, missing))


def _unavailable() -> AppError:
    return AppError(Code.UNAVAILABLE, "The database does not answer", retry_after=1.0)
