"""Whatever JSON arrives: an answer below 500, and nothing in the log at ERROR."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.rest import DEFAULTS, Answer, Api

NAMES = st.one_of(
    st.sampled_from([*DEFAULTS, "userId", "opId", "deviceId", "updatedAt", "rev", "__set"]),
    st.sampled_from(["stats", "userIds", "$set", "a.b", "__proto__", "", "\0", "\ud800", "ﬀ"]),
    st.text(max_size=8),
)
NUMBERS = st.one_of(
    st.integers(-10, 10),
    st.sampled_from([2**53, 2**53 - 1, 2**63, -(2**63), 2**64, 10**30, -0.0, 1e308, 5e-324, 1e12]),
    st.floats(allow_nan=True, allow_infinity=True),
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    st.text(st.characters(exclude_categories=[]), max_size=12),
    st.sampled_from(["ada", "bob", "2024-01-15T10:30:00Z", "0000-00-00", "one", "x" * 300]),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=6)
SHAPES = st.one_of(
    VALUES,
    OBJECTS,
    st.fixed_dictionaries({"stats": OBJECTS}, optional={"userId": VALUES}),
    st.fixed_dictionaries({"__set": OBJECTS}, optional={"opId": VALUES, "xp": NUMBERS}),
    st.fixed_dictionaries({"userIds": st.lists(LEAVES, max_size=5)}),
)
BODIES = st.one_of(
    SHAPES.map(lambda value: json.dumps(value).encode()),
    SHAPES.map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")),
    st.binary(max_size=40),
)
ROUTES = ["/api/users/data/patch", "/api/users/updateStats", "/api/users/stats/batch"]


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(body=BODIES)
@pytest.mark.parametrize("path", ROUTES)
async def test_any_json_is_answered_below_500(
    api: Api, errors_logged: Callable[[], list[str]], path: str, body: bytes
) -> None:
    answer = await api.post_raw(path, body)
    assert answer.status in (200, 400, 403, 409), answer
    if answer.status != 200:
        answer.problem(answer.status, json.loads(answer.raw)["code"])
    assert errors_logged() == []
    _check_own_document(await api.get("/api/users/ada/stats"))


def _check_own_document(answer: Answer) -> None:
    """Whatever was accepted, the stored document is still one."""
    document: dict[str, Any] = answer.ok()
    assert document.keys() == {"userId", "rev", "updatedAt", *DEFAULTS}
    for name, default in DEFAULTS.items():
        if isinstance(default, int):
            value = document[name]
            assert isinstance(value, int | float)
            assert not isinstance(value, bool)
            assert 0 <= value <= 2**53 - 1
