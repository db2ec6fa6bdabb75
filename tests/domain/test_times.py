"""Times: milliseconds inside, ISO 8601 UTC with milliseconds and `Z` on the wire."""

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domain.errors import AppError, Code
from domain.times import LAST, iso, parse_time
from tests.domain.strategies import any_json, any_text, fault_of, moments

DAY = 24 * 3600 * 1000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
offsets = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda m: timezone(timedelta(minutes=m)))


def refusal(value: object, field: str = "updatedAt") -> AppError:
    with pytest.raises(AppError) as caught:
        parse_time(value, field)
    return caught.value


def test_a_time_has_milliseconds_and_z() -> None:
    assert iso(1_705_314_600_000) == "2024-01-15T10:30:00.000Z"
    assert iso(1_705_314_600_007) == "2024-01-15T10:30:00.007Z"
    assert iso(0) == "1970-01-01T00:00:00.000Z"
    assert iso(LAST) == "9999-12-31T23:59:59.999Z"


@given(moments)
def test_every_time_reads_back_as_itself(millis: int) -> None:
    text = iso(millis)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    assert parse_time(text) == millis
    assert parse_time(millis) == millis
    assert parse_time(float(millis)) == millis


@given(moments, moments)
def test_written_times_sort_like_the_times(one: int, other: int) -> None:
    assert (iso(one) < iso(other)) == (one < other)


@given(st.integers(DAY, LAST - DAY), offsets)
def test_an_offset_is_taken_into_account(millis: int, offset: timezone) -> None:
    moment = EPOCH + timedelta(milliseconds=millis)
    assert parse_time(moment.astimezone(offset).isoformat()) == millis
    assert parse_time(moment.isoformat()) == millis
    assert parse_time(moment.isoformat().replace("+00:00", "Z")) == millis


@pytest.fixture
def _far_from_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "XST-09:30")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("_far_from_utc")
def test_times_do_not_depend_on_where_the_server_stands() -> None:
    assert time.timezone == -34_200
    assert parse_time("2024-01-15T10:30:00") == parse_time("2024-01-15T10:30:00Z")
    assert iso(1_705_314_600_001) == "2024-01-15T10:30:00.001Z"


@given(moments)
def test_without_an_offset_a_time_is_utc(millis: int) -> None:
    assert parse_time(iso(millis).removesuffix("Z")) == millis


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-01-15T10:30:00Z", "2024-01-15T10:30:00.000Z"),
        ("2024-01-15T10:30:00.5Z", "2024-01-15T10:30:00.500Z"),
        ("2024-01-15T10:30:00,5Z", "2024-01-15T10:30:00.500Z"),
        ("2024-01-15T10:30:00.999999999Z", "2024-01-15T10:30:00.999Z"),
        ("2024-01-15T10:30:00+05:30", "2024-01-15T05:00:00.000Z"),
        ("2024-01-15T10:30:00-0800", "2024-01-15T18:30:00.000Z"),
        ("2024-01-15T10:30", "2024-01-15T10:30:00.000Z"),
        ("2024-01-15", "2024-01-15T00:00:00.000Z"),
        ("20240115T103000Z", "2024-01-15T10:30:00.000Z"),
        ("1970-01-01T00:00:00-00:01", "1970-01-01T00:01:00.000Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999Z"),
    ],
)
def test_iso_8601_is_accepted_in_its_usual_forms(text: str, expected: str) -> None:
    assert iso(parse_time(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "1705314600000",
        "2024-13-01T00:00:00Z",
        "2024-02-30T00:00:00Z",
        "2023-02-29",
        "2024-01-15T25:00:00Z",
        "2024-01-15T10:30:61Z",
        "2024-01-15T10:30:00+25:00",
        "2024-01-15T10:30:00Z ",
        " 2024-01-15T10:30:00Z",
        "2024-01-15T10:30:00ZZ",
        "\u0662\u0660\u0662\u0664-01-15",
        "2024-01-15T10:30:00.000000000000000000000000000Z",
        "2024-01-15T10:30:00Z" + "0" * 10**5,
    ],
)
def test_other_text_is_refused(text: str) -> None:
    assert refusal(text).code == Code.INVALID_VALUE


@pytest.mark.parametrize(
    "value",
    [
        -1,
        LAST + 1,
        pytest.param(10**400, id="huge"),
        pytest.param(-(10**400), id="-huge"),
        1e300,
        float("inf"),
        float("-inf"),
        float("nan"),
        "1969-12-31T23:59:59.999Z",
        "1970-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59.999-00:01",
        "9999-12-31T23:59:59.999-23:59",
        "0001-01-01T00:00:00+23:59",
        "10000-01-01T00:00:00Z",
    ],
)
def test_times_outside_1970_to_9999_are_refused(value: object) -> None:
    assert refusal(value).code == Code.INVALID_VALUE


@pytest.mark.parametrize("value", [None, True, False, [], ["2024-01-15"], {}, b"2024-01-15"])
def test_what_is_neither_text_nor_number_is_refused(value: object) -> None:
    assert refusal(value).code == Code.INVALID_VALUE


@given(any_json | any_text)
@example(10**400)
def test_any_json_is_a_time_in_range_or_an_app_error(value: object) -> None:
    error = fault_of(parse_time, value)
    if error is None:
        assert 0 <= parse_time(value) <= LAST
    else:
        assert error.code == Code.INVALID_VALUE


def test_a_refusal_names_the_field() -> None:
    error = refusal("soon", "since")
    assert error.fields[0].pointer == "/since"
    assert "since" in error.message
