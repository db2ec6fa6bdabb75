"""Presence: what outlives a connection, in MongoDB.

One document per user. That of an erased one is a tombstone, `{_id, erased: true}`; documents
are replaced and never removed, so that whatever comes late finds it.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from collections.abc import Collection as Sized
from typing import Any

from bson.datetime_ms import DatetimeMS
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError

from domain.errors import erased
from domain.presence import Profile, Status
from domain.times import iso
from storage.mongo import Collection, Document, Mongo, available
from storage.names import PRESENCE

DUPLICATE_KEY = 11000  # MongoDB's error code


class PresenceRepository:
    """Status, note and last seen, in MongoDB; every method raises AppError `unavailable`.

    A Holding (storage/holdings.py): what is written of an erased user is refused.
    """

    name = "presence"

    def __init__(self, mongo: Mongo) -> None:
        self._presence: Collection = mongo.collection(PRESENCE)

    async def read(self, user_ids: Sized[str], timeout: float) -> dict[str, Profile]:
        """What is kept of each user, defaults for the unknown."""
        with available(timeout):
            found = await self._presence.find({"_id": {"$in": list(user_ids)}}).to_list()
        stored = {doc["_id"]: _decode(doc) for doc in found}
        return {user: stored.get(user, Profile()) for user in user_ids}

    async def set_status(
        self, user: str, status: Status, note: str | None, now: int, timeout: float
    ) -> None:
        """Keep what a user says of themselves; None leaves the note as it is.

        Going invisible is their last being seen. Raises AppError `erased`.
        """
        update: Document = {"status": status.value}
        if note is not None:
            update["note"] = {"$literal": note}
        if status is Status.OFFLINE:
            update["lastSeen"] = _seen(now)
        with available(timeout):
            refused = await self._write([_unless_erased(user, update)])
        if refused:
            raise erased()

    async def seen(self, users: Mapping[str, int], timeout: float) -> None:
        """Keep when each user was last seen (ms). The invisible were last seen before.

        Of the erased nothing is kept.
        """
        if not users:
            return
        operations = [_unless_erased(user, {"lastSeen": _seen(at)}) for user, at in users.items()]
        with available(timeout):
            await self._write(operations)

    async def holds(self, user_id: str, timeout: float) -> bool:
        """Whether there is a document of this user, or a tombstone."""
        with available(timeout):
            return await self._presence.find_one({"_id": user_id}, {"_id": 1}) is not None

    async def export(self, user_id: str, timeout: float) -> AsyncIterator[dict[str, Any]]:
        """Status, note and last seen (ISO 8601, None when never), if anything is kept."""
        with available(timeout):
            found = await self._presence.find_one({"_id": user_id, **_NOT_ERASED})
        if found is None:
            return
        profile = _decode(found)
        yield {
            "status": profile.status.value,
            "note": profile.note,
            "lastSeen": iso(profile.last_seen) if profile.last_seen else None,
        }

    async def erase(self, user_id: str, timeout: float) -> None:
        """Put the tombstone in place of whatever is kept."""
        with available(timeout):  # an upsert by `_id` alone is retried by MongoDB itself
            await self._presence.replace_one({"_id": user_id}, {"erased": True}, upsert=True)

    async def _write(self, operations: Sequence[UpdateOne]) -> Sequence[UpdateOne]:
        """Write all; answers what tombstones have refused.

        An upsert that is refused for its `_id` met a tombstone, or another upsert that came
        first. Documents are never removed: a second time it can only be a tombstone.
        """
        refused = await self._try(operations)
        return await self._try(refused) if refused else []

    async def _try(self, operations: Sequence[UpdateOne]) -> Sequence[UpdateOne]:
        try:
            await self._presence.bulk_write(operations, ordered=False)
        except BulkWriteError as error:
            faults = error.details["writeErrors"]
            others = [fault for fault in faults if fault["code"] != DUPLICATE_KEY]
            if others or error.details["writeConcernErrors"]:
                raise
            return [operations[fault["index"]] for fault in faults]
        return []


_NOT_ERASED: Document = {"erased": {"$ne": True}}


def _unless_erased(user: str, fields: Document) -> UpdateOne:
    """Sets the fields, also as a user's first; a duplicate `_id` where the tombstone stands."""
    return UpdateOne({"_id": user, **_NOT_ERASED}, [{"$set": fields}], upsert=True)


def _seen(at: int) -> Document:
    """`lastSeen` moved forward to `at`, unless the user is invisible: they went before."""
    hidden = {"$eq": ["$status", Status.OFFLINE.value]}
    return {"$cond": [hidden, "$lastSeen", {"$max": ["$lastSeen", DatetimeMS(at)]}]}


def _decode(doc: Document) -> Profile:
    return Profile(
        status=Status(doc.get("status", Status.ONLINE)),
        note=doc.get("note", ""),
        last_seen=int(doc.get("lastSeen", 0)),
        erased=doc.get("erased", False),
    )
