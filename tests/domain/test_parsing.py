"""A client's JSON becomes a model, or an AppError that names the field."""

from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from domain.errors import AppError, Code
from domain.parsing import MAX_FIELDS_SHOWN, Id, Payload, parse
from tests.domain.strategies import any_json, any_names, fault_of


class Seat(Payload):
    row: int
    with_view: bool = False


class Booking(Payload):
    user_id: Id
    device_id: Id | None = None
    note: Annotated[str, Field(max_length=5)] = ""
    price: float = 0
    meal: Literal["none", "small"] = "none"
    seats: list[Seat] = Field(default_factory=list)
    extras: dict[str, Any] = Field(default_factory=dict)
    friends: list[Id] = Field(default_factory=list)


NAMES = ["userId", "deviceId", "note", "price", "meal", "seats", "extras", "friends", "a/b~c"]


def refusal(**changes: object) -> AppError:
    with pytest.raises(AppError) as caught:
        parse(Booking, {"userId": "u"} | changes)
    return caught.value


def test_camel_case_names_become_the_models() -> None:
    booking = parse(Booking, {"userId": "u", "seats": [{"row": 1, "withView": True}], "price": 2})
    assert booking == Booking(userId="u", seats=[Seat(row=1, withView=True)], price=2)
    assert booking.seats[0].with_view


@given(any_json | st.dictionaries(st.sampled_from(NAMES) | any_names, any_json))
def test_any_json_is_a_model_or_an_app_error(payload: object) -> None:
    error = fault_of(parse, Booking, payload)
    assert error is None or not error.retryable
    assert error is None or len(error.fields) <= MAX_FIELDS_SHOWN


@pytest.mark.parametrize("payload", [None, True, 1, "u", [], [{"userId": "u"}]])
def test_a_payload_is_an_object(payload: object) -> None:
    with pytest.raises(AppError) as caught:
        parse(Booking, payload)
    assert caught.value.code == Code.INVALID_TYPE


@pytest.mark.parametrize(
    ("changes", "code", "pointer"),
    [
        ({"user_id": "u"}, Code.UNKNOWN_FIELD, "/user_id"),
        ({"nope": 1}, Code.UNKNOWN_FIELD, "/nope"),
        ({"__proto__": {}}, Code.UNKNOWN_FIELD, "/__proto__"),
        ({"seats": [{"row": 1, "nope": 1}]}, Code.UNKNOWN_FIELD, "/seats/0/nope"),
        ({"seats": [{"row": 1}, {}]}, Code.MISSING_FIELD, "/seats/1/row"),
        ({"note": 1}, Code.INVALID_TYPE, "/note"),
        ({"note": None}, Code.INVALID_TYPE, "/note"),
        ({"note": "longer"}, Code.INVALID_VALUE, "/note"),
        ({"price": "2"}, Code.INVALID_TYPE, "/price"),
        ({"price": True}, Code.INVALID_TYPE, "/price"),
        ({"price": float("nan")}, Code.INVALID_VALUE, "/price"),
        ({"price": float("inf")}, Code.INVALID_VALUE, "/price"),
        ({"meal": "large"}, Code.INVALID_VALUE, "/meal"),
        ({"seats": {}}, Code.INVALID_TYPE, "/seats"),
        ({"seats": [1]}, Code.INVALID_TYPE, "/seats/0"),
        ({"seats": [{"row": 1.0}]}, Code.INVALID_TYPE, "/seats/0/row"),
        ({"seats": [{"row": 1, "withView": 1}]}, Code.INVALID_TYPE, "/seats/0/withView"),
        ({"extras": []}, Code.INVALID_TYPE, "/extras"),
        ({"userId": "a b"}, Code.INVALID_ID, "/userId"),
        ({"deviceId": ""}, Code.INVALID_ID, "/deviceId"),
        ({"userId": 1}, Code.INVALID_TYPE, "/userId"),
    ],
)
def test_a_fault_has_its_code_and_the_place_it_is_at(
    changes: dict[str, Any], code: Code, pointer: str
) -> None:
    error = refusal(**changes)
    assert (error.code, error.fields[0].pointer) == (code, pointer)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(AppError) as caught:
        parse(Booking, {})
    assert caught.value.code == Code.MISSING_FIELD
    assert caught.value.fields[0].pointer == "/userId"


def test_an_id_in_a_list_is_named_by_its_place() -> None:
    assert refusal(friends=["ann", "b b"]).fields[0].pointer == "/friends/1"


def test_tildes_and_slashes_of_a_name_are_escaped_in_the_pointer() -> None:
    assert refusal(**{"a/b~c": 1}).fields[0].pointer == "/a~1b~0c"


def test_every_fault_is_listed_up_to_ten() -> None:
    assert len(refusal(note=1, price="2", nope=1).fields) == 3
    assert len(refusal(**{f"nope{number}": 1 for number in range(50)}).fields) == MAX_FIELDS_SHOWN


def test_a_refusal_repeats_no_value_and_no_endless_name() -> None:
    error = refusal(note=["sec" + "ret"], **{"n" * 10_000: 1})
    assert "secret" not in str(error.as_ack())
    assert len(str(error.as_ack())) < 1_000


def test_a_model_cannot_be_changed_after_parsing() -> None:
    booking = parse(Booking, {"userId": "u"})
    with pytest.raises(ValueError):
        booking.note = "x"  # type: ignore[misc]
