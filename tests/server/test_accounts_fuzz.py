"""Whatever body comes to the routes of accounts: an answer below 500, and no ERROR in the log."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from domain.emails import email_key
from domain.usernames import username_key
from tests.registering import LOGIN, PASSWORD, REGISTER, carrying, nobody, registered
from tests.rest import Answer
from tests.serving import serving

UUID = "550e8400-e29b-41d4-a716-446655440000"
ROUTES = {
    **dict.fromkeys(REGISTER, ("username", "email", "password", "name", "id")),
    **dict.fromkeys(LOGIN, ("username", "email", "password")),
    "/api/auth/guest": ("deviceId",),
    "/api/auth/refresh": ("refreshToken",),
    "/api/auth/logout": ("refreshToken",),
    "/api/auth/password": ("currentPassword", "newPassword"),
}
GOOD = {
    "username": "ada",
    "email": "ada@example.com",
    "password": PASSWORD,
    "name": "Ada",
    "id": UUID,
    "deviceId": UUID,
    "refreshToken": "A" * 43,
    "currentPassword": PASSWORD,
    "newPassword": PASSWORD,
}
MOST = 500_000  # bytes of a body: twice as many as are taken
BATCH = 10  # bodies at once

TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=[]), max_size=12),
    st.sampled_from(["ada", "ADA", "ada@example.com", PASSWORD, UUID, UUID.upper(), "zoe@b.cd"]),
    st.sampled_from(
        ["", " ", "\0", "a\0b", "\ud800", "\udfff\ud800", "\u200b", "ﷺ" * 40, "@", "$"]
    ),
    st.sampled_from(["x" * 100_000, "é" * 60_000, "@" * 5_000, "a." * 3_000, "\u0345" * 256]),
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-10, 10),
    st.sampled_from([2**53, 2**64, -(2**63), 10**30, 1e308, float("nan"), float("inf"), -0.0]),
    TEXTS,
)
NAMES = st.one_of(
    st.sampled_from(["$gt", "$ne", "$where", "$set", "a.b", "__proto__", "role", "_id", "\0", ""]),
    st.text(max_size=6),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
DEEP = st.sampled_from(
    [b"[" * 50_000, b"[" * 900 + b"]" * 900, b'{"a":' * 5_000 + b"1" + b"}" * 5_000]
)
STRANGE = st.sampled_from(
    [
        b"",
        b"null",
        b"\xef\xbb\xbf{}",
        b'{"password": "\\ud800", "username": "ada"}',
        b'{"password": "x\\u0000y12345", "email": "a\\u0000@b.cd", "username": "a\\u0000"}',
        b'{"deviceId": "\\udc00\\udc00\\udc00\\udc00\\udc00\\udc00\\udc00\\udc00"}',
        b'{"username": "ada", "username": {"$gt": ""}, "password": "secure123"}',
        b"{" + b",".join(b'"f%d": 1' % n for n in range(5_000)) + b"}",
    ]
)


def _ways(path: str) -> list[tuple[str, ...]]:
    """Sets of names that a route may take together."""
    if path in LOGIN:
        return [("username", "password"), ("email", "password")]
    if path in REGISTER:
        return [("username", "email", "password"), ROUTES[path]]
    return [ROUTES[path]]


def bodies(path: str) -> st.SearchStrategy[bytes]:
    """Any JSON; JSON under the real names of a route; what is no JSON."""
    real = st.fixed_dictionaries({}, optional=dict.fromkeys(ROUTES[path], TEXTS | VALUES))
    nearly = st.sampled_from(_ways(path)).flatmap(
        lambda names: st.fixed_dictionaries({name: st.just(GOOD[name]) | TEXTS for name in names})
    )
    more = st.dictionaries(NAMES, VALUES, max_size=3)
    shapes = st.one_of(
        VALUES, more, real, nearly, st.tuples(real, more).map(lambda two: {**two[0], **two[1]})
    )
    return st.one_of(
        shapes.map(lambda value: json.dumps(value).encode()[:MOST]),
        shapes.map(
            lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")[:MOST]
        ),
        st.binary(max_size=40),
        DEEP,
        STRANGE,
    )


@pytest.fixture
async def http(
    stores: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[aiohttp.ClientSession]:
    """A server that counts no failures and answers them at once: here they are many."""
    monkeypatch.setattr("server.accounts.throttle.FAILURE_STEP", 0.01)
    unlimited = {"login_failures_per_account": 0, "login_failures_per_address": 0}
    async with serving(**stores, **unlimited) as served, aiohttp.ClientSession(served.url) as http:
        yield http


def check(answer: Answer) -> None:
    """A success or a problem, and nobody is told what was typed as a password."""
    assert answer.status < 500, answer
    if answer.status >= 400:
        answer.problem(answer.status, json.loads(answer.raw)["code"])
    else:
        assert b"argon2" not in answer.raw


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
@pytest.mark.parametrize("path", ROUTES)
async def test_any_body_is_answered_below_500(
    http: aiohttp.ClientSession,
    errors_logged: Callable[[], list[str]],
    path: str,
    data: st.DataObject,
) -> None:
    batch = data.draw(st.lists(bodies(path), min_size=BATCH, max_size=BATCH))
    options = carrying((await guest(http))["token"]) if path == "/api/auth/password" else {}
    answers = await asyncio.gather(
        *(nobody(http).post_raw(path, body, **options) for body in batch)
    )
    for answer in answers:
        check(answer)
    assert errors_logged() == []


async def guest(http: aiohttp.ClientSession) -> Any:
    answer = await nobody(http).post("/api/auth/guest", {"deviceId": "phone"})
    return answer.json["data"]


@pytest.mark.usefixtures("quiet")
async def test_after_all_that_an_account_is_as_it_was(http: aiohttp.ClientSession) -> None:
    user = await registered(http)
    for path, names in ROUTES.items():
        for raw in (
            b'{"\\ud800": 1}',
            b"[" * 100_000,
            json.dumps({name: {} for name in names}).encode(),
        ):
            answer = await nobody(http).post_raw(path, raw, **carrying(user["token"]))
            assert answer.status in (400, 401), answer
            check(answer)
    answer = await nobody(http).get("/api/auth/me", **carrying(user["token"]))
    assert answer.ok()["data"]["user"]["email"] == "ada@example.com"


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(text=st.text(st.characters(exclude_categories=[]), max_size=320))
def test_the_key_of_any_name_is_found_and_is_its_own_key(text: str) -> None:
    for key_of in (username_key, email_key):
        key = key_of(text)
        assert key_of(key) == key
