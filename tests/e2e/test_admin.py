"""`python -m server admin create EMAIL`, beside a running server and without one."""

import asyncio
import re
import tempfile
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.clients_py import connected
from tests.commands import Result, command
from tests.registering import (
    PASSWORD,
    all_accounts,
    carrying,
    log_in,
    me,
    nobody,
    registered,
)
from tests.serving import Served, ServerProcess, server_process
from tests.waiting import soon

EMAIL = "chief@example.com"
PRINTED = re.compile(r"password: (\S+)")


async def create(email: str, **settings: Any) -> Result:
    return await command("admin", "create", email, **settings)


def password_in(result: Result) -> str:
    """The one password that the command printed."""
    assert (result.code, result.err) == (0, ""), result
    (password,) = PRINTED.findall(result.out)
    assert result.out.count(password) == 1
    assert len(password) >= 12
    return str(password)


async def check_admin(http: aiohttp.ClientSession, token: str) -> None:
    """The token acts for others."""
    own = carrying(token)
    body = {"userId": "bob", "xp": 3}
    assert (await nobody(http).post("/api/users/data/patch", body, **own)).ok()["userId"] == "bob"
    assert (await nobody(http).get("/api/users/bob/stats", **own)).ok()["xp"] >= 3


async def refused(http: aiohttp.ClientSession, token: str) -> None:
    """The token does not count any more."""

    async def check() -> None:
        answer = await nobody(http).get("/api/auth/me", **carrying(token))
        answer.problem(401, "invalid_token")

    await soon(check)


async def test_it_makes_an_admin_whose_token_acts_for_others(
    http: aiohttp.ClientSession, stores: dict[str, Any]
) -> None:
    password = password_in(await create("Chief@Example.com", **stores))
    login = (await log_in(http, "chief@example.com", password)).ok()
    assert (login["role"], login["email"], login["guest"]) == ("admin", "Chief@Example.com", False)
    await check_admin(http, login["token"])
    # the role comes with refreshed tokens
    body = {"refreshToken": login["refreshToken"]}
    data = (await nobody(http).post("/api/auth/refresh", body)).ok()["data"]
    assert data["user"]["role"] == "admin"
    await check_admin(http, data["token"])
    # who is told to change the password can do so
    body = {"currentPassword": password, "newPassword": "a-new-one"}
    (await nobody(http).post("/api/auth/password", body, **carrying(login["token"]))).ok()
    (await log_in(http, login["username"], "a-new-one")).ok()
    # and nobody finds the admin by the e-mail
    own = carrying((await registered(http))["token"])
    for path in ("/users/search?q=chief", "/users/search?q=example"):
        assert (await nobody(http).get(path, **own)).ok() == []
    everybody = await nobody(http).get("/users", **own)
    assert len(everybody.ok()) == 2
    assert "chief" not in everybody.raw.decode().casefold()


async def test_it_promotes_an_account_that_is_there_and_ends_its_sessions(
    served: Served, http: aiohttp.ClientSession, stores: dict[str, Any]
) -> None:
    before = await registered(http)
    async with connected(served.url, auth={"token": before["token"]}) as device:
        await device.join()
        result = await create("ADA@example.com", **stores)
        assert (result.code, result.err) == (0, "")
        assert not PRINTED.search(result.out)
        assert PASSWORD not in result.out
        refresh = {"refreshToken": before["refreshToken"]}
        answer = await nobody(http).post("/api/auth/refresh", refresh)
        answer.problem(401, "invalid_credentials")
        await refused(http, before["token"])
        await asyncio.wait_for(device.gone.wait(), 10)
    login = (await log_in(http, "ada")).ok()
    assert (login["id"], login["role"]) == (before["id"], "admin")
    await check_admin(http, login["token"])


async def test_of_two_at_once_one_makes_the_admin(
    http: aiohttp.ClientSession, stores: dict[str, Any]
) -> None:
    results = await asyncio.gather(*(create(EMAIL, **stores) for _ in range(2)))
    assert 0 in [result.code for result in results]
    for result in results:
        assert "Traceback" not in result.err
    (password,) = [found for result in results for found in PRINTED.findall(result.out)]
    (account,) = await all_accounts(stores)
    login = (await log_in(http, EMAIL, password)).ok()
    assert (login["id"], login["role"]) == (account.id, "admin")


async def test_bad_emails_are_refused_and_make_nothing(stores: dict[str, Any]) -> None:
    emails = ["chief", '{"$gt": "@b.cd"}']
    for result in await asyncio.gather(*(create(email, **stores) for email in emails)):
        assert result.code == 1
        assert result.out == ""
        assert "EMAIL" in result.err
        assert "Traceback" not in result.err
    assert await all_accounts(stores) == []


async def test_what_is_missing_is_told_with_the_usage(stores: dict[str, Any]) -> None:
    result = await command("admin", "create", **stores)
    assert result.code == 2
    assert "usage: python -m server admin create" in result.err
    assert "EMAIL" in result.err


# --- with the private stores --------------------------------------------------------------


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not `tmp_path`: pytest keeps those of three sessions, and a mongod's is 100 MB."""
    with tempfile.TemporaryDirectory(prefix="livetally-test-") as path:
        yield Path(path)


def embedded(folder: Path) -> AbstractAsyncContextManager[ServerProcess]:
    """A server with nothing but a folder."""
    return server_process(folder, data_dir=folder / "var", jwt_secret=None)


async def test_it_works_without_a_running_server_and_beside_one(folder: Path) -> None:
    data_dir = folder / "var"
    first = password_in(await create("first@example.com", data_dir=data_dir))
    async with embedded(folder) as server, aiohttp.ClientSession(server.url) as http:
        second = password_in(await create("second@example.com", data_dir=data_dir))
        for email, password in (("first@example.com", first), ("second@example.com", second)):
            login = (await log_in(http, email, password)).ok()
            assert login["role"] == "admin"
            await check_admin(http, login["token"])
        before = await registered(http)
        result = await create("ada@example.com", data_dir=data_dir)
        assert (result.code, result.err) == (0, "")
        await refused(http, before["token"])
        assert (await me(http, (await log_in(http, "ada")).ok()["token"]))["role"] == "admin"
        assert first not in server.log
        assert second not in server.log
        assert await server.terminate() == 0
        assert "ERROR" not in server.log
