"""`POST /api/auth/refresh`: rotation, repeats, reuse, expiry, and what the store knows of it."""

import asyncio
import base64
import random
import string
from typing import Any

import aiohttp
import jwt
import pytest

from tests.dumps import documents, found, text, writings
from tests.people import (
    Login,
    goes_on,
    guest,
    is_over,
    refresh,
    refreshed,
    register,
    sessions_of,
)
from tests.rest import ISO, Api
from tests.serving import Served, serving
from tests.waiting import soon

pytestmark = pytest.mark.usefixtures("quick", "quiet")

DAY = 86_400_000  # ms


class Clock:
    """The sessions' clock, set by hand."""

    def __init__(self, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = 0.0
        real = sessions_of(served)._clock
        monkeypatch.setattr(sessions_of(served), "_clock", lambda: real() + round(self.ahead))


@pytest.fixture
def clock(served: Served, monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(served, monkeypatch)


async def test_it_answers_the_user_and_the_next_tokens(http: aiohttp.ClientSession) -> None:
    ada = await register(http)
    answer = await refresh(http, ada.refresh_token)
    data = answer.ok()["data"]
    assert data.keys() == {"user", "token", "refreshToken", "expiresAt"}
    assert data["user"] == ada.user
    assert ISO.fullmatch(data["expiresAt"])
    assert data["refreshToken"] != ada.refresh_token
    assert answer.headers["Cache-Control"] == "no-store"


async def test_old_and_new_access_token_count_for_the_same_session(
    http: aiohttp.ClientSession,
) -> None:
    ada = await register(http)
    after = await refreshed(http, ada.refresh_token)
    assert after.token != ada.token
    one, two = (
        jwt.decode(login.token, options={"verify_signature": False}) for login in (ada, after)
    )
    assert one["sid"] == two["sid"]
    assert one["jti"] != two["jti"]
    for login in (ada, after):
        assert (await login.api.get("/api/auth/me")).ok()["data"]["user"] == ada.user


async def test_a_refresh_token_is_opaque(http: aiohttp.ClientSession) -> None:
    ada = await register(http)
    for part in ada.refresh_token.split("."):
        raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
        assert len(raw) >= 16, "random, and long enough not to be guessed"
        assert ada.id.encode() not in raw
        assert b"ada" not in raw
    with pytest.raises(jwt.DecodeError):
        jwt.decode(ada.refresh_token, options={"verify_signature": False})


async def test_no_refresh_token_is_an_access_token(http: aiohttp.ClientSession) -> None:
    ada = await register(http)
    bare = Api(http, None)
    headers = {"Authorization": f"Bearer {ada.refresh_token}"}
    (await bare.get("/api/auth/me", headers=headers)).problem(401, "invalid_token")
    assert (await refresh(http, ada.token)).status in (400, 401)


async def test_a_lost_answer_is_made_good_by_a_repeat_within_the_grace(
    http: aiohttp.ClientSession, clock: Clock
) -> None:
    ada = await register(http)
    first = await refreshed(http, ada.refresh_token)
    clock.ahead = 55_000  # of 60 s
    again = await refreshed(http, ada.refresh_token)
    assert again.refresh_token == first.refresh_token
    await goes_on(again)


async def test_twenty_at_once_on_two_instances_get_the_very_same_next_token(
    served: Served, http: aiohttp.ClientSession, stores: dict[str, Any]
) -> None:
    ada = await register(http)
    token = ada.refresh_token
    async with serving(**stores) as other, aiohttp.ClientSession(other.url) as there:
        for _ in range(3):
            answers = await asyncio.gather(
                *(refreshed((http, there)[n % 2], token) for n in range(20))
            )
            [token] = {login.refresh_token for login in answers}
            assert len({login.token for login in answers}) == 20
    await goes_on(answers[0])


async def test_a_repeat_after_the_grace_ends_the_family(
    http: aiohttp.ClientSession, clock: Clock
) -> None:
    ada = await register(http)
    newest = await refreshed(http, ada.refresh_token)
    clock.ahead = 61_000
    (await refresh(http, ada.refresh_token)).problem(401, "invalid_credentials")
    await soon(lambda: is_over(newest), within=3)


async def test_one_of_before_the_last_ends_the_family_at_once(http: aiohttp.ClientSession) -> None:
    ada = await register(http)
    second = await refreshed(http, ada.refresh_token)
    third = await refreshed(http, second.refresh_token)
    (await refresh(http, ada.refresh_token)).problem(401, "invalid_credentials")
    for login in (second, third):
        (await refresh(http, login.refresh_token)).problem(401, "invalid_credentials")
    await soon(lambda: is_over(third), within=3)
    await soon(lambda: is_over(ada), within=3)


async def test_a_thief_and_the_client_lose_the_session_and_other_sessions_go_on(
    http: aiohttp.ClientSession,
) -> None:
    phone = await guest(http)
    tablet = await guest(http)
    assert phone.id == tablet.id
    bob = await register(http, "bob")
    stolen = phone.refresh_token
    thief = await refreshed(http, stolen)
    thief = await refreshed(http, thief.refresh_token)
    (await refresh(http, stolen)).problem(401, "invalid_credentials")  # the client comes
    await soon(lambda: is_over(thief), within=3)
    await goes_on(tablet)
    await goes_on(bob)


# --- expiry -------------------------------------------------------------------------------


async def test_a_session_unused_for_refresh_expire_has_ended(
    http: aiohttp.ClientSession, clock: Clock
) -> None:
    ada = await register(http)
    clock.ahead = 60 * DAY + 1000
    (await refresh(http, ada.refresh_token)).problem(401, "invalid_credentials")


async def test_each_use_prolongs_it(http: aiohttp.ClientSession, clock: Clock) -> None:
    ada = await register(http)
    token = ada.refresh_token
    for _ in range(4):
        clock.ahead += 59 * DAY
        token = (await refreshed(http, token)).refresh_token
    clock.ahead += 60 * DAY + 1000
    (await refresh(http, token)).problem(401, "invalid_credentials")


async def test_refresh_expire_and_refresh_grace_are_settings(
    stores: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        serving(**stores, refresh_expire="10m", refresh_grace="2m") as served,
        aiohttp.ClientSession(served.url) as http,
    ):
        clock = Clock(served, monkeypatch)
        ada = await register(http)
        after = await refreshed(http, ada.refresh_token)
        clock.ahead = 115_000
        assert (await refreshed(http, ada.refresh_token)).refresh_token == after.refresh_token
        clock.ahead = 599_000
        after = await refreshed(http, after.refresh_token)
        clock.ahead += 601_000
        (await refresh(http, after.refresh_token)).problem(401, "invalid_credentials")


# --- whatever else comes ------------------------------------------------------------------


def garbage() -> list[str]:
    random.seed(4)
    alphabet = string.printable + "éÿ☃\x00\u200b😀"
    letters = string.ascii_letters + string.digits + "-_"
    made = ["", ".", "..", "a", "null", "$ne", "{}", "=" * 43 + "." + "=" * 43, "A" * 256]
    made += ["".join(random.choices(alphabet, k=random.randrange(200))) for _ in range(30)]
    for _ in range(30):
        made.append(".".join("".join(random.choices(letters, k=43)) for _ in range(2)))
    return made


async def test_garbage_is_invalid_credentials(http: aiohttp.ClientSession) -> None:
    for given in garbage():
        (await refresh(http, given)).problem(401, "invalid_credentials")


async def test_what_is_no_text_is_refused_by_its_type(http: aiohttp.ClientSession) -> None:
    for given in (None, 7, True, 1.5, [], ["x"], {}, {"$ne": ""}, {"$gt": ""}):
        (await refresh(http, given)).refused_field(400, "invalid_type", "/refreshToken")


async def test_bodies_without_a_token_or_with_more_are_refused(http: aiohttp.ClientSession) -> None:
    ada = await register(http)
    bare = Api(http, None)
    path = "/api/auth/refresh"
    (await bare.post(path, {})).problem(400, "missing_field")
    (await bare.post(path, {"refreshToken": "x" * 10_000})).problem(400, "invalid_value")
    more = {"refreshToken": ada.refresh_token, "userId": "bob"}
    (await bare.post(path, more)).problem(400, "unknown_field")
    await goes_on(ada)


async def test_a_token_in_the_query_is_refused(http: aiohttp.ClientSession) -> None:
    ada = await register(http)
    answer = await Api(http, None).post(
        f"/api/auth/refresh?token={ada.token}", {"refreshToken": ada.refresh_token}
    )
    answer.problem(400, "token_in_query")


async def test_a_session_of_one_user_never_refreshes_as_another(
    http: aiohttp.ClientSession,
) -> None:
    ada, bob = await register(http), await register(http, "bob")
    answer = await bob.api.post("/api/auth/refresh", {"refreshToken": ada.refresh_token})
    assert answer.ok()["data"]["user"]["id"] == ada.id, "the refresh token says whose it is"
    ours = answer.json["data"]["refreshToken"].split(".")
    theirs = bob.refresh_token.split(".")
    for mixed in (f"{ours[0]}.{theirs[1]}", f"{theirs[0]}.{ours[1]}"):
        (await refresh(http, mixed)).problem(401, "invalid_credentials")


# --- what the store knows -----------------------------------------------------------------


async def test_the_store_has_no_refresh_token_nor_a_part_of_one(
    http: aiohttp.ClientSession, stores: dict[str, Any]
) -> None:
    logins: list[Login] = [await register(http)]
    for _ in range(4):
        logins.append(await refreshed(http, logins[-1].refresh_token))
        secrets = []
        for login in logins:
            for part in login.refresh_token.split("."):
                secrets += writings(base64.urlsafe_b64decode(part + "="))
            secrets += [login.refresh_token, login.token, login.token.split(".")[2]]
        assert found(secrets, await documents(stores)) == []


async def test_nobody_refreshes_with_what_the_store_has(
    http: aiohttp.ClientSession, stores: dict[str, Any]
) -> None:
    """Any two values of the store, as a token's two parts: none of them is one."""
    ada = await refreshed(http, (await register(http)).refresh_token)
    [session] = (await documents(stores))["sessions"]
    values = [value for value in session.values() if isinstance(value, bytes | str)]
    parts = {part for value in values for part in text(value).split("\n")}
    family = ada.refresh_token.split(".")[0]  # even who knows half of it
    for part in sorted(parts):
        if part.isascii() and part.isprintable():
            answer = await refresh(http, f"{part}.{part}"[:256])
            answer.problem(401, "invalid_credentials")
    assert family not in parts
    await goes_on(ada)
