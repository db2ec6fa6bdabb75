"""What an attack on the running server found in the queue and in sync."""

from typing import Any

import pytest

from tests.queues import EXPENSES, SALARY, Queue
from tests.rest import Api

pytestmark = pytest.mark.usefixtures("quiet", "no_worker")


async def test_an_operation_id_is_a_devices_own(queue: Queue) -> None:
    one = await queue.add(EXPENSES, "POST", SALARY, operationId="op-1", deviceId="d1")
    two = await queue.add(EXPENSES, "POST", SALARY, operationId="op-1", deviceId="d2")
    again = await queue.add(EXPENSES, "POST", SALARY, operationId="op-1", deviceId="d1")
    assert one["_id"] == again["_id"] != two["_id"]
    assert await queue.process() == (2, 2, 0)


async def test_the_noise_of_arithmetic_is_none_of_an_amount(api: Api) -> None:
    for sent, kept in ((0.1 + 0.2, 0.3), (3 * 1.1, 3.3), (4.35 * 100, 435)):
        answer = await api.post(EXPENSES, {**SALARY, "amount": sent})
        assert answer.status == 201, answer
        assert answer.json["amount"] == kept
    for sent in (1234567890.123456, 1 / 3):
        answer = await api.post(EXPENSES, {**SALARY, "amount": sent})
        answer.refused_field(400, "invalid_value", "/amount")


async def test_a_page_of_large_items_ends_early_and_the_next_goes_on(queue: Queue) -> None:
    large: dict[str, Any] = {**SALARY, "description": "x" * 200_000}
    added = {(await queue.add(EXPENSES, "POST", large))["_id"] for _ in range(25)}
    first = (await queue.api.get("/api/sync/pending?limit=500")).ok()
    assert first["count"] == 25
    assert 0 < len(first["syncs"]) < 25
    second = (await queue.api.get(f"/api/sync/pending?cursor={first['cursor']}")).ok()
    assert second["cursor"] is None
    assert {item["_id"] for item in first["syncs"] + second["syncs"]} == added


async def test_an_item_as_large_as_no_rest_body_may_be_is_refused(queue: Queue) -> None:
    answer = await queue.try_add(EXPENSES, "POST", {**SALARY, "description": "x" * 300_000})
    answer.refused_field(400, "invalid_value", "/data")


async def test_somebody_elses_profile_is_refused_at_once(queue: Queue) -> None:
    (await queue.try_add("/api/users/bob", "PUT", {"bio": "x"})).problem(403, "forbidden")
    (await queue.try_add("/api/users", "PUT", {"id": "bob"})).problem(403, "forbidden")


async def test_a_full_pull_is_answered_whatever_the_epoch(api: Api) -> None:
    old = {"deviceId": "d", "epoch": "another", "lastSyncTimestamp": "2026-01-01T00:00:00.000Z"}
    (await api.post("/api/sync", old)).problem(410, "full_sync_required")
    assert (await api.post("/api/sync", {**old, "lastSyncTimestamp": None})).ok()["success"]
