"""From settings to a serving process, and from a signal back to an empty one."""

import asyncio
import gc
import logging
import os
import resource
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from aiohttp import web
from pydantic import SecretStr

from domain.identity import Role
from server.app import RUNNER_OPTIONS, create_app
from server.embedded import PrivateServer, lock_data_dir, start_mongod, start_redis
from server.keys import DRAINING, LIVE
from server.settings import MIN_SECRET_BYTES, Settings, SettingsError
from server.signing import signer_of

log = logging.getLogger(__name__)

SHUTDOWN_TIMEOUT = 5.0  # seconds for requests under way
BACKLOG = 4096
DEMO_USER = "demo"
GC_THRESHOLDS = (50_000, 20, 100)


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain and stop what was started here, last first."""
    stopping = stop_signals()
    greet = greeting(settings)
    async with AsyncExitStack() as stack:
        settings = await with_private_servers(settings, stack)
        await serve_app(settings, stopping, lambda port: greet(settings, port))
    log.info("stopped")


async def serve_app(
    settings: Settings,
    stopping: asyncio.Event,
    live: Callable[[int], None],
    *,
    shared_port: bool = False,
) -> None:
    """Serve with stores that are there already, from `live(port)` until `stopping`; then drain.

    A `shared_port` is one that other processes of ours serve as well.
    """
    _raise_file_limit()
    app = create_app(settings)
    runner = web.AppRunner(app, shutdown_timeout=SHUTDOWN_TIMEOUT, **RUNNER_OPTIONS)
    await runner.setup()
    try:
        site = web.TCPSite(
            runner, settings.host, settings.port, backlog=BACKLOG, reuse_port=shared_port
        )
        await site.start()
        if settings.metrics_port:
            await web.TCPSite(runner, settings.host, settings.metrics_port).start()
        port = runner.addresses[0][1]
        _spare_gc()
        log.info("serving on http://%s:%d", settings.host, port)
        live(port)
        await stopping.wait()
        log.info("stopping: no new connections from here on")
        app[DRAINING].set()
        await app[LIVE].drain(settings.drain_seconds)
        await site.stop()
    finally:
        await runner.cleanup()


def _spare_gc() -> None:
    """Collect cycles seldom: nearly everything here is freed by its reference count.

    With Python's defaults (700, 10, 10) it took 10 % of the CPU under load (perf), and the p99 of
    updates fell from about 100 ms to 70 without them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def _raise_file_limit() -> None:
    """A socket is a file: take as many as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def stop_signals() -> asyncio.Event:
    """Set by SIGTERM and by SIGINT, which from now on do nothing else."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return stopping


async def with_private_servers(settings: Settings, stack: AsyncExitStack) -> Settings:
    """Settings with a MongoDB, a Redis and a secret: private ones where none are named."""
    if settings.mongodb_uri is None or settings.redis_url is None:
        stack.enter_context(lock_data_dir(settings.data_dir))
    settings = with_secret(settings)
    if settings.mongodb_uri is None:
        mongod = await stack.enter_async_context(_private(start_mongod, settings.data_dir))
        settings = settings.model_copy(update={"mongodb_uri": mongod.url})
    if settings.redis_url is None:
        redis = await stack.enter_async_context(_private(start_redis, settings.data_dir))
        settings = settings.model_copy(update={"redis_url": redis.url})
    return settings


@asynccontextmanager
async def _private(
    start: Callable[[Path], Awaitable[PrivateServer]], folder: Path
) -> AsyncIterator[PrivateServer]:
    server = await start(folder)
    try:
        yield server
    finally:
        await server.stop()


def with_secret(settings: Settings) -> Settings:
    """Settings with a way to verify tokens; in the embedded default a secret is made and kept.

    Raises SettingsError where one has to be given and is missing or short.
    """
    others = (settings.jwt_private_key, settings.jwt_public_key, settings.jwt_jwks_url)
    if any(key is not None for key in others):
        return settings
    if settings.jwt_secret is None and settings.embedded:
        return settings.model_copy(update={"jwt_secret": _kept_secret(settings.data_dir)})
    if not settings.embedded:
        _refuse_short("JWT_SECRET", settings.jwt_secret or SecretStr(""))
        if settings.jwt_secret_next is not None:
            _refuse_short("JWT_SECRET_NEXT", settings.jwt_secret_next)
    return settings


def _refuse_short(name: str, secret: SecretStr) -> None:
    if len(secret.get_secret_value().encode()) < MIN_SECRET_BYTES:
        raise SettingsError(
            f"{name} must have at least {MIN_SECRET_BYTES} bytes: set it to what "
            "`openssl rand -hex 32` prints, the same for all instances"
        )


def _kept_secret(folder: Path) -> SecretStr:
    path = folder / "jwt_secret"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return SecretStr(path.read_text())
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))
    return SecretStr(path.read_text())


def greeting(settings: Settings) -> Callable[[Settings, int], None]:
    """What to say on stdout once it serves, to be called with complete settings and the port."""
    return _greet_developer if settings.embedded else _greet_operator


def _greet_developer(settings: Settings, port: int) -> None:
    """Tell a person what to do next, on stdout; the log is on stderr."""
    lines = [_live_at(settings, port)]
    if (signer := signer_of(settings)) is not None:
        demo, _ = signer.sign(DEMO_USER, Role.USER, settings.jwt_expire)
        lines += [
            f"  demo token ({DEMO_USER}): {demo}",
            "  for another user:  scripts/token USER",
        ]
    lines.append(f"  data:              {settings.data_dir.resolve()}")
    _say(lines)


def _greet_operator(settings: Settings, port: int) -> None:
    """With stores of one's own stdout may be a log: no token goes there."""
    _say([_live_at(settings, port)])


def _live_at(settings: Settings, port: int) -> str:
    return f"livetally is live at http://{_shown_host(settings.host)}:{port}"


def _say(lines: list[str]) -> None:
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _shown_host(host: str) -> str:
    return socket.gethostname() if host in ("", "0.0.0.0", "::") else host  # noqa: S104
