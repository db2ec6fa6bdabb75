"""Sessions in MongoDB. One that has ended stays for a day, so that every instance learns of it."""

from collections.abc import AsyncIterator, Iterable
from collections.abc import Collection as Sized
from dataclasses import dataclass
from typing import Any

from bson.datetime_ms import DatetimeMS

from domain.sessions import Session
from domain.times import iso
from storage.indexes import Indexes
from storage.mongo import Collection, Document, Mongo, available
from storage.names import SESSIONS

ENDED_KEPT = 86_400_000  # ms
OVERLAP = 30_000  # ms in which an end may become visible after a later one

_LIVE: Document = {"endedAt": {"$exists": False}}


@dataclass(frozen=True, slots=True)
class Ended:
    """Sessions that have ended, and users of whom everything has."""

    sessions: frozenset[str]
    users: frozenset[str]

    def __bool__(self) -> bool:
        return bool(self.sessions or self.users)


class SessionRepository:
    """Sessions; every method raises AppError `unavailable`."""

    name = "sessions"

    def __init__(self, mongo: Mongo, indexes: Indexes) -> None:
        self._sessions: Collection = mongo.collection(SESSIONS)
        self._indexes = indexes

    async def insert(self, session: Session, timeout: float) -> None:
        """Begin a session."""
        await self._indexes.made(SESSIONS, timeout=timeout)
        with available(timeout):
            await self._sessions.insert_one({"_id": session.id, **_encode(session)})

    async def read(self, session_id: str, timeout: float) -> Session | None:
        """A session that has not ended."""
        with available(timeout):
            doc = await self._sessions.find_one({"_id": session_id, **_LIVE})
        return None if doc is None else _decode(doc)

    async def owners(self, session_ids: Sized[str], timeout: float) -> dict[str, str | None]:
        """Whose the sessions are; None for those that have ended or never were."""
        with available(timeout):
            found = await self._sessions.find(
                {"_id": {"$in": list(session_ids)}, **_LIVE}, projection={"userId": 1}
            ).to_list()
        owners = {doc["_id"]: doc["userId"] for doc in found}
        return {session_id: owners.get(session_id) for session_id in session_ids}

    async def replace(self, old: Session, new: Session, timeout: float) -> bool:
        """Put `new` in `old`'s place; False when somebody was first or it has ended."""
        with available(timeout):
            done = await self._sessions.update_one(
                {"_id": old.id, "current": old.current, **_LIVE}, {"$set": _encode(new)}
            )
        return done.matched_count == 1

    async def newest(self, user_id: str, most: int, timeout: float) -> tuple[set[str], set[str]]:
        """A user's sessions: the `most` that were used last, and the others."""
        with available(timeout):
            found = await (
                self._sessions.find({"userId": user_id, **_LIVE}, projection={"_id": 1})
                .sort([("refreshedAt", -1), ("_id", 1)])
                .to_list()
            )
        ids = [doc["_id"] for doc in found]
        return set(ids[:most]), set(ids[most:])

    # --- ending ---------------------------------------------------------------------------

    async def end(self, session_ids: Iterable[str], timeout: float) -> int:
        """End these sessions; answers how many had not ended."""
        return await self._end({"_id": {"$in": list(session_ids)}}, timeout)

    async def end_all(self, user_id: str, timeout: float, but: str | None = None) -> int:
        """End a user's sessions, one aside if `but` names it; answers how many."""
        where: Document = {"userId": user_id}
        if but is not None:
            where["_id"] = {"$ne": but}
        return await self._end(where, timeout)

    async def _end(self, where: Document, timeout: float) -> int:
        over = {"$replaceWith": {"_id": "$_id", "userId": "$userId", **_ENDING}}
        with available(timeout):
            done = await self._sessions.update_many({**where, **_LIVE}, [over])
        return done.modified_count

    async def ended_since(self, moment: int, timeout: float) -> tuple[int, Ended]:
        """What has ended after `moment` (ms, the database's clock) or shortly before it.

        Answers also the moment to ask with the next time.
        """
        since = DatetimeMS(max(0, moment - OVERLAP))
        with available(timeout):
            found = await self._sessions.find({"endedAt": {"$gt": since}}).to_list()
        newest = max((int(doc["endedAt"]) for doc in found), default=moment)
        users = frozenset(doc["userId"] for doc in found if doc.get("everything"))
        sessions = frozenset(doc["_id"] for doc in found if not doc.get("everything"))
        return max(moment, newest), Ended(sessions, users)

    async def newest_end(self, timeout: float) -> int:
        """When the last session has ended (ms, the database's clock); 0 when none has."""
        with available(timeout):
            found = await (
                self._sessions.find({"endedAt": {"$exists": True}})
                .sort("endedAt", -1)
                .limit(1)
                .to_list()
            )
        return int(found[0]["endedAt"]) if found else 0

    # --- a person's, see storage/holdings.py ----------------------------------------------

    async def holds(self, user_id: str, timeout: float) -> bool:
        """Whether the user has a session, or had one lately."""
        with available(timeout):
            return await self._sessions.find_one({"userId": user_id}) is not None

    async def export(self, user_id: str, timeout: float) -> AsyncIterator[dict[str, Any]]:
        """When the user has logged in."""
        with available(timeout):
            found = await self._sessions.find({"userId": user_id, **_LIVE}).to_list()
        for session in map(_decode, found):
            yield {
                "createdAt": iso(session.created_at),
                "refreshedAt": iso(session.refreshed_at),
                "expiresAt": iso(session.expires_at),
            }

    async def erase(self, user_id: str, timeout: float) -> None:
        """End all, and tokens and connections made without a session as well."""
        await self.end_all(user_id, timeout)
        mark = {"$set": {"userId": user_id, "everything": True, **_ENDING}}
        with available(timeout):
            await self._sessions.update_one({"_id": f"user:{user_id}"}, [mark], upsert=True)


_ENDING: Document = {
    "endedAt": "$$NOW",
    "expiresAt": {"$add": ["$$NOW", ENDED_KEPT]},
}


def _encode(session: Session) -> Document:
    return {
        "userId": session.user_id,
        "createdAt": DatetimeMS(session.created_at),
        "refreshedAt": DatetimeMS(session.refreshed_at),
        "expiresAt": DatetimeMS(session.expires_at),
        "current": session.current,
        "previous": session.previous,
        "nonce": session.nonce,
    }


def _decode(doc: Document) -> Session:
    return Session(
        id=doc["_id"],
        user_id=doc["userId"],
        created_at=int(doc["createdAt"]),
        refreshed_at=int(doc["refreshedAt"]),
        expires_at=int(doc["expiresAt"]),
        current=bytes(doc["current"]),
        previous=bytes(doc["previous"]),
        nonce=bytes(doc["nonce"]),
    )
