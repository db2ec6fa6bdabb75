"""`lastGameResults` is harmless JSON of at most 8 KiB and 6 levels."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domain.errors import AppError, Code
from domain.patch import parse_patch, parse_replacement
from domain.stats import SAFE_INTEGER, check_game_results
from tests.domain.strategies import SCHEMA, any_json, fault_of, game_results, is_harmless

LIMIT = 8 * 1024


def size(value: object) -> int:
    """What compact JSON in UTF-8 takes, as clients and the server write it."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def accepted(value: object) -> bool:
    return fault_of(check_game_results, value) is None


def padded(rest: object, total: int) -> dict[str, Any]:
    """An object that holds `rest` and takes `total` bytes as JSON."""
    missing = total - size({"pad": "", "rest": rest})
    assert missing >= 0
    return {"pad": "x" * missing, "rest": rest}


def nested(levels: int, inner: type[dict[str, Any]] | type[list[Any]]) -> dict[str, Any]:
    """An object with so many levels, those below the first of type `inner`."""
    value: Any = inner()
    for _ in range(levels - 2):
        value = {"a": value} if inner is dict else [value]
    return {"a": value}


# --- size -----------------------------------------------------------------------------------

unescaped = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters='"\\')
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-SAFE_INTEGER, SAFE_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
)


def shallow(text: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    names = text.filter(is_harmless)
    inner: st.SearchStrategy[Any] = scalars | text
    for _ in range(3):
        inner = (
            scalars | text | st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4)
        )
    return inner


@given(shallow(unescaped).filter(lambda rest: size(rest) < 8000))
@example([1e16, 1e-7, 1.0, -0.0, 5e-324, 1.7976931348623157e308])
@example([[], {}, [[]], [{}], {"": ""}, None, True, False])
@example("\N{GREEK SMALL LETTER OMEGA}\N{GRINNING FACE}\u2028\x7f")
def test_the_size_counted_is_the_size_of_the_json(rest: object) -> None:
    assert accepted(padded(rest, LIMIT))
    assert not accepted(padded(rest, LIMIT + 1))


@given(shallow(st.text(st.characters(codec="utf-8"))).filter(lambda rest: size(rest) < 8000))
@example('"' * 100)
def test_no_json_of_more_than_8_kib_is_accepted(rest: object) -> None:
    assert not accepted(padded(rest, LIMIT + 1))


@pytest.mark.parametrize("char", ["a", "\x7f", "\u20ac", "\U0001f600", '"', "\\", "\n", "\1"])
@pytest.mark.parametrize("place", ["value", "name", "list"])
def test_a_text_counts_as_many_bytes_as_its_json(char: str, place: str) -> None:
    def around(count: int) -> dict[str, Any]:
        text = char * count
        if place == "name":
            return {text: 1}
        return {"k": text if place == "value" else [text]}

    each = size(char) - 2
    fits = (LIMIT - size(around(0))) // each
    assert accepted(around(fits))
    assert not accepted(around(fits + 1))


@pytest.mark.parametrize("entry", [0, -1, 12.5, True, False, None, "", [], {}])
def test_a_long_list_counts_as_many_bytes_as_its_json(entry: object) -> None:
    fits = (LIMIT - size({"k": []}) + 1) // (size(entry) + 1)
    assert accepted({"k": [entry] * fits})
    assert not accepted({"k": [entry] * (fits + 1)})


def test_a_refusal_for_size_is_an_invalid_value() -> None:
    with pytest.raises(AppError) as caught:
        check_game_results({"k": "x" * LIMIT})
    assert caught.value.code == Code.INVALID_VALUE
    assert caught.value.fields[0].pointer == "/lastGameResults"


# --- depth ----------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", [dict, list])
def test_six_levels_are_accepted_and_seven_refused(
    inner: type[dict[str, Any]] | type[list[Any]],
) -> None:
    assert accepted(nested(6, inner))
    assert not accepted(nested(7, inner))


@pytest.mark.parametrize("inner", [dict, list])
def test_any_depth_is_refused_without_a_recursion_error(
    inner: type[dict[str, Any]] | type[list[Any]],
) -> None:
    assert not accepted(nested(100_000, inner))


def test_a_scalar_on_the_sixth_level_is_no_level_of_its_own() -> None:
    assert accepted({"1": {"2": {"3": {"4": {"5": {"6": "leaf"}}}}}})


# --- content --------------------------------------------------------------------------------


@given(game_results)
def test_harmless_json_is_accepted_as_it_is(value: dict[str, Any]) -> None:
    assert check_game_results(value) is value
    assert parse_patch(SCHEMA, {"__set": {"lastGameResults": value}}).sets == {
        "lastGameResults": value
    }
    assert parse_replacement(SCHEMA, {"lastGameResults": value}).fields == {
        "lastGameResults": value
    }


@given(any_json | st.dictionaries(st.text(), any_json))
def test_anything_else_raises_an_app_error(value: object) -> None:
    error = fault_of(check_game_results, value)
    assert error is None or error.code in (Code.INVALID_TYPE, Code.INVALID_VALUE)


@pytest.mark.parametrize("value", [None, True, 1, "{}", [], [{}]])
def test_game_results_are_an_object(value: object) -> None:
    with pytest.raises(AppError) as caught:
        check_game_results(value)
    assert caught.value.code == Code.INVALID_TYPE


@pytest.mark.parametrize(
    "name", [".", "a.b", "$", "$inc", "a$", "\0", "a\0b", "__proto__", "constructor", "prototype"]
)
def test_names_that_could_do_harm_are_refused_on_every_level(name: str) -> None:
    assert not accepted({name: 1})
    assert not accepted({"a": {name: 1}})
    assert not accepted({"a": [[{name: {}}]]})
    assert not accepted({"a": {"b": {"c": {"d": {"e": {name: 1}}}}}})


@pytest.mark.parametrize("value", [SAFE_INTEGER, -SAFE_INTEGER, 1e300, -0.0, 5e-324])
def test_numbers_that_json_clients_can_hold_are_accepted(value: float) -> None:
    assert accepted({"k": value})


@pytest.mark.parametrize("value", [2**53, -(2**53), 10**30, -(10**400)])
def test_integers_that_json_clients_would_round_are_refused(value: int) -> None:
    assert not accepted({"k": value})
    assert not accepted({"k": [value]})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_json_does_not_have_are_refused(value: float) -> None:
    assert not accepted({"k": value})


@pytest.mark.parametrize("results", [{"k": "\ud800"}, {"\udfff": 1}, {"k": ["\udc00\ud800"]}])
def test_text_that_utf_8_does_not_have_is_refused(results: dict[str, Any]) -> None:
    """Half a surrogate pair could be neither stored nor sent back."""
    assert not accepted(results)


@pytest.mark.parametrize("value", [b"bytes", (1, 2), {1, 2}, object()])
def test_what_is_not_json_is_refused(value: object) -> None:
    assert not accepted({"k": value})
