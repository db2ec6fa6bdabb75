"""CONNECTIONS_PER_SECOND, MAX_CONNECTIONS, TRANSPORTS, and draining: who may open a socket."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from server.keys import DRAINING
from tests.clients_py import joined, raw_socket
from tests.rest import Api
from tests.serving import Served, serving
from tests.waiting import soon

pytestmark = pytest.mark.usefixtures("quiet")

POLLING = "/socket.io/?EIO=4&transport=polling"
WEBSOCKET = "/socket.io/?EIO=4&transport=websocket"


@asynccontextmanager
async def served_with(stores: dict[str, Any], **settings: Any) -> AsyncIterator[tuple[Served, Api]]:
    async with (
        serving(**stores, **settings) as server,
        aiohttp.ClientSession(server.url) as http,
    ):
        yield server, Api(http)


async def refused_websocket(server: Served, path: str = WEBSOCKET) -> int:
    """The status with which a websocket is refused."""
    async with aiohttp.ClientSession(server.url) as http:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await http.ws_connect(path)
        assert caught.value.headers is not None
        assert int(caught.value.headers["Retry-After"]) >= 1
        return caught.value.status


async def test_new_connections_of_an_address_are_limited_per_second(
    stores: dict[str, Any],
) -> None:
    async with served_with(stores, connections_per_second=1) as (server, api):
        for _ in range(5):  # a burst is granted
            assert (await api.get(POLLING)).status == 200
        answer = await api.get(POLLING)
        answer.problem(503, "overloaded")
        assert int(answer.headers["Retry-After"]) == 1
        assert await refused_websocket(server) == 503
        assert (await api.get("/api/users/ada/stats")).status == 200

        async def let_in() -> None:
            assert (await api.get(POLLING)).status == 200

        await soon(let_in, within=2.0)


async def test_the_limit_is_each_addresss_own(stores: dict[str, Any]) -> None:
    settings = {"connections_per_second": 1, "trusted_proxies": "127.0.0.1"}
    async with served_with(stores, **settings) as (_, api):
        for address in ("203.0.113.1", "203.0.113.2"):
            statuses = [
                (await api.get(POLLING, headers={"X-Forwarded-For": address})).status
                for _ in range(6)
            ]
            assert statuses == [200] * 5 + [503]


async def test_a_preflight_is_no_connection(stores: dict[str, Any]) -> None:
    headers = {"Origin": "https://game.example", "Access-Control-Request-Method": "GET"}
    async with served_with(stores, connections_per_second=1) as (_, api):
        for _ in range(10):
            assert (await api.send("OPTIONS", POLLING, headers=headers)).status in (200, 204)
        assert (await api.get(POLLING)).status == 200


async def test_beyond_max_connections_new_ones_get_503_and_the_others_go_on(
    stores: dict[str, Any],
) -> None:
    async with served_with(stores, max_connections=2) as (server, api):
        async with joined(server.url) as phone, joined(server.url, transports=["polling"]) as tab:
            answer = await api.get(POLLING)
            answer.problem(503, "overloaded")
            assert int(answer.headers["Retry-After"]) >= 1
            assert await refused_websocket(server) == 503
            assert (await tab.call("user:clientUpdate", {"xp": 1}))["ok"]
            assert (await phone.next("user:data:updated"))["xp"] == 1
            assert (await api.get("/health")).status == 200

        async def let_in() -> None:
            assert (await api.get(POLLING)).status == 200

        await soon(let_in)


async def test_an_upgrade_is_no_new_connection(stores: dict[str, Any]) -> None:
    async with (
        served_with(stores, max_connections=1, connections_per_second=1) as (server, _),
        joined(server.url, transports=["polling", "websocket"]) as phone,
    ):
        assert phone.sio.transport() == "websocket"
        assert (await phone.call("user:clientUpdate", {"xp": 1}))["ok"]


@pytest.mark.parametrize("sid", ["", "unknown"])
async def test_a_made_up_session_id_does_not_get_around_the_limit(
    stores: dict[str, Any], sid: str
) -> None:
    async with served_with(stores, max_connections=1) as (server, api), raw_socket(server.url):
        assert (await api.get(f"{POLLING}&sid={sid}")).status >= 400
        async with aiohttp.ClientSession(server.url) as http:
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await http.ws_connect(f"{WEBSOCKET}&sid={sid}")
        assert server.live.gateway.sockets() == 1


async def test_a_limit_of_0_is_none(stores: dict[str, Any]) -> None:
    settings = {"connections_per_second": 0, "max_connections": 0}
    async with served_with(stores, **settings) as (_, api):
        statuses = [(await api.get(POLLING)).status for _ in range(30)]
    assert statuses == [200] * 30


@pytest.mark.parametrize(("only", "other"), [("websocket", "polling"), ("polling", "websocket")])
async def test_transports_can_be_limited_to_one(
    stores: dict[str, Any], only: str, other: str
) -> None:
    async with served_with(stores, transports=only) as (server, api):
        async with joined(server.url, transports=[only]) as phone:
            assert (await phone.call("user:clientUpdate", {"xp": 1}))["ok"]
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        headers = {**upgrade, "Sec-WebSocket-Key": "x" * 22 + "=="} if other == "websocket" else {}
        answer = await api.get(f"/socket.io/?EIO=4&transport={other}", headers=headers)
        assert answer.status == 400


async def test_a_draining_instance_lets_nobody_new_in_and_serves_the_others(
    served: Served, api: Api
) -> None:
    async with joined(served.url) as phone:
        served.app[DRAINING].set()
        answer = await api.get(POLLING)
        answer.problem(503, "draining")
        assert int(answer.headers["Retry-After"]) >= 1
        assert await refused_websocket(served) == 503
        assert (await phone.call("user:clientUpdate", {"xp": 1}))["ok"]
        assert (await api.stats())["xp"] == 1
