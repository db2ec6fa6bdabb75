"""Amounts: what is sent as a number comes back as the very same number, and sums are exact."""

import json
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import AppError, Code
from domain.money import number, parse_amount


@st.composite
def amounts(draw: st.DrawFn) -> Decimal:
    """At most 15 digits, at most 6 of them decimal places."""
    places = draw(st.integers(0, 6))
    digits = draw(st.integers(-(10**15) + 1, 10**15 - 1))
    return Decimal(digits).scaleb(-places)


def sent(text: str) -> Decimal:
    """The amount of a JSON number, read as the server reads it."""
    return parse_amount(orjson.loads(text))


@given(amounts())
def test_a_json_number_of_at_most_15_digits_comes_back_as_the_very_same_number(
    amount: Decimal,
) -> None:
    parsed = sent(f"{amount:f}")
    assert parsed == amount
    back = orjson.dumps(number(parsed))
    assert json.loads(back, parse_float=Decimal, parse_int=Decimal) == amount
    assert json.loads(back) == json.loads(f"{amount:f}")


@given(amounts())
def test_an_amount_that_comes_back_and_is_sent_again_stays_what_it_is(amount: Decimal) -> None:
    once = sent(f"{amount:f}")
    assert sent(orjson.dumps(number(once)).decode()) == once


@given(st.lists(amounts(), max_size=30))
def test_sums_of_parsed_amounts_are_exact(some: list[Decimal]) -> None:
    cents = sum(int(amount.scaleb(6)) for amount in some)
    assert sum((sent(f"{amount:f}") for amount in some), Decimal(0)) == Decimal(cents).scaleb(-6)


def test_a_tenth_and_two_tenths_are_three_tenths() -> None:
    assert number(sent("0.1") + sent("0.2")) == 0.3


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("100", b"100"),
        ("100.0", b"100"),
        ("1e2", b"100"),
        ("-0.0", b"0"),
        ("-0", b"0"),
        ("12.30", b"12.3"),
        ("-19.99", b"-19.99"),
        ("999999999999999", b"999999999999999"),
        ("123456789.123456", b"123456789.123456"),
    ],
)
def test_a_number_is_shown_in_its_shortest_form(text: str, shown: bytes) -> None:
    assert orjson.dumps(number(sent(text))) == shown


@pytest.mark.parametrize("bad", [True, False, None, "12.30", "1_0", "", [], {}, [1]])
def test_what_is_no_number_has_the_wrong_type(bad: Any) -> None:
    with pytest.raises(AppError) as caught:
        parse_amount(bad, "totalAmount")
    assert caught.value.code is Code.INVALID_TYPE
    assert [field.pointer for field in caught.value.fields] == ["/totalAmount"]


@pytest.mark.parametrize(
    "bad",
    [
        *(float("nan"), float("inf"), -float("inf")),
        *(1e300, 1e16, 10**15, -(10**15), 10**400, 2**64),
        *(1e-7, 0.1234567, 5e-324, 1234567890.123456),
    ],
)
def test_a_number_with_too_many_digits_or_none_at_all_is_out_of_range(bad: Any) -> None:
    with pytest.raises(AppError) as caught:
        parse_amount(bad)
    assert caught.value.code is Code.INVALID_VALUE
    assert len(caught.value.message) < 200


@given(st.integers() | st.floats() | st.none() | st.text() | st.binary())
def test_anything_is_an_amount_or_refused(value: Any) -> None:
    try:
        amount = parse_amount(value)
    except AppError as error:
        code: Code | None = error.code
    else:
        assert number(amount) == value
        code = None
    assert code in (None, Code.INVALID_TYPE, Code.INVALID_VALUE)
