"""A real MongoDB and Redis for every test that asks; each test has its own names in them.

Servers start when the first test asks. Tests that stop, kill or suspend a server take `own_mongod`
or `own_redis`.
"""

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
import uvloop
from pymongo import MongoClient
from redis import Redis

from server.embedded import PrivateServer, start_mongod, start_redis
from tests.servers import running
from tests.serving import Served, serving


@pytest.fixture(scope="session")
def mongod() -> Iterator[PrivateServer]:
    """The session's MongoDB: leave it running."""
    with running(start_mongod) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[PrivateServer]:
    """The session's Redis: leave it running."""
    with running(start_redis) as server:
        yield server


@pytest.fixture
def own_mongod() -> Iterator[PrivateServer]:
    """A MongoDB of this test alone."""
    with running(start_mongod) as server:
        yield server


@pytest.fixture
def own_redis() -> Iterator[PrivateServer]:
    """A Redis of this test alone."""
    with running(start_redis) as server:
        yield server


@pytest.fixture
def half_open_closed() -> Iterator[None]:
    """For outages: PyMongo forgets the socket of a connection attempt that its `close` cancels."""
    _collect()  # those of the test before, whose loop has gone by now
    yield
    _collect()


def _collect() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def mongodb_uri(mongod: PrivateServer) -> str:
    return mongod.url


@pytest.fixture
def redis_url(redis_server: PrivateServer) -> str:
    return redis_server.url


@pytest.fixture(scope="session")
def _mongodb(mongod: PrivateServer) -> Iterator[MongoClient[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](mongod.url) as client:
        yield client


@pytest.fixture(scope="session")
def _redis(redis_server: PrivateServer) -> Iterator[Redis]:
    with Redis.from_url(redis_server.url) as client:
        yield client


@pytest.fixture
def mongodb_name(_mongodb: MongoClient[dict[str, Any]]) -> Iterator[str]:
    """A database name that no other test has; dropped afterwards."""
    name = f"test_{uuid4().hex}"
    yield name
    _mongodb.drop_database(name)


@pytest.fixture
def redis_prefix(_redis: Redis) -> Iterator[str]:
    """A key prefix that no other test has; its keys are deleted afterwards."""
    prefix = f"test:{uuid4().hex}:"
    yield prefix
    if keys := list(_redis.scan_iter(match=f"{prefix}*", count=1000)):
        _redis.delete(*keys)


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests run on the loop that the server runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def stores(
    mongodb_uri: str, mongodb_name: str, redis_url: str, redis_prefix: str
) -> dict[str, Any]:
    """Settings that name this test's own database and key prefix."""
    return {
        "mongodb_uri": mongodb_uri,
        "mongodb_db": mongodb_name,
        "redis_url": redis_url,
        "redis_prefix": redis_prefix,
    }


@pytest.fixture
async def served(stores: dict[str, Any]) -> AsyncIterator[Served]:
    """A server in this process, with this test's own names."""
    async with serving(**stores) as server:
        yield server


@pytest.fixture
async def http(served: Served) -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client of that server, not signed in."""
    async with aiohttp.ClientSession(served.url) as session:
        yield session


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """End-to-end tests first: what takes longest had better not be what is left in the end."""
    items.sort(key=lambda item: "e2e" not in item.path.parts)
