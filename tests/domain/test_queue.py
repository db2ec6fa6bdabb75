"""The sync queue's rules: when it tries again, and which document an item is about."""

from typing import Any

import pytest

from domain.errors import AppError, Code
from domain.parsing import parse
from domain.queue import AddBody, Endpoints, Item, Method, Status, retry_delay

ALL = frozenset(Method)
ENDPOINTS = Endpoints(
    {
        "/api/expenses": ALL,
        "/api/orders": ALL,
        "/api/users": frozenset({Method.PUT}),
    }
)


def target(endpoint: str, method: str, **data: Any) -> tuple[str, Method, str]:
    body = parse(AddBody, {"endpoint": endpoint, "method": method, "data": data})
    return ENDPOINTS.target(body, "item", "ada")


def refused(endpoint: str, method: str, **data: Any) -> AppError:
    with pytest.raises(AppError) as caught:
        target(endpoint, method, **data)
    return caught.value


def item(**fields: Any) -> Item:
    known: dict[str, Any] = {
        "id": "i",
        "user_id": "ada",
        "number": 1,
        "endpoint": "/api/expenses/7",
        "path": "/api/expenses",
        "method": Method.PUT,
        "target_id": "7",
        "data": {"amount": 1},
        "created_at": 1_700_000_000_000,
        "updated_at": 1_700_000_001_000,
    }
    return Item(**{**known, **fields})


def test_the_back_off_is_5_10_20_40_and_then_80_seconds() -> None:
    waits = [retry_delay(attempts) / 1000 for attempts in range(1, 21)]
    assert waits == [5, 10, 20, 40, *[80] * 16]


def test_five_attempts_unless_the_item_says_otherwise() -> None:
    body = parse(AddBody, {"endpoint": "/api/expenses", "method": "POST"})
    assert (body.max_attempts, body.priority) == (5, 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("maxAttempts", value) for value in (0, 21, -1, 1.5, "5", None)),
        *(("priority", value) for value in (1.5, "high", None, True)),
        *(("operationId", value) for value in ("", "x" * 129, 7)),
        *(("baseVersion", value) for value in (-1, 2**63, 0.5, "1")),
        *(("deviceId", value) for value in ("a b", "", 7)),
        *(("data", value) for value in ([], "x", 1)),
        *(("method", value) for value in (None, 1)),
        *(("endpoint", value) for value in (None, 1, "x" * 301)),
        *(("status", "completed"), ("attempts", 0), ("userId", "bob"), ("_id", "x")),
    ],
)
def test_a_field_out_of_its_range_and_one_of_the_servers_is_refused_by_name(
    field: str, value: Any
) -> None:
    body = {"endpoint": "/api/expenses", "method": "POST", "data": {}, field: value}
    with pytest.raises(AppError) as caught:
        parse(AddBody, body)
    assert [fault.pointer for fault in caught.value.fields] == [f"/{field}"]


def test_a_new_document_has_the_id_that_its_data_bring_or_the_items() -> None:
    assert target("/api/expenses", "POST") == ("/api/expenses", Method.POST, "item")
    assert target("/api/expenses", "POST", _id="mine")[2] == "mine"
    assert target("/api/orders", "POST", id="mine")[2] == "mine"


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_the_id_is_in_the_path_or_in_the_data_as__id_or_id(method: str) -> None:
    wanted = ("/api/expenses", Method(method), "42")
    assert target("/api/expenses/42", method) == wanted
    assert target("/api/expenses", method, _id="42") == wanted
    assert target("/api/expenses", method, id="42") == wanted
    assert target("/api/expenses/42", method, _id="42", id="42") == wanted


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_without_an_id_nothing_can_be_changed(method: str) -> None:
    assert refused("/api/expenses", method).code is Code.MISSING_FIELD
    assert refused("/api/expenses", method, _id=None, id=None).code is Code.MISSING_FIELD
    assert refused("/api/expenses/", method).code is Code.INVALID_VALUE


def test_ids_that_contradict_each_other_are_refused() -> None:
    assert refused("/api/expenses/42", "PUT", _id="43").code is Code.INVALID_ID
    assert refused("/api/expenses/42", "PUT", id="43").code is Code.INVALID_ID
    assert refused("/api/expenses", "DELETE", _id="42", id="43").code is Code.INVALID_ID
    assert refused("/api/expenses", "POST", _id="42", id="43").code is Code.INVALID_ID


@pytest.mark.parametrize("bad", ["a b", "$where", "x" * 129, 7, ["x"], {"$gt": ""}, ""])
def test_an_id_that_is_none_is_refused_where_it_stands(bad: Any) -> None:
    for name in ("_id", "id"):
        error = refused("/api/expenses", "PUT", **{name: bad})
        assert error.code is Code.INVALID_ID
        assert [field.pointer for field in error.fields] == [f"/data/{name}"]


@pytest.mark.parametrize(
    "endpoint",
    [
        *("", "/", "api/expenses", "/api/expense", "/api/expenses/1/2", "/API/expenses"),
        *("/api/sync/process", "https://x.example/api/expenses", "/api/expenses?id=1"),
        "/api//expenses",
    ],
)
def test_an_endpoint_that_is_not_there_is_refused_with_those_that_are(endpoint: str) -> None:
    error = refused(endpoint, "POST")
    assert error.code in (Code.INVALID_VALUE, Code.INVALID_ID)
    assert [field.pointer for field in error.fields] == ["/endpoint"]
    if error.code is Code.INVALID_VALUE:
        for known in ("/api/expenses", "/api/orders", "/api/users", "POST", "PUT", "DELETE"):
            assert known in error.message


@pytest.mark.parametrize("method", ["GET", "PATCH", "HEAD", "", "$set", "P"])
def test_a_method_that_is_not_there_is_refused_with_those_that_are(method: str) -> None:
    error = refused("/api/expenses", method)
    assert error.code is Code.INVALID_VALUE
    assert [field.pointer for field in error.fields] == ["/method"]
    assert all(known in error.message for known in ("POST", "PUT", "DELETE"))


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_of_users_only_put_is_there(method: str) -> None:
    error = refused("/api/users", method)
    assert error.code is Code.INVALID_VALUE
    assert "PUT" in error.message


def test_a_post_takes_no_id_in_its_path() -> None:
    assert refused("/api/expenses/42", "POST").fields[0].pointer == "/endpoint"


def test_a_put_of_users_is_about_oneself() -> None:
    assert target("/api/users", "PUT", name="Ada") == ("/api/users", Method.PUT, "ada")


def test_items_about_one_document_are_in_one_chain_whatever_they_do_to_it() -> None:
    chains = {
        item(method=method, endpoint=endpoint).chain
        for method in Method
        for endpoint in ("/api/expenses", "/api/expenses/7")
    }
    assert len(chains) == 1
    assert item(path="/api/orders").chain not in chains
    assert item(target_id="8").chain not in chains


def test_an_item_shows_every_field_of_the_model() -> None:
    shown = item(status=Status.FAILED, error="no", retry_at=1_700_000_005_000).document()
    assert shown == {
        "_id": "i",
        "userId": "ada",
        "endpoint": "/api/expenses/7",
        "method": "PUT",
        "data": {"amount": 1},
        "status": "failed",
        "attempts": 0,
        "maxAttempts": 5,
        "error": "no",
        "responseData": None,
        "deviceId": None,
        "priority": 0,
        "retryAt": "2023-11-14T22:13:25.000Z",
        "createdAt": "2023-11-14T22:13:20.000Z",
        "updatedAt": "2023-11-14T22:13:21.000Z",
    }
