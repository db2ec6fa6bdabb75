"""People for tests: registered and logged in over REST, each login with its tokens."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from server.accounts.sessions import SessionService
from server.keys import ACCOUNTS
from tests.clients_py import Client, connected
from tests.rest import Answer, Api
from tests.serving import Served

PASSWORD = "secret7"
OTHER_PASSWORD = "another7"


class Bearer(Api):
    """Requests with a token as it is."""

    def __init__(self, http: aiohttp.ClientSession, token: str) -> None:
        super().__init__(http, None)
        self._headers = {"Authorization": f"Bearer {token}"}


@dataclass(frozen=True)
class Login:
    """One login of somebody."""

    http: aiohttp.ClientSession
    user: dict[str, Any]
    token: str
    refresh_token: str

    @property
    def id(self) -> str:
        """Whose login it is."""
        return str(self.user["id"])

    @property
    def api(self) -> Api:
        """Requests with its token."""
        return Bearer(self.http, self.token)

    @property
    def auth(self) -> dict[str, str]:
        """For a socket's handshake."""
        return {"token": self.token}


def login_of(http: aiohttp.ClientSession, answer: Answer) -> Login:
    """The login that an answer under `/api/auth` must be."""
    assert answer.status in (200, 201), answer
    body = answer.json
    assert body.keys() == {"success", "data"}
    assert body["success"] is True
    data = body["data"]
    return Login(http, data["user"], data["token"], data["refreshToken"])


async def register(http: aiohttp.ClientSession, name: str = "ada", **more: Any) -> Login:
    """An account `name` with the e-mail address `name@example.com`."""
    body = {"username": name, "email": f"{name}@example.com", "password": PASSWORD, **more}
    return login_of(http, await Api(http, None).post("/api/auth/register", body))


async def log_in(http: aiohttp.ClientSession, name: str = "ada", password: str = PASSWORD) -> Login:
    """Another login of that account."""
    body = {"username": name, "password": password}
    return login_of(http, await Api(http, None).post("/api/auth/login", body))


async def guest(http: aiohttp.ClientSession, device: str = "a-device-of-16-characters") -> Login:
    """The guest of a device."""
    return login_of(http, await Api(http, None).post("/api/auth/guest", {"deviceId": device}))


async def refresh(http: aiohttp.ClientSession, refresh_token: Any) -> Answer:
    """`POST /api/auth/refresh`."""
    return await Api(http, None).post("/api/auth/refresh", {"refreshToken": refresh_token})


async def refreshed(http: aiohttp.ClientSession, refresh_token: str) -> Login:
    """The next tokens."""
    return login_of(http, await refresh(http, refresh_token))


async def is_over(login: Login) -> None:
    """The session has ended: its tokens are refused, though not at once by every instance."""
    (await refresh(login.http, login.refresh_token)).problem(401, "invalid_credentials")
    (await login.api.get("/api/auth/me")).problem(401, "invalid_token")


async def goes_on(login: Login) -> None:
    """The session has not ended."""
    assert (await login.api.get("/api/auth/me")).ok()["data"]["user"]["id"] == login.id
    await refreshed(login.http, login.refresh_token)


@asynccontextmanager
async def sockets_of(login: Login, *urls: str, join: bool = True) -> AsyncIterator[list[Client]]:
    """Sockets of one login at each url: joined, not joined, joined on long-polling."""
    async with AsyncExitStack() as stack:
        clients = []
        for url in urls:
            for transport, joins in (("websocket", join), ("websocket", False), ("polling", join)):
                client = await stack.enter_async_context(
                    connected(url, auth=login.auth, transports=[transport])
                )
                clients.append(client)
                if joins:
                    await client.join()
        yield clients


async def all_gone(clients: list[Client], within: float = 3.0) -> None:
    """Each is told that its session has ended, and closed."""
    async with asyncio.timeout(within):
        for client in clients:
            await client.gone.wait()
            assert (await client.next("auth:expired"))["code"] == "invalid_token"


async def all_there(clients: list[Client]) -> None:
    """None was told anything or closed: each is answered."""
    for client in clients:
        assert (await client.call("presence:ping"))["serverTime"]
        assert client.pending("auth:expired") == 0
        assert not client.gone.is_set()


def sessions_of(served: Served) -> SessionService:
    """The sessions of a server in this process."""
    return served.app[ACCOUNTS].sessions
