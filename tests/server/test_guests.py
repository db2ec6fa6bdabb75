"""People who play first, and how a guest becomes an account without losing anything."""

import json
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

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
from tests.rest import Answer, Api

pytestmark = pytest.mark.usefixtures("quiet")

GUEST = "/api/auth/guest"
DEVICE = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"


async def guest(http: aiohttp.ClientSession, device_id: str = DEVICE) -> Any:
    """The guest's account with the tokens beside it."""
    data = made(await nobody(http).post(GUEST, {"deviceId": device_id}))["data"]
    return {**data.pop("user"), **data}


async def patch(http: aiohttp.ClientSession, token: str, **changes: Any) -> Any:
    return (await nobody(http).post("/api/users/data/patch", changes, **carrying(token))).ok()


async def xp(http: aiohttp.ClientSession, user: Any) -> int:
    answer = await nobody(http).get(f"/api/users/{user['id']}/stats", **carrying(user["token"]))
    return int(answer.ok()["xp"])


async def test_a_guest_gets_an_account_and_tokens(http: aiohttp.ClientSession) -> None:
    answer = await nobody(http).post(GUEST, {"deviceId": DEVICE})
    body = made(answer)
    assert body["success"] is True
    assert body["data"].keys() == {"user"} | TOKENS
    user = body["data"]["user"]
    assert user.keys() == ACCOUNT
    assert (user["guest"], user["email"], user["role"]) == (True, None, "user")
    assert user["username"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert await me(http, body["data"]["token"]) == user


async def test_a_device_comes_back_as_the_same_guest(http: aiohttp.ClientSession) -> None:
    first = await guest(http)
    await patch(http, first["token"], xp=5)
    again = await guest(http)
    assert {name: again[name] for name in ACCOUNT} == {name: first[name] for name in ACCOUNT}
    assert again["refreshToken"] != first["refreshToken"]
    assert await xp(http, again) == 5
    assert (await guest(http, str(uuid4())))["id"] != first["id"]
    assert (await guest(http, DEVICE.upper()))["id"] != first["id"]


async def test_16_characters_bring_the_same_guest_back_and_15_a_new_one_each_time(
    http: aiohttp.ClientSession,
) -> None:
    for device_id, same in (("x" * 16, True), ("x" * 15, False), ("1", False), ("y" * 128, True)):
        first, second = await guest(http, device_id), await guest(http, device_id)
        assert (first["id"] == second["id"]) is same


async def test_20_calls_at_once_of_a_device_make_one_guest(
    http: aiohttp.ClientSession, stores: dict[str, Any]
) -> None:
    answers = await together(*(nobody(http).post(GUEST, {"deviceId": DEVICE}) for _ in range(20)))
    assert len({made(answer)["data"]["user"]["id"] for answer in answers}) == 1
    assert len(await all_accounts(stores)) == 1


async def test_an_ill_formed_device_id_is_refused(
    http: aiohttp.ClientSession, stores: dict[str, Any]
) -> None:
    values = ["", "$where", "a b", "x" * 129, "a\x00b", "é" * 20, {"$gt": ""}, ["x" * 20], 5, None]
    for value in values:
        answer = await nobody(http).post(GUEST, {"deviceId": value})
        assert answer.status == 400, (value, answer)
        answer.refused_field(400, json.loads(answer.raw)["code"], "/deviceId")
    (await nobody(http).post(GUEST, {})).refused_field(400, "missing_field", "/deviceId")
    for field in ("role", "_id", "id", "passwordHash", "isAdmin", "createdAt", "username"):
        body = {"deviceId": DEVICE, field: "admin"}
        (await nobody(http).post(GUEST, body)).refused_field(400, "unknown_field", f"/{field}")
    assert await all_accounts(stores) == []


async def test_a_guest_cannot_log_in_and_is_not_found(http: aiohttp.ClientSession) -> None:
    user = await guest(http)
    for password in ("", DEVICE, "None"):
        (await log_in(http, user["username"], password)).problem(401, "invalid_credentials")
    own = carrying(user["token"])
    assert (await nobody(http).get("/users/search?q=guest", **own)).ok() == []
    assert (await nobody(http).get(f"/users/search?q={user['username']}", **own)).ok() == []


# --- from a guest to an account -----------------------------------------------------------


@pytest.mark.parametrize("path", REGISTER)
async def test_registering_with_a_guests_token_keeps_id_and_stats(
    http: aiohttp.ClientSession, stores: dict[str, Any], path: str
) -> None:
    before = await guest(http)
    await patch(http, before["token"], xp=42)
    answer = made(await nobody(http).post(path, wish(), **carrying(before["token"])))
    after = answer if "token" in answer else {**answer["data"]["user"], **answer["data"]}
    assert after["id"] == before["id"]
    assert (after["guest"], after["username"], after["email"]) == (False, "ada", "ada@example.com")
    assert after["createdAt"] == before["createdAt"]
    assert await xp(http, after) == 42
    assert len(await all_accounts(stores)) == 1
    assert (await log_in(http, "ada")).ok()["id"] == before["id"]
    # the app that it was played in need not log in again
    assert (await me(http, before["token"]))["email"] == "ada@example.com"
    # and is found from now on
    found = (await nobody(http).get("/users/search?q=ada", **carrying(after["token"]))).ok()
    assert [one["id"] for one in found] == [before["id"]]


async def test_a_guest_may_name_the_own_id_when_registering(http: aiohttp.ClientSession) -> None:
    before = await guest(http)
    body = wish(id=before["id"])
    (await nobody(http).post("/auth/register", body)).refused_field(409, "id_taken", "/id")
    after = made(await nobody(http).post("/auth/register", body, **carrying(before["token"])))
    assert (after["id"], after["guest"]) == (before["id"], False)


async def test_a_guest_that_names_another_id_gets_that_one_and_stays_a_guest(
    http: aiohttp.ClientSession,
) -> None:
    before, new_id = await guest(http), str(uuid4())
    after = made(
        await nobody(http).post("/auth/register", wish(id=new_id), **carrying(before["token"]))
    )
    assert after["id"] == new_id
    assert (await guest(http))["id"] == before["id"]


async def test_a_guest_without_a_username_keeps_the_one_it_has(
    http: aiohttp.ClientSession,
) -> None:
    before = await guest(http)
    body = {"email": "test@example.com", "password": "test123"}
    answer = await nobody(http).post("/api/auth/register", body, **carrying(before["token"]))
    assert made(answer)["data"]["user"]["username"] == before["username"]


async def test_the_device_id_opens_no_account_that_has_a_password(
    http: aiohttp.ClientSession,
) -> None:
    before = await guest(http)
    made(await nobody(http).post("/auth/register", wish(), **carrying(before["token"])))
    fresh = await guest(http)
    assert fresh["id"] != before["id"]
    assert fresh["guest"] is True


async def test_a_guest_registers_under_no_name_that_is_taken(http: aiohttp.ClientSession) -> None:
    await registered(http)
    before = await guest(http)
    own = carrying(before["token"])
    for body, code, field in (
        (wish("ADA", email="new@example.com"), "username_taken", "/username"),
        (wish("new", email="ADA@example.com"), "email_taken", "/email"),
    ):
        (await nobody(http).post("/auth/register", body, **own)).refused_field(409, code, field)
    assert (await me(http, before["token"]))["guest"] is True
    assert (await guest(http))["id"] == before["id"]


@pytest.mark.parametrize("who", ["guest", "app"])
async def test_of_20_identical_registrations_with_one_token_one_makes_an_account(
    http: aiohttp.ClientSession, stores: dict[str, Any], who: str
) -> None:
    api = Api(http, "player-7") if who == "app" else None
    own = {} if api else carrying((await guest(http))["token"])
    asking = api or nobody(http)
    answers = await together(
        *(asking.post(path, wish(), **own) for path in REGISTER for _ in range(10))
    )
    _one_made(answers)
    (account,) = await all_accounts(stores)
    assert (await log_in(http, "ada")).ok()["id"] == account.id


def _one_made(answers: list[Answer]) -> None:
    refused = [answer for answer in answers if answer.status != 201]
    assert len(refused) == len(answers) - 1, answers
    for answer in refused:
        code = json.loads(answer.raw)["code"]
        assert code in ("username_taken", "email_taken", "id_taken"), answer
        answer.problem(409, code)


async def test_of_two_registrations_of_a_guest_under_two_names_one_counts(
    http: aiohttp.ClientSession, stores: dict[str, Any]
) -> None:
    own = carrying((await guest(http))["token"])
    names = ("ada", "bob")
    answers = await together(
        *(nobody(http).post("/auth/register", wish(name), **own) for name in names)
    )
    accounts = {account.username: account for account in await all_accounts(stores)}
    for name, answer in zip(names, answers, strict=True):
        if answer.status == 201:
            assert accounts[name].id == answer.json["id"]
        else:  # the outcome of the other one decides: try again
            answer.problem(409, "conflict")
            assert name not in accounts
    assert any(answer.status == 201 for answer in answers)


# --- from a user of the app's own tokens to an account ------------------------------------


@pytest.mark.parametrize("path", REGISTER)
async def test_a_user_of_the_apps_own_tokens_registers_and_keeps_id_and_stats(
    http: aiohttp.ClientSession, path: str
) -> None:
    player = Api(http, "player-7")  # no UUID: nobody else could register under it
    await player.patch(xp=9)
    answer = made(await player.post(path, wish()))
    after = answer if "token" in answer else {**answer["data"]["user"], **answer["data"]}
    assert after["id"] == "player-7"
    assert await xp(http, after) == 9
    assert (await log_in(http, "ada")).ok()["id"] == "player-7"
    assert (await player.stats("player-7"))["xp"] == 9  # the app's token goes on


async def test_a_profile_made_with_the_apps_own_token_stays_when_its_user_registers(
    http: aiohttp.ClientSession,
) -> None:
    player = Api(http, "player-7")
    profile = {"username": "ada", "bio": "Hello!", "custom": {"theme": "dark"}}
    (await player.send("PUT", "/users/player-7", json=profile)).ok()
    body = {"email": "ada@example.com", "password": PASSWORD}
    user = made(await player.post("/api/auth/register", body))["data"]["user"]
    assert {name: user[name] for name in profile} == profile
    (await nobody(http).post("/auth/register", wish(email="b@example.com"))).refused_field(
        409, "username_taken", "/username"
    )


async def test_whoever_keeps_the_own_username_when_registering_is_not_told_that_it_is_taken(
    http: aiohttp.ClientSession,
) -> None:
    player = Api(http, "player-7")
    (await player.send("PUT", "/users/player-7", json={"username": "ada"})).ok()
    assert made(await player.post("/auth/register", wish("Ada")))["username"] == "Ada"


async def test_an_erased_guest_does_not_come_back(
    http: aiohttp.ClientSession,
) -> None:
    before = await guest(http)
    own = carrying(before["token"])
    (await nobody(http).send("DELETE", "/api/auth/me", **own)).ok()
    answer = await nobody(http).post("/auth/register", wish(id=before["id"]))
    answer.problem(410, "erased")
    (await Api(http, before["id"]).post("/auth/register", wish())).problem(410, "erased")
    assert (await guest(http))["id"] != before["id"]
