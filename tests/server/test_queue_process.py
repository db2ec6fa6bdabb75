"""What `/process` does: everything that is due, in its order, each in its own right."""

from datetime import datetime
from typing import Any

import pytest

from tests.queues import EXPENSES, JOHN, ORDERS, SALARY, USERS, Clock, Queue, one
from tests.rest import Api

pytestmark = pytest.mark.usefixtures("quiet", "no_worker", "shared_database", "clock")


def millis(text: str) -> float:
    return datetime.fromisoformat(text).timestamp() * 1000


async def in_order(queue: Queue) -> list[str]:
    """The operation of each completed item, in the order in which they were completed."""
    done = [item for item in await queue.exported() if item["status"] == "completed"]
    return [item["deviceId"] for item in sorted(done, key=lambda item: str(item["updatedAt"]))]


# --- what it can do -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "fields", "change"),
    [(EXPENSES, SALARY, {"amount": 12.3}), (ORDERS, JOHN, {"status": "paid"})],
)
async def test_documents_are_made_changed_and_removed_as_over_rest(
    api: Api, queue: Queue, path: str, fields: dict[str, Any], change: dict[str, Any]
) -> None:
    made = await queue.add(path, "POST", fields)
    named = await queue.add(path, "POST", {**fields, "_id": "mine"})
    assert await queue.process() == (2, 2, 0)
    ids = {made["_id"], "mine"}
    for item in (made, named):
        item = await queue.item(item)
        assert (item["status"], item["attempts"], item["error"]) == ("completed", 1, None)
        document = (await api.get(f"{path}/{item['responseData']['_id']}")).ok()
        assert item["responseData"] == document
        assert document.items() >= fields.items()
        ids.remove(document["_id"])

    for endpoint, data in (
        (f"{path}/mine", {}),
        (path, {"_id": "mine"}),
        (path, {"id": "mine"}),
    ):
        put = await queue.add(endpoint, "PUT", {**change, **data})
        assert await queue.process() == (1, 1, 0)
        document = (await api.get(f"{path}/mine")).ok()
        assert document.items() >= {**fields, **change}.items()
        assert (await queue.item(put))["responseData"] == document
    assert document["version"] == 4

    await queue.bulk([one(f"{path}/mine", "DELETE", {}), one(path, "DELETE", {"id": made["_id"]})])
    assert await queue.process() == (2, 2, 0)
    assert (await api.get(path)).ok()["count"] == 0


async def test_a_post_brings_the_id_that_later_offline_changes_use(queue: Queue) -> None:
    await queue.bulk(
        [
            one(data={**SALARY, "_id": "offline-1"}),
            one(f"{EXPENSES}/offline-1", "PUT", {"amount": 7}),
            one(data={**SALARY, "_id": "offline-2"}),
            one(EXPENSES, "DELETE", {"_id": "offline-2"}),
            one(data={**SALARY, "id": "offline-2", "amount": 8}),
        ]
    )
    assert await queue.process() == (5, 5, 0)
    found = await queue.expenses()
    assert {name: one["amount"] for name, one in found.items()} == {"offline-1": 7, "offline-2": 8}


async def test_one_changes_ones_own_profile_and_its_fields_only(api: Api, queue: Queue) -> None:
    await queue.add(USERS, "PUT", {"name": "Ada", "bio": "x"})
    await queue.add(USERS, "PUT", {"_id": "ada", "bio": "mathematician"})
    await queue.add(f"{USERS}/ada", "PUT", {"custom": {"theme": "dark"}})
    assert await queue.process() == (3, 3, 0)
    profile = (await api.get("/users/ada")).ok()
    assert (profile["name"], profile["bio"]) == ("Ada", "mathematician")
    assert profile["custom"] == {"theme": "dark"}
    for name, value in (
        *(("role", "admin"), ("xp", 5), ("passwordHash", "x"), ("guest", True)),
        *(("$set", {}), ("email", "eve@example.com")),
    ):
        item = await queue.add(USERS, "PUT", {"bio": "changed", name: value}, maxAttempts=1)
        assert await queue.process() == (1, 0, 1), name
        assert name in (await queue.item(item))["error"]
        (await queue.discard(item)).ok()
    assert (await api.get("/users/ada")).ok()["bio"] == "mathematician"


async def test_nobody_changes_another_ones_profile(
    api: Api, queue: Queue, others_queue: Queue
) -> None:
    await others_queue.add(USERS, "PUT", {"name": "Bob"})
    assert await others_queue.process() == (1, 1, 0)
    for endpoint, data in (
        (f"{USERS}/bob", {}),
        (USERS, {"_id": "bob"}),
        (USERS, {"id": "bob"}),
    ):
        answer = await queue.try_add(endpoint, "PUT", {"name": "Eve", **data}, maxAttempts=1)
        assert answer.status in (201, 400, 403)
    await queue.process()
    assert (await others_queue.api.get("/users/bob")).ok()["name"] == "Bob"
    assert "completed" not in {item["status"] for item in await queue.exported()}


async def test_amounts_are_exact_to_15_digits(queue: Queue) -> None:
    amounts = ["0.1", "0.2", "123456789012345", "-999999999999999", "12345678901234.5"]
    for text in (*amounts, "123456789.123456"):
        data = f'{{"amount":{text},"category":""}}'
        body = f'{{"endpoint":"{EXPENSES}","method":"POST","data":{data}}}'
        assert (await queue.api.post_raw("/api/sync/add", body.encode())).status == 201
    assert await queue.process() == (6, 6, 0)
    shown = {expense["amount"] for expense in (await queue.expenses()).values()}
    assert shown == {*map(float, amounts), 123456789.123456}


async def test_data_that_do_not_fit_fail_alone_with_what_is_wrong(queue: Queue) -> None:
    wrong: dict[str, Any] = {
        "amount": {"amount": "12.30", "category": "x"},
        "category": {"amount": 1},
        "colour": {**SALARY, "colour": "red"},
        "date": {**SALARY, "date": "some day"},
    }
    bad = await queue.bulk([one(data=data, deviceId=name) for name, data in wrong.items()])
    good = await queue.bulk([one(), one(ORDERS, data=JOHN), one(priority=-5)])
    assert await queue.process() == (7, 3, 4)
    waiting = {item["_id"]: item for item in await queue.pending()}
    assert waiting.keys() == {item["_id"] for item in bad}
    for item in waiting.values():
        assert item["deviceId"] in item["error"]
        assert (item["status"], item["attempts"]) == ("pending", 1)
    for item in good:
        assert (await queue.item(item))["status"] == "completed"


# --- in which order -----------------------------------------------------------------------


async def test_the_highest_priority_is_first_and_else_what_was_added_first(queue: Queue) -> None:
    priorities = [0, 5, -3, 5, 0, 1000, -1000]
    items = [one(priority=p, deviceId=f"{n}") for n, p in enumerate(priorities)]
    await queue.bulk(items[:4])
    for item in items[4:]:
        await queue.add(**item)
    assert await queue.process() == (7, 7, 0)
    assert await in_order(queue) == ["5", "1", "3", "0", "4", "2", "6"]


async def test_of_one_document_the_order_added_counts_whatever_the_priority(queue: Queue) -> None:
    await queue.add(EXPENSES, "POST", {**SALARY, "_id": "x"}, deviceId="0", priority=-5)
    await queue.bulk(
        [
            one(f"{EXPENSES}/x", "PUT", {"amount": 1}, deviceId="1", priority=9),
            one(EXPENSES, "PUT", {"_id": "x", "amount": 2}, deviceId="2", priority=99),
            one(deviceId="other", priority=1),
            one(f"{ORDERS}/x", "DELETE", {}, deviceId="order", priority=2),
        ]
    )
    await queue.add(EXPENSES, "PUT", {"id": "x", "amount": 3}, deviceId="3", priority=0)
    assert await queue.process() == (6, 6, 0)
    assert await in_order(queue) == ["order", "other", "0", "1", "2", "3"]
    assert (await queue.expenses())["x"]["amount"] == 3


async def test_at_most_50_items_are_processed_at_once_the_most_urgent_ones(queue: Queue) -> None:
    await queue.bulk([one(priority=n) for n in range(120)])
    assert await queue.process() == (50, 50, 0)
    assert [item["priority"] for item in await queue.pending()] == list(range(70))
    assert await queue.process() == (50, 50, 0)
    assert await queue.process() == (20, 20, 0)
    assert await queue.process() == (0, 0, 0)
    assert len(await queue.expenses()) == 120


# --- when it is tried again ---------------------------------------------------------------


async def test_it_is_tried_again_after_5_10_20_and_40_s_and_then_has_failed(
    queue: Queue, clock: Clock
) -> None:
    added = await queue.add(f"{EXPENSES}/missing", "PUT", {"amount": 1})
    for attempts, wait in enumerate((5, 10, 20, 40), start=1):
        assert await queue.process() == (1, 0, 1)
        (item,) = await queue.pending()
        assert (item["_id"], item["status"]) == (added["_id"], "pending")
        assert (item["attempts"], item["maxAttempts"]) == (attempts, 5)
        assert item["error"]
        assert millis(item["retryAt"]) - millis(item["updatedAt"]) == wait * 1000
        assert await queue.process() == (0, 0, 0)
        clock.forward(wait - 3)
        assert await queue.process() == (0, 0, 0)
        clock.forward(3)
    assert await queue.process() == (1, 0, 1)
    assert await queue.pending() == []
    (item,) = await queue.failed()
    assert (item["_id"], item["status"], item["attempts"]) == (added["_id"], "failed", 5)
    clock.forward(30 * 86_400)
    assert await queue.process() == (0, 0, 0)


async def test_more_attempts_come_every_80_s(queue: Queue, clock: Clock) -> None:
    await queue.add(f"{EXPENSES}/missing", "PUT", {"amount": 1}, maxAttempts=8)
    waits = []
    for _ in range(7):
        assert await queue.process() == (1, 0, 1)
        (item,) = await queue.pending()
        waits.append((millis(item["retryAt"]) - millis(item["updatedAt"])) / 1000)
        clock.forward(80)
    assert waits == [5, 10, 20, 40, 80, 80, 80]
    assert await queue.process() == (1, 0, 1)
    assert [item["attempts"] for item in await queue.failed()] == [8]


async def test_what_failed_at_first_succeeds_when_its_cause_is_gone(
    api: Api, queue: Queue, clock: Clock
) -> None:
    item = await queue.add(f"{EXPENSES}/late", "PUT", {"amount": 1})
    assert await queue.process() == (1, 0, 1)
    assert (await api.post(EXPENSES, {**SALARY, "_id": "late"})).status == 201
    clock.forward(6)
    assert await queue.process() == (1, 1, 0)
    done = await queue.item(item)
    assert (done["status"], done["attempts"], done["error"]) == ("completed", 2, None)
    assert done["responseData"]["amount"] == 1


async def test_a_single_attempt_is_one(queue: Queue) -> None:
    await queue.add(EXPENSES, "POST", {"amount": 1}, maxAttempts=1)
    assert await queue.process() == (1, 0, 1)
    (item,) = await queue.failed()
    assert (item["status"], item["attempts"], item["maxAttempts"]) == ("failed", 1, 1)
