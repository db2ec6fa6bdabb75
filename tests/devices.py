"""A device as the document of offline-first sync writes it: a local store, a queue, a cursor."""

from collections.abc import Iterable
from typing import Any

from domain.times import iso

Key = tuple[str, str]
Row = dict[str, Any]

PLURALS = {"space": "spaces", "category": "categories", "item": "items"}


def rows_of(updates: dict[str, list[Row]]) -> dict[Key, Row]:
    """The rows of `serverUpdates` by type and id; each comes once."""
    kinds = {plural: kind for kind, plural in PLURALS.items()}
    found = [((kinds[plural], row["id"]), row) for plural, rows in updates.items() for row in rows]
    assert len(found) == len(dict(found))
    return dict(found)


def alive(rows: dict[Key, Row]) -> dict[Key, Row]:
    """Those that are not deleted."""
    return {key: row for key, row in rows.items() if row["deletedAt"] is None}


class Device:
    """One device of `user`: it writes to its own store at once, and queues what it has written.

    Of an answer it keeps what the document's client keeps: the rows, the cursor, and that what
    succeeded leaves the queue. What is still queued stays visible above a row that comes in.
    """

    def __init__(self, user: str, name: str) -> None:
        self.user = user
        self.name = name
        self.rows: dict[Key, Row] = {}
        self.queue: list[dict[str, Any]] = []
        self.cursor: Any = None
        self.written = 0

    def write(self, kind: str, row_id: str, operation: str, data: Any, at: int) -> dict[str, Any]:
        """Change the local store and queue the change; `at` by the device's own clock."""
        self.written += 1
        change = {
            "operationId": f"op-{self.written}",
            "id": row_id,
            "entityType": kind,
            "operation": operation,
            "data": data,
            "timestamp": iso(at),
            "deviceId": self.name,
        }
        self.queue.append(change)
        self._apply(change)
        return change

    def body(self, most: int | None = None, **more: Any) -> dict[str, Any]:
        """A request with the first `most` changes of the queue."""
        changes = self.queue[:most]
        return {
            "deviceId": self.name,
            "lastSyncTimestamp": self.cursor,
            "changes": changes,
            **more,
        }

    def take(self, data: dict[str, Any]) -> None:
        """An answer has arrived."""
        done = {ack["operationId"] for ack in data["acknowledged"] if ack["success"]}
        self.queue = [change for change in self.queue if change["operationId"] not in done]
        came = rows_of(data["serverUpdates"])
        self.rows.update(came)
        self._show(change for change in self.queue if _key(change) in came)
        if not data.get("hasMore"):
            self.cursor = data["syncTimestamp"]

    def wipe(self) -> None:
        """Reinstalled: all is gone, only that operation ids stay unique."""
        self.rows, self.queue, self.cursor = {}, [], None

    def _show(self, changes: Iterable[dict[str, Any]]) -> None:
        for change in changes:
            self._apply(change)

    def _apply(self, change: dict[str, Any]) -> None:
        at, row_id = change["timestamp"], change["id"]
        fresh = {"id": row_id, "_id": row_id, "userId": self.user, "createdAt": at}
        self.rows[_key(change)] = {
            **self.rows.get(_key(change), fresh),
            **(change["data"] or {}),
            "updatedAt": at,
            "deletedAt": at if change["operation"] == "delete" else None,
            "deviceId": self.name,
        }


def _key(change: dict[str, Any]) -> Key:
    return change["entityType"], change["id"]
