"""What the queue and the resources answer is what /openapi.json says of it."""

from typing import Any

import pytest

from tests.openapi import body_schema, conforms
from tests.queues import EXPENSES, JOHN, ORDERS, SALARY, USERS, one
from tests.rest import Answer, Api

pytestmark = pytest.mark.usefixtures("quiet", "no_worker", "shared_database", "clock")

ADD, BULK = "/api/sync/add", "/api/sync/bulk"
ITEM = "/api/sync/items/{id}"
ONE = EXPENSES + "/{id}"


class Checked:
    """Requests whose answers are what the document foresees."""

    def __init__(self, api: Api, spec: Any) -> None:
        self.api = api
        self.spec = spec

    async def send(self, method: str, where: str, wanted: int, at: str = "", **more: Any) -> Answer:
        """Request `at`, an instance of the path `where`."""
        answer = await self.api.send(method, at or where, **more)
        assert answer.status == wanted, answer
        conforms(self.spec, method, where, answer)
        return answer


@pytest.fixture
async def spec(api: Api) -> Any:
    return (await api.get("/openapi.json")).ok()


@pytest.fixture
def checked(api: Api, spec: Any) -> Checked:
    return Checked(api, spec)


async def test_the_queue_answers_as_it_says(checked: Checked) -> None:
    send = checked.send
    added = await send("POST", ADD, 201, json=one(deviceId="d", baseVersion=1))
    item = added.json["syncItem"]["_id"]
    items = [one(data={}, maxAttempts=1, operationId="op"), one(ORDERS, data=JOHN)]
    items.append(one(EXPENSES, "PUT", {"_id": "x", "amount": 1}, baseVersion=7))
    items.append(one(EXPENSES, "PUT", {"_id": "late"}))
    await send("POST", BULK, 201, json={"items": items}, headers={"Idempotency-Key": "k"})
    await send("POST", EXPENSES, 201, json={**SALARY, "_id": "x"})
    await send("GET", "/api/sync/pending", 200, "/api/sync/pending?limit=1")
    await send("POST", "/api/sync/process", 200)
    await send("GET", "/api/sync/pending", 200)
    failed = await send("GET", "/api/sync/failed", 200)
    by_status = {one["status"]: one["_id"] for one in failed.json["syncs"]}
    assert by_status.keys() == {"failed", "conflict"}
    retry, resolve = f"{ITEM}/retry", f"{ITEM}/resolve"
    await send("POST", retry, 200, f"/api/sync/items/{by_status['failed']}/retry")
    await send("POST", retry, 409, f"/api/sync/items/{item}/retry")
    await send("POST", retry, 404, "/api/sync/items/none/retry")
    at = f"/api/sync/items/{by_status['conflict']}/resolve"
    await send("POST", resolve, 400, at, json={"keep": "both"})
    await send("POST", resolve, 200, at, json={"keep": "server"})
    await send("POST", resolve, 409, at, json={"keep": "mine"})
    await send("DELETE", ITEM, 409, f"/api/sync/items/{item}")
    await send("DELETE", ITEM, 400, "/api/sync/items/a%20b")
    await send("POST", ADD, 400, json=one("/api/none"))
    await send("POST", ADD, 400, json=one(data={"_id": "a b"}))
    await send("POST", BULK, 409, json={"items": [one(operationId="op")]})
    await send("DELETE", ITEM, 200, f"/api/sync/items/{by_status['failed']}")
    await send("GET", "/api/sync/pending", 400, "/api/sync/pending?limit=0")
    await send("DELETE", "/api/sync/clear", 200)
    (await checked.api.send("DELETE", "/api/auth/me")).ok()
    await send("POST", ADD, 410, json=one())
    await send("POST", BULK, 410, json={"items": [one()]})
    await send("DELETE", "/api/sync/clear", 410)
    await send("POST", EXPENSES, 410, json=SALARY)


async def test_resources_answer_as_it_says(checked: Checked) -> None:
    send = checked.send
    await send("GET", EXPENSES, 200)
    await send("POST", EXPENSES, 201, json={**SALARY, "_id": "x"})
    await send("POST", EXPENSES, 409, json={**SALARY, "_id": "x"})
    await send("POST", EXPENSES, 201, json={**SALARY, "amount": 0.5})
    await send("POST", EXPENSES, 400, json={})
    await send("POST", EXPENSES, 400, json={**SALARY, "_id": "a b"})
    await send("POST", ORDERS, 201, json={**JOHN, "lines": [{"description": "Tea", "price": 1.5}]})
    await send("GET", ORDERS, 200, f"{ORDERS}?limit=1")
    await send("GET", EXPENSES, 200, f"{EXPENSES}?limit=1")
    for query in ("limit=0", "cursor=a%20b", "page=1"):
        await send("GET", EXPENSES, 400, f"{EXPENSES}?{query}")
    path = f"{EXPENSES}/x"
    await send("GET", ONE, 200, path)
    await send("GET", ONE, 404, f"{path}x")
    await send("PUT", ONE, 200, path, json={"amount": 1}, headers={"If-Match": '"1"'})
    await send("PUT", ONE, 412, path, json={"amount": 1}, headers={"If-Match": '"1"'})
    await send("PUT", ONE, 400, path, json={"amount": "1"})
    await send("PUT", ONE, 404, f"{path}x", json={"amount": 1})
    await send("DELETE", ONE, 412, path, headers={"If-Match": '"1"'})
    await send("DELETE", ONE, 200, path)
    await send("DELETE", ONE, 404, path)


async def test_what_it_foresees_is_accepted_and_nothing_else(api: Api, spec: Any) -> None:
    long = {**SALARY, "description": "x" * 5_000, "date": 1_700_000_000_000}
    for path, body, right in [
        *((EXPENSES, body, True) for body in (SALARY, long, {**SALARY, "amount": -0.000001})),
        (EXPENSES, {"amount": 999_999_999_999_999, "category": ""}, True),
        *((ORDERS, body, True) for body in (JOHN, {**JOHN, "lines": []})),
        (ADD, one(), True),
        (ADD, {"endpoint": EXPENSES, "method": "POST"}, True),
        (ADD, one(priority=-1000, maxAttempts=20, operationId="x" * 128), True),
        (ADD, one(USERS, "PUT", {"name": "Ada"}, baseVersion=0), True),
        *((EXPENSES, {**SALARY, "amount": bad}, False) for bad in ("1", True, None, [])),
        *((EXPENSES, {**SALARY, "category": bad}, False) for bad in (1, None, "x" * 201)),
        (EXPENSES, {**SALARY, "colour": "red"}, False),
        (ORDERS, {**JOHN, "lines": [{"quantity": 1}]}, False),
        (ORDERS, {**JOHN, "lines": [{"description": "x", "quantity": 0}]}, False),
        *((ADD, one(maxAttempts=bad), False) for bad in (0, 21, "5", None)),
        *((ADD, one(priority=bad), False) for bad in (1001, 0.5)),
        *((ADD, one(data=bad), False) for bad in ([], 1, "x")),
        *((ADD, one(operationId=bad), False) for bad in ("", "x" * 129)),
        *((ADD, one(baseVersion=bad), False) for bad in (-1, 2**64)),
        (ADD, {"method": "POST"}, False),
        (BULK, {"items": []}, False),
        (BULK, {"items": [one()] * 501}, False),
    ]:
        assert body_schema(spec, path).is_valid(body) is right, (path, body)
        answer = await api.post(path, body)
        assert answer.status == (201 if right else 400), (path, body, answer)
        conforms(spec, "POST", path, answer)
