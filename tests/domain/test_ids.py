"""Ids: 1 to 128 characters of one alphabet, the same for users and devices."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import AppError, Code
from domain.ids import MAX_ID_LENGTH, parse_id
from tests.domain.strategies import ALPHABET, any_json, fault_of, ids


def refused(value: object) -> bool:
    error = fault_of(parse_id, value)
    assert error is None or error.code == Code.INVALID_ID
    return error is not None


@given(ids)
def test_every_id_of_the_alphabet_is_accepted_as_it_is(value: str) -> None:
    assert parse_id(value) == value


@given(any_json | st.text() | st.text(ALPHABET, max_size=300))
def test_exactly_the_ids_of_the_alphabet_are_accepted(value: object) -> None:
    well_formed = isinstance(value, str) and 1 <= len(value) <= 128 and set(value) <= set(ALPHABET)
    assert refused(value) != well_formed


@pytest.mark.parametrize("code_point", range(256))
def test_each_character_is_in_the_alphabet_or_refused(code_point: int) -> None:
    assert refused(chr(code_point)) == (chr(code_point) not in ALPHABET)


def test_an_id_has_1_to_128_characters() -> None:
    assert MAX_ID_LENGTH == 128
    assert refused("")
    assert not refused("a")
    assert not refused("a" * 128)
    assert refused("a" * 129)


@pytest.mark.parametrize(
    "value",
    [
        "$where",
        "a$",
        "a/b",
        "a\\b",
        "a b",
        "a\n",
        "\na",
        "a\0",
        "a\u0301",
        "\uff41",
        "\u0661",
        "a,b",
        "a;b",
        "{a}",
        "[a]",
        "a*",
        "a?",
        "a#",
        "a%20",
        "\ud800",
    ],
)
def test_what_could_act_as_a_path_a_pattern_or_another_id_is_refused(value: str) -> None:
    assert refused(value)


@pytest.mark.parametrize("value", [None, True, 1, 1.5, [], ["a"], {}, b"a"])
def test_an_id_is_a_string(value: object) -> None:
    assert refused(value)


def test_a_refusal_names_the_field_and_not_the_value() -> None:
    with pytest.raises(AppError) as caught:
        parse_id("<script>", "deviceId")
    assert caught.value.fields[0].pointer == "/deviceId"
    assert "deviceId" in caught.value.message
    assert "script" not in str(caught.value.as_ack())
