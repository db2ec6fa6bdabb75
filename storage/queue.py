"""The sync queue in MongoDB: claimed with a lease, ended only by who holds it."""

from collections.abc import AsyncIterator, Mapping, Sequence, Set
from typing import Any

import orjson
from bson.datetime_ms import DatetimeMS

from domain.errors import AppError, Code
from domain.queue import Item, Method, Status
from storage.indexes import Indexes
from storage.mongo import Collection, Document, Mongo, available
from storage.names import QUEUE
from storage.units import Unit

EXPIRED_AT_ONCE = 100
OUTDATED_AT_ONCE = 100


PAGE_BYTES = 4 * 1024 * 1024  # of data in a page


class LeaseLost(Exception):
    """Somebody else has the item by now: what was done for it must not count."""


class QueueRepository:
    """Items; whatever talks to MongoDB raises AppError `unavailable`, but for what is in a unit."""

    name = "queue"

    def __init__(
        self, mongo: Mongo, indexes: Indexes, completed_kept: int, failed_kept: int
    ) -> None:
        self._items: Collection = mongo.collection(QUEUE)
        self._indexes = indexes
        self._completed_kept = completed_kept  # ms
        self._failed_kept = failed_kept

    # --- adding ---------------------------------------------------------------------------

    async def ready(self, timeout: float) -> None:
        """Return when the indexes stand."""
        await self._indexes.made(QUEUE, timeout=timeout)

    async def by_operation(self, unit: Unit, operations: Sequence[str]) -> dict[str, Item]:
        """The items that were added under these operation ids."""
        found = await self._items.find(
            {"user": unit.user_id, "operation": {"$in": list(operations)}}, session=unit.session
        ).to_list()
        return {doc["operation"]: _decode(doc) for doc in found}

    async def chain_ends(self, unit: Unit, chains: Sequence[str]) -> dict[str, str]:
        """The last item of each chain that is not completed yet."""
        found = await self._items.find(
            {"user": unit.user_id, "chain": {"$in": list(chains)}, "open": True},
            projection={"chain": 1, "number": 1},
            session=unit.session,
        ).to_list()
        ends: dict[str, str] = {}
        for doc in sorted(found, key=lambda doc: int(doc["number"])):
            ends[doc["chain"]] = doc["_id"]
        return ends

    async def count(self, unit: Unit, most: int) -> int:
        """How many items of the user are not completed, counted up to `most`."""
        return await self._items.count_documents(
            {"user": unit.user_id, "status": {"$ne": Status.COMPLETED.value}},
            limit=most,
            session=unit.session,
        )

    async def insert(self, unit: Unit, items: Sequence[Item]) -> None:
        """Add items."""
        await self._items.insert_many([_encode(item) for item in items], session=unit.session)

    async def follow(self, unit: Unit, item_ids: Set[str]) -> None:
        """Note that other items come after these."""
        where = {"_id": {"$in": list(item_ids)}}
        await self._items.update_many(where, {"$set": {"followed": True}}, session=unit.session)

    # --- claiming and ending --------------------------------------------------------------

    async def due_user(self, after: str, but: Set[str], now: int, timeout: float) -> str | None:
        """The first user behind `after` who has an item that is the workers' by now."""
        where = {
            "status": Status.PENDING.value,
            "after": None,
            "user": {"$gt": after, "$nin": list(but)},
            "workerAt": {"$lte": DatetimeMS(now)},
        }
        with available(timeout):
            found = await self._items.find_one(where, {"user": 1}, sort=[("user", 1)])
        return None if found is None else str(found["user"])

    async def in_hand(self, user_id: str, timeout: float) -> bool:
        """Whether somebody holds an item of the user."""
        where = {"user": user_id, "status": Status.PROCESSING.value}
        with available(timeout):
            return await self._items.find_one(where, {"_id": 1}) is not None

    async def claim(
        self, user_id: str, now: int, lease: str, until: int, timeout: float, *, worker: bool
    ) -> Item | None:
        """Take the user's next item that is due, for a `worker` one that is the workers' by now."""
        where: Document = {
            "user": user_id,
            "status": Status.PENDING.value,
            "after": None,
            "workerAt" if worker else "retryAt": {"$lte": DatetimeMS(now)},
        }
        order = [("priority", -1), ("number", 1)]
        taken = {
            "status": Status.PROCESSING.value,
            "lease": lease,
            "leaseUntil": DatetimeMS(until),
            "updatedAt": DatetimeMS(now),
        }
        with available(timeout):
            doc: Any = await self._items.find_one_and_update(
                where, {"$set": taken, "$inc": {"attempts": 1}}, sort=order, return_document=True
            )
        return None if doc is None else _decode(doc)

    async def expired(self, user_id: str | None, now: int, timeout: float) -> list[Item]:
        """What workers hold whose leases ended: of one user, or some of everybody's."""
        where: Document = {
            "status": Status.PROCESSING.value,
            "leaseUntil": {"$lt": DatetimeMS(now)},
        }
        if user_id is not None:
            where["user"] = user_id
        with available(timeout):
            found = await self._items.find(where).limit(EXPIRED_AT_ONCE).to_list()
        return [_decode(doc) for doc in found]

    async def complete(self, unit: Unit, item: Item, response: Mapping[str, Any], now: int) -> None:
        """End an item, and let the next one of its chain come; raises LeaseLost."""
        ended = {
            "status": Status.COMPLETED.value,
            "responseData": response,
            "error": None,
            "open": False,
            "lease": None,
            "updatedAt": DatetimeMS(now),
            "goesAt": DatetimeMS(now + self._completed_kept),
        }
        done: Any = await self._items.find_one_and_update(
            _held(item), {"$set": ended}, projection={"followed": 1}, session=unit.session
        )
        if done is None:
            raise LeaseLost
        if done["followed"]:
            await self._free_followers(unit, item.id, None)

    async def put_back(
        self,
        item: Item,
        status: Status,
        error: str,
        now: int,
        retry_at: int,
        timeout: float,
        server: Mapping[str, Any] | None = None,
    ) -> bool:
        """Note a failed attempt or a conflict; False when the lease was lost."""
        changes: Document = {
            "status": status.value,
            "error": error,
            "retryAt": DatetimeMS(retry_at),
            "workerAt": DatetimeMS(retry_at),
            "lease": None,
            "updatedAt": DatetimeMS(now),
        }
        if status is not Status.PENDING:
            changes["discardAt"] = DatetimeMS(now + self._failed_kept)
        if server is not None:
            changes["server"] = server
        with available(timeout):
            done = await self._items.update_one(_held(item), {"$set": changes})
        return done.matched_count == 1

    # --- what its user may do -------------------------------------------------------------

    async def read_in(self, unit: Unit, item_id: str) -> Item:
        """One item of the user; raises AppError `not_found`."""
        doc = await self._items.find_one(
            {"_id": item_id, "user": unit.user_id}, session=unit.session
        )
        if doc is None:
            raise AppError(Code.NOT_FOUND, "There is no such item in your queue")
        return _decode(doc)

    async def again(self, unit: Unit, item: Item, now: int, *, base: int | None) -> None:
        """Make a failed or conflicting item pending, as if it were new."""
        changes = {
            "status": Status.PENDING.value,
            "attempts": 0,
            "error": None,
            "server": None,
            "baseVersion": base,
            "retryAt": DatetimeMS(now),
            "workerAt": DatetimeMS(now),
            "updatedAt": DatetimeMS(now),
        }
        await self._items.update_one(
            {"_id": item.id}, {"$set": changes, "$unset": {"discardAt": ""}}, session=unit.session
        )

    async def settle(self, unit: Unit, item: Item, now: int) -> None:
        """End a conflict in the server's favour."""
        ended = {
            "status": Status.COMPLETED.value,
            "responseData": item.server,
            "error": None,
            "open": False,
            "updatedAt": DatetimeMS(now),
            "goesAt": DatetimeMS(now + self._completed_kept),
        }
        await self._items.update_one(
            {"_id": item.id}, {"$set": ended, "$unset": {"discardAt": ""}}, session=unit.session
        )
        await self._free_followers(unit, item.id, None)

    async def discard(self, unit: Unit, item: Item) -> None:
        """Remove an item; who waits for it waits for the one before it."""
        await self._items.delete_one({"_id": item.id}, session=unit.session)
        await self._free_followers(unit, item.id, item.after)

    async def _free_followers(self, unit: Unit, item_id: str, after: str | None) -> None:
        await self._items.update_many(
            {"user": unit.user_id, "after": item_id},
            {"$set": {"after": after}},
            session=unit.session,
        )

    async def clear(self, unit: Unit) -> int:
        """Remove all pending items of the user; answers how many."""
        done = await self._items.delete_many(
            {"user": unit.user_id, "status": Status.PENDING.value}, session=unit.session
        )
        return done.deleted_count

    async def page(
        self, user_id: str, statuses: Sequence[Status], after: int, limit: int, timeout: float
    ) -> tuple[int, list[Item], bool]:
        """How many items of these statuses the user has, those behind number `after`, and whether
        there are more. They are fewer than `limit` when their data are large.
        """
        where: Document = {
            "user": user_id,
            "status": {"$in": [status.value for status in statuses]},
        }
        with available(timeout):
            count = await self._items.count_documents(where)
            behind = {**where, "number": {"$gt": after}}
            found: list[Item] = []
            size = 0
            cursor = self._items.find(behind, batch_size=20).sort("number", 1).limit(limit + 1)
            async for doc in cursor:
                size += len(doc["data"])
                if found and (len(found) == limit or size > PAGE_BYTES):
                    return count, found, True
                found.append(_decode(doc))
        return count, found, False

    async def outdated(self, now: int, timeout: float) -> list[Item]:
        """Some of what ended badly and was kept long enough.

        To be discarded, not deleted by MongoDB: other items may wait for them.
        """
        where = {"discardAt": {"$lte": DatetimeMS(now)}}
        with available(timeout):
            found = await self._items.find(where).limit(OUTDATED_AT_ONCE).to_list()
        return [_decode(doc) for doc in found]

    # --- for operators --------------------------------------------------------------------

    async def depths(self, timeout: float) -> tuple[dict[Status, int], int | None]:
        """How many items there are of each status but the completed, and when the oldest pending
        one was added (ms)."""
        counts: dict[Status, int] = {}
        with available(timeout):
            for status in Status:
                if status is not Status.COMPLETED:
                    counts[status] = await self._items.count_documents({"status": status.value})
            oldest = await self._items.find_one(
                {"status": Status.PENDING.value}, sort=[("createdAt", 1)]
            )
        return counts, None if oldest is None else int(oldest["createdAt"])

    # --- a person's, see storage/holdings.py ----------------------------------------------

    async def holds(self, user_id: str, timeout: float) -> bool:
        """Whether the user has items."""
        with available(timeout):
            return await self._items.find_one({"user": user_id}) is not None

    async def export(self, user_id: str, timeout: float) -> AsyncIterator[dict[str, Any]]:
        """All items."""
        with available(timeout):
            async for doc in self._items.find({"user": user_id}):
                yield _decode(doc).document()

    async def erase(self, user_id: str, timeout: float) -> None:
        """Delete all. That none comes later is for the units to refuse."""
        with available(timeout):
            await self._items.delete_many({"user": user_id})


def _held(item: Item) -> Document:
    return {"_id": item.id, "status": Status.PROCESSING.value, "lease": item.lease}


def _encode(item: Item) -> Document:
    return {
        "_id": item.id,
        "user": item.user_id,
        "number": item.number,
        "endpoint": item.endpoint,
        "path": item.path,
        "method": item.method.value,
        "target": item.target_id,
        "chain": item.chain,
        "open": True,
        "data": orjson.dumps(item.data).decode(),  # any JSON, operators and large numbers too
        "status": item.status.value,
        "attempts": item.attempts,
        "maxAttempts": item.max_attempts,
        "priority": item.priority,
        "deviceId": item.device_id,
        "error": None,
        "retryAt": DatetimeMS(item.retry_at),
        "workerAt": DatetimeMS(item.worker_at),
        "after": item.after,
        "followed": item.followed,
        "baseVersion": item.base_version,
        "operation": item.operation,
        "content": item.content,
        "createdAt": DatetimeMS(item.created_at),
        "updatedAt": DatetimeMS(item.updated_at),
    }


def _decode(doc: Document) -> Item:
    return Item(
        id=doc["_id"],
        user_id=doc["user"],
        number=int(doc["number"]),
        endpoint=doc["endpoint"],
        path=doc["path"],
        method=Method(doc["method"]),
        target_id=doc["target"],
        data=orjson.loads(doc["data"]),
        created_at=int(doc["createdAt"]),
        updated_at=int(doc["updatedAt"]),
        status=Status(doc["status"]),
        attempts=doc["attempts"],
        max_attempts=doc["maxAttempts"],
        priority=doc["priority"],
        device_id=doc.get("deviceId"),
        error=doc.get("error"),
        response=doc.get("responseData"),
        retry_at=int(doc["retryAt"]),
        worker_at=int(doc["workerAt"]),
        after=doc.get("after"),
        followed=doc["followed"],
        base_version=doc.get("baseVersion"),
        server=doc.get("server"),
        operation=doc.get("operation"),
        content=bytes(doc["content"]),
        lease=doc.get("lease"),
        lease_until=int(doc.get("leaseUntil", 0)),
    )
