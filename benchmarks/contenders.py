"""The servers that are compared: each started afresh, on stores that all share."""

import asyncio
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from server.embedded import start_mongod, start_redis

ROOT = Path(__file__).parent.parent
PEERS = ROOT / "benchmarks" / "peers"
SECRET = secrets.token_hex(32)
START_SECONDS = 30.0
STOP_SECONDS = 30.0
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Stores:
    """A private MongoDB (a replica set of one) and Redis."""

    mongodb: str
    redis: str


@asynccontextmanager
async def stores() -> AsyncIterator[Stores]:
    """Both, empty, until the end of the block."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="livetally-bench-")))
        mongod = await start_mongod(folder)
        stack.push_async_callback(mongod.stop)
        redis = await start_redis(folder)
        stack.push_async_callback(redis.stop)
        yield Stores(mongod.url, redis.url)


class Instance:
    """One server process."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, database: str) -> None:
        self.process = process
        self.port = port
        self.database = database
        """Also the prefix of its keys in Redis."""
        self.url = f"http://127.0.0.1:{port}"

    def cpu(self) -> float:
        """Seconds of CPU used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory(self) -> int:
        """Resident bytes."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * _PAGE

    async def metrics(self) -> dict[str, float]:
        """The samples of `/metrics` by name; those with labels as `name{value,...}`."""
        async with aiohttp.ClientSession() as http, http.get(f"{self.url}/metrics") as answer:
            text = await answer.text()
        samples = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = ",".join(sample.labels.values())
                samples[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
        return samples


@dataclass(frozen=True)
class Contender:
    """A kind of server: how it is started, and whether it takes op ids."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    op_ids: bool = False

    @asynccontextmanager
    async def running(self, at: Stores, instances: int = 1) -> AsyncIterator[list[Instance]]:
        """That many instances, sharing the stores and a fresh database, until the end."""
        fresh = f"bench{secrets.token_hex(4)}"
        async with AsyncExitStack() as stack:
            yield [await stack.enter_async_context(self._one(at, fresh)) for _ in range(instances)]

    @asynccontextmanager
    async def _one(self, at: Stores, database: str) -> AsyncIterator[Instance]:
        port = _free_port()
        environment = {
            "PATH": os.environ["PATH"],
            "PORT": str(port),
            "MONGODB_URI": at.mongodb,
            "MONGODB_DB": database,
            "REDIS_URL": at.redis,
            "REDIS_PREFIX": database,
            "JWT_SECRET": SECRET,
            **self.environment,
        }
        process = await asyncio.create_subprocess_exec(
            *self.command, cwd=ROOT, env=environment, stdout=asyncio.subprocess.DEVNULL
        )
        instance = Instance(process, port, database)
        try:
            await _until_healthy(instance)
            yield instance
        finally:
            await _stop(process)


LIVETALLY = Contender(
    "livetally",
    (sys.executable, "-m", "server"),
    {
        "LOG_LEVEL": "WARNING",
        "RATE_LIMIT_PER_MINUTE": "0",
        "SOCKET_EVENTS_PER_SECOND": "0",
        "CONNECTIONS_PER_SECOND": "0",
        "MAX_CONNECTIONS": "0",
        "SYNC_MAX_ENTITIES": "0",
    },
    op_ids=True,
)
NODE = Contender("node", ("node", str(PEERS / "node" / "server.mjs")), {"NODE_ENV": "production"})
STOCK = Contender("stock", (sys.executable, str(PEERS / "stock" / "server.py")), {})
ALL = (LIVETALLY, NODE, STOCK)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _until_healthy(instance: Instance) -> None:
    async with asyncio.timeout(START_SECONDS), aiohttp.ClientSession() as http:
        while instance.process.returncode is None:
            try:
                async with http.get(f"{instance.url}/health") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)
    raise RuntimeError(f"a server ended at its start with {instance.process.returncode}")


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
