"""Who may ask over REST: tokens and roles."""

import base64
import json
import time
from typing import Any

import aiohttp
import jwt
import pytest

from tests.rest import Answer, Api
from tests.serving import serving
from tests.tokens import SECRET, bearer, token

pytestmark = pytest.mark.usefixtures("quiet")

OWN = "/api/users/ada/stats"


async def with_header(http: aiohttp.ClientSession, value: str) -> Answer:
    return await Api(http, None).get(OWN, headers={"Authorization": value})


def signed(claims: dict[str, Any], key: str = SECRET, algorithm: str = "HS256") -> str:
    return jwt.encode(claims, key, algorithm=algorithm)


def unsigned(algorithm: str) -> str:
    """A token that claims not to need a signature."""
    parts = [{"alg": algorithm, "typ": "JWT"}, {"sub": "ada", "exp": int(time.time()) + 60}]
    encoded = [base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=") for p in parts]
    return b".".join(encoded).decode() + "."


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic YWRhOmFkYQ==", "secret"])
async def test_no_bearer_token_is_missing_token(
    http: aiohttp.ClientSession, header: str | None
) -> None:
    headers = {} if header is None else {"Authorization": header}
    answer = await Api(http, None).get(OWN, headers=headers)
    answer.problem(401, "missing_token")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


LATER = int(time.time()) + 3600


@pytest.mark.parametrize(
    "bad",
    [
        "x",
        "a.b.c",
        "é",
        "x" * 8100,
        unsigned("none"),
        unsigned("HS256"),
        signed({"sub": "ada", "exp": LATER}, key="another-secret-that-is-long-enough-123"),
        signed({"sub": "ada", "exp": LATER}, key=SECRET * 2, algorithm="HS512"),
        signed({"sub": "ada", "exp": LATER}, algorithm="HS384"),
        signed({"sub": "ada"}),
        signed({"exp": LATER}),
        signed({"sub": "", "exp": LATER}),
        signed({"sub": "$where", "exp": LATER}),
        signed({"sub": "a" * 129, "exp": LATER}),
        signed({"sub": "ada", "exp": "soon"}),
        signed({"sub": "ada", "exp": [1]}),
        signed({"sub": "ada", "exp": LATER, "nbf": LATER}),
        token() + "x",
        token()[:-2],
    ],
    ids=lambda bad: f"{len(bad)} long",  # the tokens differ from run to run
)
async def test_a_token_that_does_not_verify_is_invalid_token(
    http: aiohttp.ClientSession, bad: str
) -> None:
    answer = await with_header(http, f"Bearer {bad}")
    problem = answer.problem(401, "invalid_token")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert bad not in json.dumps(problem)


async def test_a_token_that_has_run_out_is_token_expired_without_leeway(
    http: aiohttp.ClientSession,
) -> None:
    (await with_header(http, f"Bearer {token(ttl=-1)}")).problem(401, "token_expired")
    (await with_header(http, f"Bearer {token(ttl=0)}")).problem(401, "token_expired")


async def test_the_scheme_is_read_in_any_case(http: aiohttp.ClientSession) -> None:
    assert (await with_header(http, f"bearer {token()}")).status == 200


ROUTES = [
    ("GET", "/api/users/bob/stats", None),
    ("POST", "/api/users/data/patch", {"userId": "bob", "xp": 1}),
    ("POST", "/api/users/updateStats", {"userId": "bob", "stats": {"xp": 1}}),
]


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
async def test_a_user_and_any_unknown_role_act_on_themselves_only(
    http: aiohttp.ClientSession, method: str, path: str, body: Any
) -> None:
    mine = json.loads(json.dumps(body).replace("bob", "ada"))
    for role in (None, "user", "root", "ADMIN", "", 7, ["admin"], {"admin": 1}):
        api = Api(http, "ada", role=role)
        (await api.send(method, path, json=body)).problem(403, "forbidden")
        assert (await api.send(method, path.replace("bob", "ada"), json=mine)).status == 200


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
async def test_service_and_admin_act_on_anyone(
    http: aiohttp.ClientSession, method: str, path: str, body: Any
) -> None:
    for role in ("service", "admin"):
        answer = await Api(http, "backend", role=role).send(method, path, json=body)
        assert answer.status == 200
        assert b'"userId":"bob"' in answer.raw


async def test_a_change_without_user_id_is_the_callers_own(service: Api) -> None:
    assert (await service.patch(xp=1))["userId"] == "backend"
    assert (await service.update({"xp": 2}))["stats"]["userId"] == "backend"


@pytest.mark.parametrize("name", ["token", "access_token"])
async def test_a_token_in_the_query_is_refused_even_beside_a_good_header(
    api: Api, name: str
) -> None:
    answer = await api.get(OWN, params={name: token()})
    problem = answer.problem(400, "token_in_query")
    assert token()[:20] not in json.dumps(problem)


@pytest.mark.parametrize("name", ["Token", "TOKEN", "jwt", "auth", "authorization"])
async def test_rest_refuses_the_same_query_names_as_sockets_do(api: Api, name: str) -> None:
    answer = await api.get(OWN, params={name: token()})
    answer.problem(400, "token_in_query")


async def test_issuer_and_audience_count_when_configured(stores: dict[str, Any]) -> None:
    configured = {"jwt_issuer": "https://issuer.example", "jwt_audience": "game"}
    right = {"iss": "https://issuer.example", "aud": "game"}
    async with (
        serving(**stores, **configured) as server,
        aiohttp.ClientSession(server.url) as http,
    ):
        for claims in ({}, {"iss": right["iss"]}, {"aud": "game"}, {**right, "aud": "chess"}):
            answer = await Api(http, "ada", **claims).get(OWN)
            answer.problem(401, "invalid_token")
        for claims in (right, {**right, "aud": ["chess", "game"]}):
            assert (await Api(http, "ada", **claims).get(OWN)).status == 200


async def test_without_a_configured_issuer_any_is_taken(http: aiohttp.ClientSession) -> None:
    headers = bearer("ada", iss="https://someone.example", aud="anything")
    assert (await Api(http, None).get(OWN, headers=headers)).status == 200
