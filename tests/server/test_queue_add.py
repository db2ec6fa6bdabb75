"""What is left to be done: added alone or in bulk, listed, cleared; each once, or refused."""

import asyncio
import gzip
import io
import json
from typing import Any

import aiohttp
import pytest
from pymongo.database import Database

from tests.queues import EXPENSES, JOHN, ORDERS, SALARY, USERS, Queue, one
from tests.rest import ISO, Api

pytestmark = [pytest.mark.usefixtures("quiet", "no_worker", "shared_database")]

SINGLE = """{
  "endpoint": "/api/expenses",
  "method": "POST",
  "data": {
    "amount": 100,
    "category": "Salary",
    "date": "2025-12-10T10:00:00Z",
    "description": "Monthly salary"
  },
  "deviceId": "device-123"
}"""
BULK = """{
  "items": [
    {
      "endpoint": "/api/expenses",
      "method": "POST",
      "data": { "amount": 100, "category": "Salary" },
      "deviceId": "device-123"
    },
    {
      "endpoint": "/api/orders",
      "method": "POST",
      "data": { "patientName": "John", "totalAmount": 5000 }
    }
  ]
}"""
CURL = """{
    "endpoint": "/api/expenses",
    "method": "POST",
    "data": { "amount": 100, "category": "Salary" }
  }"""
"""The bodies of the document that the queue was made after."""


# --- the source document's examples -------------------------------------------------------


async def test_a_single_item_is_added_and_answered_to_the_letter(api: Api) -> None:
    answer = await api.post_raw("/api/sync/add", SINGLE.encode())
    assert answer.status in (200, 201)
    assert answer.json.keys() == {"message", "syncItem"}
    assert answer.json["message"] == "Item added to sync queue"
    item = answer.json["syncItem"]
    assert isinstance(item["_id"], str)
    assert ISO.fullmatch(item["createdAt"])
    assert item["updatedAt"] == item["createdAt"]
    known = {"_id", "createdAt", "updatedAt"}
    assert {name: value for name, value in item.items() if name not in known} == {
        "userId": "ada",
        "endpoint": "/api/expenses",
        "method": "POST",
        "data": json.loads(SINGLE)["data"],
        "status": "pending",
        "attempts": 0,
        "maxAttempts": 5,
        "error": None,
        "responseData": None,
        "deviceId": "device-123",
        "priority": 0,
        "retryAt": None,
    }


async def test_the_documents_flow_from_bulk_to_confirmation(api: Api, queue: Queue) -> None:
    answer = await api.post_raw("/api/sync/bulk", BULK.encode())
    assert answer.status in (200, 201)
    assert (answer.json["message"], answer.json["count"]) == ("Items added to sync queue", 2)
    await api.post_raw("/api/sync/add", CURL.encode())
    waiting = await queue.pending()
    assert [(item["endpoint"], item["method"]) for item in waiting] == [
        ("/api/expenses", "POST"),
        ("/api/orders", "POST"),
        ("/api/expenses", "POST"),
    ]
    for item in waiting:
        assert (item["status"], item["attempts"], item["error"]) == ("pending", 0, None)
    answer = await api.send("POST", "/api/sync/process")
    assert answer.ok() == {
        "message": "Sync queue processed",
        "processed": 3,
        "successful": 3,
        "failed": 0,
    }
    assert await queue.pending() == []
    assert [expense["amount"] for expense in (await queue.expenses()).values()] == [100, 100]
    orders = (await api.get(ORDERS)).ok()
    assert (orders["count"], orders["total"]) == (1, 5000)
    assert orders["orders"][0].items() >= JOHN.items()


async def test_clear_removes_what_is_pending_and_says_how_much(api: Api, queue: Queue) -> None:
    await queue.bulk([one()] * 10)
    answer = await api.send("DELETE", "/api/sync/clear")
    assert answer.ok() == {"message": "Sync queue cleared", "deletedCount": 10}
    assert await queue.pending() == []
    answer = await api.send("DELETE", "/api/sync/clear")
    assert answer.ok() == {"message": "Sync queue cleared", "deletedCount": 0}
    assert await queue.process() == (0, 0, 0)


async def test_an_empty_queue_is_answered_in_the_same_shape(api: Api, queue: Queue) -> None:
    assert (await api.get("/api/sync/pending")).ok() == {
        "message": "Pending syncs retrieved",
        "count": 0,
        "syncs": [],
        "cursor": None,
    }
    assert await queue.failed() == []
    assert await queue.process() == (0, 0, 0)


async def test_all_need_a_token(http: aiohttp.ClientSession) -> None:
    nobody = Api(http, None)
    for method, path in (
        *(("POST", name) for name in ("add", "bulk", "process")),
        *(("POST", name) for name in ("items/1/retry", "items/1/resolve")),
        *(("GET", name) for name in ("pending", "failed")),
        *(("DELETE", name) for name in ("clear", "items/1")),
    ):
        answer = await nobody.send(method, f"/api/sync/{path}", json={})
        answer.problem(401, "missing_token")


# --- refused when it is added -------------------------------------------------------------


async def test_an_unknown_endpoint_is_refused_with_what_exists(queue: Queue) -> None:
    for endpoint in ("/api/invoices", "/api/sync/clear", "", "/api/expenses/1/2"):
        problem = (await queue.try_add(endpoint, "POST", SALARY)).refused_field(
            400, "invalid_value", "/endpoint"
        )
        assert all(path in problem["detail"] for path in (EXPENSES, ORDERS, USERS))
    assert await queue.pending() == []


async def test_an_unknown_method_is_refused_with_what_exists_and_so_is_get(queue: Queue) -> None:
    for method in ("GET", "PATCH", "get", ""):
        problem = (await queue.try_add(EXPENSES, method, SALARY)).refused_field(
            400, "invalid_value", "/method"
        )
        assert all(known in problem["detail"] for known in ("POST", "PUT", "DELETE"))
    for method in ("POST", "DELETE"):
        answer = await queue.try_add(USERS, method, {"name": "Ada"})
        assert "PUT" in answer.refused_field(400, "invalid_value", "/method")["detail"]


async def test_put_and_delete_need_an_id_and_only_one(queue: Queue) -> None:
    for method in ("PUT", "DELETE"):
        (await queue.try_add(EXPENSES, method, {})).problem(400, "missing_field")
        for endpoint, data in (
            (f"{EXPENSES}/1", {"_id": "2"}),
            (f"{EXPENSES}/1", {"id": "2"}),
            (EXPENSES, {"_id": "1", "id": "2"}),
        ):
            (await queue.try_add(endpoint, method, data)).problem(400, "invalid_id")
        bad = await queue.try_add(EXPENSES, method, {"_id": "a b"})
        bad.refused_field(400, "invalid_id", "/data/_id")


async def test_fields_out_of_range_are_refused_by_name(queue: Queue) -> None:
    for name, value in (
        ("maxAttempts", 0),
        ("maxAttempts", 21),
        ("priority", "high"),
        ("operationId", "x" * 129),
        ("deviceId", "a b"),
        ("baseVersion", -1),
        ("baseVersion", 2**64 - 1),
        ("status", "completed"),
        ("attempts", 3),
        ("userId", "bob"),
    ):
        answer = await queue.try_add(EXPENSES, "POST", SALARY, **{name: value})
        assert answer.status == 400, (name, value)
        answer.refused_name(400, json.loads(answer.raw)["code"], name)


async def test_a_bulk_is_added_whole_or_not_at_all_and_says_which_item_is_wrong(
    queue: Queue,
) -> None:
    right = one()
    for wrong, pointer in (
        (one("/api/invoices"), "/items/2/endpoint"),
        (one(method="GET"), "/items/2/method"),
        (one(priority="high"), "/items/2/priority"),
        (one(EXPENSES, "PUT", {"_id": "a b"}), "/items/2/data/_id"),
    ):
        answer = await queue.try_bulk([right, right, wrong, right])
        assert answer.status == 400
        answer.refused_field(400, json.loads(answer.raw)["code"], pointer)
    for items in ([], None, {}, [1], [[]]):
        assert (await queue.try_bulk(items)).status == 400  # type: ignore[arg-type]
    assert await queue.pending() == []


async def test_500_items_are_one_bulk_and_501_are_refused(queue: Queue) -> None:
    (await queue.try_bulk([one()] * 501)).refused_field(400, "invalid_value", "/items")
    assert await queue.pending() == []
    await queue.bulk([one()] * 500)
    assert len(await queue.pending()) == 500


async def test_bodies_may_be_compressed_and_are_bounded_inflated(api: Api, queue: Queue) -> None:
    body = json.dumps({"items": [one(data={**SALARY, "description": "x" * 900})] * 300}).encode()
    zipped = {"Content-Encoding": "gzip"}
    answer = await api.post_raw("/api/sync/bulk", gzip.compress(body), headers=zipped)
    assert answer.status == 201
    assert len(await queue.pending()) == 300
    large = json.dumps(one(data={"description": "x" * 1024 * 1024})).encode()
    for path in ("/api/sync/add", "/api/sync/bulk"):
        plain = await api.send("POST", path, data=io.BytesIO(large))
        plain.problem(413, "payload_too_large")
        answer = await api.post_raw(path, gzip.compress(large), headers=zipped)
        answer.problem(413, "payload_too_large")


# --- once ---------------------------------------------------------------------------------


async def test_an_add_repeated_with_its_operation_id_is_one_item(queue: Queue) -> None:
    first = await queue.add(EXPENSES, "POST", SALARY, operationId="op")
    again = await queue.add(EXPENSES, "POST", SALARY, operationId="op")
    assert again == first
    assert len(await queue.pending()) == 1
    assert await queue.process() == (1, 1, 0)
    done = await queue.add(EXPENSES, "POST", SALARY, operationId="op")
    assert (done["_id"], done["status"]) == (first["_id"], "completed")
    assert await queue.process() == (0, 0, 0)
    assert len(await queue.expenses()) == 1


async def test_an_add_repeated_with_its_idempotency_key_is_one_item(queue: Queue) -> None:
    key = {"Idempotency-Key": "a key"}
    first = await queue.add(EXPENSES, "POST", SALARY, headers=key)
    assert await queue.add(EXPENSES, "POST", SALARY, headers=key) == first
    await queue.add(EXPENSES, "POST", SALARY, headers={"Idempotency-Key": "another"})
    await queue.add(EXPENSES, "POST", SALARY)
    assert len(await queue.pending()) == 3


async def test_repeats_at_the_same_time_are_one_item(queue: Queue) -> None:
    adds = [queue.add(EXPENSES, "POST", SALARY, operationId="op") for _ in range(8)]
    assert len({item["_id"] for item in await asyncio.gather(*adds)}) == 1
    assert len(await queue.pending()) == 1


async def test_a_bulk_repeated_with_its_key_or_operation_ids_adds_nothing(queue: Queue) -> None:
    key = {"Idempotency-Key": "k"}
    mixed = [one(), one(operationId="own"), one(ORDERS, data=JOHN)]
    first = await queue.bulk(mixed, headers=key)
    assert len({item["_id"] for item in first}) == 3
    again = await queue.bulk(mixed, headers=key)
    assert [item["_id"] for item in again] == [item["_id"] for item in first]
    named = [one(operationId="a"), one(operationId="b"), one(operationId="a")]
    second = await queue.bulk(named)
    assert second[0] == second[2] != second[1]
    assert await queue.bulk(named) == second
    assert (await queue.add(EXPENSES, "POST", SALARY, operationId="own")) == first[1]
    assert len(await queue.pending()) == 5


async def test_an_operation_id_of_other_content_is_refused(queue: Queue) -> None:
    await queue.add(f"{EXPENSES}/1", "PUT", {"amount": 1}, operationId="op", baseVersion=1)
    for endpoint, method, data, base in (
        (f"{EXPENSES}/1", "PUT", {"amount": 2}, 1),
        (f"{EXPENSES}/2", "PUT", {"amount": 1}, 1),  # of another document
        (f"{ORDERS}/1", "PUT", {"amount": 1}, 1),
        (f"{EXPENSES}/1", "DELETE", {"amount": 1}, 1),
        (f"{EXPENSES}/1", "PUT", {"amount": 1}, 2),
    ):
        answer = await queue.try_add(endpoint, method, data, operationId="op", baseVersion=base)
        answer.problem(409, "operation_id_reused")
    (await queue.try_bulk([one(), one(operationId="op")])).problem(409, "operation_id_reused")
    two = [one(operationId="new"), one(data={**SALARY, "amount": 1}, operationId="new")]
    (await queue.try_bulk(two)).problem(409, "operation_id_reused")
    assert len(await queue.pending()) == 1


async def test_an_idempotency_key_of_another_request_is_refused(queue: Queue) -> None:
    key = {"Idempotency-Key": "k"}
    await queue.bulk([one(), one(ORDERS, data=JOHN)], headers=key)
    other = one(data={**SALARY, "amount": 1})
    for items in ([other, one()], [one()], [one(), one(ORDERS, data=JOHN), one()]):
        answer = await queue.try_bulk(items, headers=key)
        answer.problem(409, "operation_id_reused")
    answer = await queue.try_add(EXPENSES, "POST", other["data"], headers=key)
    answer.problem(409, "operation_id_reused")
    assert len(await queue.pending()) == 2


async def test_a_key_is_the_users_own(queue: Queue, others_queue: Queue) -> None:
    key = {"Idempotency-Key": "k"}
    mine = await queue.add(EXPENSES, "POST", SALARY, headers=key)
    other = {**SALARY, "amount": 7}
    theirs = await others_queue.add(EXPENSES, "POST", other, headers=key)
    named = await others_queue.add(EXPENSES, "POST", other, operationId="op")
    assert (await queue.add(EXPENSES, "POST", SALARY, operationId="op"))["_id"] != named["_id"]
    assert mine["_id"] != theirs["_id"]


async def test_a_key_that_is_none_is_refused(queue: Queue) -> None:
    for key in ("", "x" * 101, "a\u00a0b", "a\u202eb"):
        answer = await queue.try_add(EXPENSES, "POST", SALARY, headers={"Idempotency-Key": key})
        answer.problem(400, "invalid_value")


# --- listed -------------------------------------------------------------------------------


async def test_pages_have_every_item_once_in_the_order_added(api: Api, queue: Queue) -> None:
    added = [item["_id"] for item in await queue.bulk([one(priority=n % 3) for n in range(25)])]
    added += [(await queue.add(EXPENSES, "POST", SALARY))["_id"] for _ in range(3)]
    seen: list[str] = []
    cursor: Any = None
    while True:
        place = "" if cursor is None else f"&cursor={cursor}"
        page = (await api.get(f"/api/sync/pending?limit=10{place}")).ok()
        assert page["count"] == 28
        seen += [item["_id"] for item in page["syncs"]]
        if (cursor := page["cursor"]) is None:
            break
        assert len(page["syncs"]) == 10
    assert seen == added


async def test_a_page_of_no_sensible_size_is_refused(api: Api) -> None:
    for query in ("limit=0", "limit=501", "limit=x", "cursor=-1", "cursor=x", "page=2", "limit="):
        for name in ("pending", "failed"):
            assert (await api.get(f"/api/sync/{name}?{query}")).status == 400, query


# --- others' items ------------------------------------------------------------------------


async def test_nobody_sees_processes_clears_retries_or_discards_others_items(
    queue: Queue, others_queue: Queue
) -> None:
    waiting = await queue.add(EXPENSES, "POST", SALARY)
    poison = await queue.add(EXPENSES, "POST", {}, maxAttempts=1, priority=1)
    assert await others_queue.process() == (0, 0, 0)
    assert (await others_queue.api.send("DELETE", "/api/sync/clear")).ok()["deletedCount"] == 0
    assert await others_queue.pending() == []
    assert await queue.process() == (2, 1, 1)
    assert await others_queue.failed() == []
    assert await others_queue.expenses() == {}
    assert await others_queue.exported() == []
    for item in (waiting, poison):
        for answer in (
            await others_queue.retry(item),
            await others_queue.discard(item),
            await others_queue.resolve(item, "mine"),
        ):
            answer.problem(404, "not_found")
    assert [item["_id"] for item in await queue.failed()] == [poison["_id"]]


async def test_5000_items_wait_and_one_more_is_refused_until_there_is_room(
    queue: Queue, database: Database[dict[str, Any]]
) -> None:
    await queue.bulk([one(operationId=f"op {n}") for n in range(500)])
    items = database["sync_queue"]
    docs = list(items.find())
    for turn in range(9):  # what nine more bulks would store
        items.insert_many(
            {**doc, "_id": f"{turn} {doc['_id']}", "operation": f"{turn} {doc['operation']}"}
            for doc in docs
        )
    (await queue.try_add(EXPENSES, "POST", SALARY)).problem(409, "queue_full")
    (await queue.try_bulk([one()] * 2)).problem(409, "queue_full")
    await queue.add(EXPENSES, "POST", SALARY, operationId="op 0")  # is there already
    (first, *_) = (await queue.api.get("/api/sync/pending?limit=1")).ok()["syncs"]
    (await queue.discard(first)).ok()
    await queue.add(EXPENSES, "POST", SALARY)
    (await queue.try_add(EXPENSES, "POST", SALARY)).problem(409, "queue_full")
    assert (await queue.api.send("DELETE", "/api/sync/clear")).ok()["deletedCount"] == 5000
    await queue.add(EXPENSES, "POST", SALARY)
