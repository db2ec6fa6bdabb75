"""Several cores: `WORKERS=n` processes that serve on one port, and the parent that runs them.

The parent serves nothing. It holds what the workers share (private stores, the secret, the port),
starts again what dies, and stops them all. A worker is this program with the command `worker`:
its stdin ends with the parent, so that it drains then, and on its stdout it says that it serves.
"""

import asyncio
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from realtime.tasks import end
from server.serve import greeting, serve_app, stop_signals, with_private_servers
from server.settings import Settings

log = logging.getLogger(__name__)

WORKER = "worker"
SERVING = b"serving\n"
STEADY = 30.0  # seconds of life after which a death is the first one again
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds
STOP_SECONDS = 25.0  # beside the drain


class WorkerError(Exception):
    """A worker cannot start; it has said why itself."""


async def serve_workers(settings: Settings) -> None:
    """Run the workers until SIGTERM or SIGINT, then stop them and what was started here.

    Raises WorkerError when one of them cannot start in the first place.
    """
    stopping = stop_signals()
    greet = greeting(settings)
    async with AsyncExitStack() as stack:
        settings = await with_private_servers(settings, stack)
        port = await stack.enter_async_context(_held(settings.host, settings.port))
        if "polling" in settings.transports:
            log.info("polling is off: a session's requests would reach different workers")
        workers = [Worker(number, settings, port) for number in range(settings.workers)]
        stack.push_async_callback(_stop, workers, settings.drain_seconds + STOP_SECONDS)
        running = asyncio.create_task(_run(workers, lambda: greet(settings, port)))
        stack.push_async_callback(end, {running})
        running.add_done_callback(lambda _: stopping.set())  # it ends only by failing
        await stopping.wait()
        if running.done():
            await running
        log.info("stopping %d workers", len(workers))
    log.info("stopped")


async def serve_worker(settings: Settings) -> None:
    """What a worker does: serve until it is told to stop or its parent is gone."""
    stopping = stop_signals()
    loop = asyncio.get_running_loop()

    def parent_gone() -> None:
        loop.remove_reader(sys.stdin)
        stopping.set()

    loop.add_reader(sys.stdin, parent_gone)
    await serve_app(settings, stopping, lambda _: _tell_parent(), shared_port=True)
    log.info("stopped")


def _tell_parent() -> None:
    with suppress(BrokenPipeError):  # it is gone
        os.write(sys.stdout.fileno(), SERVING)


@asynccontextmanager
async def _held(host: str, port: int) -> AsyncIterator[int]:
    """The port, bound and not listened on, chosen when `port` is 0.

    Without SO_REUSEPORT, so that it fails where somebody else listens, be it workers of another
    run; those who bind it after us with SO_REUSEADDR are free to listen (socket(7)).
    """
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, host, port, start_serving=False)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def _run(workers: list["Worker"], live: Callable[[], None]) -> None:
    """Start all, call `live`, and keep them running."""
    first, *others = workers
    await first.start()  # alone: what is wrong with the settings is said once
    await _all(worker.start() for worker in others)
    live()
    await _all(worker.keep() for worker in workers)


async def _all(works: Iterable[Coroutine[None, None, None]]) -> None:
    """Do them together; the first failure ends the others and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def _stop(workers: list["Worker"], within: float) -> None:
    """Stop them all at the same time: each closes its own connections."""
    await _all(worker.stop(within) for worker in workers)


class Worker:
    """One process that serves: `number` counts from 0."""

    def __init__(self, number: int, settings: Settings, port: int) -> None:
        self._extra = {"worker": number}
        self._number = number
        self._environment = _environment(number, settings, port)
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Return once it serves; raises WorkerError when it ended before, and OSError."""
        self._process = process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "server", WORKER, str(self._number)),
            env=self._environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C in the terminal is for the parent
        )
        assert process.stdout is not None
        if await process.stdout.readline() != SERVING:
            raise WorkerError(f"{await self._end()} at its start")

    async def keep(self) -> None:
        """Start it again whenever it ends: at once, and ever later while it keeps dying young."""
        reason, pause = await self._end(), 0.0
        while True:
            log.error("%s: starting it again in %g s", reason, pause, extra=self._extra)
            await asyncio.sleep(pause)
            started = time.monotonic()
            try:
                await self.start()
                reason = await self._end()
            except (WorkerError, OSError) as error:
                reason = str(error)
            pause = next_pause(pause, time.monotonic() - started)

    async def stop(self, within: float) -> None:
        """End it in order, or by force after `within` seconds."""
        if (process := self._process) is None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), within)
        except TimeoutError:
            log.error("still there after %g s: killed", within, extra=self._extra)  # noqa: TRY400
            process.kill()
            await process.wait()

    async def _end(self) -> str:
        """Wait for the process' end; answers what to say about it."""
        assert self._process is not None
        code = await self._process.wait()
        return f"worker {self._number} ended with exit code {code}"


def next_pause(pause: float, lived: float) -> float:
    """Seconds to wait before the next start, after `pause` and a life of `lived` seconds."""
    return 0.0 if lived >= STEADY else min(max(2 * pause, FIRST_PAUSE), LONGEST_PAUSE)


def _environment(number: int, settings: Settings, port: int) -> dict[str, str]:
    """The environment of a worker: ours, with what the parent has settled."""
    settled = {
        "MONGODB_URI": str(settings.mongodb_uri),
        "REDIS_URL": str(settings.redis_url),
        "PORT": str(port),
        "METRICS_PORT": str(settings.metrics_port and settings.metrics_port + number),
        "WORKERS": "1",
        "TRANSPORTS": "websocket",
    }
    if settings.jwt_secret is not None:
        settled["JWT_SECRET"] = settings.jwt_secret.get_secret_value()
    # Settings are read whatever their case is.
    kept = {name: value for name, value in os.environ.items() if name.upper() not in settled}
    return kept | settled
