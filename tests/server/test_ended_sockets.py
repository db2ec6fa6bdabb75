"""Whatever ends a session closes its sockets and refuses its token, on every instance, soon."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import pytest
from socketio.exceptions import ConnectionError as ConnectError

from server.embedded import PrivateServer
from tests.clients_py import Client, connected, joined
from tests.outages import frozen
from tests.people import (
    OTHER_PASSWORD,
    PASSWORD,
    Login,
    all_gone,
    all_there,
    goes_on,
    guest,
    log_in,
    refresh,
    refreshed,
    register,
    sockets_of,
)
from tests.rest import Api
from tests.serving import Served, serving
from tests.tokens import token
from tests.waiting import soon

SOON = 3.0  # seconds within which an end reaches everybody


@dataclass(frozen=True)
class Pair:
    """Two instances on the same stores."""

    one: Served
    two: Served
    http: aiohttp.ClientSession
    http_two: aiohttp.ClientSession

    @property
    def urls(self) -> tuple[str, str]:
        return self.one.url, self.two.url


@pytest.fixture
async def pair(stores: dict[str, Any], served: Served) -> AsyncIterator[Pair]:
    async with (
        serving(**stores) as two,
        aiohttp.ClientSession(served.url) as http,
        aiohttp.ClientSession(two.url) as http_two,
    ):
        yield Pair(served, two, http, http_two)


# --- what ends a session ------------------------------------------------------------------


async def logout(login: Login) -> None:
    (await login.api.send("POST", "/api/auth/logout")).ok()


async def logout_by_refresh_token(login: Login) -> None:
    body = {"refreshToken": login.refresh_token}
    (await Api(login.http, None).post("/api/auth/logout", body)).ok()


async def password_change_elsewhere(login: Login) -> None:
    other = await log_in(login.http)
    body = {"currentPassword": PASSWORD, "newPassword": OTHER_PASSWORD}
    (await other.api.post("/api/auth/password", body)).ok()


async def logout_all(login: Login) -> None:
    other = await log_in(login.http)
    (await other.api.send("POST", "/api/auth/logout-all")).ok()


async def reuse(login: Login) -> None:
    second = await refreshed(login.http, login.refresh_token)
    await refreshed(login.http, second.refresh_token)
    (await refresh(login.http, login.refresh_token)).problem(401, "invalid_credentials")


async def erasure(login: Login) -> None:
    other = await log_in(login.http)
    (await other.api.send("DELETE", "/api/auth/me")).ok()


ENDS = [logout, logout_by_refresh_token, password_change_elsewhere, logout_all, reuse, erasure]
OF_ALL = [logout_all, erasure]


async def is_refused_a_socket(url: str, login: Login, code: str = "invalid_token") -> None:
    """In the handshake of either transport."""
    for transport in ("websocket", "polling"):
        client = Client()
        refusals: asyncio.Queue[Any] = asyncio.Queue()
        client.sio.on("connect_error", refusals.put)
        with pytest.raises(ConnectError):
            await client.sio.connect(url, auth=login.auth, transports=[transport])
        assert (await refusals.get())["data"]["code"] == code
        await client.sio.disconnect()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
async def test_all_its_sockets_close_on_every_instance_and_nobody_elses(
    pair: Pair, end: Callable[[Login], Awaitable[None]]
) -> None:
    phone, bob = await register(pair.http), await register(pair.http, "bob")
    tablet = await log_in(pair.http)
    async with (
        sockets_of(phone, *pair.urls) as ending,
        sockets_of(bob, *pair.urls) as bobs,
        sockets_of(tablet, pair.two.url) as others,
        connected(pair.two.url, auth=bob.auth) as another,
    ):
        await end(phone)
        await all_gone(ending, SOON)
        await all_there(bobs)
        if end in OF_ALL or end is password_change_elsewhere:
            await all_gone(others, SOON)
        else:
            await all_there(others)
        for http in (pair.http, pair.http_two):
            api = replace(phone, http=http).api
            (await api.get("/api/auth/me")).problem(401, "invalid_token")
            (await api.get(f"/api/users/{phone.id}/stats")).problem(401, "invalid_token")
        for url in pair.urls:
            await is_refused_a_socket(url, phone)
        answer = await another.call("auth:refresh", phone.auth)
        assert (answer["ok"], answer["error"]["code"]) == (False, "invalid_token")
        answer = await another.call("auth:refresh", bob.auth)
        assert answer == {"ok": True}


async def test_the_fifty_first_login_closes_the_sockets_of_the_one_least_used(pair: Pair) -> None:
    first = await guest(pair.http)
    second = await guest(pair.http)
    async with sockets_of(first, *pair.urls) as ending, sockets_of(second, *pair.urls) as staying:
        for _ in range(49):
            await guest(pair.http_two)
        await all_gone(ending, SOON)
        await all_there(staying)
        await goes_on(second)


@pytest.mark.usefixtures("quick")
async def test_a_socket_that_was_refreshed_belongs_to_the_session_of_its_new_token(
    pair: Pair,
) -> None:
    """An end of the old session leaves it, an end of the new one closes it."""
    old, new = await guest(pair.http), await guest(pair.http)
    async with (
        connected(pair.two.url, auth=old.auth) as moved,
        connected(pair.two.url, auth=old.auth) as stayed,
    ):
        assert await moved.call("auth:refresh", new.auth) == {"ok": True}
        await logout(old)
        await all_gone([stayed], SOON)
        await all_there([moved])
        await logout(new)
        await all_gone([moved], SOON)


@pytest.mark.usefixtures("quick")
async def test_a_refreshed_access_token_keeps_the_socket_in_its_session(pair: Pair) -> None:
    phone = await guest(pair.http)
    after = await refreshed(pair.http, phone.refresh_token)
    async with connected(pair.two.url, auth=phone.auth) as one:
        assert await one.call("auth:refresh", after.auth) == {"ok": True}
        await logout(phone)
        await all_gone([one], SOON)


@pytest.mark.usefixtures("quick")
async def test_tokens_of_the_apps_own_backend_have_no_session_and_stay(pair: Pair) -> None:
    phone = await guest(pair.http)
    async with (
        connected(pair.two.url, auth={"token": token(phone.id)}) as own,
        connected(pair.two.url, auth=phone.auth) as ending,
    ):
        assert (await phone.api.send("POST", "/api/auth/logout-all")).ok()["data"]["sessions"] == 1
        await all_gone([ending], SOON)
        await all_there([own])


@pytest.mark.usefixtures("quick")
async def test_sockets_that_connect_while_their_session_ends_do_not_stay(pair: Pair) -> None:
    """At every moment around the end some are in their handshake."""
    phone = await guest(pair.http)
    clients: list[Client] = []

    async with AsyncExitStack() as stack:

        async def come(n: int) -> None:
            await asyncio.sleep(n * 0.03)
            try:
                client = await stack.enter_async_context(
                    connected(pair.urls[n % 2], auth=phone.auth)
                )
            except ConnectError:
                return
            clients.append(client)

        async def end() -> None:
            await asyncio.sleep(0.3)
            await logout(phone)

        await asyncio.gather(end(), *(come(n) for n in range(60)))
        assert clients, "some were in time"
        assert len(clients) < 60, "and some too late"
        async with asyncio.timeout(SOON):
            for client in clients:
                await client.gone.wait()


async def test_who_is_watched_and_logs_out_everywhere_is_seen_going_offline(
    stores: dict[str, Any],
) -> None:
    async with (
        serving(**stores, presence_grace=0.3) as served,
        aiohttp.ClientSession(served.url) as http,
    ):
        phone = await guest(http)
        async with (
            joined(served.url, "eve") as eve,
            sockets_of(phone, served.url) as ending,
        ):
            await eve.call("presence:watch", {"userIds": [phone.id]})
            await logout(phone)
            await all_gone(ending, SOON)
            await eve.until("presence:update", lambda news: not news["online"])


# --- while MongoDB is away ----------------------------------------------------------------


async def _logged_in(http: aiohttp.ClientSession) -> Login:
    for password in (PASSWORD, OTHER_PASSWORD):
        body = {"username": "ada", "password": password}
        answer = await Api(http, None).post("/api/auth/login", body)
        if answer.status == 200:
            data = answer.json["data"]
            return Login(http, data["user"], data["token"], data["refreshToken"])
    raise AssertionError(answer)


@pytest.mark.usefixtures("quick")
async def test_while_mongodb_is_away_sockets_stay_the_rest_is_unavailable_and_all_works_afterwards(
    own_mongod: PrivateServer, stores: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.accounts.service.TIMEOUT", 0.5)
    monkeypatch.setattr("server.accounts.sessions.TIMEOUT", 0.8)
    monkeypatch.setattr("server.accounts.profiles.TIMEOUT", 0.5)
    monkeypatch.setattr("server.accounts.people.TIMEOUT", 0.5)
    async with (
        serving(**{**stores, "mongodb_uri": own_mongod.url}) as served,
        aiohttp.ClientSession(served.url) as http,
    ):
        ada = await register(http)
        fresh = await refreshed(http, ada.refresh_token)  # an access token not yet seen
        bare = Api(http, None)
        async with sockets_of(ada, served.url) as clients:
            with frozen(own_mongod):
                async with asyncio.timeout(5):
                    answers = await asyncio.gather(
                        refresh(http, fresh.refresh_token),
                        bare.post("/api/auth/login", {"username": "ada", "password": PASSWORD}),
                        bare.post("/api/auth/guest", {"deviceId": "d" * 20}),
                        bare.post("/api/auth/logout", {"refreshToken": fresh.refresh_token}),
                        ada.api.post(
                            "/api/auth/password",
                            {"currentPassword": PASSWORD, "newPassword": OTHER_PASSWORD},
                        ),
                        ada.api.get("/api/auth/me"),
                        ada.api.get("/api/auth/me/export"),
                        fresh.api.get("/api/auth/me"),
                    )
                for answer in answers:
                    answer.problem(503, "unavailable")
                    assert answer.headers["Retry-After"]
                await is_refused_a_socket(served.url, fresh, "unavailable")
                (await refresh(http, "garbage")).problem(401, "invalid_credentials")
                await all_there(clients)
            # What was sent may yet be carried out: that is what `unavailable` says.
            again = await soon(lambda: _logged_in(http))
            await goes_on(again)
            (await again.api.send("POST", "/api/auth/logout-all")).ok()
            await all_gone(clients, SOON + 2)
