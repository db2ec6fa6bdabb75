"""Registering at both doors: who gets an account, under which names and ids, and who does not."""

import json
import unicodedata
from collections.abc import Collection
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import aiohttp
import jwt
import pytest

from tests.issuer import Key
from tests.registering import (
    ACCOUNT,
    PASSWORD,
    REGISTER,
    TOKENS,
    all_accounts,
    carrying,
    log_in,
    made,
    me,
    nobody,
    registered,
    together,
    wish,
)
from tests.rest import ISO, Api
from tests.serving import serving
from tests.tokens import SECRET, token

pytestmark = pytest.mark.usefixtures("quiet")

UUID = "550e8400-e29b-41d4-a716-446655440000"


async def refused_everywhere(
    http: aiohttp.ClientSession, body: dict[str, Any], codes: Collection[str], field: str
) -> None:
    """Both doors refuse `body`, and name the field."""
    for path in REGISTER:
        answer = await nobody(http).post(path, body)
        assert answer.status == 400, (body, answer)
        code = json.loads(answer.raw)["code"]
        assert code in codes, (body, answer)
        answer.refused_field(400, code, f"/{field}")


# --- the documents' examples --------------------------------------------------------------


async def test_the_example_of_auth_register_works_word_by_word(http: aiohttp.ClientSession) -> None:
    example = {"username": "john_doe", "email": "john@example.com", "password": "secure123"}
    answer = await nobody(http).post("/auth/register", example)
    user = made(answer)
    assert user.keys() == ACCOUNT | TOKENS
    assert (user["username"], user["email"]) == ("john_doe", "john@example.com")
    assert (user["role"], user["guest"], user["custom"]) == ("user", False, {})
    assert ISO.fullmatch(user["expiresAt"])
    assert ISO.fullmatch(user["createdAt"])
    assert isinstance(user["updatedAt"], int)
    assert answer.headers["Cache-Control"] == "no-store"
    assert await me(http, user["token"]) == {name: user[name] for name in ACCOUNT}


async def test_the_example_of_api_auth_register_works_word_by_word(
    http: aiohttp.ClientSession,
) -> None:
    example = {"email": "test@example.com", "password": "test123", "name": "Test User"}
    answer = await nobody(http).post("/api/auth/register", example)
    body = made(answer)
    assert body.keys() == {"success", "data"}
    assert body["success"] is True
    assert body["data"].keys() == {"user"} | TOKENS
    user = body["data"]["user"]
    assert user.keys() == ACCOUNT
    assert (user["name"], user["email"]) == ("Test User", "test@example.com")
    assert user["username"]
    assert answer.headers["Cache-Control"] == "no-store"
    login = {"email": "test@example.com", "password": "test123"}
    again = (await nobody(http).post("/api/auth/login", login)).ok()
    assert again["success"] is True
    assert again["data"].keys() == {"user"} | TOKENS
    assert again["data"]["user"] == user
    assert await me(http, again["data"]["token"]) == user


async def test_the_token_is_the_new_users_own_and_runs_out_when_it_says(
    http: aiohttp.ClientSession,
) -> None:
    user = await registered(http)
    claims = jwt.decode(user["token"], SECRET, ["HS256"], audience="livetally")
    assert (claims["sub"], claims["role"]) == (user["id"], "user")
    assert claims["iss"] == "livetally"
    assert {"jti", "iat", "sid"} <= claims.keys()
    assert user["expiresAt"] == iso_of(claims["exp"])
    options = carrying(user["token"])
    assert (await nobody(http).get(f"/api/users/{user['id']}/stats", **options)).ok()["rev"] == 0
    (await nobody(http).get("/api/users/bob/stats", **options)).problem(403, "forbidden")


def iso_of(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


async def test_people_of_one_name_get_different_usernames(http: aiohttp.ClientSession) -> None:
    answers = await together(
        *(
            nobody(http).post(
                "/api/auth/register",
                {"email": f"test{n}@example.com", "password": "test123", "name": "Test User"},
            )
            for n in range(5)
        )
    )
    users = [made(answer)["data"]["user"] for answer in answers]
    assert len({user["username"] for user in users}) == len({user["id"] for user in users}) == 5
    assert {user["name"] for user in users} == {"Test User"}


async def test_any_name_makes_a_username_that_is_valid(http: aiohttp.ClientSession) -> None:
    names = ["", "\N{GRINNING FACE}", "Åsa 李 Иван", "a" * 100, "$where", "@"]
    for n, name in enumerate(names):
        body = {"email": f"test{n}@example.com", "password": "test123", "name": name}
        user = made(await nobody(http).post("/api/auth/register", body))["data"]["user"]
        assert user["name"] == name
        again = wish(user["username"], email="other@example.com")
        answer = await nobody(http).post("/auth/register", again)
        answer.refused_field(409, "username_taken", "/username")


async def test_each_door_knows_what_the_other_made(http: aiohttp.ClientSession) -> None:
    for own, other in (REGISTER, REGISTER[::-1]):
        name = f"ada{len(own)}"
        made(await nobody(http).post(own, wish(name)))
        taken = wish(name.upper(), email="new@example.com")
        (await nobody(http).post(other, taken)).refused_field(409, "username_taken", "/username")
        taken = wish("somebody", email=f"{name}@EXAMPLE.com")
        (await nobody(http).post(other, taken)).refused_field(409, "email_taken", "/email")


# --- ids ----------------------------------------------------------------------------------


async def test_a_client_brings_its_own_uuid_and_it_stays_as_it_is(
    http: aiohttp.ClientSession,
) -> None:
    ids = [UUID, "018F3C6E-7b1a-7c3d-8E9f-0123456789ab", str(uuid4()).upper(), str(uuid4())]
    for n, own_id in enumerate(ids):
        body = made(await nobody(http).post(REGISTER[n % 2], wish(f"ada{n}", id=own_id)))
        assert body.get("data", {"user": body})["user"]["id"] == own_id
        fresh = (await log_in(http, f"ada{n}")).ok()
        assert (await me(http, fresh["token"]))["id"] == own_id


async def test_an_id_that_is_no_uuid_is_refused(
    http: aiohttp.ClientSession, stores: dict[str, Any]
) -> None:
    ids: list[Any] = [
        *("ada", "", "1", "admin", UUID.replace("-", ""), f"{{{UUID}}}", f"urn:uuid:{UUID}"),
        *(f"{UUID}\n", f" {UUID}", UUID[:-1], UUID + "0", UUID.replace("5", "g", 1)),
        UUID.replace("5", "\N{FULLWIDTH DIGIT FIVE}", 1),
        UUID.replace("5", "\N{ARABIC-INDIC DIGIT FIVE}", 1),
        *(5, True, [UUID], {"$gt": ""}),
    ]
    for own_id in ids:
        await refused_everywhere(http, wish(id=own_id), ("invalid_id", "invalid_type"), "id")
    assert await all_accounts(stores) == []


async def test_the_id_of_an_account_cannot_be_taken(http: aiohttp.ClientSession) -> None:
    user = await registered(http, id=UUID)
    for path in REGISTER:
        answer = await nobody(http).post(path, wish("bob", id=UUID))
        answer.refused_field(409, "id_taken", "/id")
        # nor by that account's own token: it has an account already
        again = await nobody(http).post(path, wish("bob", id=UUID), **carrying(user["token"]))
        again.problem(409, "id_taken")
    assert (await log_in(http, "ada")).ok()["email"] == "ada@example.com"


@pytest.mark.parametrize("path", REGISTER)
async def test_an_id_with_stats_is_taken_only_with_its_token(
    http: aiohttp.ClientSession, stores: dict[str, Any], path: str
) -> None:
    await Api(http, UUID).patch(xp=7)
    body = wish(id=UUID)
    (await nobody(http).post(path, body)).refused_field(409, "id_taken", "/id")
    (await Api(http, "mallory").post(path, body)).refused_field(409, "id_taken", "/id")
    (await Api(http, UUID.upper()).post(path, body)).refused_field(409, "id_taken", "/id")
    (await Api(http, UUID, ttl=-5).post(path, body)).problem(401, "token_expired")
    assert await all_accounts(stores) == []
    answer = made(await Api(http, UUID).post(path, body))
    user = answer.get("data", answer)
    pulled = await nobody(http).get(f"/api/users/{UUID}/stats", **carrying(user["token"]))
    assert pulled.ok()["xp"] == 7


async def test_a_backends_token_registers_others_not_itself(http: aiohttp.ClientSession) -> None:
    for role in ("service", "admin"):
        backend = Api(http, "backend", role=role)
        user = made(await backend.post("/auth/register", wish(f"{role}-made")))
        assert user["id"] != "backend"
        assert user["role"] == "user"


async def test_registering_again_with_ones_token_makes_another_account_and_leaves_the_first(
    http: aiohttp.ClientSession,
) -> None:
    first = await registered(http)
    options = carrying(first["token"])
    second = made(await nobody(http).post("/auth/register", wish("bob"), **options))
    assert second["id"] != first["id"]
    assert (await log_in(http, "ada")).ok()["id"] == first["id"]
    assert (await log_in(http, "bob")).ok()["id"] == second["id"]


async def test_a_bad_token_is_not_overlooked(http: aiohttp.ClientSession) -> None:
    for path in REGISTER:
        answer = await nobody(http).post(path, wish(), **carrying("no.token.here"))
        answer.problem(401, "invalid_token")
        (await Api(http, "ada", ttl=-5).post(path, wish())).problem(401, "token_expired")
        (await nobody(http).post(f"{path}?token={token()}", wish())).problem(400, "token_in_query")


# --- names --------------------------------------------------------------------------------


async def test_two_people_never_have_usernames_that_look_the_same(
    http: aiohttp.ClientSession,
) -> None:
    pairs = [
        ("ada", "ADA"),
        ("ada", "\uff41\uff44\uff41"),  # wide letters
        ("Straße", "STRASSE"),
        ("José", unicodedata.normalize("NFD", "JOSÉ")),
        ("scope", "\u0455\u0441\u043e\u0440\u0435"),  # Cyrillic
        ("bob", "b0b"),
        ("paul", "pau1"),
        ("ada lovelace", "  Ada   Lovelace "),
        (
            "\u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2",
            "\u03a3\u038a\u03a3\u03a5\u03a6\u039f\u03a3",
        ),
    ]
    for n, first in enumerate(dict(pairs)):
        made(await nobody(http).post("/auth/register", wish(first, email=f"{n}@example.com")))
    for _, second in pairs:
        for path in REGISTER:
            answer = await nobody(http).post(path, wish(second, email="two@example.com"))
            answer.refused_field(409, "username_taken", "/username")


UNSEEN = (
    "\u200b\u200c\u200d\u2060\ufeff\u00ad\u202e\u2066\u3164\u115f\u034f\u180e\ufe0f\u2800\U000e0061"
    "\x00\n\t\x7f\u0085"
)


async def test_what_is_not_seen_is_refused_in_usernames(
    http: aiohttp.ClientSession, stores: dict[str, Any]
) -> None:
    for char in UNSEEN:
        for name in (f"a{char}da", f"{char}ada", f"ada{char}"):
            body = wish(name, email="ada@example.com")
            await refused_everywhere(http, body, ["invalid_value"], "username")
    assert await all_accounts(stores) == []


async def test_an_ill_formed_username_is_refused(http: aiohttp.ClientSession) -> None:
    names = ["p\u0430ypal", "a", "", "a" * 65, "ada@home", "$where", "a.b\\c", "<b>", "ад\u0061"]
    for name in names:
        body = wish(name, email="ada@example.com")
        await refused_everywhere(http, body, ["invalid_value"], "username")


async def test_an_email_belongs_to_one_account_in_any_case(http: aiohttp.ClientSession) -> None:
    pairs = [
        ("ada@example.com", "ADA@Example.COM"),
        ("ada@example.com", "  ada@example.com "),
        ("straße@example.com", "STRASSE@example.com"),
        ("josé@example.com", unicodedata.normalize("NFD", "JOSÉ@example.com")),
        ("ada@example.com", "\uff41da@example.com"),
    ]
    for n, first in enumerate(dict(pairs)):
        made(await nobody(http).post("/auth/register", wish(f"user{n}", email=first)))
    for _, second in pairs:
        for path in REGISTER:
            answer = await nobody(http).post(path, wish("bob", email=second))
            answer.refused_field(409, "email_taken", "/email")


async def test_an_ill_formed_email_is_refused(http: aiohttp.ClientSession) -> None:
    emails = [
        *("", "ada", "ada@", "@example.com", "a b@example.com", "ada@example", "ada@@example.com"),
        *("ada@example.com\n.org", "ada\u200b@example.com", "ada\x00@example.com"),
        *("a" * 65 + "@example.com", "ada@" + "a." * 130 + "com", "<ada@example.com>"),
        "ada@example.com,bob@example.com",
    ]
    for email in emails:
        await refused_everywhere(http, wish(email=email), ["invalid_value"], "email")


# --- races --------------------------------------------------------------------------------


@pytest.mark.parametrize("with_id", [False, True])
async def test_of_20_identical_registrations_over_both_doors_of_two_instances_one_makes_an_account(
    stores: dict[str, Any], with_id: bool
) -> None:
    body = wish(id=UUID) if with_id else wish()
    async with AsyncExitStack() as stack:
        one, two = [await stack.enter_async_context(serving(**stores)) for _ in range(2)]
        doors = [
            (await stack.enter_async_context(aiohttp.ClientSession(server.url)), path)
            for server in (one, two)
            for path in REGISTER
        ]
        answers = await together(
            *(nobody(http).post(path, body) for http, path in doors for _ in range(5))
        )
        assert sorted(answer.status for answer in answers) == [201] + [409] * 19
        for answer in answers:
            if answer.status == 409:
                code = json.loads(answer.raw)["code"]
                assert code in ("username_taken", "email_taken", "id_taken")
                answer.problem(409, code)
        (account,) = await all_accounts(stores)
        for http, _ in doors:
            assert (await log_in(http, "ada")).ok()["id"] == account.id


async def test_of_20_registrations_with_one_email_and_no_username_one_makes_an_account(
    http: aiohttp.ClientSession, stores: dict[str, Any]
) -> None:
    body = {"email": "test@example.com", "password": "test123", "name": "Test User"}
    answers = await together(*(nobody(http).post("/api/auth/register", body) for _ in range(20)))
    assert sorted(answer.status for answer in answers) == [201] + [409] * 19
    for answer in answers:
        if answer.status == 409:
            answer.refused_field(409, "email_taken", "/email")
    assert len(await all_accounts(stores)) == 1


async def test_of_20_people_who_want_one_username_one_gets_it(
    http: aiohttp.ClientSession, stores: dict[str, Any]
) -> None:
    names = ["ada", "ADA", "aDa", "\uff41da"] * 5
    answers = await together(
        *(
            nobody(http).post("/auth/register", wish(name, email=f"{n}@example.com"))
            for n, name in enumerate(names)
        )
    )
    assert sorted(answer.status for answer in answers) == [201] + [409] * 19
    assert len(await all_accounts(stores)) == 1


# --- bad input ----------------------------------------------------------------------------


async def test_what_a_client_may_not_set_is_refused_by_name(
    http: aiohttp.ClientSession, stores: dict[str, Any]
) -> None:
    fields: dict[str, Any] = {
        "role": "admin",
        "_id": UUID,
        "passwordHash": "$2b$04$x",
        "password_hash": "x",
        "isAdmin": True,
        "createdAt": 0,
        "updatedAt": 0,
        "guest": True,
        "deviceKey": "x",
        "version": 9,
        "emailKey": "x",
        "custom": {},
        "$set": {"role": "admin"},
        "__proto__": {"role": "admin"},
        "token": "x",
    }
    for field, value in fields.items():
        await refused_everywhere(http, wish(**{field: value}), ["unknown_field"], field)
    assert await all_accounts(stores) == []


async def test_operators_and_other_types_are_refused_in_every_field(
    http: aiohttp.ClientSession, stores: dict[str, Any]
) -> None:
    values = [{"$gt": ""}, {"$ne": None}, {"$regex": ".*"}, ["ada"], 5, True]
    for field in ("username", "email", "password", "name", "id"):
        codes = ["invalid_id"] if field == "id" else ["invalid_type"]
        for value in values:
            await refused_everywhere(http, {**wish(), field: value}, codes, field)
    assert await all_accounts(stores) == []


async def test_what_is_missing_is_named(http: aiohttp.ClientSession) -> None:
    for field in ("email", "password"):
        body = {name: value for name, value in wish().items() if name != field}
        await refused_everywhere(http, body, ["missing_field"], field)
    body = {"email": "ada@example.com", "password": PASSWORD}
    (await nobody(http).post(REGISTER[0], body)).refused_field(400, "missing_field", "/username")


async def test_a_body_that_is_no_object_is_refused(http: aiohttp.ClientSession) -> None:
    large = json.dumps(wish(name="x" * 300_000)).encode()
    for path in REGISTER:
        for raw, code in ((b"", "invalid_json"), (b"{", "invalid_json"), (b"[]", "invalid_type")):
            (await nobody(http).post_raw(path, raw)).problem(400, code)
        (await nobody(http).post_raw(path, large)).problem(413, "payload_too_large")
        (await nobody(http).get(path)).problem(405, "method_not_allowed")


async def test_what_is_refused_takes_no_name(http: aiohttp.ClientSession) -> None:
    refused = await nobody(http).post("/auth/register", wish(password="12345"))
    refused.refused_field(400, "invalid_value", "/password")
    refused = await nobody(http).post("/auth/register", wish(email="no"))
    refused.problem(400, "invalid_value")
    assert (await registered(http))["username"] == "ada"


async def test_every_try_counts_against_the_rate_limit_of_its_address(
    stores: dict[str, Any],
) -> None:
    paths = (*REGISTER, "/auth/login", "/api/auth/login", "/api/auth/guest", "/api/auth/refresh")
    limited = {**stores, "rate_limit_per_minute": len(paths)}
    async with serving(**limited) as served, aiohttp.ClientSession(served.url) as http:
        for path in paths:
            (await nobody(http).post(path, {})).problem(400, "missing_field")
        for path in paths:
            answer = await nobody(http).post(path, {})
            answer.problem(429, "rate_limited")
            assert int(answer.headers["Retry-After"]) >= 1


# --- where accounts are kept elsewhere ----------------------------------------------------


async def test_a_server_that_only_verifies_makes_no_accounts(stores: dict[str, Any]) -> None:
    key = Key("ES256")
    verifying = {**stores, "jwt_secret": None, "jwt_public_key": key.pem}
    async with serving(**verifying) as served, aiohttp.ClientSession(served.url) as http:
        requests = [(path, wish()) for path in REGISTER]
        requests += [
            (path, {"email": "ada@example.com", "password": PASSWORD})
            for path in ("/auth/login", "/api/auth/login")
        ]
        requests.append(("/api/auth/guest", {"deviceId": "x" * 20}))
        for path, body in requests:
            (await nobody(http).post(path, body)).problem(403, "forbidden")
            answer = await nobody(http).post(path, body, **carrying(key.token()))
            answer.problem(403, "forbidden")
        assert await all_accounts(stores) == []
        # what is verified only goes on
        stats = await nobody(http).get("/api/users/ada/stats", **carrying(key.token()))
        assert stats.status == 200


async def test_a_refresh_token_is_refused_where_nothing_is_signed(stores: dict[str, Any]) -> None:
    async with serving(**stores) as served, aiohttp.ClientSession(served.url) as http:
        refresh_token = (await registered(http))["refreshToken"]
    verifying = {**stores, "jwt_secret": None, "jwt_public_key": Key("EdDSA").pem}
    async with serving(**verifying) as served, aiohttp.ClientSession(served.url) as http:
        answer = await nobody(http).post("/api/auth/refresh", {"refreshToken": refresh_token})
        answer.problem(403, "forbidden")
