"""JSON logs of a real process: request ids in, tokens never."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.clients_py import connected, raw_socket
from tests.rest import ISO, Api, http_request, raw_http
from tests.serving import ServerProcess, server_process
from tests.tokens import token
from tests.waiting import soon


@pytest.fixture
async def server(stores: dict[str, Any], tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A process that logs all it has."""
    settings = {**stores, "log_level": "DEBUG", "max_connections": 3}
    async with server_process(tmp_path, **settings) as process:
        yield process


def lines(server: ServerProcess) -> list[dict[str, Any]]:
    """What was logged, as objects; what stdout says is not among it."""
    return [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]


async def logged(server: ServerProcess, **wanted: Any) -> dict[str, Any]:
    """The first line with these members, waiting for it."""

    async def find() -> dict[str, Any]:
        found = [line for line in lines(server) if wanted.items() <= line.items()]
        assert found, server.log[-2000:]
        return found[0]

    return await soon(find, within=5.0)


async def test_every_line_is_an_object_with_time_level_logger_and_message(
    server: ServerProcess,
) -> None:
    async with connected(server.url) as phone:
        await phone.join()
    assert await server.terminate() == 0
    said = [line for line in server.log.splitlines() if not line.startswith("{")]
    assert said[0].startswith("livetally is live at http://127.0.0.1:")
    for line in lines(server):
        assert line.keys() >= {"time", "level", "logger", "message"}
        assert ISO.fullmatch(line["time"])


async def test_requests_are_logged_with_their_id(server: ServerProcess) -> None:
    async with aiohttp.ClientSession(server.url) as http:
        api = Api(http)
        for path, status in (("/api/users/ada/stats", 200), ("/api/users/bob/stats", 403)):
            await api.get(path, headers={"X-Request-Id": f"mine-{status}"})
            line = await logged(server, request=f"mine-{status}")
            assert line["message"] == f"GET {path} {status}"
            assert line["level"] in ("DEBUG", "INFO")
            assert line["ms"] >= 0
        made = (await api.get("/nowhere")).headers["X-Request-Id"]
        assert (await logged(server, request=made))["message"] == "GET /nowhere 404"


async def test_a_request_that_fails_here_is_a_warning_with_its_id(server: ServerProcess) -> None:
    async with (
        raw_socket(server.url),
        raw_socket(server.url),
        raw_socket(server.url),
        aiohttp.ClientSession(server.url) as http,
    ):
        headers = {"X-Request-Id": "one-too-many"}
        answer = await Api(http).get("/socket.io/?EIO=4&transport=polling", headers=headers)
        assert answer.status == 503
        assert (await logged(server, request="one-too-many"))["level"] == "WARNING"


async def test_no_token_is_ever_logged(server: ServerProcess) -> None:
    secret = token("ada", jti="secret-jti")
    expired = token("ada", ttl=-5)
    wrong = secret[:-6] + "AAAAAA"
    async with aiohttp.ClientSession(server.url) as http:
        nobody = Api(http, None)
        for given in (secret, expired, wrong):
            headers = {"Authorization": f"Bearer {given}"}
            for user in ("ada", "bob", "%00"):
                await nobody.get(f"/api/users/{user}/stats", headers=headers)
            await nobody.post("/api/users/data/patch", {given: 1}, headers=headers)
            await nobody.post("/api/users/data/patch", {"userId": given}, headers=headers)
            await nobody.post_raw("/api/users/data/patch", given.encode(), headers=headers)
            for name in ("token", "access_token", "jwt"):
                await nobody.get("/api/users/ada/stats", params={name: given})
                await nobody.get(
                    "/socket.io/", params={"EIO": "4", "transport": "pigeon", name: given}
                )
            await _sockets(server, given)
    await _restful(server)
    assert await server.terminate() == 0
    for given in (secret, expired, wrong):
        header, payload, signature = given.split(".")
        assert payload not in server.log
        assert signature not in server.log
        assert f"{header}." not in server.log
    assert "Bearer" not in server.log
    assert "a-secret-for-tests" not in server.log


async def _sockets(server: ServerProcess, given: str) -> None:
    """The same token through every door of sockets."""
    for auth in (
        json.dumps({"token": given}),
        json.dumps({"token": [given]}),
        json.dumps(given),
        json.dumps({"jwt": given}),
        f'{{"token": "{given}',
    ):
        async with raw_socket(server.url) as raw:
            await raw.send("40" + auth)
            if (await raw.receive() or "").startswith("40"):
                await raw.call(1, "auth:refresh", {"token": given + "x"})
                await raw.call(2, "auth:refresh", {"token": given})
                await raw.call(3, given, {given: given})
                await raw.call(4, "presence:join", given)
                await raw.send("4" + given)
                await raw.closed()


async def _restful(server: ServerProcess) -> None:
    """Wait until the process has done what was sent: its answer comes after it."""
    async with aiohttp.ClientSession(server.url) as http:
        assert (await Api(http, None).get("/health/live")).status == 200


TOKEN = token()
SIGNED = f"Authorization: Bearer {TOKEN}"
MALFORMED = [
    (f"{SIGNED}\x01", b""),
    (f": Bearer {TOKEN}", b""),
    ("Content-Length: -1", b""),
    ("Content-Encoding: gzip\r\nContent-Length: 9", b"\x00garbage9"),
    ("Content-Encoding: br\r\nContent-Length: 9", b"\x00garbage9"),
]


async def _provoke(server: ServerProcess) -> None:
    """What reaches every public server all day."""
    for fault, body in MALFORMED:
        request = http_request("POST /api/users/data/patch", SIGNED, fault, body=body)
        assert (await raw_http(server.url, request)).status in (400, 415)
    for line in ("GET http://[::1/health", "FROBNICATE /health", "GET *"):
        assert (await raw_http(server.url, http_request(line))).status == 400
    await _gone_in_the_middle(server)
    assert await server.terminate() == 0


async def test_malformed_http_is_not_logged_as_an_error_of_the_server(
    server: ServerProcess,
) -> None:
    await _provoke(server)
    errors = [line["message"] for line in lines(server) if line["level"] == "ERROR"]
    assert errors == []


async def test_a_token_in_malformed_http_is_not_quoted_in_the_log(server: ServerProcess) -> None:
    await _provoke(server)
    for part in TOKEN.split("."):
        assert part not in server.log


async def _gone_in_the_middle(server: ServerProcess) -> None:
    """A phone that loses its network while it sends a body."""
    host, port = server.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    request = http_request("POST /api/users/data/patch", SIGNED, "Content-Length: 100", body=b"{")
    writer.write(request)
    await writer.drain()
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00" + b"\x00" * 4)
    writer.close()
    await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    await _restful(server)
