"""Whatever JSON arrives as a profile: an answer below 500, and what is stored may be sent back."""

import json
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.profiles import WHOLE
from tests.rest import Api

FIELDS = ("username", "name", "bio", "avatar", "custom")
NAMES = st.one_of(
    st.sampled_from([*FIELDS, "id", "email", "updatedAt", "status", "note", "role", "$set", "\0"]),
    st.text(max_size=6),
)
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.text(st.characters(categories=["L", "N", "M", "Zs"]), min_size=2, max_size=20),
    st.sampled_from(["ada", "online", "busy", "2024-01-15T10:30:00Z", "javascript:x", "x" * 1_100]),
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**64), 2**64),
    st.floats(),
    TEXTS,
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=10,
)
NEARLY = st.fixed_dictionaries(
    {},
    optional={
        "username": TEXTS,
        "name": TEXTS | st.none(),
        "bio": TEXTS | st.none(),
        "avatar": TEXTS | st.none(),
        "custom": st.dictionaries(st.text(max_size=4), VALUES, max_size=3),
        "updatedAt": st.integers(0, 2**48) | st.floats(0, 2**48) | TEXTS,
    },
)
BODIES = st.one_of(NEARLY, NEARLY, st.dictionaries(NAMES, VALUES, max_size=4), VALUES)
FUZZ = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@FUZZ
@given(value=BODIES)
async def test_any_profile_is_answered_below_500_and_what_is_stored_may_be_sent_back(
    api: Api, errors_logged: Callable[[], list[str]], value: Any
) -> None:
    body = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
    headers = {"Content-Type": "application/json"}
    answer = await api.send("PUT", "/users/ada", data=body, headers=headers)
    assert answer.status in (200, 400), answer
    assert errors_logged() == []
    if answer.status == 400:
        answer.problem(400, json.loads(answer.raw)["code"])
        return
    stored = answer.json
    assert stored.keys() == WHOLE
    own = {name: stored[name] for name in ("id", "updatedAt", *FIELDS)}
    again = (await api.send("PUT", "/users/ada", json=own)).ok()
    assert again == stored == (await api.get("/users/ada")).ok()
    assert [one["id"] for one in (await api.get("/users")).ok()] == ["ada"]


@FUZZ
@given(
    value=st.one_of(VALUES, st.dictionaries(NAMES, VALUES, max_size=3)),
    path=st.sampled_from(["/users/ada/status", "/auth/login", "/api/auth/refresh"]),
)
async def test_any_body_is_answered_below_500(
    api: Api, errors_logged: Callable[[], list[str]], path: str, value: Any
) -> None:
    body = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
    answer = await api.post_raw(path, body)
    assert answer.status in (200, 400, 401), answer
    if answer.status != 200:
        answer.problem(answer.status, json.loads(answer.raw)["code"])
    assert errors_logged() == []


@FUZZ
@given(query=st.text(max_size=70) | TEXTS, limit=st.none() | st.text(max_size=4))
async def test_any_search_is_answered_below_500(
    api: Api, errors_logged: Callable[[], list[str]], query: str, limit: str | None
) -> None:
    asked = {"q": query} if limit is None else {"q": query, "limit": limit}
    query_safe = {name: text.encode("utf-8", "replace").decode() for name, text in asked.items()}
    answer = await api.get("/users/search", params=query_safe)
    if answer.status != 200:
        answer.problem(400, json.loads(answer.raw)["code"])
    assert errors_logged() == []
