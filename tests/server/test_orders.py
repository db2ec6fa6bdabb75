"""Orders over REST: as expenses, with lines."""

from typing import Any

import pytest

from tests.queues import EXPENSES, JOHN, ORDERS, SALARY
from tests.rest import Api

pytestmark = [pytest.mark.usefixtures("quiet", "no_worker", "shared_database")]

LINES = [
    {"description": "Aspirin", "quantity": 3, "price": 0.1},
    {"description": "Consultation", "quantity": 1, "price": 4999.7},
]


async def test_an_order_has_lines_a_status_and_exact_amounts(api: Api) -> None:
    answer = await api.post(ORDERS, {**JOHN, "lines": LINES, "status": "open"})
    assert answer.status == 201
    order = answer.json
    assert order.items() >= {**JOHN, "lines": LINES, "status": "open", "version": 1}.items()
    path = f"{ORDERS}/{order['_id']}"
    assert (await api.get(path)).ok() == order
    changed = (await api.send("PUT", path, json={"status": "paid"})).ok()
    assert changed.items() >= {**JOHN, "lines": LINES, "status": "paid", "version": 2}.items()
    changed = (await api.send("PUT", path, json={"lines": LINES[:1]})).ok()
    assert (changed["lines"], changed["status"]) == (LINES[:1], "paid")
    assert (await api.get(ORDERS)).ok() == {
        "orders": [changed],
        "count": 1,
        "total": 5000,
        "cursor": None,
    }
    (await api.send("DELETE", path)).ok()
    (await api.get(path)).problem(404, "not_found")


async def test_the_total_is_of_their_total_amounts(api: Api) -> None:
    for amount in (0.1, 0.2, 0.3):
        order = {"patientName": "John", "totalAmount": amount, "lines": LINES}
        assert (await api.post(ORDERS, order)).status == 201
    page = (await api.get(f"{ORDERS}?limit=2")).ok()
    assert (len(page["orders"]), page["count"], page["total"]) == (2, 3, 0.6)


@pytest.mark.parametrize(
    ("change", "pointer", "code"),
    [
        ({"totalAmount": "5"}, "/totalAmount", "invalid_type"),
        ({"patientName": None}, "/patientName", "invalid_type"),
        ({"amount": 5}, "/amount", "unknown_field"),
    ],
)
async def test_a_field_that_does_not_fit_is_refused_by_name(
    api: Api, change: dict[str, Any], pointer: str, code: str
) -> None:
    (await api.post(ORDERS, {**JOHN, **change})).refused_field(400, code, pointer)
    lines = {"lines": [LINES[0], {"description": "x", "quantity": 0}]}
    (await api.post(ORDERS, {**JOHN, **lines})).refused_field(
        400, "invalid_value", "/lines/1/quantity"
    )
    for name in JOHN:
        rest = {key: value for key, value in JOHN.items() if key != name}
        (await api.post(ORDERS, rest)).refused_field(400, "missing_field", f"/{name}")


async def test_an_order_and_an_expense_may_have_the_same_id(api: Api) -> None:
    assert (await api.post(ORDERS, {**JOHN, "_id": "x"})).status == 201
    assert (await api.post(EXPENSES, {**SALARY, "_id": "x"})).status == 201
    (await api.send("DELETE", f"{ORDERS}/x")).ok()
    assert (await api.get(f"{EXPENSES}/x")).ok()["amount"] == 100
