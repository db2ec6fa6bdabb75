"""The indexes that the collections need, and when they are known to be there."""

import asyncio

from pymongo import IndexModel

from storage.mongo import Mongo, available
from storage.names import QUEUE, RESOURCES, SESSIONS, SYNC_ENTITIES, SYNC_LOG, USERS

_PRESENT = {"$exists": True}
_TEXT = {"$gt": ""}  # unlike $type, MongoDB sees that an equality is part of it


def _unique(name: str) -> IndexModel:
    return IndexModel([(name, 1)], unique=True, partialFilterExpression={name: _PRESENT})


INDEXES: dict[str, list[IndexModel]] = {
    USERS: [
        _unique("usernameLooks"),
        IndexModel([("usernameKey", 1)]),
        _unique("emailKey"),
        _unique("deviceKey"),
        IndexModel([("searchKeys", 1)]),
        IndexModel([("createdAt", 1), ("_id", 1)]),
        IndexModel([("erasing", 1)], partialFilterExpression={"erasing": _PRESENT}),
    ],
    SESSIONS: [
        IndexModel([("userId", 1)]),
        IndexModel([("expiresAt", 1)], expireAfterSeconds=0),
        IndexModel([("endedAt", 1)], partialFilterExpression={"endedAt": _PRESENT}),
    ],
    SYNC_ENTITIES: [
        IndexModel([("user", 1), ("stamp", 1), ("_id", 1)]),
        IndexModel([("stamp", 1)], partialFilterExpression={"deletedAt": {"$type": "date"}}),
    ],
    SYNC_LOG: [
        IndexModel([("user", 1), ("stamp", -1), ("_id", 1)]),
        IndexModel([("goesAt", 1)], expireAfterSeconds=0),
    ],
    RESOURCES: [IndexModel([("user", 1), ("kind", 1), ("id", 1)])],
    QUEUE: [
        IndexModel([("user", 1), ("status", 1), ("after", 1), ("priority", -1), ("number", 1)]),
        IndexModel([("user", 1), ("status", 1), ("number", 1)]),
        IndexModel([("status", 1), ("after", 1), ("user", 1), ("workerAt", 1)]),
        IndexModel([("status", 1), ("createdAt", 1)]),
        IndexModel([("user", 1), ("after", 1)], partialFilterExpression={"after": _TEXT}),
        IndexModel(
            [("user", 1), ("chain", 1), ("number", -1)], partialFilterExpression={"open": True}
        ),
        IndexModel(
            [("user", 1), ("operation", 1)],
            unique=True,
            partialFilterExpression={"operation": _TEXT},
        ),
        IndexModel([("goesAt", 1)], expireAfterSeconds=0),
        IndexModel([("discardAt", 1)], partialFilterExpression={"discardAt": _PRESENT}),
    ],
}


class Indexes:
    """Makes a collection's indexes before it is first used; what depends on them calls `made`."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._made: set[str] = set()
        self._lock = asyncio.Lock()

    async def made(self, *collections: str, timeout: float) -> None:
        """Return when the indexes of these collections stand; raises AppError `unavailable`."""
        if self._made.issuperset(collections):
            return
        with available(timeout):
            async with self._lock:
                for name in collections:
                    if name not in self._made:
                        await self._mongo.collection(name).create_indexes(INDEXES[name])
                        self._made.add(name)
