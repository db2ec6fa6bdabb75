"""Presence: what outlives a connection, in MongoDB."""

from collections.abc import Collection as Sized
from collections.abc import Mapping

from bson.datetime_ms import DatetimeMS
from pymongo import UpdateOne

from domain.presence import Profile, Status
from storage.mongo import Collection, Document, Mongo, available
from storage.names import PRESENCE


class PresenceRepository:
    """Status, note and last seen, in MongoDB; every method raises AppError `unavailable`."""

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

        Going invisible is their last being seen.
        """
        update: Document = {"status": status.value}
        if note is not None:
            update["note"] = {"$literal": note}
        if status is Status.OFFLINE:
            update["lastSeen"] = _seen(now)
        with available(timeout):
            await self._presence.update_one({"_id": user}, [{"$set": update}], upsert=True)

    async def seen(self, users: Mapping[str, int], timeout: float) -> None:
        """Keep when each user was last seen (ms). The invisible were last seen before."""
        if not users:
            return
        operations = [
            UpdateOne({"_id": user}, [{"$set": {"lastSeen": _seen(at)}}], upsert=True)
            for user, at in users.items()
        ]
        with available(timeout):
            await self._presence.bulk_write(operations, ordered=False)


def _seen(at: int) -> Document:
    """`lastSeen` moved forward to `at`, unless the user is invisible: they went before."""
    hidden = {"$eq": ["$status", Status.OFFLINE.value]}
    return {"$cond": [hidden, "$lastSeen", {"$max": ["$lastSeen", DatetimeMS(at)]}]}


def _decode(doc: Document) -> Profile:
    return Profile(
        status=Status(doc.get("status", Status.ONLINE)),
        note=doc.get("note", ""),
        last_seen=int(doc.get("lastSeen", 0)),
    )
