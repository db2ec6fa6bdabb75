"""First commands to a private MongoDB or Redis that has just been started."""

import asyncio
import logging
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError
from redis.asyncio import Redis
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

REPLICA_SET = "livetally"
"""Name of the one-node replica set that a private mongod runs."""

_POLL = 0.01

_Client = AsyncMongoClient[dict[str, Any]]


async def initiate_replica_set(host_port: str, pid: int) -> None:
    """Return once process `pid` is the writable primary of its own set at `host_port`.

    A fresh data folder is initiated; one that served another port before is moved to this one.
    Waits without an end: the caller sets the deadline, and watches that the process lives.
    """
    await _listening(host_port)
    url = f"mongodb://{host_port}/?directConnection=true"
    async with _Client(url, serverSelectionTimeoutMS=2_000) as client:
        while not await _is_primary(client, host_port, pid):  # noqa: ASYNC110 - another process
            await asyncio.sleep(_POLL)


async def wait_redis(url: str, pid: int) -> None:
    """Return once process `pid` answers at `url`; waits without an end, as above."""
    async with Redis.from_url(url) as client:
        while not await _answers(client, pid):  # noqa: ASYNC110 - another process
            await asyncio.sleep(_POLL)


async def _listening(host_port: str) -> None:
    # The driver looks again only every 500 ms, and mongod listens after about 250.
    host, _, port = host_port.rpartition(":")
    while True:
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except OSError:
            await asyncio.sleep(_POLL)
        else:
            writer.close()
            return


async def _is_primary(client: _Client, host_port: str, pid: int) -> bool:
    """Look once, and give the set its configuration where it has none or an outdated one."""
    try:
        # Another server may have won the port: it must not be touched.
        if (await client.admin.command("serverStatus", metrics=0))["pid"] != pid:
            return False
        hello = await client.admin.command("hello")
        if hello["isWritablePrimary"]:
            return bool(hello["me"] == host_port)
        await _configure(client, host_port)
    except PyMongoError as error:
        # While it loads its configuration and elects itself, mongod refuses commands
        # and closes connections.
        log.debug("mongod at %s is not ready: %s", host_port, error)
    return False


async def _configure(client: _Client, host_port: str) -> None:
    # The stored document tells a fresh folder from one whose configuration is still loading:
    # mongod calls both "not yet initialized".
    if await client["local"]["system.replset"].find_one() is None:
        member = {"_id": 0, "host": host_port}
        await client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": [member]})
        return
    config = (await client.admin.command("replSetGetConfig"))["config"]
    if config["members"][0]["host"] != host_port:
        config["members"][0]["host"] = host_port
        config["version"] += 1
        # Forced, because a node that is not in its own configuration has no primary to ask.
        await client.admin.command("replSetReconfig", config, force=True)


async def _answers(client: Redis, pid: int) -> bool:
    try:
        info = await client.info("server")
    except (RedisError, OSError) as error:
        log.debug("redis is not ready: %s", error)
        return False
    return bool(info["process_id"] == pid)
