"""Entities and their log in MongoDB: each push is one transaction, each pull one snapshot.

A push begins with moving its user's head forward. Two pushes of a user therefore cannot be under
way at once: the second one waits or is repeated, so that stamps are in the order of the commits.
"""

import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from bson.datetime_ms import DatetimeMS
from pymongo import InsertOne, ReplaceOne
from pymongo.asynchronous.client_session import AsyncClientSession

from domain.errors import erased
from domain.sync.changes import Change, OpKey
from domain.sync.entities import Key, Row
from domain.sync.fold import Logged
from domain.times import iso
from storage.indexes import Indexes
from storage.locks import UserLocks
from storage.mongo import Collection, Document, Mongo, available
from storage.names import META, SYNC_ENTITIES, SYNC_HEADS, SYNC_LOG

ROWS_AT_ONCE = 500  # read, decoded and handed on in one turn of the loop


@dataclass(frozen=True, slots=True)
class Found:
    """What a push has to know: its stamp, the rows and operations concerned, how many rows."""

    stamp: int
    before: int
    """The user's newest stamp until now."""
    rows: dict[Key, Row]
    ops: dict[OpKey, Logged]
    count: int


@dataclass(frozen=True, slots=True)
class Result:
    """What a push stores."""

    rows: Sequence[Row]
    logged: Sequence[Logged]
    count: int


class SyncRepository:
    """Entities, heads and log; whatever talks to MongoDB raises AppError `unavailable`."""

    name = "sync"

    def __init__(self, mongo: Mongo, indexes: Indexes, log_kept_ms: int) -> None:
        self._mongo = mongo
        self._indexes = indexes
        self._log_kept = log_kept_ms
        self._heads: Collection = mongo.collection(SYNC_HEADS)
        self._entities: Collection = mongo.collection(SYNC_ENTITIES)
        self._log: Collection = mongo.collection(SYNC_LOG)
        self._meta: Collection = mongo.collection(META)
        self._epoch: str | None = None
        self._locks = UserLocks()

    async def epoch(self, timeout: float) -> str:
        """What tells this database from others, restored ones included."""
        if self._epoch is None:
            with available(timeout):
                found: Any = await self._meta.find_one_and_update(
                    {"_id": "epoch"},
                    [{"$set": {"value": {"$ifNull": ["$value", str(uuid4())]}}}],
                    upsert=True,
                    return_document=True,
                )
            self._epoch = found["value"]
        return self._epoch

    # --- pushing --------------------------------------------------------------------------

    async def push(
        self,
        user_id: str,
        changes: Sequence[Change],
        keys: Iterable[Key],
        now: int,
        decide: Callable[[Found], Result],
        timeout: float,
    ) -> None:
        """Store what `decide` makes of what is stored, in one atomic step.

        `keys` are the entities to read: those changed and their parents. `decide` may be asked
        more than once. Nothing is stored when it answers nothing. Raises AppError `erased`.
        """
        await self._indexes.made(SYNC_ENTITIES, SYNC_LOG, timeout=timeout)
        wanted = [_row_id(user_id, key) for key in keys]
        op_ids = [_op_id(user_id, change.op_key) for change in changes]

        async def work(session: AsyncClientSession) -> bool:
            head = await self._move_head(user_id, now, session)
            if head is None:
                return False
            rows = await self._entities.find({"_id": {"$in": wanted}}, session=session).to_list()
            known = await self._log.find({"_id": {"$in": op_ids}}, session=session).to_list()
            before = int(head["stamp"])
            found = Found(
                stamp=_next(before, now),
                before=before,
                rows={row.key: row for row in map(_decode_row, rows)},
                ops={op.op_key: op for op in map(_decode_op, known)},
                count=head["count"],
            )
            result = decide(found)
            if not result.rows and not result.logged:
                await session.abort_transaction()
                return True
            stored = {doc["_id"] for doc in rows}
            await self._store(user_id, result, stored, head["count"], now, session)
            return True

        async with self._locks.held(user_id, timeout):
            with available(timeout):
                while not await self._mongo.transaction(work):
                    await self._begin(user_id)

    async def _begin(self, user_id: str) -> None:
        """A first push: outside of a transaction, which a concurrent first one would end."""
        fresh = {
            "stamp": {"$ifNull": ["$stamp", DatetimeMS(0)]},
            "count": {"$ifNull": ["$count", 0]},
        }
        await self._heads.update_one({"_id": user_id}, [{"$set": fresh}], upsert=True)

    async def _move_head(
        self, user_id: str, now: int, session: AsyncClientSession
    ) -> Document | None:
        """The head as it was before; None of a user who has none yet."""
        after = {"$max": [{"$add": ["$stamp", 1]}, DatetimeMS(now)]}  # as `_next`
        head: Document | None = await self._heads.find_one_and_update(
            {"_id": user_id}, [{"$set": {"stamp": after}}], session=session
        )
        if head is not None and head.get("erased"):
            raise erased()
        return head

    async def _store(
        self,
        user_id: str,
        result: Result,
        stored: Set[str],
        count: int,
        now: int,
        session: AsyncClientSession,
    ) -> None:
        """Write `result`, where the rows `stored` are there already, and `count` of all rows."""
        rows = [
            ReplaceOne({"_id": doc["_id"]}, doc) if doc["_id"] in stored else InsertOne(doc)
            for doc in (_encode_row(user_id, row) for row in result.rows)
        ]
        goes_at = DatetimeMS(now + self._log_kept)
        ops = [InsertOne(_encode_op(user_id, op, goes_at)) for op in result.logged]
        if rows:
            await self._entities.bulk_write(rows, ordered=False, session=session)
        if ops:
            await self._log.bulk_write(ops, ordered=False, session=session)
        if result.count != count:
            await self._heads.update_one(
                {"_id": user_id}, {"$set": {"count": result.count}}, session=session
            )

    # --- pulling --------------------------------------------------------------------------

    async def changed(
        self,
        user_id: str,
        after: int,
        pushed: int,
        take: Callable[[list[Row], int], None],
        timeout: float,
    ) -> int:
        """Give `take` all rows with a stamp above `after`, some at a time, as of one moment.

        All rows when `after` is above the newest stamp, which is the answer. `take` also gets
        the stamp that they are above. Left out are those that the push with the stamp `pushed`
        wrote knowing how they stood at that stamp.
        """

        async def work(session: AsyncClientSession) -> int:
            stamp = _stamp(await self._heads.find_one({"_id": user_id}, session=session))
            since = after if after <= stamp else 0
            where = _range(user_id, since, stamp)
            if pushed:
                own = {"stamp": DatetimeMS(pushed), "exact": True}
                where["$nor"] = [{**own, "base": {"$lte": DatetimeMS(since)}}]
            rows = self._entities.find(where, session=session, batch_size=ROWS_AT_ONCE)
            batch: list[Row] = []
            async for doc in rows.sort([("stamp", 1), ("_id", 1)]):
                batch.append(_decode_row(doc))
                if len(batch) == ROWS_AT_ONCE:
                    take(batch, since)
                    batch = []
            take(batch, since)
            return stamp

        with available(timeout):
            return await self._mongo.snapshot(work)

    async def page(
        self, user_id: str, after: int, until: int, last: Key | None, limit: int, timeout: float
    ) -> list[Row]:
        """Rows with stamps from above `after` to `until`, the first `limit` of them.

        With `last` the page begins behind that row of stamp `after`.
        """
        where = _range(user_id, after, until)
        if last is not None:
            same = {"stamp": DatetimeMS(after), "_id": {"$gt": _row_id(user_id, last)}}
            where = {"user": user_id, "$or": [same, {"stamp": where["stamp"]}]}
        with available(timeout):
            found = await (
                self._entities.find(where).sort([("stamp", 1), ("_id", 1)]).limit(limit).to_list()
            )
        return [_decode_row(doc) for doc in found]

    async def stamp(self, user_id: str, timeout: float) -> int:
        """The user's newest stamp, 0 when nothing was ever pushed; raises AppError `erased`."""
        with available(timeout):
            head = await self._heads.find_one({"_id": user_id})
        return _stamp(head)

    async def operations(
        self, user_id: str, before: tuple[int, bytes] | None, limit: int, timeout: float
    ) -> list[tuple[bytes, Logged]]:
        """The user's latest operations, newest first, with what a cursor needs to go on."""
        where: Document = {"user": user_id}
        if before is not None:
            stamp, op_id = DatetimeMS(before[0]), before[1]
            where["$or"] = [{"stamp": {"$lt": stamp}}, {"stamp": stamp, "_id": {"$gt": op_id}}]
        with available(timeout):
            found = await (
                self._log.find(where).sort([("stamp", -1), ("_id", 1)]).limit(limit).to_list()
            )
        return [(bytes(doc["_id"]), _decode_op(doc)) for doc in found]

    # --- retention ------------------------------------------------------------------------

    async def prune(self, horizon: int, timeout: float) -> int:
        """Delete some tombstones with a stamp below `horizon` (ms); answers how many."""
        old: Document = {"deletedAt": {"$type": "date"}, "stamp": {"$lt": DatetimeMS(horizon)}}
        with available(timeout):
            found = await self._entities.find(old, {"user": 1}).limit(ROWS_AT_ONCE).to_list()
            by_user: dict[str, list[str]] = {}
            for doc in found:
                by_user.setdefault(doc["user"], []).append(doc["_id"])
            pruned = 0
            for user_id, row_ids in by_user.items():
                gone = await self._entities.delete_many({"_id": {"$in": row_ids}, **old})
                less = {"$inc": {"count": -gone.deleted_count}}
                await self._heads.update_one({"_id": user_id}, less)
                pruned += gone.deleted_count
        return pruned

    # --- a person's, see storage/holdings.py ----------------------------------------------

    async def holds(self, user_id: str, timeout: float) -> bool:
        """Whether the user has ever pushed, or a tombstone stands."""
        with available(timeout):
            return await self._heads.find_one({"_id": user_id}) is not None

    async def export(self, user_id: str, timeout: float) -> AsyncIterator[dict[str, Any]]:
        """All entities, then the log."""
        with available(timeout):
            async for doc in self._entities.find({"user": user_id}):
                row = _decode_row(doc)
                yield {"entityType": row.type, **row.document(user_id)}
        with available(timeout):
            async for doc in self._log.find({"user": user_id}):
                yield operation_document(_decode_op(doc))

    async def erase(self, user_id: str, timeout: float) -> None:
        """Leave a tombstone as head: a push under way meets it, or is deleted with the rest."""
        tombstone = {"_id": "$_id", "erased": True}
        with available(timeout):
            await self._heads.update_one(
                {"_id": user_id}, [{"$replaceWith": tombstone}], upsert=True
            )
            await self._entities.delete_many({"user": user_id})
            await self._log.delete_many({"user": user_id})


def operation_document(op: Logged) -> dict[str, Any]:
    """A logged operation as clients get it."""
    return {
        "operationId": op.operation_id,
        "deviceId": op.device_id,
        "entityType": op.type,
        "entityId": op.id,
        "operation": op.operation,
        "timestamp": iso(op.timestamp),
        "appliedTimestamp": iso(op.applied_at),
        "syncTimestamp": iso(op.stamp),
        "conflict": op.conflict,
    }


def _stamp(head: Document | None) -> int:
    if head is None:
        return 0
    if head.get("erased"):
        raise erased()
    return int(head["stamp"])


def _next(stamp: int, now: int) -> int:
    return max(stamp + 1, now)


def _range(user_id: str, after: int, until: int) -> Document:
    return {"user": user_id, "stamp": {"$gt": DatetimeMS(after), "$lte": DatetimeMS(until)}}


def _row_id(user_id: str, key: Key) -> str:
    return " ".join((user_id, *key))  # none of them has a space


def _op_id(user_id: str, op_key: OpKey) -> bytes:
    # Operation ids are any text: lengths keep the parts apart.
    parts = "".join(f"{len(part)}:{part}" for part in (user_id, *op_key))
    return hashlib.sha256(parts.encode()).digest()[:16]


def _encode_row(user_id: str, row: Row) -> Document:
    return {
        "_id": _row_id(user_id, row.key),
        "user": user_id,
        "type": row.type,
        "id": row.id,
        "data": row.data,
        "createdAt": DatetimeMS(row.created_at),
        "updatedAt": DatetimeMS(row.updated_at),
        "deletedAt": None if row.deleted_at is None else DatetimeMS(row.deleted_at),
        "deviceId": row.device_id,
        "stamp": DatetimeMS(row.stamp),
        "base": DatetimeMS(row.base),
        "exact": row.exact,
    }


def _decode_row(doc: Document) -> Row:
    return Row(
        type=doc["type"],
        id=doc["id"],
        data=doc["data"],
        created_at=int(doc["createdAt"]),
        updated_at=int(doc["updatedAt"]),
        deleted_at=None if doc["deletedAt"] is None else int(doc["deletedAt"]),
        device_id=doc["deviceId"],
        stamp=int(doc["stamp"]),
        base=int(doc["base"]),
        exact=doc["exact"],
    )


def _encode_op(user_id: str, op: Logged, goes_at: DatetimeMS) -> Document:
    return {
        "_id": _op_id(user_id, op.op_key),
        "user": user_id,
        "deviceId": op.device_id,
        "operationId": op.operation_id,
        "type": op.type,
        "id": op.id,
        "operation": op.operation,
        "timestamp": DatetimeMS(op.timestamp),
        "appliedAt": DatetimeMS(op.applied_at),
        "stamp": DatetimeMS(op.stamp),
        "content": op.content,
        "conflict": op.conflict,
        "goesAt": goes_at,
    }


def _decode_op(doc: Document) -> Logged:
    return Logged(
        device_id=doc["deviceId"],
        operation_id=doc["operationId"],
        type=doc["type"],
        id=doc["id"],
        operation=doc["operation"],
        timestamp=int(doc["timestamp"]),
        applied_at=int(doc["appliedAt"]),
        stamp=int(doc["stamp"]),
        content=bytes(doc["content"]),
        conflict=doc["conflict"],
    )
