"""The server for tests: in this process, or as a process of its own that can be killed."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from realtime.live import Live
from server.app import RUNNER_OPTIONS, create_app
from server.keys import LIVE, METRICS
from server.settings import Settings
from tests.tokens import SECRET

QUICK: dict[str, Any] = {
    "jwt_secret": SECRET,
    "presence_lease": 1.2,
    "presence_grace": 1.5,
    "reconcile_interval": 1.0,
    "redis_timeout": 1.0,
    "drain_seconds": 0.2,
    "rate_limit_per_minute": 0,
    "socket_events_per_second": 0,
    "connections_per_second": 0,
}
"""Leases, graces and limits that tests need not wait for."""

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Served:
    """A server in this process."""

    url: str
    app: web.Application

    @property
    def live(self) -> Live:
        """Its live part."""
        return self.app[LIVE]

    def metric(self, name: str, **labels: str) -> float:
        """The value of one of its metrics, 0.0 when it has none yet."""
        return self.app[METRICS].registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[Served]:
    """A server on a free port; `settings` as in server/settings.py, quick by default."""
    app = create_app(Settings(**{**QUICK, **settings}))
    runner = web.AppRunner(app, shutdown_timeout=1.0, **RUNNER_OPTIONS)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield Served(f"http://127.0.0.1:{runner.addresses[0][1]}", app)
    finally:
        await runner.cleanup()


class ServerProcess:
    """`python -m server` with an environment of its own."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, log: Path) -> None:
        self.process = process
        self.url = url
        self.log_path = log

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self.log_path.read_text()

    async def terminate(self) -> int:
        """SIGTERM; answers the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await self.process.wait()

    async def kill(self) -> None:
        """SIGKILL and reap."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


def free_port() -> int:
    """A port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def server_process(folder: Path, **settings: Any) -> AsyncIterator[ServerProcess]:
    """A server process that is ready; killed at the end if it still runs."""
    merged = {**QUICK, "host": "127.0.0.1", "port": free_port(), "log_format": "json", **settings}
    environment = {
        "PATH": os.environ["PATH"],
        **{name.upper(): str(value) for name, value in merged.items() if value is not None},
    }
    log = folder / f"server-{merged['port']}.log"
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-W",
            "error",
            "-m",
            "server",
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=output,
            stdin=asyncio.subprocess.DEVNULL,
        )
    server = ServerProcess(process, f"http://127.0.0.1:{merged['port']}", log)
    try:
        await ready(server)
        yield server
    finally:
        await server.kill()


async def ready(server: ServerProcess, timeout: float = 30.0) -> None:
    """Wait until the process says that it may get traffic."""
    async with asyncio.timeout(timeout), aiohttp.ClientSession() as session:
        while server.process.returncode is None:
            try:
                async with session.get(f"{server.url}/health/ready") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.05)
    raise AssertionError(f"the server ended with {server.process.returncode}:\n{server.log}")
