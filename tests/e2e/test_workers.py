"""`WORKERS=2`: two processes on one port are one service, and one of them may die."""

import asyncio
import json
import os
import random
import re
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
from yarl import URL

from server.workers import LONGEST_PAUSE, STEADY, next_pause
from tests.clients_py import Client, joined
from tests.commands import Result, command
from tests.hammer import Device, check_sums, hammering, progress
from tests.processes import alive, children, gone
from tests.rest import Api
from tests.serving import ROOT, ServerProcess, free_port, server_process
from tests.tokens import SECRET
from tests.waiting import soon

LIMIT = 30.0  # seconds from the signal to the end


def two_free_ports() -> int:
    """The first of two free ports in a row, below those that connections go out from."""
    while True:
        first = random.randrange(20_000, 32_000)
        try:
            for port in (first, first + 1):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first


class Pair(NamedTuple):
    """A server of two workers."""

    server: ServerProcess
    doors: list[str]
    """Where each worker can be asked alone."""

    def pids(self) -> dict[int, int]:
        """The workers' process ids, by number."""
        found = {}
        for pid in children(self.server.process.pid):
            arguments = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            if "worker" in arguments:
                found[int(arguments[arguments.index("worker") + 1])] = pid
        return found

    async def instance(self, number: int) -> dict[str, Any]:
        """What a worker says of itself; AssertionError while it does not answer."""
        async with aiohttp.ClientSession(self.doors[number]) as http:
            try:
                return dict((await Api(http, None).get("/health")).json["instance"])
            except aiohttp.ClientConnectionError as error:
                raise AssertionError from error

    async def device_of(self, stack: AsyncExitStack, number: int) -> Client:
        """A new device of ada on that worker: who lands elsewhere stays there, too."""
        while True:
            before = (await self.instance(number))["connectedClients"]
            device = await stack.enter_async_context(joined(self.server.url))
            if (await self.instance(number))["connectedClients"] > before:
                return device


@asynccontextmanager
async def two_workers(folder: Path, **settings: Any) -> AsyncIterator[Pair]:
    """A server that is live, warnings being errors in its workers too."""
    port = two_free_ports()
    more = {"workers": 2, "metrics_port": port, "pythonwarnings": "error"}
    async with server_process(folder, **settings, **more) as server:

        async def live() -> None:
            assert f"livetally is live at {server.url}\n" in server.log

        await soon(live)
        yield Pair(server, [f"http://127.0.0.1:{port + number}" for number in range(2)])


def lines(server: ServerProcess) -> list[dict[str, Any]]:
    """What was logged."""
    return [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]


async def test_they_share_a_port_without_polling_and_an_update_on_one_reaches_the_other(
    stores: dict[str, Any], tmp_path: Path
) -> None:
    async with two_workers(tmp_path, **stores) as pair, AsyncExitStack() as stack:
        phone, tablet = await pair.device_of(stack, 0), await pair.device_of(stack, 1)
        answer = await phone.call("user:clientUpdate", {"xp": 10})
        assert await tablet.next("user:data:updated") == answer["stats"]
        answer = await tablet.call("user:clientUpdate", {"xp": 1})
        assert await phone.next("user:data:updated") == answer["stats"]
        assert answer["stats"]["xp"] == 11
        for door in pair.doors:
            async with aiohttp.ClientSession(door) as http:
                metrics = (await Api(http, None).get("/metrics")).raw.decode()
            assert re.search(r"^livetally_sockets [1-9]", metrics, re.MULTILINE)
        assert {line.get("worker") for line in lines(pair.server)} == {None, 0, 1}
        assert "polling is off" in pair.server.log
        async with aiohttp.ClientSession(pair.server.url) as http:
            (await Api(http).get("/socket.io/?EIO=4&transport=polling")).problem(400, "bad_request")


async def test_a_killed_worker_is_started_again_and_the_other_goes_on(
    stores: dict[str, Any], tmp_path: Path
) -> None:
    async with two_workers(tmp_path, **stores) as pair, AsyncExitStack() as stack:
        phone, tablet = await pair.device_of(stack, 0), await pair.device_of(stack, 1)
        before = await pair.instance(0), await pair.instance(1)
        os.kill(pair.pids()[1], signal.SIGKILL)
        await asyncio.wait_for(tablet.gone.wait(), 5)
        assert (await phone.call("user:clientUpdate", {"xp": 1}))["ok"]

        async def back() -> None:
            now = await pair.instance(1)
            assert now["id"] != before[1]["id"]
            assert now["ready"]

        await soon(back)
        tablet = await pair.device_of(stack, 1)
        answer = await phone.call("user:clientUpdate", {"xp": 1})
        assert (await tablet.next("user:data:updated"))["xp"] == answer["stats"]["xp"] == 2
        assert (await pair.instance(0))["id"] == before[0]["id"]
        assert not phone.gone.is_set()
        [said] = [line for line in lines(pair.server) if line["level"] == "ERROR"]
        assert said["message"] == "worker 1 ended with exit code -9: starting it again in 0 s"


def test_a_worker_that_keeps_dying_young_is_started_ever_later() -> None:
    pauses = [0.0]
    for _ in range(9):
        pauses.append(next_pause(pauses[-1], lived=1.0))
    assert pauses == [0, 0.5, 1, 2, 4, 8, 16, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE]
    assert next_pause(LONGEST_PAUSE, lived=STEADY) == 0


async def test_sigterm_under_load_stops_all_in_time_and_every_acked_update_is_durable(
    stores: dict[str, Any], tmp_path: Path
) -> None:
    async with two_workers(tmp_path, **stores, drain_seconds=0.5) as pair:
        processes = children(pair.server.process.pid)
        async with hammering([pair.server.url]) as devices:
            await progress(devices, 20)
            assert await asyncio.wait_for(pair.server.terminate(), LIMIT) == 0
        assert len(processes) == 2
        assert alive(processes) == []
        *ends, last = [line for line in lines(pair.server) if line["message"] == "stopped"]
        assert {line["worker"] for line in ends} == {0, 1}
        assert "worker" not in last
        for word in ("ERROR", "Traceback", "Exception ignored"):
            assert word not in pair.server.log
    async with server_process(tmp_path, **stores) as server:
        await check_sums(server.url, devices)


async def test_ctrl_c_reaches_the_parent_alone_and_the_private_servers_stop_last() -> None:
    with tempfile.TemporaryDirectory(prefix="livetally-test-") as folder:
        private = {"data_dir": Path(folder) / "var", "jwt_secret": SECRET}
        async with two_workers(Path(folder), **private) as pair:
            processes = children(pair.server.process.pid)
            assert len(processes) == 4
            for pid in processes:
                assert os.getpgid(pid) == pid != os.getpgid(pair.server.process.pid)
            device, stop = Device("ada", "phone"), asyncio.Event()
            load = asyncio.create_task(device.run(pair.server.url, stop))
            await progress([device], 20)
            pair.server.process.send_signal(signal.SIGINT)
            assert await asyncio.wait_for(pair.server.process.wait(), LIMIT) == 0
            assert alive(processes) == []
            await load
            assert "ERROR" not in pair.server.log  # they had their stores to the end


async def test_kill_9_of_the_parent_ends_the_workers_in_order(
    stores: dict[str, Any], tmp_path: Path
) -> None:
    async with two_workers(tmp_path, **stores) as pair:
        workers = children(pair.server.process.pid)
        assert len(workers) == 2
        async with joined(pair.server.url) as device:
            await pair.server.kill()
            await asyncio.wait_for(device.gone.wait(), 5)
        await gone(workers)
        ends = [line for line in lines(pair.server) if line["message"] == "stopped"]
        assert {line["worker"] for line in ends} == {0, 1}
        assert "ERROR" not in pair.server.log


async def test_port_0_is_one_port_for_all_and_another_run_cannot_have_it(
    stores: dict[str, Any],
) -> None:
    settings = {**stores, "jwt_secret": SECRET, "workers": 2, "log_level": "WARNING"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "server"),
        cwd=ROOT,
        env={name.upper(): str(value) for name, value in settings.items()} | {"PORT": "0"},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        greeting = (await asyncio.wait_for(process.stdout.readline(), LIMIT)).decode()
        url = URL(greeting.removeprefix("livetally is live at ").strip())
        instances: set[str] = set()
        async with asyncio.timeout(LIMIT):
            while len(instances) < 2:
                async with aiohttp.ClientSession(url) as http:
                    instances.add((await Api(http, None).get("/health")).json["instance"]["id"])
        assert url.port is not None
        _is_in_use(await command(**settings, port=url.port), url.port)
    finally:
        process.terminate()
    assert await asyncio.wait_for(process.wait(), LIMIT) == 0


async def test_one_worker_that_cannot_start_fails_the_start(stores: dict[str, Any]) -> None:
    first = two_free_ports()
    settings = {**stores, "jwt_secret": SECRET, "workers": 2, "metrics_port": first}
    with socket.create_server(("127.0.0.1", first + 1)):
        _is_in_use(await command(**settings, port=free_port()), first + 1)


def _is_in_use(result: Result, port: int) -> None:
    assert result.code == 1
    assert result.out == ""
    assert str(port) in result.err
    assert "in use" in result.err
    assert "Traceback" not in result.err


async def test_a_setting_that_cannot_work_fails_the_start_with_one_message(
    stores: dict[str, Any],
) -> None:
    settings = {**stores, "redis_url": "localhost:6379", "jwt_secret": SECRET}
    result = await command(**settings, port=free_port(), workers=3)
    assert result.code == 1
    assert result.out == ""
    assert result.err.count("REDIS_URL") == 1
    assert "Traceback" not in result.err
