"""The private MongoDB and Redis, as real processes."""

import asyncio
import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from redis.asyncio import Redis
from redis.exceptions import TimeoutError as RedisTimeout

from server import embedded
from server.embedded import (
    DataDirInUse,
    MissingBinaryError,
    PrivateServer,
    StartError,
    lock_data_dir,
    start_mongod,
    start_redis,
)

ROOT = Path(__file__).parents[2]

Mongo = AsyncMongoClient[dict[str, Any]]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not `tmp_path`: pytest keeps those of three sessions, and a mongod's is 100 MB."""
    with tempfile.TemporaryDirectory(prefix="livetally-test-") as path:
        yield Path(path)


@contextlib.asynccontextmanager
async def stopping(server: PrivateServer) -> AsyncIterator[PrivateServer]:
    try:
        yield server
    finally:
        await server.kill()


async def put(server: PrivateServer, key: int) -> None:
    async with Mongo(server.url, serverSelectionTimeoutMS=5000) as client:
        await client["app"]["things"].insert_one({"_id": key})


async def keys(server: PrivateServer) -> list[int]:
    async with Mongo(server.url, serverSelectionTimeoutMS=5000) as client:
        return [row["_id"] async for row in client["app"]["things"].find().sort("_id")]


async def ping(server: PrivateServer) -> bool:
    async with Redis.from_url(server.url, socket_timeout=0.3, retry=None) as client:
        return bool(await client.ping())


def alive(pid: int) -> bool:
    """False for a process that has ended, waited for or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def eventually(condition: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


@contextlib.contextmanager
def occupied(port: int) -> Iterator[None]:
    """Somebody else's server: it hangs up on everyone."""
    with socket.create_server(("127.0.0.1", port)) as listener:

        def hang_up() -> None:
            with contextlib.suppress(OSError):
                while True:
                    listener.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


# ---- what the fixtures promise


async def test_mongod_is_a_writable_replica_set(mongodb_uri: str, mongodb_name: str) -> None:
    async with Mongo(mongodb_uri) as client:
        things = client[mongodb_name]["things"]
        async with client.start_session() as session, await session.start_transaction():
            await things.insert_one({"_id": 1}, session=session)
        async with await things.watch() as changes:
            await things.insert_one({"_id": 2})
            assert (await changes.next())["fullDocument"] == {"_id": 2}


async def test_redis_holds_live_state_only(redis_url: str, redis_prefix: str) -> None:
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        await client.set(f"{redis_prefix}a", "1")
        config = await client.config_get("*")
    assert config["save"] == ""
    assert config["appendonly"] == "no"
    assert config["maxmemory-policy"] == "noeviction"
    assert config["bind"] == "127.0.0.1"
    assert "pubsub 268435456 134217728 60" in str(config["client-output-buffer-limit"])


names_seen: list[str] = []


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_has_its_own_names(turn: int, mongodb_name: str, redis_prefix: str) -> None:
    assert not {mongodb_name, redis_prefix} & set(names_seen)
    names_seen.extend([mongodb_name, redis_prefix])


async def test_servers_outlive_the_loop_that_started_them(own_redis: PrivateServer) -> None:
    await own_redis.kill()
    await own_redis.restart()
    assert await ping(own_redis)


# ---- start, stop, again


async def test_both_start_at_once_in_one_folder(folder: Path) -> None:
    mongod, redis = await asyncio.gather(start_mongod(folder), start_redis(folder))
    async with stopping(mongod), stopping(redis):
        await put(mongod, 1)
        assert await ping(redis)
        assert mongod.url == f"mongodb://127.0.0.1:{mongod.port}/?replicaSet=livetally"
        assert redis.url == f"redis://127.0.0.1:{redis.port}/0"
        assert mongod.pid != redis.pid


async def test_stop_may_be_repeated(folder: Path) -> None:
    async with stopping(await start_redis(folder)) as server:
        await asyncio.gather(server.stop(), server.stop())
        await server.stop()
        await server.kill()
        server.suspend()
        server.resume()
        assert not server.running
        assert not alive(server.pid)


async def test_stop_ends_a_suspended_server(folder: Path) -> None:
    async with stopping(await start_redis(folder)) as server:
        server.suspend()
        await server.stop()
        assert not server.running


async def test_stop_falls_back_to_force(folder: Path) -> None:
    async with stopping(await start_redis(folder)) as server:
        await server.stop(timeout=0)
        assert not server.running


async def test_suspended_server_is_silent_until_resumed(own_redis: PrivateServer) -> None:
    own_redis.suspend()
    with pytest.raises(RedisTimeout):
        await ping(own_redis)
    assert own_redis.running
    own_redis.resume()
    assert await ping(own_redis)


async def test_a_running_server_is_not_started_twice(own_redis: PrivateServer) -> None:
    with pytest.raises(RuntimeError, match="still running"):
        await own_redis.restart()


async def test_mongod_keeps_data_through_kill_and_restart(own_mongod: PrivateServer) -> None:
    port = own_mongod.port
    await put(own_mongod, 1)
    await own_mongod.kill()
    await own_mongod.restart()
    assert own_mongod.port == port
    await put(own_mongod, 2)
    assert await keys(own_mongod) == [1, 2]


async def test_next_run_on_the_folder_keeps_data_and_port(folder: Path) -> None:
    async with stopping(await start_mongod(folder)) as first:
        await put(first, 1)
        await first.stop()
    async with stopping(await start_mongod(folder)) as second:
        assert second.port == first.port
        assert await keys(second) == [1]


async def test_folder_moves_when_its_port_is_taken(folder: Path) -> None:
    async with stopping(await start_mongod(folder)) as first:
        await put(first, 1)
        await first.kill()
    with occupied(first.port):
        async with stopping(await start_mongod(folder)) as second:
            assert second.port != first.port
            await put(second, 2)
            assert await keys(second) == [1, 2]


async def test_folder_of_a_mongod_that_is_still_going_down(folder: Path) -> None:
    async with stopping(await start_mongod(folder)) as first:
        await put(first, 1)
        ending = asyncio.ensure_future(first.stop())
        async with stopping(await start_mongod(folder)) as second:
            assert await keys(second) == [1]
        await ending


# ---- starts that fail


async def test_given_port_that_is_taken(folder: Path) -> None:
    async with stopping(await start_redis(folder / "a")) as first:
        with pytest.raises(StartError, match="Address already in use"):
            await start_redis(folder / "b", port=first.port)
        with pytest.raises(StartError, match="Address already in use"):
            await start_mongod(folder / "b", port=first.port)


async def test_lost_race_for_a_port_takes_another(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stopping(await start_redis(folder / "a")) as first:
        free = embedded._free_port
        offers = iter([first.port])
        monkeypatch.setattr(embedded, "_free_port", lambda: next(offers, None) or free())
        # The other Redis answers on that port, and must not be mistaken for ours.
        async with stopping(await start_redis(folder / "b")) as second:
            assert second.port != first.port
            assert await ping(second)


async def test_log_lines_are_in_the_exception(folder: Path) -> None:
    (folder / "mongod").mkdir()
    for name in ("WiredTiger", "WiredTiger.turtle", "WiredTiger.wt", "storage.bson"):
        (folder / "mongod" / name).write_bytes(b"not a database")
    with pytest.raises(StartError, match=r"(?s)mongod on port \d+ ended .*mongod\.log.*storage"):
        await start_mongod(folder)


async def test_start_that_takes_too_long_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    async def never(_port: int, pid: int) -> None:
        started.append(pid)
        await asyncio.Event().wait()

    slow = embedded._Program("redis", embedded._redis_command, str, never, start_seconds=0.2)
    monkeypatch.setattr(embedded, "_REDIS", slow)
    with pytest.raises(StartError, match=r"not ready after 0.2 s"):
        await start_redis(folder)
    assert started
    assert not alive(started[0])


async def test_cancelled_start_leaves_nothing(folder: Path) -> None:
    start = asyncio.ensure_future(start_mongod(folder))
    while not (folder / "mongod.log").exists():
        await asyncio.sleep(0.01)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    # Nobody holds the folder any more.
    async with stopping(await start_mongod(folder)):
        pass


async def test_missing_program(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(MissingBinaryError, match=r"livetally\[embedded\].* MONGODB_URI"):
        await start_mongod(folder)
    with pytest.raises(MissingBinaryError, match=r"livetally\[embedded\].* REDIS_URL"):
        await start_redis(folder)


async def test_program_on_path_is_preferred(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = folder / "bin" / "redis-server"
    own.parent.mkdir()
    own.write_text("#!/bin/sh\necho the one on PATH\nexit 3\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(own.parent))
    with pytest.raises(StartError, match=r"(?s)exit code 3.*the one on PATH"):
        await start_redis(folder)


async def test_program_for_another_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alien = folder / "bin" / "mongod"
    alien.parent.mkdir()
    alien.write_bytes(b"\x7fELF\x00")
    alien.chmod(0o755)
    monkeypatch.setenv("PATH", str(alien.parent))
    with pytest.raises(StartError, match=r"mongod cannot be run: .*Exec format error"):
        await start_mongod(folder)


def test_wheel_without_run_bit_is_mended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = folder / "wheel_with_a_program"
    wheel.mkdir()
    program = wheel / "program"
    program.touch(0o644)
    monkeypatch.syspath_prepend(folder)
    found = embedded._binary("no-such-program", wheel.name, "program", "X")
    assert found == program
    assert program.stat().st_mode & stat.S_IXUSR


# ---- who ends whom

PARENT = """
import asyncio, signal, sys
from pathlib import Path
from server.embedded import start_mongod, start_redis

async def main():
    interrupted = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupted.set)
    folder = Path(sys.argv[1])
    servers = await asyncio.gather(start_mongod(folder), start_redis(folder))
    print(*(server.pid for server in servers), flush=True)
    await interrupted.wait()
    await asyncio.sleep(0.3)  # a signal that reached them has done its work by now
    print(*(server.running for server in servers), flush=True)
    await asyncio.gather(*(server.stop() for server in servers))

asyncio.run(main())
"""


@contextlib.contextmanager
def parent(folder: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A process, leader of its own group as in a terminal, that has started both servers."""
    command = [sys.executable, "-c", PARENT, str(folder)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        try:
            pids = [int(pid) for pid in process.stdout.readline().split()]
            assert len(pids) == 2
            yield process, pids
        finally:
            process.kill()


def test_servers_end_when_their_parent_is_killed(folder: Path) -> None:
    with parent(folder) as (process, pids):
        assert all(alive(pid) for pid in pids)
        process.kill()
        assert eventually(lambda: not any(alive(pid) for pid in pids))
    with parent(folder) as (_process, pids):  # and the folder is usable at once
        assert all(alive(pid) for pid in pids)
    assert eventually(lambda: not any(alive(pid) for pid in pids))


def test_suspended_servers_end_with_their_parent_too(folder: Path) -> None:
    with parent(folder) as (process, pids):
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        process.kill()
        assert eventually(lambda: not any(alive(pid) for pid in pids))


def test_interrupt_of_the_group_does_not_reach_the_servers(folder: Path) -> None:
    with parent(folder) as (process, pids):
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=20)
        assert output.split() == ["True", "True"]
        assert process.returncode == 0
        assert not any(alive(pid) for pid in pids)


def test_child_of_a_parent_that_is_gone_never_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: -1)
    before_start = embedded._dies_with_us()
    monkeypatch.undo()
    child = subprocess.run(["true"], preexec_fn=before_start, check=False)
    assert child.returncode == 1


# ---- one run per data folder


def test_second_lock_is_refused_by_name_of_the_holder(folder: Path) -> None:
    folder = folder / "var"
    with lock_data_dir(folder):
        message = rf"var is in use by process {os.getpid()}: .*DATA_DIR"
        for _ in range(2):
            with pytest.raises(DataDirInUse, match=message), lock_data_dir(folder):
                pytest.fail("locked twice")
    with lock_data_dir(folder):
        assert (folder / "lock").read_text() == f"{os.getpid()}\n"


def test_lock_of_another_process_ends_with_it(folder: Path) -> None:
    hold = (
        "import sys, time; from pathlib import Path; from server.embedded import lock_data_dir\n"
        "with lock_data_dir(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", hold, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        try:
            with (
                pytest.raises(DataDirInUse, match=f"process {holder.pid}:"),
                lock_data_dir(folder),
            ):
                pytest.fail("locked twice")
        finally:
            holder.kill()
            holder.wait()
    with lock_data_dir(folder):
        pass


def test_servers_do_not_inherit_the_lock(folder: Path) -> None:
    async def start() -> PrivateServer:
        with lock_data_dir(folder):
            return await start_redis(folder)

    server = asyncio.run(start())
    try:
        with lock_data_dir(folder):
            assert server.running
    finally:
        asyncio.run(server.stop())
