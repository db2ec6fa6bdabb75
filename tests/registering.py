"""Accounts for tests: bodies to register with, both doors, and a look into the store."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp

from domain.accounts import Account
from storage.accounts import AccountRepository
from storage.indexes import Indexes
from storage.mongo import Mongo
from tests.rest import Answer, Api
from tests.serving import serving

PASSWORD = "secure123"
WRONG = "wrong-one"
REGISTER = ("/auth/register", "/api/auth/register")
LOGIN = ("/auth/login", "/api/auth/login")
TOKENS = {"token", "refreshToken", "expiresAt"}
ACCOUNT = {
    "id",
    "username",
    "name",
    "bio",
    "avatar",
    "updatedAt",
    "email",
    "custom",
    "role",
    "guest",
    "createdAt",
}
"""Every field of one's own account: a hash or a key is none of them."""


def wish(username: str = "ada", **changes: Any) -> dict[str, Any]:
    """What to register with, at either door."""
    body = {"username": username, "email": f"{username}@example.com", "password": PASSWORD}
    return {**body, **changes}


def nobody(http: aiohttp.ClientSession) -> Api:
    """Somebody without a token."""
    return Api(http, None)


def carrying(token: str) -> dict[str, Any]:
    """Options of a request with this token."""
    return {"headers": {"Authorization": f"Bearer {token}"}}


def made(answer: Answer) -> Any:
    """The JSON body of a 201."""
    assert answer.status == 201, answer
    return answer.json


async def registered(http: aiohttp.ClientSession, username: str = "ada", **changes: Any) -> Any:
    """A new account, with its tokens beside its fields."""
    return made(await nobody(http).post("/auth/register", wish(username, **changes)))


async def log_in(
    http: aiohttp.ClientSession, name: str, password: str = PASSWORD, **options: Any
) -> Answer:
    """A try to log in with a username, or an e-mail address if `name` has an @."""
    field = "email" if "@" in name else "username"
    body = {field: name, "password": password}
    return await nobody(http).post("/auth/login", body, **options)


async def me(http: aiohttp.ClientSession, token: str) -> Any:
    """The account that a token is for."""
    answer = await nobody(http).get("/api/auth/me", **carrying(token))
    return answer.ok()["data"]["user"]


async def together(*tries: Any) -> list[Answer]:
    """The answers to requests under way at once."""
    return list(await asyncio.gather(*tries))


@asynccontextmanager
async def accounts_of(stores: dict[str, Any]) -> AsyncIterator[AccountRepository]:
    """The accounts in a store, as the server keeps them."""
    mongo = Mongo(stores["mongodb_uri"], stores["mongodb_db"])
    try:
        yield AccountRepository(mongo, Indexes(mongo))
    finally:
        await mongo.close()


async def all_accounts(stores: dict[str, Any]) -> list[Account]:
    """Everybody, at most 1,000."""
    async with accounts_of(stores) as accounts:
        return await accounts.page(None, 1_000, 10)


async def brought(stores: dict[str, Any], password_hash: str | None, name: str = "ada") -> None:
    """An account from elsewhere with this hash, not made by registering here."""
    account = Account(
        id=f"brought-{name}",
        username=name,
        created_at=1_700_000_000_000,
        email=f"{name}@example.com",
        password_hash=password_hash,
    )
    async with accounts_of(stores) as accounts:
        await accounts.insert(account, 10)


async def stored(stores: dict[str, Any], user_id: str) -> Account:
    """One account as it is kept."""
    async with accounts_of(stores) as accounts:
        account = await accounts.read(user_id, 10)
    assert account is not None
    return account


@asynccontextmanager
async def instances(
    stores: dict[str, Any], number: int = 1, **settings: Any
) -> AsyncIterator[list[aiohttp.ClientSession]]:
    """Clients of so many instances, which believe what a proxy says of addresses."""
    limits = {"login_failures_per_account": 3, "login_failures_per_address": 0, **settings}
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(number):
            server = await stack.enter_async_context(
                serving(**{**stores, **limits, "trusted_proxies": ("127.0.0.1",)})
            )
            client = aiohttp.ClientSession(server.url)
            clients.append(await stack.enter_async_context(client))
        yield clients


def failed(*answers: Answer) -> None:
    """They are the one answer for all failures."""
    for answer in answers:
        answer.problem(401, "invalid_credentials")


def throttled(*answers: Answer, within: int = 300) -> None:
    """They say to wait, for at most the window."""
    for answer in answers:
        answer.problem(429, "rate_limited")
        assert 1 <= int(answer.headers["Retry-After"]) <= within
