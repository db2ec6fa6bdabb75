"""Logging in: who gets in by which name, and that no failure tells more than another."""

import asyncio
import json
import re
import statistics
import time
import unicodedata
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import bcrypt
import pytest

from tests.registering import (
    ACCOUNT,
    LOGIN,
    PASSWORD,
    TOKENS,
    all_accounts,
    brought,
    carrying,
    log_in,
    made,
    me,
    nobody,
    registered,
    together,
    wish,
)
from tests.rest import Answer
from tests.serving import serving
from tests.waiting import soon

pytestmark = pytest.mark.usefixtures("quiet")

BCRYPT = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()


@pytest.fixture
async def http(stores: dict[str, Any]) -> AsyncIterator[aiohttp.ClientSession]:
    """A server that counts no failures: here they are many."""
    unlimited = {"login_failures_per_account": 0, "login_failures_per_address": 0}
    async with serving(**stores, **unlimited) as served, aiohttp.ClientSession(served.url) as http:
        yield http


# --- who gets in --------------------------------------------------------------------------


async def test_the_doors_answer_the_account_with_its_tokens(http: aiohttp.ClientSession) -> None:
    user = await registered(http)
    body = {"email": "ada@example.com", "password": PASSWORD}
    beside = await nobody(http).post("/auth/login", body)
    assert beside.ok().keys() == ACCOUNT | TOKENS
    inside = await nobody(http).post("/api/auth/login", body)
    assert inside.ok().keys() == {"success", "data"}
    assert inside.json["success"] is True
    assert inside.json["data"].keys() == {"user"} | TOKENS
    for answer in (beside, inside):
        assert answer.headers["Cache-Control"] == "no-store"
    account = {name: user[name] for name in ACCOUNT}
    assert {name: beside.json[name] for name in ACCOUNT} == account
    assert inside.json["data"]["user"] == account
    for token in (beside.json["token"], inside.json["data"]["token"]):
        assert await me(http, token) == account


async def test_a_username_and_an_email_count_in_any_case(http: aiohttp.ClientSession) -> None:
    people = {
        "Ada": ["ada", "ADA", "aDa", "ada@example.com", "ADA@EXAMPLE.COM"],
        "Straße": ["STRASSE", "strasse", "STRASSE@example.com"],
        "José": [
            unicodedata.normalize("NFD", name) for name in ("josé", "JOSÉ", "JOSÉ@example.com")
        ],
        "Иван": ["ИВАН", "иван", "ИВАН@EXAMPLE.COM"],
    }
    for username, names in people.items():
        user = await registered(http, username)
        for name in (username, f"{username}@example.com", *names):
            assert (await log_in(http, name)).ok()["id"] == user["id"]


async def test_whoever_types_a_name_as_when_registering_gets_in(
    http: aiohttp.ClientSession,
) -> None:
    typed = ["  Ada   Lovelace ", "O\u2019Brien", "\uff22\uff4f\uff42", "Jose\u0301 "]
    for n, name in enumerate(typed):
        email = f" Person{n}@Example.com "
        user = await registered(http, name, email=email)
        for one in (name, name.upper(), email, user["username"], user["email"]):
            assert (await log_in(http, one)).ok()["id"] == user["id"]


async def test_names_that_were_brought_from_elsewhere_count_as_they_are(
    http: aiohttp.ClientSession, stores: dict[str, Any]
) -> None:
    """Also those that nobody could register with here."""
    for name in ("x", "__ada__", "a" * 80):
        await brought(stores, BCRYPT, name)
        for one in (name, name.upper(), f"{name}@example.com"):
            assert (await log_in(http, one)).ok()["id"] == f"brought-{name}"


async def test_a_password_counts_in_its_case_and_with_its_spaces(
    http: aiohttp.ClientSession,
) -> None:
    await registered(http, password=" Secure123 ")
    others = (
        "Secure123",
        " secure123 ",
        " Secure123",
        "Secure123 ",
        " Secure123  ",
        "\tSecure123 ",
    )
    for answer in await together(*(log_in(http, "ada", other) for other in others)):
        answer.problem(401, "invalid_credentials")
    (await log_in(http, "ada", " Secure123 ")).ok()


async def test_every_login_is_a_session_of_its_own(http: aiohttp.ClientSession) -> None:
    first = await registered(http)
    second = (await log_in(http, "ada")).ok()
    assert len({first["token"], second["token"]}) == 2
    assert len({first["refreshToken"], second["refreshToken"]}) == 2
    (await nobody(http).post("/api/auth/logout", {}, **carrying(first["token"]))).ok()

    async def ended() -> None:
        answer = await nobody(http).get("/api/auth/me", **carrying(first["token"]))
        answer.problem(401, "invalid_token")

    await soon(ended)
    (await nobody(http).get("/api/auth/me", **carrying(second["token"]))).ok()


async def test_a_login_needs_no_token_and_overlooks_a_stale_one(
    http: aiohttp.ClientSession,
) -> None:
    await registered(http)
    (await log_in(http, "ada", **carrying("no.token.here"))).ok()


# --- bad input ----------------------------------------------------------------------------


async def test_operators_other_types_and_unknown_fields_are_refused(
    http: aiohttp.ClientSession,
) -> None:
    await registered(http)
    values = [{"$gt": ""}, {"$ne": None}, {"$regex": ".*"}, ["ada"], 5, True]
    for path in LOGIN:
        for name in ("email", "username"):
            good = {name: "ada" if name == "username" else "ada@example.com", "password": PASSWORD}
            for field in good:
                for value in values:
                    answer = await nobody(http).post(path, {**good, field: value})
                    answer.refused_field(400, "invalid_type", f"/{field}")
            for field in ("role", "_id", "id", "passwordHash", "isAdmin", "createdAt", "$where"):
                answer = await nobody(http).post(path, {**good, field: "admin"})
                answer.refused_field(400, "unknown_field", f"/{field}")
            answer = await nobody(http).post(path, {name: good[name]})
            answer.refused_field(400, "missing_field", "/password")
        answer = await nobody(http).post(path, {"password": PASSWORD})
        answer.problem(400, "missing_field")
        (await nobody(http).post_raw(path, b"[]")).problem(400, "invalid_type")
        (await nobody(http).get(path)).problem(405, "method_not_allowed")


async def test_names_that_look_like_queries_are_names(http: aiohttp.ClientSession) -> None:
    await registered(http)
    names = ["*", ".*", "^a", "a.*@", "$ne", '{"$gt": ""}', "%", "ada' || '1", "\x00", "ada\x00"]
    names += ["\u200bada", "", "@", "ada@", "@example.com", "\ufdfa" * 320, "\u0345" * 320]
    for answer in await together(*(log_in(http, name) for name in names)):
        answer.problem(401, "invalid_credentials")


# --- one answer for every failure ---------------------------------------------------------


def told(answer: Answer) -> tuple[int, dict[str, str], str]:
    """All of an answer except the request's id and the time of day."""
    answer.problem(401, "invalid_credentials")
    request_id = answer.headers["X-Request-Id"]
    headers = {
        name.lower(): value.replace(request_id, "")
        for name, value in answer.headers.items()
        if name != "Date"
    }
    return answer.status, headers, answer.raw.decode().replace(request_id, "")


async def test_every_failure_has_the_same_answer_byte_for_byte(
    http: aiohttp.ClientSession, stores: dict[str, Any]
) -> None:
    await registered(http)
    for name, one in (
        ("none", None),
        ("old", BCRYPT),
        ("broken", "$2b$04$broken"),
        ("strange", "pbkdf2:sha256$x$y"),
    ):
        await brought(stores, one, name)
    device = {"deviceId": "3f2504e0-4f89-41d3-9a0c-0305e82c3301"}
    guest = made(await nobody(http).post("/api/auth/guest", device))["data"]["user"]["username"]
    erased = await registered(http, "gone")
    options = carrying(erased["token"])
    (await nobody(http).send("DELETE", "/api/auth/me", **options)).ok()
    tries = [
        *(("ada", wrong) for wrong in ("wrong-one", "", "\x00", "x" * 1_000, PASSWORD + " ")),
        *((name, "wrong-one") for name in ("old", "old@example.com", "ada@example.com")),
        *((name, PASSWORD) for name in ("nobody", "nobody@example.com", "none", guest, "")),
        *((name, PASSWORD) for name in ("gone", "gone@example.com", "broken", "strange", "@")),
        ("none@example.com", ""),
    ]
    answers = await together(*(log_in(http, name, password) for name, password in tries))
    expected = told(answers[0])
    assert "ada" not in expected[2]
    for tried, answer in zip(tries, answers, strict=True):
        assert told(answer) == expected, tried
    body = {"email": "nobody@example.com", "password": "wrong-one"}
    assert told(await nobody(http).post("/api/auth/login", body)) == expected


async def test_failures_take_the_same_time_for_unknown_users_and_every_kind_of_hash(
    http: aiohttp.ClientSession, stores: dict[str, Any]
) -> None:
    await registered(http)
    started = time.perf_counter()
    old = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(12)).decode()
    if time.perf_counter() - started > 0.35:  # this machine has no half second for it now
        old = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(10)).decode()
    await brought(stores, old, "old")
    names = ("ada", "old", "nobody")
    took: dict[str, list[float]] = {name: [] for name in names}
    loop = asyncio.get_running_loop()
    for _ in range(3):
        for name in names:
            started = loop.time()
            (await log_in(http, name, "wrong-one")).problem(401, "invalid_credentials")
            took[name].append(loop.time() - started)
    medians = [statistics.median(times) for times in took.values()]
    assert max(medians) - min(medians) < 0.05, took


async def test_a_failed_login_changes_nothing(
    http: aiohttp.ClientSession, stores: dict[str, Any]
) -> None:
    await registered(http)
    before = await all_accounts(stores)
    answers = await together(*(log_in(http, name, "wrong") for name in ("ada", "bob") * 3))
    for answer in answers:
        answer.problem(401, "invalid_credentials")
    assert await all_accounts(stores) == before


async def test_an_erased_persons_names_are_free_and_the_old_password_opens_nothing(
    http: aiohttp.ClientSession,
) -> None:
    first = await registered(http)
    (await nobody(http).send("DELETE", "/api/auth/me", **carrying(first["token"]))).ok()
    (await log_in(http, "ada")).problem(401, "invalid_credentials")
    second = await registered(http, password="another-one")
    assert second["id"] != first["id"]
    (await log_in(http, "ada")).problem(401, "invalid_credentials")
    (await log_in(http, "ada", "another-one")).ok()


async def test_a_refusal_is_told_apart_from_a_failure(http: aiohttp.ClientSession) -> None:
    """What can never be right is refused as such, before anybody is looked for."""
    for path in LOGIN:
        for body in (
            {"email": "ada@example.com", "password": "x" * 1_025},
            {"username": "a" * 321, "password": PASSWORD},
        ):
            answer = await nobody(http).post(path, body)
            assert answer.status == 400
            answer.problem(400, json.loads(answer.raw)["code"])
    assert re.fullmatch(r"\S+", made(await nobody(http).post("/auth/register", wish()))["token"])
