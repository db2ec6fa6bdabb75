"""Expenses and orders: their fields, what is needed of them, what is the server's own."""

from decimal import Decimal
from typing import Any

import pytest

from domain.errors import AppError, Code
from domain.resources import BOOKKEEPING, BUILT_IN, Document

EXPENSES, ORDERS = BUILT_IN
NOW = 1_700_000_000_000
EXPENSE = {"amount": 100, "category": "Salary"}
ORDER = {"patientName": "John", "totalAmount": 5000}


def new(kind: Any, data: dict[str, Any]) -> dict[str, Any]:
    return dict(kind.new(kind.parse(data), NOW))


def refused(kind: Any, data: dict[str, Any]) -> AppError:
    with pytest.raises(AppError) as caught:
        new(kind, data)
    return caught.value


def test_an_expense_as_the_source_document_has_it() -> None:
    given = {**EXPENSE, "date": "2025-12-10T10:00:00Z", "description": "Monthly salary"}
    assert new(EXPENSES, given) == {
        "amount": Decimal(100),
        "category": "Salary",
        "date": "2025-12-10T10:00:00.000Z",
        "description": "Monthly salary",
    }


def test_a_document_without_a_date_is_of_now() -> None:
    for kind, given in ((EXPENSES, EXPENSE), (ORDERS, ORDER)):
        assert new(kind, given)["date"] == "2023-11-14T22:13:20.000Z"


@pytest.mark.parametrize(
    ("kind", "given", "needed"),
    [
        *((EXPENSES, EXPENSE, name) for name in EXPENSE),
        *((ORDERS, ORDER, name) for name in ORDER),
    ],
)
def test_a_new_one_without_a_needed_field_is_refused_by_its_name(
    kind: Any, given: dict[str, Any], needed: str
) -> None:
    error = refused(kind, {name: value for name, value in given.items() if name != needed})
    assert error.code is Code.MISSING_FIELD
    assert [field.pointer for field in error.fields] == [f"/{needed}"]


def test_a_change_needs_nothing_and_changes_what_it_has() -> None:
    for kind in BUILT_IN:
        assert kind.changed(kind.parse({})) == {}
        assert kind.changed(kind.parse({"description": "x"})) == {"description": "x"}


def test_the_servers_own_fields_of_a_pulled_document_may_come_back() -> None:
    stored = Document("7", new(EXPENSES, EXPENSE), NOW, NOW, 3)
    assert EXPENSES.changed(EXPENSES.parse(stored.shown())) == stored.fields
    assert {"_id", "id", "version", "createdAt", "updatedAt"} <= BOOKKEEPING


@pytest.mark.parametrize(
    ("kind", "field", "value", "code"),
    [
        (EXPENSES, "amount", "12.30", Code.INVALID_TYPE),
        (EXPENSES, "amount", None, Code.INVALID_TYPE),
        (EXPENSES, "amount", True, Code.INVALID_TYPE),
        (EXPENSES, "amount", {"$inc": 1}, Code.INVALID_TYPE),
        (EXPENSES, "amount", 0.1234567, Code.INVALID_VALUE),
        (EXPENSES, "category", 7, Code.INVALID_TYPE),
        (EXPENSES, "category", "x" * 201, Code.INVALID_VALUE),
        (EXPENSES, "date", "yesterday", Code.INVALID_VALUE),
        (EXPENSES, "date", None, Code.INVALID_VALUE),
        (EXPENSES, "$set", {"amount": 1}, Code.UNKNOWN_FIELD),
        (EXPENSES, "patientName", "John", Code.UNKNOWN_FIELD),
        (ORDERS, "totalAmount", "5000", Code.INVALID_TYPE),
        (ORDERS, "patientName", ["John"], Code.INVALID_TYPE),
        (ORDERS, "status", 1, Code.INVALID_TYPE),
        (ORDERS, "lines", {}, Code.INVALID_TYPE),
        (ORDERS, "amount", 1, Code.UNKNOWN_FIELD),
    ],
)
def test_a_field_that_does_not_fit_is_refused_by_its_name(
    kind: Any, field: str, value: Any, code: Code
) -> None:
    given = EXPENSE if kind is EXPENSES else ORDER
    error = refused(kind, {**given, field: value})
    assert error.code is code
    assert [fault.pointer for fault in error.fields] == [f"/{field}"]


def test_the_lines_of_an_order_are_exact_too() -> None:
    lines = [{"description": "Tea", "quantity": 3, "price": 0.1}, {"description": "Cake"}]
    stored = new(ORDERS, {**ORDER, "lines": lines})
    assert stored["lines"][0] == {"description": "Tea", "quantity": 3, "price": Decimal("0.1")}
    shown = Document("7", stored, NOW, NOW).shown()
    assert shown["lines"][0] == lines[0]


@pytest.mark.parametrize(
    ("line", "pointer"),
    [
        ({}, "/lines/0/description"),
        ({"description": "x", "quantity": 0}, "/lines/0/quantity"),
        ({"description": "x", "quantity": 1.5}, "/lines/0/quantity"),
        ({"description": "x", "price": "1"}, "/lines/0/price"),
        ({"description": "x", "total": 1}, "/lines/0/total"),
    ],
)
def test_a_line_that_does_not_fit_is_refused_where_it_stands(
    line: dict[str, Any], pointer: str
) -> None:
    error = refused(ORDERS, {**ORDER, "lines": [line]})
    assert [fault.pointer for fault in error.fields] == [pointer]


def test_a_document_shows_its_id_twice_its_version_and_its_times() -> None:
    shown = Document("7", new(EXPENSES, EXPENSE), NOW, NOW + 1, 2).shown()
    assert shown == {
        "_id": "7",
        "id": "7",
        "amount": 100,
        "category": "Salary",
        "date": "2023-11-14T22:13:20.000Z",
        "version": 2,
        "createdAt": "2023-11-14T22:13:20.000Z",
        "updatedAt": "2023-11-14T22:13:20.001Z",
    }
