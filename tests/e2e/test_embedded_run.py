"""The embedded default: one command with a MongoDB and a Redis of its own."""

import asyncio
import os
import re
import signal
import tempfile
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.clients_py import connected
from tests.commands import command
from tests.hammer import Device, progress
from tests.processes import alive, children, gone
from tests.rest import Answer, Api
from tests.serving import ServerProcess, free_port, server_process


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not `tmp_path`: pytest keeps those of three sessions, and a mongod's is 100 MB."""
    with tempfile.TemporaryDirectory(prefix="livetally-test-") as path:
        yield Path(path)


def embedded(folder: Path) -> AbstractAsyncContextManager[ServerProcess]:
    """A server with nothing but a folder."""
    return server_process(folder, data_dir=folder / "var", jwt_secret=None)


def demo_token(server: ServerProcess) -> str:
    found = re.search(r"demo token \(demo\): (\S+)", server.log)
    assert found is not None, server.log
    return found[1]


async def pull_as(server: ServerProcess, token: str, user: str) -> Answer:
    async with aiohttp.ClientSession(server.url) as http:
        headers = {"Authorization": f"Bearer {token}"}
        return await Api(http, None).get(f"/api/users/{user}/stats", headers=headers)


async def test_the_printed_token_and_url_work_and_the_data_is_where_it_says(folder: Path) -> None:
    async with embedded(folder) as server:
        assert f"livetally is live at {server.url}\n" in server.log
        assert f"{(folder / 'var').resolve()}\n" in server.log
        token = demo_token(server)
        assert (await pull_as(server, token, "demo")).ok()["userId"] == "demo"
        (await pull_as(server, token, "ada")).problem(403, "forbidden")
        async with connected(server.url, auth={"token": token}) as device:
            assert (await device.join())["userId"] == "demo"
            assert (await device.call("user:clientUpdate", {"xp": 3}))["ok"]
        # the token command works for the running server, beside its lock
        made = await command("token", "backend", "--role", "service", data_dir=folder / "var")
        assert made.code == 0
        assert (await pull_as(server, made.out.strip(), "demo")).ok()["xp"] == 3
        assert await server.terminate() == 0
        assert not re.search(r"jwt_secret|[0-9a-f]{64}", server.log)


async def test_the_private_servers_stop_last_and_are_gone(folder: Path) -> None:
    async with embedded(folder) as server:
        private = children(server.process.pid)
        assert sorted(private.values()) == ["mongod", "redis-server"]
        device, stop = Device("demo", "phone"), asyncio.Event()
        auth = {"token": demo_token(server)}
        load = asyncio.create_task(device.run(server.url, stop, auth=auth))
        await progress([device], 50)
        server.process.send_signal(signal.SIGTERM)
        address = urlsplit(server.url)
        while server.process.returncode is None:
            try:
                _, writer = await asyncio.open_connection(address.hostname, address.port)
            except OSError:
                await asyncio.sleep(0.01)
                continue
            still = alive(private)  # looked at while it listens
            writer.close()
            assert sorted(still) == ["mongod", "redis-server"]
            await asyncio.sleep(0.01)
        assert server.process.returncode == 0
        assert alive(private) == []
        await load
        assert "ERROR" not in server.log
    async with embedded(folder) as server:  # the next run has the data, and honours the token
        answer = await pull_as(server, auth["token"], "demo")
        assert answer.ok()["xp"] >= sum(device.acked) > 0


async def test_kill_9_of_the_server_ends_its_private_servers(folder: Path) -> None:
    async with embedded(folder) as server:
        private = children(server.process.pid)
        assert len(private) == 2
        await server.kill()
        await gone(private)


async def test_a_second_run_on_the_same_folder_says_so_and_the_first_runs_until_ctrl_c(
    folder: Path,
) -> None:
    async with embedded(folder) as server:
        second = await command(data_dir=folder / "var", port=free_port())
        assert second.code == 1
        assert second.out == ""
        assert f"in use by process {server.process.pid}" in second.err
        assert "DATA_DIR" in second.err
        assert "Traceback" not in second.err
        assert (await pull_as(server, demo_token(server), "demo")).status == 200
        private = children(server.process.pid)
        assert sorted(private.values()) == ["mongod", "redis-server"]
        # and Ctrl-C in its terminal reaches the server alone, which then stops them
        for pid in private:
            assert os.getpgid(pid) == pid != os.getpgid(server.process.pid)
        server.process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(server.process.wait(), 30) == 0
        assert alive(private) == []
