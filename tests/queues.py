"""The sync queue for tests: one user's calls, read whole, and a clock that can be moved."""

import json
import time
from typing import Any

from tests.rest import Answer, Api

EXPENSES, ORDERS, USERS = "/api/expenses", "/api/orders", "/api/users"
SALARY = {"amount": 100, "category": "Salary"}
JOHN = {"patientName": "John", "totalAmount": 5000}


class Clock:
    """The server's clock: as ours, but for what it was moved forward, and never the same twice."""

    def __init__(self) -> None:
        self._ahead = 0
        self._last = 0

    def __call__(self) -> int:
        """Milliseconds since 1970."""
        self._last = max(time.time_ns() // 1_000_000 + self._ahead, self._last + 1)
        return self._last

    def forward(self, seconds: float) -> None:
        """Let time pass."""
        self._ahead += round(seconds * 1000)


class Queue:
    """One user's queue."""

    def __init__(self, api: Api) -> None:
        self.api = api

    async def try_add(
        self, endpoint: str, method: str, data: Any = None, headers: Any = None, **rest: Any
    ) -> Answer:
        """`POST /api/sync/add`."""
        body = {"endpoint": endpoint, "method": method, "data": data or {}, **rest}
        return await self.api.post("/api/sync/add", body, headers=headers or {})

    async def add(self, endpoint: str, method: str, data: Any = None, **rest: Any) -> Any:
        """An accepted item."""
        answer = await self.try_add(endpoint, method, data, **rest)
        assert answer.status == 201, answer
        assert answer.json["message"] == "Item added to sync queue"
        return answer.json["syncItem"]

    async def try_bulk(self, items: list[Any], **options: Any) -> Answer:
        """`POST /api/sync/bulk`."""
        return await self.api.post("/api/sync/bulk", {"items": items}, **options)

    async def bulk(self, items: list[Any], **options: Any) -> list[Any]:
        """Accepted items."""
        answer = await self.try_bulk(items, **options)
        assert answer.status == 201, answer
        assert answer.json["count"] == len(items)
        shown: list[Any] = answer.json["syncItems"]
        return shown

    async def process(self) -> tuple[int, int, int]:
        """How many were processed, with success and without."""
        answer = (await self.api.send("POST", "/api/sync/process")).ok()
        assert answer.keys() == {"message", "processed", "successful", "failed"}
        assert answer["message"] == "Sync queue processed"
        return answer["processed"], answer["successful"], answer["failed"]

    async def pending(self) -> list[Any]:
        """What waits, in one page."""
        return await self._list("pending", "Pending syncs retrieved")

    async def failed(self) -> list[Any]:
        """What failed or conflicts, in one page."""
        return await self._list("failed", "Failed syncs retrieved")

    async def _list(self, name: str, message: str) -> list[Any]:
        answer = (await self.api.get(f"/api/sync/{name}?limit=500")).ok()
        assert answer.keys() == {"message", "count", "syncs", "cursor"}
        assert answer["message"] == message
        syncs: list[Any] = answer["syncs"]
        assert answer["count"] == len(syncs)
        return syncs

    async def retry(self, item: Any) -> Answer:
        return await self.api.send("POST", f"/api/sync/items/{item['_id']}/retry")

    async def discard(self, item: Any) -> Answer:
        return await self.api.send("DELETE", f"/api/sync/items/{item['_id']}")

    async def resolve(self, item: Any, keep: Any) -> Answer:
        return await self.api.post(f"/api/sync/items/{item['_id']}/resolve", {"keep": keep})

    async def exported(self, feature: str = "queue") -> list[Any]:
        """Everything that is held, completed items too."""
        answer = await self.api.get("/api/auth/me/export")
        assert answer.status == 200, answer
        records = [json.loads(line) for line in answer.raw.splitlines()]
        return [record for record in records if record["feature"] == feature]

    async def item(self, item: Any) -> Any:
        """An item as it stands now, completed or not."""
        (found,) = (one for one in await self.exported() if one["_id"] == item["_id"])
        return found

    async def expenses(self) -> dict[str, Any]:
        """At most 200 of the user's expenses by id."""
        answer = (await self.api.get(f"{EXPENSES}?limit=200")).ok()
        return {expense["_id"]: expense for expense in answer["expenses"]}


def one(endpoint: str = EXPENSES, method: str = "POST", data: Any = SALARY, **rest: Any) -> Any:
    """The body of an item."""
    return {"endpoint": endpoint, "method": method, "data": data, **rest}
