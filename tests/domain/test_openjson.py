"""Any JSON object of the app's own is kept within the bounds that its field has."""

import pytest

from domain.errors import AppError, Code
from domain.openjson import check_json_object


def refusal(value: object, max_bytes: int = 100, max_depth: int = 3) -> AppError:
    with pytest.raises(AppError) as caught:
        check_json_object("profile", value, max_bytes, max_depth)
    return caught.value


def test_an_object_within_its_bounds_is_returned_as_it_is() -> None:
    value = {"a": [{"b": 1.5}], "c": None}
    assert check_json_object("profile", value, 100, 3) is value


@pytest.mark.parametrize(("limit", "shown"), [(100, "100 bytes"), (2048, "2 KiB")])
def test_the_size_allowed_is_the_field_s_own(limit: int, shown: str) -> None:
    fits = "x" * (limit - len('{"k":""}'))
    assert check_json_object("profile", {"k": fits}, limit, 3)
    error = refusal({"k": fits + "x"}, max_bytes=limit)
    assert error.code == Code.INVALID_VALUE
    assert error.message == f"profile: must be at most {shown} of JSON"
    assert error.fields[0].pointer == "/profile"


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_the_depth_allowed_is_the_field_s_own(depth: int) -> None:
    value: dict[str, object] = {}
    for _ in range(depth - 1):
        value = {"k": value}
    assert check_json_object("profile", value, 100, depth) is value
    error = refusal({"k": value}, max_depth=depth)
    assert error.message == f"profile: must be at most {depth} levels deep"


@pytest.mark.parametrize("value", [None, [], "{}", 1])
def test_what_is_no_object_is_refused_by_its_type(value: object) -> None:
    assert refusal(value).code == Code.INVALID_TYPE


@pytest.mark.parametrize("value", [{"$set": 1}, {"a.b": 1}, {"k": 2**53}, {"k": float("nan")}])
def test_names_and_numbers_that_do_harm_are_refused_and_name_the_field(value: object) -> None:
    assert refusal(value).fields[0].pointer == "/profile"
