"""What no honest client sends to the routes of accounts and profiles: nothing of it fails."""

import asyncio
import gzip
import hmac
import itertools
import json
import logging
import time
import zlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import jwt
import pytest

from server.accounts import auth_routes, profile_routes
from server.endpoints import Endpoint
from server.problems import MAX_BODY
from tests.issuer import Key
from tests.profiles import Person, put, registered
from tests.rest import Answer, Api, http_request, raw_http
from tests.serving import Served, serving
from tests.tokens import SECRET, bearer, token

pytestmark = pytest.mark.usefixtures("quiet")

ROUTES = [*auth_routes.ENDPOINTS, *profile_routes.ENDPOINTS]
GUARDED = [route for route in ROUTES if route.auth != "none"]
WITH_BODY = [route for route in ROUTES if route.body is not None]
AS_JSON = {"Content-Type": "application/json"}


def target(route: Endpoint, user: str = "ada") -> str:
    return route.path.replace("{id}", user)


def code_of(answer: Answer) -> str:
    """The code of a refusal that is a proper problem."""
    code = str(json.loads(answer.raw)["code"])
    answer.problem(answer.status, code)
    return code


async def refused(route: Endpoint, api: Api, **options: Any) -> Answer:
    """The answer to a request that has to be refused for its client's fault."""
    answer = await api.send(route.method, target(route), **options)
    assert 400 <= answer.status < 500, (route.path, options, answer)
    code_of(answer)
    return answer


# --- tokens -------------------------------------------------------------------------------

LATER = 3600


def part(content: Any) -> str:
    return jwt.utils.base64url_encode(json.dumps(content).encode()).decode()


def by_hand(alg: str, digest: str, claims: Any) -> str:
    """A token signed with the right secret."""
    signed = f"{part({'alg': alg})}.{part(claims)}"
    mac = hmac.digest(SECRET.encode(), signed.encode(), digest)
    return f"{signed}.{jwt.utils.base64url_encode(mac).decode()}"


def bad_tokens() -> dict[str, str]:
    """Tokens for ada that do not count, by what is wrong with them."""
    claims = {"sub": "ada", "exp": int(time.time()) + LATER, "role": "admin"}
    stranger = Key("RS256")
    good = token("ada")
    return {
        **{
            f"alg {alg}": f"{part({'alg': alg, 'typ': 'JWT'})}.{part(claims)}."
            for alg in ("none", "None", "NONE", "nOnE", "")
        },
        "alg none with a signature": f"{part({'alg': 'none'})}.{part(claims)}.{good.split('.')[2]}",
        "another key": jwt.encode(claims, "b" * 40, "HS256"),
        "another kind of key": jwt.encode(claims, stranger._private, "RS256"),
        "the right secret, another algorithm": by_hand("HS512", "sha512", claims),
        "a role by hand": ".".join([good.split(".")[0], part(claims), good.split(".")[2]]),
        "from the future": token("ada", iat=int(time.time()) + LATER),
        "not yet": token("ada", nbf=int(time.time()) + LATER),
        "no end": jwt.encode({"sub": "ada"}, SECRET, "HS256"),
        "nobody": jwt.encode({"exp": claims["exp"]}, SECRET, "HS256"),
        "an operator": jwt.encode({**claims, "sub": {"$ne": ""}}, SECRET, "HS256"),
        "no token": "null",
        "a long one": "a" * 8_000,
    }


async def test_a_forged_or_outdated_token_is_refused(http: aiohttp.ClientSession) -> None:
    for route in GUARDED:
        nobody = Api(http, None)
        for what, bad in bad_tokens().items():
            headers = {"Authorization": f"Bearer {bad}"}
            answer = await nobody.send(route.method, target(route), headers=headers, json={})
            assert (what, code_of(answer), answer.status) == (what, "invalid_token", 401)
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        run_out = {"Authorization": f"Bearer {token('ada', ttl=-1)}"}
        answer = await nobody.send(route.method, target(route), headers=run_out, json={})
        answer.problem(401, "token_expired")
        for scheme in ("Basic YWRhOmFkYQ==", "Bearer", "Bearer ", token("ada"), "Digest x"):
            answer = await nobody.send(
                route.method, target(route), headers={"Authorization": scheme}, json={}
            )
            answer.problem(401, "missing_token")


async def test_a_token_in_the_query_is_refused(http: aiohttp.ClientSession, api: Api) -> None:
    for route in ROUTES:
        for name in ("token", "access_token", "Token", "jwt", "authorization"):
            for who in (api, Api(http, None)):
                answer = await who.send(
                    route.method, target(route), params={name: token("ada")}, json={}
                )
                answer.problem(400, "token_in_query")


async def test_tokens_of_another_issuer_or_audience_are_refused_everywhere(
    stores: dict[str, Any],
) -> None:
    configured = {"jwt_issuer": "https://app.example", "jwt_audience": "app"}
    right = {"iss": "https://app.example", "aud": "app"}
    async with (
        serving(**stores, **configured) as server,
        aiohttp.ClientSession(server.url) as http,
    ):
        assert (await put(Api(http, "ada", **right), "ada", bio="x")).status == 200
        for wrong in (
            *({}, {"iss": right["iss"]}, {"aud": "app"}),
            *({**right, "iss": "https://evil.example"}, {**right, "aud": "other"}),
            *({**right, "aud": []}, {**right, "iss": ""}),
        ):
            for route in GUARDED:
                answer = await Api(http, "ada", **wrong).send(route.method, target(route), json={})
                answer.problem(401, "invalid_token")
        assert (await Api(http, "ada", **right).get("/users/ada")).ok()["bio"] == "x"


# --- bodies -------------------------------------------------------------------------------

BROKEN = {
    "empty": b"",
    "cut off": b'{"username": "ada"',
    "two": b"{}{}",
    "no JSON": b"username=ada",
    "XML": b"<?xml version='1.0'?><a/>",
    "no UTF-8": b'{"username": "\xff"}',
    "half a character": b'{"username": "\\ud800"}',
    "UTF-16": '{"username": "ada"}'.encode("utf-16"),
    "not a number": b'{"updatedAt": NaN}',
    "deep": b'{"custom":' * 5_000 + b"1" + b"}" * 5_000,
    "deep arrays": b"[" * 100_000,
    "an array": b"[]",
    "null": b"null",
    "a text": b'"ada"',
    "many names": json.dumps({f"n{n}": n for n in range(5_000)}).encode(),
    "a bomb of gzip": gzip.compress(b" " * 20_000_000),
    "a long text": json.dumps({"username": "a" * 200_000, "status": "a" * 50_000}).encode(),
    "a long number": b'{"updatedAt": ' + b"9" * 100_000 + b"}",
}


async def test_a_body_that_is_none_is_refused(api: Api) -> None:
    for route in WITH_BODY:
        for what, body in BROKEN.items():
            if not body and not route.body_needed:
                continue
            answer = await refused(route, api, data=body, headers=AS_JSON)
            assert answer.status == 400, (what, answer)
        (await refused(route, api, data=b" " * (MAX_BODY + 1), headers=AS_JSON)).problem(
            413, "payload_too_large"
        )


async def test_a_small_body_that_unpacks_to_a_large_one_is_refused(api: Api) -> None:
    bomb = b" " * 20_000_000
    bombs = {"gzip": gzip.compress(bomb), "deflate": zlib.compress(bomb)}
    for route in WITH_BODY:
        for coding, packed in bombs.items():
            assert len(packed) < MAX_BODY
            headers = {**AS_JSON, "Content-Encoding": coding}
            answer = await refused(route, api, data=packed, headers=headers)
            answer.problem(413, "payload_too_large")
            answer = await refused(route, api, data=packed[:-9], headers=headers)
            assert answer.status in (400, 413)
        for coding in ("br", "zstd", "gzip, gzip", "x" * 500):
            answer = await refused(
                route, api, data=b"{}", headers={**AS_JSON, "Content-Encoding": coding}
            )
            answer.problem(415, "unsupported_media_type")


async def test_another_content_type_neither_helps_nor_harms(api: Api) -> None:
    bodies = (b'{"bio": "x"}', b"bio=x", b'{"role": "admin"}', b"\0")
    medias = ("text/plain", "application/x-www-form-urlencoded", "x", "")
    for body, media in itertools.product(bodies, medias):
        answer = await api.send("PUT", "/users/ada", data=body, headers={"Content-Type": media})
        assert answer.status in (200, 400, 415), answer
    multipart = aiohttp.FormData({"bio": "x"}, default_to_multipart=True)
    answer = await api.send("PUT", "/users/ada", data=multipart)
    assert answer.status in (400, 415)


OPERATORS: list[Any] = [
    *({"$ne": ""}, {"$gt": ""}, {"$regex": ".*"}, {"$where": "1"}, {"$in": ["ada"]}),
    *(["ada"], [{"$ne": ""}], 7, True, {}, {"__proto__": {"role": "admin"}}),
]
FIELDS = {
    "/auth/register": ["username", "email", "password", "id"],
    "/auth/login": ["username", "email", "password"],
    "/api/auth/register": ["username", "email", "password", "name", "id"],
    "/api/auth/login": ["username", "email", "password"],
    "/api/auth/guest": ["deviceId"],
    "/api/auth/refresh": ["refreshToken"],
    "/api/auth/logout": ["refreshToken"],
    "/api/auth/password": ["currentPassword", "newPassword"],
    "/users/{id}": ["id", "username", "email", "name", "bio", "avatar"],
    "/users/{id}/status": ["status", "note"],
}
GOOD = {
    "username": "eve",
    "email": "eve@example.com",
    "password": "secure123",
    "id": "0b9f1a7e-8a2f-4a37-9d0c-3f1d2c5b6a70",
    "deviceId": "d" * 20,
    "refreshToken": "x",
    "currentPassword": "secure123",
    "newPassword": "secure124",
    "status": "busy",
}


async def test_operators_of_the_database_are_no_values(
    http: aiohttp.ClientSession, api: Api
) -> None:
    await registered(http)
    for route in WITH_BODY:
        for name in FIELDS[route.path]:
            whole = {other: GOOD[other] for other in FIELDS[route.path] if other in GOOD}
            if route.path.endswith("login"):
                whole = {"password": "x", "email" if name == "email" else "username": "ada"}
            for bad in OPERATORS:
                if route.path == "/users/{id}":
                    whole = {}
                answer = await refused(route, api, json={**whole, name: bad})
                assert answer.status == 400
                assert f"/{name}" in {
                    fault["pointer"] for fault in json.loads(answer.raw)["errors"]
                }


async def test_nobody_gets_more_by_a_field_that_is_not_theirs(api: Api, service: Api) -> None:
    for route in WITH_BODY:
        for name in ("role", "_id", "passwordHash", "version", "isOnline", "$set", "__proto__"):
            whole = {other: GOOD[other] for other in FIELDS[route.path] if other in GOOD}
            if route.path == "/users/{id}":
                whole = {}
            answer = await refused(route, api, json={**whole, name: "admin"})
            assert f"/{name}" in {fault["pointer"] for fault in json.loads(answer.raw)["errors"]}
    assert (await service.get("/users")).ok() == []


# --- methods, paths, headers --------------------------------------------------------------


async def test_other_methods_are_405_with_allow(api: Api) -> None:
    allowed: dict[str, set[str]] = {}
    for route in ROUTES:
        methods = allowed.setdefault(target(route), set())
        methods |= {"GET", "HEAD"} if route.method == "GET" else {route.method}
    allowed["/users/search"] |= allowed["/users/ada"]  # an id, to the other methods
    for path, methods in allowed.items():
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"} - methods:
            answer = await api.send(method, path)
            answer.problem(405, "method_not_allowed")
            assert answer.headers["Allow"] == ", ".join(sorted(methods)), (method, path)
        if "GET" not in methods:
            head = await api.send("HEAD", path)
            assert (head.status, head.raw) == (405, b"")


async def test_head_is_get_without_a_body(http: aiohttp.ClientSession) -> None:
    ada = await registered(http)
    for path in (ada.path, "/users", "/users/search?q=ada", "/api/auth/me"):
        got, head = await ada.get(path), await ada.send("HEAD", path)
        assert (head.status, head.raw) == (got.status, b"") == (200, b"")
        assert head.headers.get("ETag") == got.headers.get("ETag")
    assert (await Api(http, None).send("HEAD", ada.path)).status == 401


TARGETS = [
    *("/users/%00", "/users/ada%00", "/users/%2e%2e", "/users/../users/ada", "/users//ada"),
    *("/users/ada/", "/users/%", "/users/%zz", "/users/%ff%fe", "/users/%ED%A0%80", "/Users/ada"),
    *("/users/ada%2fstatus", "/users/..%2f..%2fmetrics", "/users/ada;a=b", "/users/$where"),
    *("/users/ada?%=%zz&%ff", "/users/" + "a" * 7_000, "/users/ada/status/x", "/users/ada/custom"),
    *("/users?limit[$gt]=1", "/users?cursor[]=a", "/users?limit=%ff", "/users?cursor=%00"),
    *("/users?" + "a=1&" * 1_500, "/users/search?q=" + "a" * 7_000, "/users/search?q[]=ab"),
    *("/users/search?q=%ED%A0%80%ED%A0%80", "/users/search?q=%00%00", "/users/search?q=a%ffb"),
    *("/api/auth/me/", "/api/auth/me/export/x", "/api/auth/../auth/me", "/auth/me", "/api/auth"),
]


async def test_a_weird_target_is_answered_well(served: Served) -> None:
    headers = [f"{name}: {value}" for name, value in bearer().items()]
    for line, method in itertools.product(TARGETS, ("GET", "PUT", "POST")):
        answer = await raw_http(served.url, http_request(f"{method} {line}", *headers))
        assert answer.status == 200 or 400 <= answer.status < 500, (method, line, answer)
        if answer.status != 200:
            code_of(answer)


async def test_a_flood_of_headers_leaves_the_server_well(served: Served, api: Api) -> None:
    floods = [
        [f"X-{n}: {'a' * 100}" for n in range(20_000)],
        ["Authorization: Bearer " + "a" * 100_000],
        ["If-Match: " + '"1", ' * 20_000],
        [f"Authorization: Bearer {token('ada')}"] * 1_000,
    ]
    for headers in floods:
        for line in ("GET /users/ada", "PUT /users/ada", "POST /auth/login"):
            try:
                answer = await raw_http(served.url, http_request(line, *headers))
            except (ConnectionError, IndexError):
                continue  # hung up on, which is an answer
            assert 400 <= answer.status < 500
    assert (await put(api, "ada", bio="well")).ok()["bio"] == "well"


async def test_a_long_list_of_versions_in_if_match_is_read(api: Api) -> None:
    tag = (await put(api, "ada")).headers["ETag"]
    many = ", ".join(f'"{n}x"' for n in range(700))
    answer = await put(api, "ada", headers={"If-Match": f"{many}, {tag}"}, bio="x")
    assert answer.ok()["bio"] == "x"


# --- the log ------------------------------------------------------------------------------


@pytest.fixture
async def told(caplog: pytest.LogCaptureFixture) -> AsyncIterator[pytest.LogCaptureFixture]:
    """Everything that is logged at INFO and above."""
    with caplog.at_level(logging.INFO):
        yield caplog


async def test_nothing_personal_is_in_the_log(
    http: aiohttp.ClientSession, told: pytest.LogCaptureFixture
) -> None:
    ada = await registered(http)
    nobody = Api(http, None)
    body = {"username": "Adalbert", "email": "ADA@example.com", "password": "secure123"}
    (await nobody.post("/auth/register", body)).problem(409, "email_taken")
    body = {"username": "ADA", "email": "b@example.com", "password": "secure123"}
    (await nobody.post("/auth/register", body)).problem(409, "username_taken")
    (await put(Api(http, "bob"), "bob", username="aDa")).problem(409, "username_taken")
    (
        await nobody.post("/auth/login", {"email": "ada@example.com", "password": "wrong123"})
    ).problem(401, "invalid_credentials")
    await ada.put(bio="my diary")
    await ada.get("/users/search?q=adalbert")
    (await ada.get("/users?cursor=my-secret")).problem(400, "invalid_value")
    said = told.text.lower()
    assert "409" in said, "refusals are logged"
    for secret in (
        "@example.com",
        "secure123",
        "wrong123",
        "diary",
        "adalbert",
        "my-secret",
        "hush",
    ):
        assert secret not in said
    assert ada.token.lower() not in said
    assert "did not answer" not in said


async def test_races_for_a_name_are_no_outage_in_the_log(
    http: aiohttp.ClientSession, told: pytest.LogCaptureFixture
) -> None:
    answers = await asyncio.gather(
        *(put(Api(http, f"user{n}"), f"user{n}", username="Wanted") for n in range(10))
    )
    assert sorted(answer.status for answer in answers) == [200] + [409] * 9
    assert "did not answer" not in told.text
    assert "wanted" not in told.text.lower()


async def test_what_a_stranger_tries_leaves_a_profile_as_it_was(
    http: aiohttp.ClientSession,
) -> None:
    ada: Person = await registered(http)
    before = (await ada.get(ada.path)).raw
    for eve in (Api(http, "eve"), Api(http, "eve", role="superuser"), Api(http, None)):
        for method in ("PUT", "POST", "DELETE", "PATCH"):
            for path in (ada.path, f"{ada.path}/status", "/users", f"{ada.path}?id=eve"):
                answer = await eve.send(method, path, json={"bio": "mine", "id": ada.id})
                assert answer.status in (400, 401, 403, 404, 405)
    assert (await ada.get(ada.path)).raw == before
