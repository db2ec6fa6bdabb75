"""Stats in MongoDB: one document a user, replaced under a guard, many in one round trip."""

import secrets
from collections.abc import AsyncIterator, Iterable, Sequence
from collections.abc import Collection as Sized
from dataclasses import replace
from typing import Any, NamedTuple

from bson.datetime_ms import DatetimeMS
from pymongo.errors import (
    ConnectionFailure,
    DuplicateKeyError,
    OperationFailure,
    WriteConcernError,
)

from domain.oplog import OpWindow
from domain.stats import Stats, StatsSchema
from domain.times import iso
from storage.mongo import Collection, Document, Mongo, available
from storage.names import STATS

DUPLICATE_KEY = 11_000
WRITES_PER_COMMAND = 200  # a command is a document of 16 MB at most, a write of 40 KB
MAX_REMEMBERED = 2_000  # documents; 2 to 30 KB each
MARK = 4  # bytes that tell one bulk write from the others of the moment
MARKS = 16

Write = tuple[Stats, Stats]
"""What was read, and what shall stand in its place."""


class Missed(NamedTuple):
    """Users whose write did not count: somebody was first. Of the `unknown` nothing is known,
    because more than 16 writes came after."""

    overtaken: set[str]
    unknown: set[str]


NOBODY = Missed(set(), set())


class StatsRepository:
    """Reads and guarded writes of stats; what talks to MongoDB raises AppError `unavailable`.

    `_v` counts the writes of a document, `_devices` has the op windows, and `_by` the marks of
    the 16 latest bulk writes: by them a writer finds its own write even under later ones. `_v`
    and `_by` guard the next write. Of an erased person `{erased, rev, updatedAt, _v, _by}` stays.
    """

    name = "stats"

    def __init__(self, mongo: Mongo, schema: StatsSchema) -> None:
        self._stats: Collection = mongo.collection(STATS)
        self._schema = schema
        self._latest: dict[str, Stats] = {}

    async def read(self, user_ids: Sized[str], timeout: float) -> dict[str, Stats]:
        """The stats of each user, defaults for those never written and, marked, those erased."""
        with available(timeout):
            found = await self._stats.find({"_id": {"$in": list(user_ids)}}).to_list()
        stored = {doc["_id"]: self._decode(doc) for doc in found}
        return {user: stored.get(user) or self._schema.fresh(user) for user in user_ids}

    async def revs(self, user_ids: Sized[str], timeout: float) -> dict[str, int]:
        """The stored `rev` of each user that has been written."""
        with available(timeout):
            found = await self._stats.find(
                {"_id": {"$in": list(user_ids)}}, projection={"rev": 1}
            ).to_list()
        return {doc["_id"]: doc["rev"] for doc in found}

    async def count(self, timeout: float) -> int:
        """About how many users have stats."""
        with available(timeout):
            return await self._stats.estimated_document_count()

    async def raise_revs(self, step: int, timeout: float) -> int:
        """Add `step` to every stored `rev`; answers of how many users."""
        with available(timeout):
            done = await self._stats.update_many({}, {"$inc": {"rev": step, "_v": 1}})
        return done.modified_count

    def recall(self, user_ids: Iterable[str]) -> dict[str, Stats]:
        """Those users' stats as last written or met with by `write`; each is told once.

        Somebody else may have written since: only a write in their place proves them new.
        """
        return {user: self._latest.pop(user) for user in user_ids if user in self._latest}

    def forget(self, user_id: str, rev: int) -> None:
        """Somebody else has brought this user's stats to `rev`: do not recall older ones."""
        known = self._latest.get(user_id)
        if known is not None and known.rev < rev:
            del self._latest[user_id]

    async def write(self, writes: Sequence[Write], timeout: float) -> Missed:
        """Replace each `old` by its `new`, durably; answers the users for whom it failed.

        With a lost answer the outcome is unknown and AppError `unavailable` is raised.
        """
        mark = secrets.token_bytes(MARK)
        stored = [_stored(old, new, mark) for old, new in writes]
        with available(timeout):
            written = 0
            for at in range(0, len(writes), WRITES_PER_COMMAND):
                chunk = range(at, min(at + WRITES_PER_COMMAND, len(writes)))
                operations = [_operation(writes[number][0], stored[number]) for number in chunk]
                try:
                    written += await self._update(operations)
                except ConnectionFailure:
                    # The primary has changed, say, and whether this was done, or will be, nobody
                    # knows. Of two equal commands one counts, and whichever it is has our mark.
                    written += await self._update(operations)
            missed = NOBODY if written == len(writes) else await self._missed(mark, writes)
        for stats in stored:
            if missed is NOBODY or stats.user_id not in missed.overtaken | missed.unknown:
                self._remember(stats)
        return missed

    async def _update(self, operations: Sequence[Document]) -> int:
        """How many of these were carried out.

        A bare command, because a bulk_write is retryable: MongoDB keeps account of every single
        operation for that, which costs 12 to 22 % of the throughput, and we repeat it by ourselves.
        """
        answer = await self._stats.database.command(
            {
                "update": STATS,
                "updates": operations,
                "ordered": False,
                "writeConcern": {"w": "majority"},
            }
        )
        if "writeConcernError" in answer:
            raise WriteConcernError("the majority did not confirm", None, answer)
        for error in answer.get("writeErrors", ()):
            if error["code"] != DUPLICATE_KEY:
                raise OperationFailure(error["errmsg"], error["code"])
        return int(answer["n"])

    def _remember(self, stats: Stats) -> None:
        if len(self._latest) >= MAX_REMEMBERED:
            del self._latest[next(iter(self._latest))]
        self._latest[stats.user_id] = stats

    async def _missed(self, mark: bytes, writes: Sequence[Write]) -> Missed:
        # The result of a bulk write has totals only, and E11000 alone proves nothing.
        wanted = {old.user_id: old.version + 1 for old, _ in writes}
        found = await self._stats.find({"_id": {"$in": list(wanted)}}).to_list()
        overtaken, unknown = set(wanted), set()
        for doc in found:
            if _is_tombstone(doc):
                continue  # done before or not, nothing of it stands: to be read, and refused
            user, later = doc["_id"], doc["_v"] - wanted[doc["_id"]]
            if later >= MARKS:
                unknown.add(user)
            if later >= MARKS or _mark(doc["_by"], later) == mark:
                overtaken.discard(user)
            else:
                self._remember(self._decode(doc))  # what the next attempt builds on
        return Missed(overtaken, unknown)

    def _decode(self, doc: Document) -> Stats:
        erased = _is_tombstone(doc)
        return Stats(
            user_id=doc["_id"],
            values=self._schema.fill({} if erased else doc),
            rev=doc["rev"],
            updated_at=int(doc["updatedAt"]),
            version=doc["_v"],
            devices=_windows(doc.get("_devices", {})),
            writers=bytes(doc["_by"]),
            erased=erased,
        )

    # --- what is held about a person ------------------------------------------------------

    async def holds(self, user_id: str, timeout: float) -> bool:
        """Whether there is a document, or the tombstone of one."""
        with available(timeout):
            found = await self._stats.find_one({"_id": user_id}, projection={"_id": 1})
        return found is not None

    async def export(self, user_id: str, timeout: float) -> AsyncIterator[dict[str, Any]]:
        """The stats document, and when each device was last heard of, by the hash of its id."""
        stats = (await self.read([user_id], timeout))[user_id]
        if stats.version and not stats.erased:
            seen = {key: iso(window.seen) for key, window in stats.devices.items()}
            yield {"devices": seen, **self._schema.document(stats)}  # own fields win

    async def erase(self, user_id: str, timeout: float) -> None:
        """Leave a tombstone in place of the document, also of one that was never written.

        Every write under way is guarded by a `_v` that is over, or, as a first write, finds the
        tombstone in its way: it is told `overtaken`, reads and is refused.
        """
        erase = [{"$replaceWith": {"$cond": [_IS_ERASED, "$$ROOT", _tombstone()]}}]
        with available(timeout):
            try:
                await self._stats.update_one({"_id": user_id}, erase, upsert=True)
            except DuplicateKeyError:  # a first write was faster: now there is what to replace
                await self._stats.update_one({"_id": user_id}, erase, upsert=True)
        self._latest.pop(user_id, None)


def _is_tombstone(doc: Document) -> bool:
    return doc.get("erased") is True  # an app's own field of that name is a number


_IS_ERASED: Document = {"$eq": ["$erased", True]}


def _tombstone() -> Document:
    """What replaces a document in a pipeline: nothing but what guards, and what never goes back."""
    return {
        "_id": "$_id",
        "erased": True,
        "rev": {"$add": [{"$ifNull": ["$rev", 0]}, 1]},
        "updatedAt": {"$max": ["$updatedAt", "$$NOW"]},
        "_v": {"$add": [{"$ifNull": ["$_v", 0]}, 1]},
        "_by": secrets.token_bytes(MARK),
    }


def _mark(writers: bytes, later: int) -> bytes:
    """The mark of the write after which `later` others came; none for a write to come."""
    end = len(writers) - later * MARK
    return bytes(writers[end - MARK : end]) if later >= 0 else b""


def _windows(devices: dict[str, Any]) -> dict[str, OpWindow]:
    return {
        key: OpWindow(bytes(device["ops"]), int(device["seen"])) for key, device in devices.items()
    }


def _stored(old: Stats, new: Stats, mark: bytes) -> Stats:
    """`new` as it stands in the store in `old`'s place."""
    writers = (old.writers + mark)[-MARKS * MARK :]
    return replace(new, version=old.version + 1, writers=writers)


def _operation(old: Stats, new: Stats) -> Document:
    """The statement of an update command that puts `new` in `old`'s place."""
    changed: Document = {
        name: value
        for name, value in new.values.items()
        if old.version == 0 or value is not old.values[name]
    }
    changed["rev"] = new.rev
    changed["updatedAt"] = DatetimeMS(new.updated_at)
    changed["_v"] = new.version
    changed["_by"] = new.writers
    for key, window in new.devices.items():
        if old.devices.get(key) is not window:
            changed[f"_devices.{key}"] = {"ops": window.entries, "seen": DatetimeMS(window.seen)}
    update: Document = {"$set": changed}
    if forgotten := old.devices.keys() - new.devices.keys():
        update["$unset"] = {f"_devices.{key}": "" for key in forgotten}
    guard: Document = {"_id": old.user_id, "_v": old.version}
    if old.version:
        guard["_by"] = old.writers  # a restored backup may come to the same `_v` another way
    return {"q": guard, "u": update, "upsert": old.version == 0}
