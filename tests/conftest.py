"""A real MongoDB and Redis for every test that asks; each test has its own names in them.

Servers start when the first test asks. Tests that stop, kill or suspend a server take `own_mongod`
or `own_redis`.
"""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from pymongo import MongoClient
from redis import Redis

from server.embedded import PrivateServer, start_mongod, start_redis
from tests.servers import running


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
