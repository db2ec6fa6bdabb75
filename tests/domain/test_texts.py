"""Texts about oneself: what is stored is clean, within its length, and may be sent back."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import AppError, Code
from domain.texts import parse_text
from tests.domain.strategies import fault_of

any_text = st.text(st.characters(exclude_categories=()), max_size=40)
any_json = st.none() | st.booleans() | st.integers() | st.floats() | st.lists(any_text) | any_text


def refusal(value: object, most: int = 40, *, multiline: bool = False) -> AppError:
    with pytest.raises(AppError) as caught:
        parse_text("bio", value, most, multiline=multiline)
    assert [fault.pointer for fault in caught.value.fields] == ["/bio"]
    return caught.value


@pytest.mark.parametrize(
    "value",
    [
        "Hello!",
        "Łódź, 東京, مرحبا",
        "👩🏽\u200d💻 codes",
        "<b>&amp;</b>",
        "'; DROP TABLE",
        "$where",
    ],
)
def test_what_people_write_is_stored_as_it_is(value: str) -> None:
    assert parse_text("bio", value, 100) == value


def test_null_empties() -> None:
    assert parse_text("bio", None, 10) == ""


def test_space_around_is_dropped() -> None:
    assert parse_text("bio", " \t\n Hello! \u3000 ", 100) == "Hello!"
    assert parse_text("bio", "   ", 100) == ""


def test_several_lines_have_newlines_and_tabs_and_one_line_has_none() -> None:
    assert parse_text("bio", "a\r\nb\n\tc", 10, multiline=True) == "a\nb\n\tc"
    for line_end in ("\n", "\r\n", "\r", "\t", "\x0b", "\x0c", "\x85", "\u2028", "\u2029"):
        assert refusal(f"a{line_end}b").code is Code.INVALID_VALUE


@pytest.mark.parametrize(
    "char", ["\0", "\x07", "\x1b", "\x7f", "\x9f", "\ud800", "\u202e", "\u2066"]
)
def test_controls_half_characters_and_turned_directions_are_refused(char: str) -> None:
    for multiline in (False, True):
        assert refusal(f"a{char}b", multiline=multiline).code is Code.INVALID_VALUE


@pytest.mark.parametrize("value", [7, 1.5, True, [], {}, ["a"], {"$ne": ""}])
def test_only_texts_are_texts(value: object) -> None:
    assert refusal(value).code is Code.INVALID_TYPE


def test_the_longest_text_is_accepted_and_one_character_more_is_not() -> None:
    assert parse_text("bio", "é" * 40, 40) == "é" * 40
    assert refusal("é" * 41).code is Code.INVALID_VALUE


def test_a_text_that_grows_when_it_is_composed_is_within_its_length_too() -> None:
    grows = "\U0001d160"  # a musical note, three characters in NFC
    assert len(unicodedata.normalize("NFC", grows)) == 3
    assert refusal(grows * 40).code is Code.INVALID_VALUE


@given(any_text, st.booleans())
def test_what_is_stored_is_within_its_bounds_and_accepted_again_unchanged(
    value: str, multiline: bool
) -> None:
    try:
        stored = parse_text("bio", value, 30, multiline=multiline)
    except AppError:
        return
    assert len(stored) <= 30
    stored.encode()
    assert parse_text("bio", stored, 30, multiline=multiline) == stored


@given(any_json)
def test_whatever_comes_is_a_text_or_an_app_error(value: object) -> None:
    error = fault_of(parse_text, "bio", value, 30)
    assert error is None or error.code in (Code.INVALID_TYPE, Code.INVALID_VALUE)
