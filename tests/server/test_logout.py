"""Logging out: one session by either of its tokens, or all of a user's, and no others."""

import asyncio
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.people import (
    Bearer,
    Login,
    goes_on,
    guest,
    is_over,
    log_in,
    refresh,
    refreshed,
    register,
)
from tests.rest import Answer, Api
from tests.serving import Served, serving
from tests.tokens import token
from tests.waiting import soon

pytestmark = pytest.mark.usefixtures("quick", "quiet")

SOON = 3  # seconds within which every instance refuses


def ended(answer: Answer) -> int:
    """How many sessions it says have ended."""
    body = answer.ok()
    assert body.keys() == {"success", "data"}
    assert body["success"] is True
    assert body["data"].keys() == {"sessions"}
    return int(body["data"]["sessions"])


async def logout(http: aiohttp.ClientSession, refresh_token: str) -> Answer:
    return await Api(http, None).post("/api/auth/logout", {"refreshToken": refresh_token})


async def test_by_its_token_a_session_ends_and_others_go_on(http: aiohttp.ClientSession) -> None:
    phone, bob = await register(http), await register(http, "bob")
    tablet = await log_in(http)
    assert ended(await phone.api.send("POST", "/api/auth/logout")) == 1
    await soon(lambda: is_over(phone), SOON)
    await goes_on(tablet)
    await goes_on(bob)


async def test_by_a_token_with_any_empty_body(http: aiohttp.ClientSession) -> None:
    for body in (b"", b"{}", b'{"refreshToken":null}'):
        phone = await guest(http)
        assert ended(await phone.api.post_raw("/api/auth/logout", body)) == 1
        (await refresh(http, phone.refresh_token)).problem(401, "invalid_credentials")


async def test_by_its_refresh_token_and_no_other_a_session_ends(
    http: aiohttp.ClientSession,
) -> None:
    phone, bob = await register(http), await register(http, "bob")
    tablet = await log_in(http)
    assert ended(await logout(http, phone.refresh_token)) == 1
    await soon(lambda: is_over(phone), SOON)
    await goes_on(tablet)
    await goes_on(bob)


async def test_by_any_refresh_token_of_its_family(http: aiohttp.ClientSession) -> None:
    """A client whose answers were lost may have an old one only."""
    first = await guest(http)
    last = await refreshed(http, (await refreshed(http, first.refresh_token)).refresh_token)
    assert ended(await logout(http, first.refresh_token)) == 1
    await soon(lambda: is_over(last), SOON)


@pytest.mark.parametrize("ttl", [-10, None])
async def test_by_refresh_token_also_when_the_access_token_ran_out_or_is_none(
    http: aiohttp.ClientSession, ttl: int | None
) -> None:
    phone = await guest(http)
    api = Bearer(http, "no token" if ttl is None else token(phone.id, ttl=ttl))
    (await api.send("POST", "/api/auth/logout")).problem(
        401, "invalid_token" if ttl is None else "token_expired"
    )
    answer = await api.post("/api/auth/logout", {"refreshToken": phone.refresh_token})
    assert ended(answer) == 1
    await soon(lambda: is_over(phone), SOON)


async def test_the_refresh_token_says_which_session_whoever_sends_it(
    http: aiohttp.ClientSession,
) -> None:
    phone, bob = await guest(http), await register(http, "bob")
    answer = await bob.api.post("/api/auth/logout", {"refreshToken": phone.refresh_token})
    assert ended(answer) == 1
    await soon(lambda: is_over(phone), SOON)
    await goes_on(bob)


async def test_logging_out_twice_is_harmless(http: aiohttp.ClientSession) -> None:
    phone, tablet = await guest(http), await guest(http)
    answers = await asyncio.gather(*(logout(http, phone.refresh_token) for _ in range(10)))
    assert sorted(map(ended, answers)) == [0] * 9 + [1]
    assert ended(await logout(http, phone.refresh_token)) == 0
    await goes_on(tablet)


async def test_a_token_that_is_nobodys_ends_nothing(http: aiohttp.ClientSession) -> None:
    phone = await guest(http)
    for given in ("", ".", "garbage", "A" * 43 + "." + "A" * 43, "é☃"):
        assert (await logout(http, given)).status in (200, 401)
    await goes_on(phone)


async def test_what_is_no_text_is_refused(http: aiohttp.ClientSession) -> None:
    phone = await guest(http)
    for given in (7, True, [], {"$ne": ""}):
        answer = await phone.api.post("/api/auth/logout", {"refreshToken": given})
        answer.refused_field(400, "invalid_type", "/refreshToken")
    await goes_on(phone)


async def test_without_any_token_it_is_refused(http: aiohttp.ClientSession) -> None:
    for path in ("/api/auth/logout", "/api/auth/logout-all"):
        (await Api(http, None).send("POST", path)).problem(401, "missing_token")


async def test_a_token_of_the_apps_own_backend_has_no_session_to_end(
    http: aiohttp.ClientSession, api: Api
) -> None:
    (await api.send("POST", "/api/auth/logout")).problem(400, "bad_request")
    assert ended(await api.send("POST", "/api/auth/logout-all")) == 0


async def test_logout_all_ends_all_sessions_of_the_user_and_of_nobody_else(
    http: aiohttp.ClientSession,
) -> None:
    mine = [await guest(http) for _ in range(4)]
    bob = await register(http, "bob")
    assert ended(await logout(http, mine[0].refresh_token)) == 1
    assert ended(await mine[1].api.send("POST", "/api/auth/logout-all")) == 3
    for login in mine:
        await soon(lambda login=login: is_over(login), SOON)
    await goes_on(bob)
    await goes_on(await guest(http))


async def test_a_session_that_ended_on_one_instance_is_refused_by_the_other_and_after_a_restart(
    http: aiohttp.ClientSession, stores: dict[str, Any]
) -> None:
    phone = await guest(http)

    def at(url: aiohttp.ClientSession) -> Login:
        return replace(phone, http=url)

    async with serving(**stores) as other, aiohttp.ClientSession(other.url) as there:
        assert (await at(there).api.get("/api/auth/me")).status == 200  # it remembers the token
        assert ended(await logout(http, phone.refresh_token)) == 1
        await soon(lambda: is_over(at(there)), SOON)
        await soon(lambda: is_over(phone), SOON)
    async with serving(**stores) as later, aiohttp.ClientSession(later.url) as there:
        await is_over(at(there))


async def test_a_refresh_that_races_with_the_logout_leaves_no_session(
    served: Served, http: aiohttp.ClientSession
) -> None:
    """Whoever is first: the answer of the refresh, if any, is worth nothing afterwards."""
    for _ in range(12):
        phone = await guest(http)
        done, *answers = await asyncio.gather(
            logout(http, phone.refresh_token),
            *(refresh(http, phone.refresh_token) for _ in range(4)),
        )
        assert ended(done) == 1
        for answer in answers:
            if answer.status == 200:
                following = answer.json["data"]["refreshToken"]
                (await refresh(http, following)).problem(401, "invalid_credentials")
            else:
                answer.problem(401, "invalid_credentials")


async def test_sixty_logins_of_one_user_leave_the_fifty_newest(
    served: Served, http: aiohttp.ClientSession
) -> None:
    first = [await guest(http) for _ in range(12)]
    bob = await register(http, "bob")
    async with asyncio.timeout(30):
        later = await asyncio.gather(*(guest(http) for _ in range(48)))
    assert len({login.refresh_token for login in (*first, *later)}) == 60
    answers = [await refresh(http, login.refresh_token) for login in (*first, *later)]
    assert [answer.status for answer in answers] == [401] * 10 + [200] * 50
    for login in first[:10]:
        await soon(lambda login=login: is_over(login), SOON)
    await goes_on(bob)
    assert ended(await later[0].api.send("POST", "/api/auth/logout-all")) == 50


async def test_a_session_in_use_is_not_the_one_that_ends_for_the_fifty_first(
    http: aiohttp.ClientSession,
) -> None:
    old = await guest(http)
    second = await guest(http)
    for _ in range(48):
        await guest(http)
    used = await refreshed(http, old.refresh_token)
    await guest(http)
    await soon(lambda: is_over(second), SOON)
    await goes_on(used)


async def test_a_server_that_only_verifies_begins_no_session(stores: dict[str, Any]) -> None:
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    async with (
        serving(**stores, jwt_secret=None, jwt_public_key=pem) as served,
        aiohttp.ClientSession(served.url) as http,
    ):
        answer = await Api(http, None).post("/api/auth/guest", {"deviceId": "d" * 20})
        answer.problem(403, "forbidden")
