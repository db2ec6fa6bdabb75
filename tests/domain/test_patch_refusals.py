"""What is no patch is refused with an AppError that names the field, and with nothing else."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domain.errors import AppError, Code
from domain.patch import parse_patch, parse_replacement
from domain.stats import SAFE_INTEGER
from tests.domain.strategies import (
    NAMES,
    SCHEMA,
    any_json,
    any_names,
    fault_of,
    good_patches,
    patch_like,
    some_values,
)

COUNTERS = ["xp", "hearts", "coins"]
GAUGES = ["accuracy", "totalTimeSpent", "mood"]
REFUSALS = {Code.INVALID_TYPE, Code.INVALID_VALUE, Code.INVALID_ID, Code.UNKNOWN_FIELD}
NO_NUMBERS = [None, True, False, "5", "", [], [1], {}, {"add": 1}]


def refusal(payload: object) -> AppError:
    with pytest.raises(AppError) as caught:
        parse_patch(SCHEMA, payload)
    return caught.value


def pointers(error: AppError) -> list[str]:
    return [field.pointer for field in error.fields]


# --- for any input at all -----------------------------------------------------------------


@given(any_json | patch_like | st.dictionaries(any_names, any_json))
def test_any_json_is_a_patch_or_an_app_error(payload: object) -> None:
    error = fault_of(parse_patch, SCHEMA, payload)
    assert error is None or error.code in REFUSALS


@given(any_json | patch_like | st.dictionaries(any_names, any_json))
@example({"updatedAt": 10**400})
def test_any_json_is_a_replacement_or_an_app_error(stats: object) -> None:
    error = fault_of(parse_replacement, SCHEMA, stats)
    assert error is None or error.code in REFUSALS


@given(good_patches, any_names, any_json)
def test_one_wrong_field_in_a_right_patch_raises_an_app_error_about_that_field(
    payload: dict[str, Any], name: str, value: object
) -> None:
    error = fault_of(parse_patch, SCHEMA, payload | {name: value})
    blamed = "" if name == "__set" else name[:64]
    assert error is None or blamed in error.message


@given(some_values, any_names, any_json)
def test_one_wrong_value_set_raises_an_app_error_about_that_field(
    values: dict[str, Any], name: str, value: object
) -> None:
    error = fault_of(parse_patch, SCHEMA, {"__set": values | {name: value}})
    assert error is None or name[:64] in error.message


# --- numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", NO_NUMBERS)
def test_a_number_field_takes_numbers_only(name: str, value: object) -> None:
    for payload in ({name: value}, {"__set": {name: value}}):
        error = refusal(payload)
        assert error.code == Code.INVALID_TYPE
        assert name in error.message


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [*map(float, ("nan", "inf", "-inf")), 10**400, -(10**400)])
def test_a_number_field_takes_finite_numbers_only(name: str, value: float) -> None:
    assert refusal({name: value}).code == Code.INVALID_VALUE
    assert refusal({"__set": {name: value}}).code == Code.INVALID_VALUE
    assert refusal({"timePerQuestion": [value]}).code == Code.INVALID_VALUE


@pytest.mark.parametrize("name", COUNTERS)
@pytest.mark.parametrize("value", [0.5, -1.25, 1e-300])
def test_a_counter_takes_integers_only(name: str, value: float) -> None:
    assert refusal({name: value}).code == Code.INVALID_TYPE
    assert refusal({"__set": {name: value}}).code == Code.INVALID_TYPE


@pytest.mark.parametrize("name", COUNTERS + GAUGES)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_delta_is_at_most_1e12_in_size(name: str, sign: int) -> None:
    parse_patch(SCHEMA, {name: sign * 10**12})
    parse_patch(SCHEMA, {name: sign * 1e12})
    assert refusal({name: sign * (10**12 + 1)}).code == Code.INVALID_VALUE
    assert refusal({name: sign * 2e12}).code == Code.INVALID_VALUE


@pytest.mark.parametrize("name", NAMES)
def test_a_value_set_out_of_range_is_refused_not_clamped(name: str) -> None:
    spec = SCHEMA.numbers[name]
    for inside in (spec.min, spec.max):
        assert parse_patch(SCHEMA, {"__set": {name: inside}}).sets == {name: inside}
    for outside in (spec.min - 1, spec.max + 1):
        assert refusal({"__set": {name: outside}}).code == Code.INVALID_VALUE


# --- the other places -----------------------------------------------------------------------


@pytest.mark.parametrize("payload", [None, True, 1, 1.5, "xp", [], [{"xp": 1}]])
def test_a_patch_is_an_object(payload: object) -> None:
    assert refusal(payload).code == Code.INVALID_TYPE


@pytest.mark.parametrize("value", [None, True, 1, "xp", [], ["xp"]])
def test_values_to_set_are_an_object(value: object) -> None:
    error = refusal({"__set": value})
    assert (error.code, pointers(error)) == (Code.INVALID_TYPE, ["/__set"])


@pytest.mark.parametrize("value", [None, True, 1, "1", {}, {"0": 1}])
def test_times_are_an_array(value: object) -> None:
    for payload in ({"timePerQuestion": value}, {"__set": {"timePerQuestion": value}}):
        assert refusal(payload).code == Code.INVALID_TYPE


@pytest.mark.parametrize("entry", [None, True, "1", [], {}, -0.001, -1, SAFE_INTEGER + 1, 1e300])
def test_each_time_is_a_number_from_zero_up(entry: object) -> None:
    for payload in ({"timePerQuestion": [1, entry]}, {"__set": {"timePerQuestion": [1, entry]}}):
        assert refusal(payload).code in (Code.INVALID_TYPE, Code.INVALID_VALUE)


def test_more_than_a_thousand_times_at_once_are_refused() -> None:
    assert len(parse_patch(SCHEMA, {"timePerQuestion": [1] * 1000}).append) == 1000
    assert refusal({"timePerQuestion": [1] * 1001}).code == Code.INVALID_VALUE
    assert refusal({"__set": {"timePerQuestion": [1] * 1001}}).code == Code.INVALID_VALUE


@pytest.mark.parametrize("value", [None, True, 1, 1.5, [], {}])
def test_an_op_id_is_a_string(value: object) -> None:
    error = refusal({"xp": 1, "opId": value})
    assert (error.code, pointers(error)) == (Code.INVALID_TYPE, ["/opId"])


def test_an_op_id_has_1_to_64_characters() -> None:
    assert refusal({"opId": ""}).code == Code.INVALID_VALUE
    assert refusal({"opId": "x" * 65}).code == Code.INVALID_VALUE
    assert parse_patch(SCHEMA, {"opId": "x" * 64}).op is not None
    assert parse_patch(SCHEMA, {"opId": "\N{GRINNING FACE}" * 64}).op is not None


@pytest.mark.parametrize("name", ["deviceId", "userId"])
@pytest.mark.parametrize("value", [None, True, 1, "", "$where", "a b", "x" * 129, ["a"], {}])
def test_ids_in_a_patch_are_checked(name: str, value: object) -> None:
    error = refusal({"xp": 1, "opId": "o", name: value})
    assert (error.code, pointers(error)) == (Code.INVALID_ID, [f"/{name}"])


@pytest.mark.parametrize("name", ["XP", "xp ", "coin", "rev", "duplicate", "a.b", "xp.x", "$inc"])
@pytest.mark.parametrize("nested", [False, True])
def test_unknown_fields_are_refused_by_name(name: str, nested: bool) -> None:
    error = refusal({"__set": {name: 1}} if nested else {name: 1})
    assert error.code == Code.UNKNOWN_FIELD
    assert name in error.message


@pytest.mark.parametrize("name", ["__proto__", "constructor", "prototype", "__class__", "$", "."])
@pytest.mark.parametrize("value", [1, {"xp": 1}, []])
def test_names_that_could_do_harm_are_unknown_fields(name: str, value: object) -> None:
    assert refusal({name: value}).code == Code.UNKNOWN_FIELD
    assert refusal({"__set": {name: value}}).code == Code.UNKNOWN_FIELD


def test_game_results_cannot_be_added_and_the_refusal_says_what_to_do() -> None:
    error = refusal({"lastGameResults": {"score": 1}})
    assert error.code == Code.INVALID_TYPE
    assert "__set" in error.message


@pytest.mark.parametrize("value", [None, "yesterday", 1, -1, [], {}])
def test_a_time_of_the_client_in_a_patch_is_tolerated_and_not_used(value: object) -> None:
    assert parse_patch(SCHEMA, {"xp": 1, "updatedAt": value}) == parse_patch(SCHEMA, {"xp": 1})


def test_a_refusal_points_to_the_place_in_the_patch() -> None:
    """RFC 6901; with a delta of the same name the short pointer names the innocent one."""
    assert pointers(refusal({"xp": True, "__set": {"xp": 1}})) == ["/xp"]
    assert pointers(refusal({"xp": 1, "__set": {"xp": -1}})) == ["/__set/xp"]


@pytest.mark.parametrize("stats", [{"xp": -1}, {"unheard": 1}, {"timePerQuestion": 1}])
def test_a_refusal_points_to_the_place_in_update_stats(stats: dict[str, Any]) -> None:
    with pytest.raises(AppError) as caught:
        parse_replacement(SCHEMA, stats)
    assert pointers(caught.value) == [f"/stats/{next(iter(stats))}"]
