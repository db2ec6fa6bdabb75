"""`POST /api/auth/password`: this session goes on, all others end, and no login slips through."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import aiohttp
import pytest

from domain.errors import AppError, Code
from server.accounts.service import AccountService, LoggedIn
from server.keys import ACCOUNTS, VERIFIER
from storage.accounts import AccountRepository
from storage.sessions import SessionRepository
from tests.interleaving import MOST, Steps, Work, every_order
from tests.people import (
    OTHER_PASSWORD,
    PASSWORD,
    Login,
    goes_on,
    is_over,
    log_in,
    refresh,
    refreshed,
    register,
)
from tests.rest import Answer, Api
from tests.serving import Served
from tests.waiting import soon

pytestmark = pytest.mark.usefixtures("quick", "quiet")

SOON = 3


async def change(login: Login, current: str = PASSWORD, new: Any = OTHER_PASSWORD) -> Answer:
    body = {"currentPassword": current, "newPassword": new}
    return await login.api.post("/api/auth/password", body)


async def test_the_other_sessions_end_and_this_one_goes_on(http: aiohttp.ClientSession) -> None:
    mine, bob = await register(http), await register(http, "bob")
    others = [await log_in(http) for _ in range(3)]
    answer = await change(mine)
    assert answer.ok() == {"success": True, "data": {"sessions": 3}}
    for other in others:
        (await refresh(http, other.refresh_token)).problem(401, "invalid_credentials")
    for other in others:
        await soon(lambda other=other: is_over(other), SOON)
    await goes_on(mine)
    await goes_on(bob)


async def test_it_goes_on_also_with_a_token_of_before_its_last_refresh(
    http: aiohttp.ClientSession,
) -> None:
    mine = await register(http)
    after = await refreshed(http, mine.refresh_token)
    assert (await change(mine)).ok()["data"]["sessions"] == 0
    await goes_on(after)


async def test_from_then_on_only_the_new_password_counts(http: aiohttp.ClientSession) -> None:
    mine = await register(http)
    (await change(mine)).ok()
    await log_in(http, "ada", OTHER_PASSWORD)
    for path in ("/auth/login", "/api/auth/login"):
        body = {"email": "ada@example.com", "password": PASSWORD}
        (await Api(http, None).post(path, body)).problem(401, "invalid_credentials")
    (await change(mine)).problem(401, "invalid_credentials")


async def test_with_a_wrong_password_nothing_changes(http: aiohttp.ClientSession) -> None:
    mine = await register(http)
    other = await log_in(http)
    for wrong in ("wrong-one", "", PASSWORD.upper(), PASSWORD + " "):
        (await change(mine, wrong)).problem(401, "invalid_credentials")
    await log_in(http)
    await goes_on(other)
    await goes_on(mine)


async def test_a_new_password_that_would_not_do_is_refused_by_name_and_nothing_changes(
    http: aiohttp.ClientSession,
) -> None:
    mine = await register(http)
    other = await log_in(http)
    for new in ("", "short", "x" * 129, 7, None, ["secret77"], {"$gt": ""}):
        answer = await change(mine, PASSWORD, new)
        code = "invalid_value" if isinstance(new, str) else "invalid_type"
        answer.refused_field(400, code, "/newPassword")
    await goes_on(other)


async def test_without_a_token_or_with_anothers_it_is_refused(http: aiohttp.ClientSession) -> None:
    await register(http)
    bob = await register(http, "bob", password="bobs-own-password")
    body = {"currentPassword": PASSWORD, "newPassword": OTHER_PASSWORD}
    (await Api(http, None).post("/api/auth/password", body)).problem(401, "missing_token")
    (await change(bob)).problem(401, "invalid_credentials")
    more = {**body, "userId": "ada"}
    (await bob.api.post("/api/auth/password", more)).problem(400, "unknown_field")
    await log_in(http)


async def test_who_has_no_password_cannot_change_it(http: aiohttp.ClientSession, api: Api) -> None:
    """A user of the app's own tokens, known here or not."""
    body = {"currentPassword": "", "newPassword": OTHER_PASSWORD}
    (await api.post("/api/auth/password", body)).problem(401, "invalid_credentials")
    (await api.send("PUT", "/users/ada", json={"bio": "hello"})).ok()
    (await api.post("/api/auth/password", body)).problem(401, "invalid_credentials")


async def test_of_two_changes_at_once_one_counts(http: aiohttp.ClientSession) -> None:
    for n in range(4):
        name = f"ada{chr(97 + n)}"
        one = await register(http, name)
        two = await log_in(http, name)
        new = ["password-one", "password-two"]
        answers = await asyncio.gather(change(one, PASSWORD, new[0]), change(two, PASSWORD, new[1]))
        statuses = [answer.status for answer in answers]
        assert statuses.count(200) == 1, answers
        winner = statuses.index(200)
        assert statuses[1 - winner] in (401, 409)
        await log_in(http, name, new[winner])
        body = {"username": name, "password": new[1 - winner]}
        answer = await Api(http, None).post("/api/auth/login", body)
        answer.problem(401, "invalid_credentials")


# --- races with a login -------------------------------------------------------------------


@pytest.fixture
def service(served: Served) -> AccountService:
    return served.app[ACCOUNTS].service


@pytest.fixture
def steps(served: Served, monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Of accounts: each call of the store is one."""
    return Steps(monkeypatch, AccountRepository, SessionRepository)


async def is_worth_nothing(http: aiohttp.ClientSession, outcome: Any) -> None:
    """A login was refused, or what it answered is refused."""
    if isinstance(outcome, LoggedIn):
        answer = await refresh(http, outcome.login.refresh_token)
        answer.problem(401, "invalid_credentials")
    else:
        assert isinstance(outcome, AppError), outcome
        assert outcome.code in (Code.INVALID_CREDENTIALS, Code.ERASED), outcome


def named() -> Callable[[], str]:
    names = iter(f"ada{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(600))
    return lambda: next(names)


async def test_no_login_with_the_old_password_outlives_the_change_at_whichever_step_it_comes(
    http: aiohttp.ClientSession, service: AccountService, steps: Steps
) -> None:
    name = named()
    logins: list[Login] = []

    async def prepare() -> tuple[Work, Work]:
        mine = await register(http, name())
        logins.append(mine)

        async def changes() -> None:
            (await change(mine)).ok()

        return lambda: service.log_in(mine.user["username"], PASSWORD, "::1"), changes

    orders = 0
    async for outcome in every_order(steps, prepare):
        orders += 1
        mine = logins[-1]
        await is_worth_nothing(http, outcome)
        await goes_on(mine)
        assert (await mine.api.send("POST", "/api/auth/logout-all")).ok()["data"]["sessions"] == 1
    assert orders >= 8


async def test_no_login_outlives_the_change_whichever_of_its_steps_the_login_comes_at(
    http: aiohttp.ClientSession, served: Served, service: AccountService, steps: Steps
) -> None:
    """The other way round: the whole login within the change."""
    name = named()
    logins: list[Login] = []
    outcomes: list[Any] = []

    async def prepare() -> tuple[Work, Work]:
        mine = await register(http, name())
        logins.append(mine)
        identity = await served.app[VERIFIER].verify(mine.token)

        async def logs_in() -> None:
            try:
                outcomes.append(await service.log_in(mine.user["username"], PASSWORD, "::1"))
            except AppError as error:
                outcomes.append(error)

        return lambda: service.change_password(identity, PASSWORD, OTHER_PASSWORD, "::1"), logs_in

    orders = 0
    async for outcome in every_order(steps, prepare):
        orders += 1
        assert isinstance(outcome, int), outcome
        await is_worth_nothing(http, outcomes[-1])
        await goes_on(logins[-1])
    assert orders >= 4


async def test_no_login_of_many_at_once_outlives_the_change(http: aiohttp.ClientSession) -> None:
    body = {"username": "ada", "password": PASSWORD}
    mine = await register(http)
    bare = Api(http, None)

    async def logs_in(n: int) -> Answer:
        await asyncio.sleep(n * 0.01)
        return await bare.post("/api/auth/login", body)

    done, *answers = await asyncio.gather(change(mine), *(logs_in(n) for n in range(16)))
    done.ok()
    for answer in answers:
        if answer.status == 200:
            following = answer.json["data"]["refreshToken"]
            (await refresh(http, following)).problem(401, "invalid_credentials")
        else:
            assert answer.status in (401, 429), answer
    await goes_on(mine)


# --- a change that is cut off -------------------------------------------------------------


async def test_cut_off_at_any_step_it_leaves_nobody_logged_in_who_knows_only_the_old_password(
    http: aiohttp.ClientSession, served: Served, service: AccountService, steps: Steps
) -> None:
    """Either the password is the old one still, and it can be repeated, or the others ended."""
    name = named()

    async def cut_off() -> None:
        raise AppError(Code.UNAVAILABLE, "away", retry_after=1.0)

    for at in range(MOST):
        called = name()
        mine, other = await register(http, called), await log_in(http, called)
        me = await served.app[VERIFIER].verify(mine.token)
        outcome, there = await steps.interrupted(
            at,
            partial(service.change_password, me, PASSWORD, OTHER_PASSWORD, "::1"),
            cut_off,
        )
        if not there:
            break
        assert isinstance(outcome, AppError)
        body = {"username": called, "password": OTHER_PASSWORD}
        if (await Api(http, None).post("/api/auth/login", body)).status != 200:
            (await change(mine)).ok()
        (await refresh(http, other.refresh_token)).problem(401, "invalid_credentials")
        await goes_on(mine)
    assert at >= 6
