"""Devices for the tests of sync: what they change, push and pull."""

from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import aiohttp
from pymongo import MongoClient

from server.keys import SYNC
from tests.rest import ISO, Api
from tests.serving import Served

SYNC_PATH = "/api/sync"
INITIAL = "/api/sync/initial"
LOG = "/api/sync/log"
NOTHING: dict[str, list[Any]] = {"spaces": [], "categories": [], "items": []}
PLURALS = {"space": "spaces", "category": "categories", "item": "items", "deck": "decks"}
YESTERDAYS = datetime(2025, 12, 29, 14, 30, tzinfo=UTC)


def at(seconds: float = 0) -> str:
    """An ISO time of the past, `seconds` after a fixed one."""
    moment = YESTERDAYS + timedelta(seconds=seconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def change(
    operation: str, row_id: str, data: Any = None, when: Any = 0, **more: Any
) -> dict[str, Any]:
    """A change of an item, unless `entityType` says otherwise; `when` as in `at`."""
    made: dict[str, Any] = {
        "operationId": f"op-{uuid4()}",
        "id": row_id,
        "entityType": "item",
        "operation": operation,
        "timestamp": at(when) if isinstance(when, int | float) else when,
    }
    if data is not None:
        made["data"] = data
    return {**made, **more}


def create(row_id: str, when: Any = 0, *, kind: str = "item", **data: Any) -> dict[str, Any]:
    return change("create", row_id, data, when, entityType=kind)


def update(row_id: str, when: Any = 0, *, kind: str = "item", **data: Any) -> dict[str, Any]:
    return change("update", row_id, data, when, entityType=kind)


def delete(row_id: str, when: Any = 0, *, kind: str = "item") -> dict[str, Any]:
    return change("delete", row_id, None, when, entityType=kind)


def applied(sent: dict[str, Any], when: Any = 0) -> dict[str, Any]:
    """The whole acknowledgement of a change that was applied."""
    return {
        "operationId": sent["operationId"],
        "id": sent["id"],
        "success": True,
        "appliedTimestamp": at(when),
    }


class Device:
    """A device of one user; it keeps its cursor as the source document's client does."""

    def __init__(self, api: Api, name: str = "phone") -> None:
        self.api = api
        self.name = name
        self.cursor: Any = None

    async def send(self, *changes: Any, **body: Any) -> Any:
        """One call of `POST /api/sync`; the cursor moves with its answer."""
        whole = {
            "deviceId": self.name,
            "lastSyncTimestamp": self.cursor,
            "changes": [*changes],
            **body,
        }
        answer = (await self.api.post(SYNC_PATH, whole)).ok()
        assert answer.keys() == {"success", "data"}
        assert answer["success"] is True
        data = answer["data"]
        if data["syncTimestamp"] is not None:
            assert ISO.fullmatch(data["syncTimestamp"])
        self.cursor = data["syncTimestamp"]
        return data

    async def done(self, *changes: Any, **body: Any) -> Any:
        """A push all of whose changes are applied."""
        data = await self.send(*changes, **body)
        for ack in data["acknowledged"]:
            assert ack["success"], ack
            assert not ack.get("conflict"), ack
        return data

    async def ack(self, one: Any, **body: Any) -> Any:
        """The acknowledgement of a single change."""
        (ack,) = (await self.send(one, **body))["acknowledged"]
        return ack

    async def pull(self, **body: Any) -> dict[str, Any]:
        """What is new, by id."""
        return by_id(await self.send(**body))

    async def refused(self, one: Any, code: str, *, retryable: bool = False) -> Any:
        """The acknowledgement of a change that must be refused."""
        ack = await self.ack(one)
        assert ack["success"] is False, ack
        assert (ack["code"], ack["retryable"]) == (code, retryable), ack
        assert ack["message"]
        return ack

    async def initial(self) -> dict[str, Any]:
        """All rows of `/initial`, by id."""
        return by_id((await self.api.get(INITIAL)).ok()["data"])


def rows(data: Any) -> list[Any]:
    """All rows of an answer."""
    return [row for of_type in data["serverUpdates"].values() for row in of_type]


def by_id(data: Any) -> dict[str, Any]:
    """Likewise, by their ids, of which none comes twice."""
    found = {row["id"]: row for row in rows(data)}
    assert len(found) == len(rows(data))
    return found


def titles(data: Any) -> dict[str, Any]:
    """The titles of an answer's rows by their ids."""
    return {row_id: row.get("title") for row_id, row in by_id(data).items()}


def stand_still(served: Served, monkeypatch: Any, when: float = 86_400) -> list[int]:
    """Stop the clock of sync at `at(when)`; the answer's only element moves it (ms)."""
    now = [round((YESTERDAYS.timestamp() + when) * 1000)]
    monkeypatch.setattr(served.app[SYNC], "_clock", lambda: now[0])
    return now


class Instances(AsyncExitStack):
    """Devices of whatever server, with sessions that end with it."""

    async def device(self, url: str, user: str = "ada", name: str = "phone") -> Device:
        session = await self.enter_async_context(aiohttp.ClientSession(url))
        return Device(Api(session, user), name)


def stored(stores: dict[str, Any], collection: str) -> list[dict[str, Any]]:
    """All documents of a collection."""
    with MongoClient[dict[str, Any]](stores["mongodb_uri"]) as client:
        return list(client[stores["mongodb_db"]][collection].find())
