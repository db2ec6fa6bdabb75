"""A unit of work on one user's data: a transaction that the user's head is part of.

Two units of one user cannot overlap: the later one is repeated from its start. An erased
user's head is a tombstone, at which every unit ends.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from pymongo.asynchronous.client_session import AsyncClientSession

from domain.errors import erased
from storage.locks import UserLocks
from storage.mongo import Collection, Document, Mongo, available
from storage.names import QUEUE_HEADS

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Unit:
    """What is done in one step: all of it, or nothing."""

    user_id: str
    number: int
    """Grows with every unit of the user."""
    session: AsyncClientSession


class Units:
    """Carries out units; a Holding, because it keeps heads and tombstones."""

    name = "units"

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._heads: Collection = mongo.collection(QUEUE_HEADS)
        self._locks = UserLocks()

    async def run(
        self,
        user_id: str,
        work: Callable[[Unit], Awaitable[T]],
        timeout: float,
        *,
        rests: bool = False,
    ) -> T:
        """Carry out `work`, perhaps several times but once in effect.

        It `rests` if it may wait for anything but MongoDB. What it raises undoes it.
        Raises AppError `erased` and `unavailable`.
        """

        async def step(session: AsyncClientSession) -> tuple[T] | None:
            head: Document | None = await self._heads.find_one_and_update(
                {"_id": user_id}, {"$inc": {"number": 1}}, return_document=True, session=session
            )
            if head is None:
                return None
            if head.get("erased"):
                raise erased()
            return (await work(Unit(user_id, head["number"], session)),)

        async with self._locks.held(user_id, timeout):
            with available(timeout):
                while (result := await self._mongo.transaction(step, rests=rests)) is None:
                    # Outside of a transaction, which a concurrent first one would end.
                    begin = {"$setOnInsert": {"number": 0}}
                    await self._heads.update_one({"_id": user_id}, begin, upsert=True)
        return result[0]

    async def holds(self, user_id: str, timeout: float) -> bool:
        """Whether there was ever a unit, or a tombstone stands."""
        with available(timeout):
            return await self._heads.find_one({"_id": user_id}) is not None

    async def export(self, user_id: str, timeout: float) -> AsyncIterator[dict[str, Any]]:
        """Nothing: a head only counts."""
        return
        yield

    async def erase(self, user_id: str, timeout: float) -> None:
        """Leave a tombstone: no unit of the user is carried out from now on."""
        tombstone = {"$replaceWith": {"_id": "$_id", "erased": True}}
        with available(timeout):
            await self._heads.update_one({"_id": user_id}, [tombstone], upsert=True)
