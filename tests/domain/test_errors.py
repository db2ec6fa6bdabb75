"""A refusal says which rule, what to do, which field, and whether to try again."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import RETRYABLE, AppError, Code, FieldError, pointer, refuse_field


def test_codes_are_lower_case_words() -> None:
    for code in Code:
        assert code.value == code.name.lower()
        assert code.value.replace("_", "").isalpha()


@pytest.mark.parametrize("code", Code)
def test_only_what_may_pass_later_unchanged_is_retryable(code: Code) -> None:
    passing = {"rate_limited", "too_many_in_flight", "overloaded", "draining", "unavailable"}
    passing |= {"conflict", "entity_missing", "parent_missing"}
    assert AppError(code, "no").retryable == (code.value in passing)
    assert (code in RETRYABLE) == (code.value in passing)


def test_an_ack_has_code_message_and_retryable() -> None:
    assert AppError(Code.NOT_JOINED, "Join first").as_ack() == {
        "ok": False,
        "error": {"code": "not_joined", "message": "Join first", "retryable": False},
    }


def test_an_ack_has_fields_and_the_wait_where_there_are_any() -> None:
    error = AppError(Code.RATE_LIMITED, "Wait", [FieldError("/xp", "no")], retry_after=0.0)
    assert error.as_ack()["error"] == {
        "code": "rate_limited",
        "message": "Wait",
        "retryable": True,
        "fields": [{"pointer": "/xp", "message": "no"}],
        "retryAfter": 0.0,
    }


@given(st.sampled_from(Code), st.text(), st.text())
def test_an_ack_is_json(code: Code, name: str, message: str) -> None:
    ack = refuse_field(code, name, message).as_ack()
    assert json.loads(json.dumps(ack)) == ack


@given(st.text(max_size=64))
def test_a_fields_pointer_reads_back_as_its_name(name: str) -> None:
    """RFC 6901, section 4: first `~1`, then `~0`."""
    (field,) = refuse_field(Code.UNKNOWN_FIELD, name, "no").fields
    assert field.pointer[0] == "/"
    assert field.pointer[1:].count("/") == 0
    assert field.pointer[1:].replace("~1", "/").replace("~0", "~") == name


def test_a_refusal_inside_another_field_points_there_and_is_otherwise_the_same() -> None:
    inner = AppError(Code.INVALID_VALUE, "xp: no", [FieldError("/xp", "no")], retry_after=2.0)
    outer = inner.inside("a/b", "__set")
    assert outer.fields == (FieldError("/a~1b/__set/xp", "no"),)
    assert outer.message == "a/b.__set.xp: no"
    assert (outer.code, outer.retry_after) == (Code.INVALID_VALUE, 2.0)


def test_a_pointer_goes_through_names_and_places() -> None:
    assert pointer() == ""
    assert pointer("seats", 0, "") == "/seats/0/"
    assert pointer("~1", "n" * 65) == "/~01/" + "n" * 64


def test_an_endless_name_is_cut() -> None:
    error = refuse_field(Code.UNKNOWN_FIELD, "n" * 10_000, "no")
    assert len(error.message) < 100
    assert len(error.fields[0].pointer) == 65
