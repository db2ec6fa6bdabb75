"""A person's queue and resources: exported whole, erased whole, and nothing comes afterwards."""

from typing import Any

import pytest
from bson import BSON, json_util
from pymongo.database import Database

from tests.queues import EXPENSES, JOHN, ORDERS, SALARY, Clock, Queue, one
from tests.rest import Api
from tests.serving import Served

pytestmark = pytest.mark.usefixtures("quiet", "no_worker", "shared_database", "clock")
CANARY = "canary-5d1f"


async def fill(queue: Queue) -> None:
    """Items in every state and documents of every kind, each with the canary."""
    text = {"description": f"{CANARY} x"}
    path = f"{EXPENSES}/{CANARY}-id"
    api = queue.api
    assert (await api.post(EXPENSES, {**SALARY, **text, "_id": f"{CANARY}-id"})).status == 201
    assert (await api.post(ORDERS, {**JOHN, "patientName": CANARY})).status == 201
    stale = one(path, "PUT", text, baseVersion=7, deviceId=CANARY)
    failing = one(data={CANARY: 1}, maxAttempts=1, operationId=CANARY)
    await queue.bulk([one(data={**SALARY, **text}), one(ORDERS, data=JOHN | text), stale, failing])
    assert await queue.process() == (4, 2, 2)
    key = {"Idempotency-Key": CANARY}
    await queue.bulk([one(data={**SALARY, **text}), one(path, "DELETE", {})], headers=key)


def found(database: Database[dict[str, Any]], text: str) -> list[str]:
    """The collections in which `text` is anywhere."""
    return [
        name
        for name in database.list_collection_names()
        if any(
            text in json_util.dumps(doc) or text.encode() in BSON.encode(doc)
            for doc in database[name].find()
        )
    ]


async def test_the_export_has_every_item_and_every_document(queue: Queue) -> None:
    await fill(queue)
    items = await queue.exported()
    assert sorted(item["status"] for item in items) == [
        *("completed", "completed", "conflict", "failed", "pending", "pending")
    ]
    assert all(item["userId"] == "ada" for item in items)
    documents = await queue.exported("resources")
    assert sorted(document["kind"] for document in documents) == [
        *("expenses", "expenses", "orders", "orders")
    ]
    assert {document["_id"] for document in documents} >= {*(await queue.expenses())}


async def test_nothing_is_left_of_an_erased_person_and_nothing_comes_back(
    served: Served,
    queue: Queue,
    others_queue: Queue,
    database: Database[dict[str, Any]],
) -> None:
    await fill(queue)
    await others_queue.add(EXPENSES, "POST", {**SALARY, "_id": "bobs"})
    await others_queue.process()
    assert {"sync_queue", "resources"} <= {*found(database, CANARY)}
    (await queue.api.send("DELETE", "/api/auth/me")).ok()
    assert found(database, CANARY) == []
    assert database["sync_queue"].count_documents({"user": "ada"}) == 0
    assert database["resources"].count_documents({"user": "ada"}) == 0

    api = queue.api
    for answer in (
        await queue.try_add(EXPENSES, "POST", {**SALARY, "description": CANARY}),
        await queue.try_add(EXPENSES, "POST", {**SALARY, CANARY: 1}, operationId=CANARY),
        await queue.try_bulk([one()], headers={"Idempotency-Key": CANARY}),
        await api.post(EXPENSES, {**SALARY, "description": CANARY}),
        await api.send("PUT", f"{EXPENSES}/{CANARY}-id", json={"amount": 1}),
        await api.send("DELETE", f"{EXPENSES}/{CANARY}-id"),
        await api.post(ORDERS, {**JOHN, "patientName": CANARY}),
    ):
        answer.problem(410, "erased")
    assert await queue.process() == (0, 0, 0)
    assert found(database, CANARY) == []
    assert (await others_queue.expenses()).keys() == {"bobs"}


async def test_a_second_erasure_changes_nothing_and_other_instances_refuse_too(
    queue: Queue, clock: Clock, http: Any
) -> None:
    await queue.add(EXPENSES, "POST", SALARY)
    for _ in range(2):
        assert (await queue.api.send("DELETE", "/api/auth/me")).status in (200, 410)
    (await queue.try_add(EXPENSES, "POST", SALARY)).problem(410, "erased")
    clock.forward(86_400)
    assert await Queue(Api(http, "bob")).process() == (0, 0, 0)
