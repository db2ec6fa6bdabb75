"""A change as it comes: valid by itself, or refused naming the field."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import AppError, Code
from domain.sync.changes import Change, Operation, parse_change, shown_ids
from domain.sync.entities import BOOKKEEPING, BUILT_IN, EntityTypes

TYPES = EntityTypes(BUILT_IN)
NOON = 1_767_009_600_000
GOOD: dict[str, Any] = {
    "operationId": "op-1",
    "id": "550e8400-e29b-41d4-a716-446655440000",
    "entityType": "item",
    "operation": "create",
    "data": {"title": "Watch Inception", "movieId": "27205"},
    "timestamp": "2025-12-29T12:00:00.000Z",
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*GOOD, "deviceId", "x"]), inner, max_size=7)
    ),
    max_leaves=10,
)


def parsed(**other: Any) -> Change:
    return parse_change(TYPES, {**GOOD, **other}, "phone")


def refusal(payload: Any) -> AppError:
    with pytest.raises(AppError) as caught:
        parse_change(TYPES, payload, "phone")
    return caught.value


def test_a_good_change_is_taken_as_it_is() -> None:
    change = parsed()
    assert change.op_key == ("phone", "op-1", "item", GOOD["id"])
    assert change.key == ("item", GOOD["id"])
    assert change.operation is Operation.CREATE
    assert change.data == GOOD["data"]
    assert change.timestamp == NOON


def test_a_change_may_name_another_device() -> None:
    assert parsed(deviceId="tablet").device_id == "tablet"
    assert parsed(deviceId=None).device_id == "phone"


def test_only_the_fields_that_were_sent_are_there() -> None:
    assert parsed(data={}).data == {}
    assert parsed(data={"notes": None}).data == {"notes": None}


def test_the_bookkeeping_of_a_row_is_left_out() -> None:
    row = dict.fromkeys(BOOKKEEPING, "whatever") | {"id": GOOD["id"], "_id": GOOD["id"]}
    change = parsed(data={**row, **GOOD["data"]})
    assert change.data == GOOD["data"]
    assert change.content == parsed().content


def test_the_id_inside_the_data_must_be_the_changes() -> None:
    for name in ("id", "_id"):
        error = refusal({**GOOD, "data": {name: "another"}})
        assert error.code is Code.INVALID_VALUE
        assert name in error.message


def test_a_deletion_needs_no_data_and_heeds_none() -> None:
    for data in (None, {}, {"poster": 1}, 5, [1]):
        assert parsed(operation="delete", data=data).data == {}
    without = {name: value for name, value in GOOD.items() if name != "data"}
    assert parse_change(TYPES, {**without, "operation": "delete"}, "phone").data == {}
    assert refusal({**without, "operation": "update"}).fields[0].pointer == "/data"


def test_content_is_the_same_for_what_means_the_same() -> None:
    same = parsed(data={"movieId": "27205", "title": "Watch Inception"}, timestamp=NOON)
    assert same.content == parsed().content
    assert parsed(data={"order": 2}).content == parsed(data={"order": 2.0}).content


def test_content_differs_with_operation_data_and_time() -> None:
    some = [
        parsed(),
        parsed(operation="update"),
        parsed(operation="delete"),
        parsed(timestamp=NOON + 1),
        parsed(data={}),
        parsed(data={"title": None}),
        parsed(data={"order": 1}),
        parsed(data={"isDefault": True}, entityType="space"),
        parsed(data={"isDefault": False}, entityType="space"),
    ]
    assert len({change.content for change in some}) == len(some)


@pytest.mark.parametrize("field", ["poster", "rating", "$set", "a.b", "__proto__", "movie_id"])
def test_unknown_fields_are_refused_by_name(field: str) -> None:
    error = refusal({**GOOD, "data": {field: 1}})
    assert error.code is Code.UNKNOWN_FIELD
    assert error.fields[0].pointer == f"/data/{field}"
    assert field in error.message


@given(JSON)
def test_any_json_is_a_change_or_refused(payload: Any) -> None:
    with suppress(AppError):
        assert parse_change(TYPES, payload, "phone").op_key
    shown_ids(payload)


@given(st.dictionaries(st.sampled_from([*GOOD, "deviceId"]), JSON, max_size=3))
def test_any_field_of_any_json_is_a_change_or_refused(other: Any) -> None:
    with suppress(AppError):
        assert parsed(**other).op_key


def test_shown_ids_are_short_texts_or_nothing() -> None:
    assert shown_ids({"operationId": "x" * 500, "id": 5}) == {"operationId": "x" * 128, "id": None}
    for payload in (None, 1, "x", [], [{}]):
        assert shown_ids(payload) == {"operationId": None, "id": None}
