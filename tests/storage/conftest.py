"""Repositories on the real servers; every client made here is closed after its test."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

from domain.errors import AppError, Code
from domain.stats import Kind, NumberField, StatsSchema
from server.embedded import PrivateServer
from storage.mongo import Mongo
from storage.names import RedisNames
from storage.presence import PresenceRepository
from storage.redis import RedisAway, RedisLink
from storage.roster import Roster
from storage.stats import StatsRepository

LEASE, GRACE, VISIT = 300, 200, 60_000  # ms, of the rosters
REDIS_TIMEOUT = 1.0

NewMongo = Callable[..., Mongo]
NewLink = Callable[..., RedisLink]
NewRoster = Callable[..., Roster]
Call = Callable[[], Awaitable[Any]]
T = TypeVar("T")


async def eventually(probe: Callable[[], Awaitable[T]], seconds: float = 10) -> T:
    """The first true result of `probe`, asked until a deadline."""
    deadline = time.monotonic() + seconds
    while not (found := await probe()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.01)
    return found


async def unavailable(call: Call) -> float:
    """The seconds until `call` raised AppError `unavailable`."""
    started = time.monotonic()
    with pytest.raises(AppError) as caught:
        await call()
    assert caught.value.code is Code.UNAVAILABLE
    return time.monotonic() - started


async def away(call: Call) -> float:
    """The seconds until `call` raised RedisAway."""
    started = time.monotonic()
    with pytest.raises(RedisAway):
        await call()
    return time.monotonic() - started


@asynccontextmanager
async def suspended(server: PrivateServer) -> AsyncIterator[None]:
    """A server that answers nothing, and keeps its connections open."""
    server.suspend()
    try:
        await asyncio.sleep(0.05)  # the signal takes a moment to reach all threads
        yield
    finally:
        server.resume()


@pytest.fixture
def schema() -> StatsSchema:
    """The built-in fields, and an app's own two."""
    return StatsSchema(
        {
            "coins": NumberField(kind=Kind.COUNTER, min=-100, default=7),
            "mood": NumberField(kind=Kind.GAUGE, min=-1, max=1, default=0.5),
        }
    )


@pytest.fixture
async def new_mongo(mongodb_name: str) -> AsyncIterator[NewMongo]:
    """Makes clients of this test's database at a URI."""
    made: list[Mongo] = []

    def make(uri: str) -> Mongo:
        made.append(Mongo(uri, mongodb_name))
        return made[-1]

    yield make
    for mongo in made:
        await mongo.close()


@pytest.fixture
def mongo(new_mongo: NewMongo, mongodb_uri: str) -> Mongo:
    return new_mongo(mongodb_uri)


@pytest.fixture
def stats(mongo: Mongo, schema: StatsSchema) -> StatsRepository:
    return StatsRepository(mongo, schema)


@pytest.fixture
def profiles(mongo: Mongo) -> PresenceRepository:
    return PresenceRepository(mongo)


@pytest.fixture
async def new_link(redis_prefix: str) -> AsyncIterator[NewLink]:
    """Makes links with this test's prefix to a URL."""
    made: list[RedisLink] = []

    def make(url: str, timeout: float = REDIS_TIMEOUT) -> RedisLink:
        made.append(RedisLink(url, RedisNames(redis_prefix), timeout))
        return made[-1]

    yield make
    for link in made:
        await link.close()


@pytest.fixture
def link(new_link: NewLink, redis_url: str) -> RedisLink:
    # Patient: what is checked here is not how fast this machine is.
    return new_link(redis_url, timeout=10)


@pytest.fixture
def new_roster(new_link: NewLink, redis_url: str) -> NewRoster:
    """Makes the rosters of instances by name, each with a link of its own."""

    def make(instance: str, lease: int = 60_000, grace: int = GRACE, visit: int = VISIT) -> Roster:
        return Roster(new_link(redis_url, timeout=10), instance, lease, grace, visit)

    return make


@pytest.fixture
async def rosters(new_roster: NewRoster) -> list[Roster]:
    """Five instances with leases that outlast the test."""
    some = [new_roster(name) for name in "abcde"]
    for roster in some:
        await roster.renew(0)
    return some
