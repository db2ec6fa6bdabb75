"""Passwords: which are taken, how they are kept, where they never show up, what hashing costs."""

import asyncio
import json
import logging
import statistics
import unicodedata
from pathlib import Path
from typing import Any

import aiohttp
import bcrypt
import pytest
from argon2 import PasswordHasher, Type, extract_parameters
from pymongo import AsyncMongoClient

from server.accounts.passwords import Passwords
from server.keys import ACCOUNTS
from server.settings import SettingsError, load
from tests.commands import command
from tests.registering import (
    LOGIN,
    PASSWORD,
    REGISTER,
    all_accounts,
    brought,
    carrying,
    log_in,
    made,
    nobody,
    registered,
    stored,
    together,
    wish,
)
from tests.serving import Served, serving
from tests.tokens import SECRET

pytestmark = pytest.mark.usefixtures("quiet")

NFC = "pässwörd-é"
NFD = unicodedata.normalize("NFD", NFC)
WEAK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
BCRYPT = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()


async def change(http: aiohttp.ClientSession, token: str, current: str, new: str) -> Any:
    body = {"currentPassword": current, "newPassword": new}
    return await nobody(http).post("/api/auth/password", body, **carrying(token))


# --- which are taken ----------------------------------------------------------------------


async def test_6_to_128_characters_are_taken_and_no_others(
    http: aiohttp.ClientSession, stores: dict[str, Any]
) -> None:
    for path in REGISTER:
        for password in ("", "12345", "x" * 129, "é" * 5, "\N{GRINNING FACE}" * 129):
            answer = await nobody(http).post(path, wish(password=password))
            answer.refused_field(400, "invalid_value", "/password")
    assert await all_accounts(stores) == []
    taken = [
        "123456",
        "x" * 128,
        "\N{GRINNING FACE}" * 128,
        "é" * 6,
        "      ",
        "a\x00bcdef",
        "$gt: ''",
    ]
    for n, password in enumerate(taken):
        await registered(http, f"ada{n}", password=password)
        assert (await log_in(http, f"ada{n}", password)).ok()["username"] == f"ada{n}"


async def test_another_least_length_is_that_of_all_new_passwords(stores: dict[str, Any]) -> None:
    await brought(stores, BCRYPT)
    async with (
        serving(**stores, password_min_length=10) as served,
        aiohttp.ClientSession(served.url) as http,
    ):
        for path in REGISTER:
            answer = await nobody(http).post(path, wish("bob", password="123456789"))
            problem = answer.refused_field(400, "invalid_value", "/password")
            assert "10" in problem["detail"]
        await registered(http, "bob", password="1234567890")
        # what is there already goes on, and is changed to a longer one
        token = (await log_in(http, "ada")).ok()["token"]
        answer = await change(http, token, PASSWORD, "123456789")
        answer.refused_field(400, "invalid_value", "/newPassword")
        (await change(http, token, PASSWORD, "1234567890")).ok()


async def test_listed_passwords_are_refused_in_any_case_and_form(
    stores: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "common.txt"
    path.write_text(f"password1\n\n  letmein  \r\n{NFD}\nPassWord2\n", encoding="utf-8")
    async with (
        serving(**stores, password_blocklist=path) as served,
        aiohttp.ClientSession(served.url) as http,
    ):
        wide = "\uff50assword1"
        refused = ["password1", "PASSWORD1", "letmein", "LetMeIn", NFC, NFD.upper(), "password2"]
        for password in [*refused, wide]:
            for door in REGISTER:
                answer = await nobody(http).post(door, wish(password=password))
                answer.refused_field(400, "invalid_value", "/password")
                assert password not in answer.raw.decode()
        token = (await registered(http, password="password11"))["token"]
        answer = await change(http, token, "password11", "Password1")
        answer.refused_field(400, "invalid_value", "/newPassword")


async def test_a_list_of_refused_passwords_that_cannot_be_read_is_a_clear_error_at_start(
    stores: dict[str, Any], tmp_path: Path
) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "missing.txt", tmp_path, binary):
        with pytest.raises(SettingsError, match="PASSWORD_BLOCKLIST") as caught:
            async with serving(**stores, password_blocklist=path):
                pass
        assert str(path) in str(caught.value)
    missing = tmp_path / "missing.txt"
    result = await command(**stores, jwt_secret=SECRET, password_blocklist=missing)
    assert result.code == 1
    assert "PASSWORD_BLOCKLIST" in result.err
    assert str(missing) in result.err
    assert "Traceback" not in result.err


async def test_a_least_length_that_cannot_be_is_a_clear_error_at_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for length in ("0", "129", "six"):
        monkeypatch.setenv("PASSWORD_MIN_LENGTH", length)
        with pytest.raises(SettingsError, match="PASSWORD_MIN_LENGTH"):
            load()
    monkeypatch.setenv("PASSWORD_MIN_LENGTH", "128")
    assert load().password_min_length == 128


# --- Unicode ------------------------------------------------------------------------------


async def test_composed_and_decomposed_are_the_same_password(http: aiohttp.ClientSession) -> None:
    assert NFC != NFD
    for n, (first, second) in enumerate(((NFC, NFD), (NFD, NFC))):
        name = f"ada{n}"
        await registered(http, name, password=first)
        for password in (first, second):
            token = (await log_in(http, name, password)).ok()["token"]
        (await change(http, token, second, first * 2)).ok()
        (await log_in(http, name, second * 2)).ok()


async def test_a_decomposed_password_is_as_long_as_the_composed_one(
    http: aiohttp.ClientSession,
) -> None:
    long = "é" * 128
    await registered(http, "ada", password=unicodedata.normalize("NFD", long))
    (await log_in(http, "ada", long)).ok()
    answer = await nobody(http).post(
        "/auth/register", wish("bob", password=unicodedata.normalize("NFD", "é" * 5))
    )
    answer.refused_field(400, "invalid_value", "/password")


@pytest.mark.parametrize("typed", [NFC, NFD], ids=["composed", "decomposed"])
@pytest.mark.parametrize("kind", ["argon2", "bcrypt"])
async def test_a_replaced_hash_takes_both_forms_of_the_password(
    http: aiohttp.ClientSession, stores: dict[str, Any], kind: str, typed: str
) -> None:
    if kind == "argon2":
        await brought(stores, WEAK.hash(NFC))
    else:  # hashed as it was typed, elsewhere
        await brought(stores, bcrypt.hashpw(typed.encode(), bcrypt.gensalt(4)).decode())
    (await log_in(http, "ada", typed)).ok()
    kept = (await stored(stores, "brought-ada")).password_hash
    assert kept is not None
    assert kept.startswith("$argon2id$")
    for password in (typed, NFC, NFD):
        (await log_in(http, "ada", password)).ok()


# --- how they are kept --------------------------------------------------------------------


async def test_they_are_kept_as_argon2id_with_owasps_first_choice(
    http: aiohttp.ClientSession, stores: dict[str, Any]
) -> None:
    for n, path in enumerate(REGISTER):
        made(await nobody(http).post(path, wish(f"ada{n}")))
    hashes = [account.password_hash or "" for account in await all_accounts(stores)]
    assert len(set(hashes)) == 2  # salted
    for one in hashes:
        assert one.startswith("$argon2id$")
        used = extract_parameters(one)
        assert (used.memory_cost, used.time_cost, used.parallelism) == (19 * 1024, 2, 1)


async def test_bcrypt_hashes_from_elsewhere_are_verified_and_replaced(
    http: aiohttp.ClientSession, stores: dict[str, Any]
) -> None:
    async def goes_through(name: str, old: str) -> None:
        await brought(stores, old, name)
        (await log_in(http, name, "wrong-one")).problem(401, "invalid_credentials")
        assert (await stored(stores, f"brought-{name}")).password_hash == old
        (await log_in(http, f"{name}@example.com")).ok()
        kept = (await stored(stores, f"brought-{name}")).password_hash or ""
        assert kept.startswith("$argon2id$")
        (await log_in(http, name)).ok()
        assert (await stored(stores, f"brought-{name}")).password_hash == kept
        (await log_in(http, name, "wrong-one")).problem(401, "invalid_credentials")

    olds = {f"ada{kind}": f"$2{kind}${BCRYPT[4:]}" for kind in "aby"}
    await asyncio.gather(*(goes_through(name, old) for name, old in olds.items()))


async def test_argon2_hashes_with_weaker_parameters_are_replaced(
    http: aiohttp.ClientSession, stores: dict[str, Any]
) -> None:
    hashers = {
        "all": WEAK,
        "memory": PasswordHasher(time_cost=2, memory_cost=1024, parallelism=1),
        "passes": PasswordHasher(time_cost=1, memory_cost=19 * 1024, parallelism=1),
        "kind": PasswordHasher(time_cost=2, memory_cost=1024, parallelism=1, type=Type.I),
    }
    for name, hasher in hashers.items():
        await brought(stores, hasher.hash(PASSWORD), name)
        (await log_in(http, name)).ok()
        kept = (await stored(stores, f"brought-{name}")).password_hash or ""
        assert kept.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
        (await log_in(http, name)).ok()


@pytest.mark.parametrize("old", [BCRYPT, WEAK.hash(PASSWORD)], ids=["bcrypt", "argon2"])
async def test_10_logins_at_once_replace_a_hash_and_all_go_in(
    http: aiohttp.ClientSession, stores: dict[str, Any], old: str
) -> None:
    await brought(stores, old)
    body = {"email": "ada@example.com", "password": PASSWORD}
    answers = await together(*(nobody(http).post(path, body) for path in LOGIN for _ in range(5)))
    tokens = [answer.ok().get("token") or answer.json["data"]["token"] for answer in answers]
    account = await stored(stores, "brought-ada")
    assert (account.password_hash or "").startswith("$argon2id$")
    for token in tokens:
        (await nobody(http).get("/api/auth/me", **carrying(token))).ok()
    (await log_in(http, "ada")).ok()


async def test_a_password_with_a_long_tail_is_verified_by_bcrypt_and_kept_whole(
    http: aiohttp.ClientSession, stores: dict[str, Any]
) -> None:
    long = "correct horse battery staple " * 4  # bcrypt sees 72 bytes of it
    old = bcrypt.hashpw(long.encode()[:72], bcrypt.gensalt(4)).decode()
    await brought(stores, old)
    (await log_in(http, "ada", long)).ok()
    (await log_in(http, "ada", long)).ok()


async def test_what_is_no_hash_opens_nothing_and_breaks_nothing(stores: dict[str, Any]) -> None:
    hashes = [
        *(
            "",
            "plain",
            PASSWORD,
            "$2b$",
            "$2b$04$short",
            "$2b$99$" + BCRYPT[7:],
            "$3b$" + BCRYPT[4:],
        ),
        *("$2", "$2b$04$" + "\x00" * 53, "$2b$04$" + "é" * 53, "$argon2id$", "$argon2id$v=19$m=8"),
        *("$argon2id$v=19$m=19456,t=2,p=1$!!$!!", "$1$salt$hash", "$pbkdf2-sha256$29000$x$y"),
    ]
    passwords = Passwords(6)
    try:
        for one in hashes:
            for password in (PASSWORD, "", one, "\ud800", "\x00"):
                assert not await passwords.verify(one, password), (one, password)
    finally:
        await passwords.close()


# --- where they never show up -------------------------------------------------------------


async def test_a_password_never_appears_in_an_answer_a_log_line_an_export_or_the_store(
    served: Served, http: aiohttp.ClientSession, stores: dict[str, Any], caplog: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.WARNING, "pymongo")  # as server/logs.py has it
    first, second, wrong = "Xq7-first-Zw", "Xq7-second-Zw", "Xq7-wrong-Zw"
    answers = []
    for n, path in enumerate(REGISTER):
        answers.append(await nobody(http).post(path, wish(f"ada{n}", password=first)))
        answers.append(await nobody(http).post(path, wish(f"ada{n}", password=first)))
        bad = wish("bob", password=first, email="no", role="admin", passwordHash=first)
        answers.append(await nobody(http).post(path, bad))
        answers.append(await nobody(http).post(path, wish("bob", password=[first])))
        answers.append(await nobody(http).post(path, wish("bob", password=first * 20)))
        answers.append(await nobody(http).post_raw(path, f'{{"password": "{first}"'.encode()))
    user = json.loads(answers[0].raw)
    own = carrying(user["token"])
    answers.append(await log_in(http, "ada0", wrong))
    answers.append(await log_in(http, wrong, wrong))
    answers.append(await change(http, user["token"], wrong, second))
    answers.append(await change(http, user["token"], first, second))
    answers.append(await log_in(http, "ada0", second))
    gets = ("/api/auth/me", "/api/auth/me/export", f"/users/{user['id']}", "/users", "/metrics")
    for path in (*gets, "/users/search?q=ada"):
        answers.append(await nobody(http).get(path, **own))
    assert [answers[-n].status for n in range(1, 7)] == [200] * 6
    accounts = await all_accounts(stores)
    hashes = [account.password_hash or "" for account in accounts]
    for answer in answers:
        text = answer.raw.decode() + str(answer.headers)
        assert "Xq7" not in text, answer
        assert "passwordHash" not in text.replace("passwordHash: Extra", "").replace(
            '"/passwordHash"', ""
        )
        assert not [one for one in hashes if one in text]
        assert "argon2" not in text
    assert "Xq7" not in caplog.text
    assert "argon2" not in caplog.text
    async with AsyncMongoClient[dict[str, Any]](stores["mongodb_uri"]) as client:
        database = client[stores["mongodb_db"]]
        for name in await database.list_collection_names():
            assert "Xq7" not in str(await database[name].find().to_list())


# --- changing one -------------------------------------------------------------------------


async def test_changing_it_takes_the_current_one_and_ends_the_other_sessions(
    http: aiohttp.ClientSession,
) -> None:
    first = await registered(http)
    second = (await log_in(http, "ada")).ok()
    wrong = await change(http, first["token"], "wrong-one", "new-secret")
    wrong.problem(401, "invalid_credentials")
    assert (await change(http, first["token"], PASSWORD, "new-secret")).ok() == {
        "success": True,
        "data": {"sessions": 1},
    }
    (await nobody(http).get("/api/auth/me", **carrying(first["token"]))).ok()
    refreshed = await nobody(http).post(
        "/api/auth/refresh", {"refreshToken": second["refreshToken"]}
    )
    refreshed.problem(401, "invalid_credentials")
    (await log_in(http, "ada")).problem(401, "invalid_credentials")
    (await log_in(http, "ada", "new-secret")).ok()


async def test_a_change_refuses_unknown_fields_operators_and_other_types(
    http: aiohttp.ClientSession,
) -> None:
    token = (await registered(http))["token"]
    path, good = "/api/auth/password", {"currentPassword": PASSWORD, "newPassword": "new-secret"}
    for field in good:
        for value in ({"$gt": ""}, ["x" * 8], 12345678, None, True):
            answer = await nobody(http).post(path, {**good, field: value}, **carrying(token))
            answer.refused_field(400, "invalid_type", f"/{field}")
        rest = {name: value for name, value in good.items() if name != field}
        answer = await nobody(http).post(path, rest, **carrying(token))
        answer.refused_field(400, "missing_field", f"/{field}")
    for field in ("role", "userId", "_id", "passwordHash"):
        answer = await nobody(http).post(path, {**good, field: "x"}, **carrying(token))
        answer.refused_field(400, "unknown_field", f"/{field}")
    (await nobody(http).post(path, good)).problem(401, "missing_token")
    (await log_in(http, "ada")).ok()


# --- what hashing costs -------------------------------------------------------------------


async def test_beyond_its_bound_the_pool_answers_overloaded(
    served: Served, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.accounts.passwords.MAX_WAITING", 5)
    answers = await together(
        *(nobody(http).post(REGISTER[n % 2], wish(f"ada{n}")) for n in range(20))
    )
    refused = [answer for answer in answers if answer.status != 201]
    assert 1 <= len(refused) <= 15
    for answer in refused:
        answer.problem(503, "overloaded")
        assert int(answer.headers["Retry-After"]) >= 1
    assert served.app[ACCOUNTS].passwords.waiting == 0
    made(await nobody(http).post("/auth/register", wish()))


async def test_a_login_that_finds_no_room_is_no_failure(
    http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    await registered(http)
    with monkeypatch.context() as patch:
        patch.setattr("server.accounts.passwords.MAX_WAITING", 0)
        for answer in await together(*(log_in(http, "ada") for _ in range(12))):
            answer.problem(503, "overloaded")
    (await log_in(http, "ada")).ok()


async def test_the_event_loop_goes_on_while_50_passwords_are_hashed(
    served: Served, http: aiohttp.ClientSession
) -> None:
    passwords, loop = served.app[ACCOUNTS].passwords, asyncio.get_running_loop()
    started = loop.time()
    hashing = asyncio.gather(*(passwords.hash(PASSWORD) for _ in range(50)))
    pauses = []
    while not hashing.done():
        before = loop.time()
        assert (await nobody(http).get("/health/live")).status == 200
        pauses.append(loop.time() - before)
    took = loop.time() - started
    assert len(set(await hashing)) == 50
    assert len(pauses) >= 10
    assert statistics.median(pauses) < took / 10
