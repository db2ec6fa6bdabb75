"""SIGTERM under load: everything acknowledged is durable, and the process ends in time."""

import asyncio
import signal
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp

from tests.clients_py import RawSocket, joined, raw_socket
from tests.hammer import check_sums, hammering, progress
from tests.node import node_device
from tests.rest import Api
from tests.serving import server_process

LIMIT = 30.0  # seconds from the signal to the end


async def test_under_load_it_exits_0_in_time_and_every_acked_update_is_durable(
    stores: dict[str, Any], tmp_path: Path
) -> None:
    async with server_process(tmp_path, **stores, drain_seconds=1.0) as first:
        async with hammering([first.url]) as devices:
            await progress(devices, 40)
            assert await asyncio.wait_for(first.terminate(), LIMIT) == 0
        assert any(device.unanswered for device in devices)
        assert "ERROR" not in first.log
        assert "Traceback" not in first.log
    async with server_process(tmp_path, **stores) as second:
        await check_sums(second.url, devices)


async def test_while_it_drains_it_is_not_ready_and_takes_nobody_new(
    stores: dict[str, Any], tmp_path: Path
) -> None:
    settings = {**stores, "drain_seconds": 4.0}
    async with server_process(tmp_path, **settings) as server:
        async with raw_socket(server.url), raw_socket(server.url), raw_socket(server.url):
            server.process.send_signal(signal.SIGTERM)
            await _knock(server.url)
        assert await asyncio.wait_for(server.process.wait(), LIMIT) == 0


async def _knock(url: str) -> None:
    async with aiohttp.ClientSession(url) as http:
        api = Api(http)
        async with asyncio.timeout(LIMIT):
            while (await api.get("/health/ready")).status == 200:
                pass
        assert (await api.get("/health/ready")).json["reasons"] == ["draining"]
        refused = await api.get("/socket.io/?EIO=4&transport=polling")
        refused.problem(503, "draining")
        assert (await api.get("/health/live")).status == 200
        assert (await api.patch(xp=1))["xp"] == 1  # REST is served to the end


async def test_connections_are_closed_spread_over_the_drain(
    stores: dict[str, Any], tmp_path: Path
) -> None:
    clock = asyncio.get_running_loop().time
    async with AsyncExitStack() as stack:
        settings = {**stores, "drain_seconds": 2.0}
        server = await stack.enter_async_context(server_process(tmp_path, **settings))
        sockets = [await stack.enter_async_context(raw_socket(server.url)) for _ in range(20)]

        async def closed(raw: RawSocket) -> float:
            await raw.closed()
            return clock()

        closings = asyncio.gather(*(closed(raw) for raw in sockets))
        assert await asyncio.wait_for(server.terminate(), LIMIT) == 0
        times = sorted(await closings)
        # All at once they would come back at once, and overrun the other instances.
        assert 0.8 < times[-1] - times[0] < 2.5
        assert max(b - a for a, b in pairwise(times)) < 0.6


async def test_clients_transports_are_closed_so_that_they_go_elsewhere(
    stores: dict[str, Any], tmp_path: Path
) -> None:
    async with (
        server_process(tmp_path, **stores) as server,
        joined(server.url) as phone,
        joined(server.url, transports=["polling"]) as tab,
        node_device(server.url) as browser,
        node_device(server.url, transports=["polling"]) as old_browser,
    ):
        for device in (browser, old_browser):
            await device.happens("connect")
        assert await asyncio.wait_for(server.terminate(), LIMIT) == 0
        for client in (phone, tab):
            await asyncio.wait_for(client.gone.wait(), 5)
        for device in (browser, old_browser):
            assert (await device.happens("disconnect"))["active"] is True
            await device.happens("reconnect_attempt")


async def test_an_idle_instance_ends_at_once(stores: dict[str, Any], tmp_path: Path) -> None:
    async with server_process(tmp_path, **stores, drain_seconds=5) as server:
        assert await asyncio.wait_for(server.terminate(), 3) == 0
        assert server.log.rstrip().endswith("}")
        assert '"message":"stopped"' in server.log
