"""Servers with what tests of the live part need."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from server.embedded import PrivateServer
from tests.serving import Served, serving
from tests.watchers import GRACE


@pytest.fixture
async def brief(stores: dict[str, Any]) -> AsyncIterator[Served]:
    """A server with a grace of half a second."""
    async with serving(**stores, presence_lease=0.9, presence_grace=GRACE) as server:
        yield server


@pytest.fixture
async def pair(stores: dict[str, Any]) -> AsyncIterator[tuple[Served, Served]]:
    """Two instances of one app, with a grace of half a second."""
    quick = {**stores, "presence_lease": 0.9, "presence_grace": GRACE}
    async with serving(**quick) as one, serving(**quick) as two:
        yield one, two


@pytest.fixture
async def mortal_mongo(
    own_mongod: PrivateServer, redis_url: str, redis_prefix: str
) -> AsyncIterator[tuple[Served, PrivateServer]]:
    """A server, and its MongoDB, which this test may suspend."""
    async with serving(
        mongodb_uri=own_mongod.url, redis_url=redis_url, redis_prefix=redis_prefix
    ) as served:
        yield served, own_mongod


@pytest.fixture
async def mortal_redis(
    own_redis: PrivateServer, mongodb_uri: str, mongodb_name: str
) -> AsyncIterator[tuple[Served, PrivateServer]]:
    """A server, and its Redis, which this test may suspend."""
    async with serving(
        mongodb_uri=mongodb_uri, mongodb_db=mongodb_name, redis_url=own_redis.url
    ) as served:
        yield served, own_redis
