"""Pages of other origins: which may call, and never `*` with credentials."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from tests.rest import Answer, Api
from tests.serving import serving

GAME = "https://game.example"
ADMIN = "https://admin.example:8443"
EVIL = "https://evil.example"
POLLING = "/socket.io/?EIO=4&transport=polling"
WEBSOCKET = "/socket.io/?EIO=4&transport=websocket"
PATHS = ["/api/users/ada/stats", "/health", "/nowhere", POLLING]

ALLOW_ORIGIN = "Access-Control-Allow-Origin"
ALLOW_CREDENTIALS = "Access-Control-Allow-Credentials"


@asynccontextmanager
async def allowing(stores: dict[str, Any], origins: str) -> AsyncIterator[Api]:
    async with (
        serving(**stores, cors_origin=origins) as server,
        aiohttp.ClientSession(server.url) as http,
    ):
        yield Api(http)


@pytest.fixture
async def listed(stores: dict[str, Any]) -> AsyncIterator[Api]:
    async with allowing(stores, f"{GAME}, {ADMIN}") as api:
        yield api


async def preflight(api: Api, path: str, origin: str, method: str = "POST") -> Answer:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    return await api.send("OPTIONS", path, headers=headers)


# ---- any origin, the default


@pytest.mark.parametrize("path", PATHS)
async def test_any_origin_never_comes_with_credentials(api: Api, path: str) -> None:
    for origin in (EVIL, "null", "http://localhost:19006"):
        answer = await api.get(path, headers={"Origin": origin})
        assert answer.headers[ALLOW_ORIGIN] in ("*", origin)
        assert ALLOW_CREDENTIALS not in answer.headers
        answer = await preflight(api, path, origin)
        assert answer.status in (200, 204)
        assert answer.headers[ALLOW_ORIGIN] in ("*", origin)
        assert ALLOW_CREDENTIALS not in answer.headers


async def test_a_preflight_allows_what_the_routes_need_without_a_token(api: Api) -> None:
    answer = await preflight(api, "/api/users/data/patch", EVIL)
    assert (answer.status, answer.raw) == (204, b"")
    methods = answer.headers["Access-Control-Allow-Methods"]
    assert {"GET", "POST"} <= set(methods.replace(" ", "").split(","))
    headers = answer.headers["Access-Control-Allow-Headers"].lower().replace(" ", "").split(",")
    assert {"authorization", "content-type", "if-none-match", "x-request-id"} <= set(headers)
    assert int(answer.headers["Access-Control-Max-Age"]) > 0


async def test_pages_may_read_what_they_need_errors_included(api: Api) -> None:
    for path in ("/api/users/ada/stats", "/api/users/bob/stats", "/nowhere"):
        answer = await api.get(path, headers={"Origin": GAME})
        exposed = answer.headers["Access-Control-Expose-Headers"].lower()
        assert {"etag", "x-request-id", "retry-after"} <= set(exposed.replace(" ", "").split(","))


async def test_without_an_origin_nothing_is_said_of_origins(api: Api) -> None:
    answer = await api.get("/api/users/ada/stats")
    assert not [name for name in answer.headers if name.startswith("Access-Control")]


# ---- a list of origins


@pytest.mark.parametrize("path", PATHS)
async def test_a_listed_origin_is_named_and_may_send_credentials(listed: Api, path: str) -> None:
    for origin in (GAME, ADMIN):
        for answer in (
            await listed.get(path, headers={"Origin": origin}),
            await preflight(listed, path, origin),
        ):
            assert answer.headers.getall(ALLOW_ORIGIN) == [origin]
            assert answer.headers[ALLOW_CREDENTIALS] == "true"


@pytest.mark.parametrize("path", PATHS)
async def test_any_other_origin_is_not_let_in(listed: Api, path: str) -> None:
    others = [f"{GAME}.evil.example", "http://game.example", f"{GAME}:8443", GAME.upper(), "*"]
    for origin in (EVIL, "null", "", *others):
        for answer in (
            await listed.get(path, headers={"Origin": origin}),
            await preflight(listed, path, origin),
        ):
            assert ALLOW_ORIGIN not in answer.headers, origin


async def test_caches_keep_the_answers_to_listed_origins_apart(listed: Api) -> None:
    for origin in (GAME, EVIL):
        answer = await listed.get("/api/users/ada/stats", headers={"Origin": origin})
        assert "origin" in answer.headers["Vary"].lower()


async def test_only_pages_of_listed_origins_open_sockets(stores: dict[str, Any]) -> None:
    async with (
        serving(**stores, cors_origin=f"{GAME},{ADMIN}") as server,
        aiohttp.ClientSession(server.url) as http,
    ):
        for refused in (EVIL, "null"):
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await http.ws_connect(WEBSOCKET, headers={"Origin": refused})
            assert caught.value.status in (400, 403)
            answer = await Api(http).get(POLLING, headers={"Origin": refused})
            assert answer.status in (400, 403)
        async with http.ws_connect(WEBSOCKET, headers={"Origin": GAME}) as socket:
            assert (await socket.receive_str()).startswith("0{")
        async with http.ws_connect(WEBSOCKET) as socket:  # no page at all: an app
            assert (await socket.receive_str()).startswith("0{")


async def test_an_empty_list_of_origins_lets_no_page_in(stores: dict[str, Any]) -> None:
    async with allowing(stores, ",") as api:
        for path in PATHS:
            answer = await api.get(path, headers={"Origin": EVIL})
            assert ALLOW_ORIGIN not in answer.headers
        assert (await api.get(POLLING, headers={"Origin": EVIL})).status in (400, 403)
