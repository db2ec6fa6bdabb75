"""Everything that the stores hold, as text to search."""

import base64
from collections.abc import Iterable, Iterator
from typing import Any

from pymongo import AsyncMongoClient
from redis.asyncio import Redis

Document = dict[str, Any]


async def documents(stores: dict[str, Any]) -> dict[str, list[Document]]:
    """All documents of the test's database, by collection."""
    async with AsyncMongoClient[Document](stores["mongodb_uri"]) as client:
        database = client[stores["mongodb_db"]]
        names = await database.list_collection_names()
        return {name: await database[name].find().to_list() for name in names}


async def keys(stores: dict[str, Any]) -> dict[str, Any]:
    """All keys under the test's prefix, with their values."""
    async with Redis.from_url(stores["redis_url"]) as redis:
        found = [key async for key in redis.scan_iter(match=f"{stores['redis_prefix']}*")]
        return {text(key): await redis.dump(key) for key in found} | {
            f"{text(key)} as text": await _value(redis, key) for key in found
        }


async def _value(redis: "Redis", key: bytes) -> Any:
    kind = await redis.type(key)
    if kind == b"hash":
        return await redis.hgetall(key)
    if kind == b"zset":
        return await redis.zrange(key, 0, -1, withscores=True)
    if kind == b"set":
        return await redis.smembers(key)
    return await redis.get(key)


def text(value: Any) -> str:
    """A value as text, bytes in every common writing."""
    return "\n".join(_texts(value))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(name)
            yield from _texts(inner)
    elif isinstance(value, (list, tuple, set)):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, bytes):
        yield from writings(value)
    else:
        yield str(value)


def writings(raw: bytes) -> list[str]:
    """Bytes as text, hex, base64 and base64url."""
    return [
        raw.decode("latin-1"),
        raw.hex(),
        base64.b64encode(raw).decode().rstrip("="),
        base64.urlsafe_b64encode(raw).decode().rstrip("="),
    ]


def found(canaries: Iterable[str], where: Any) -> list[str]:
    """The canaries that are anywhere in `where`, whatever their case."""
    whole = text(where).casefold()
    return [canary for canary in canaries if canary.casefold() in whole]
