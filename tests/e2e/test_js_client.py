"""The real socket.io-client, with the options that apps give it."""

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.clients_py import joined
from tests.node import node_device
from tests.rest import DEFAULTS, PUBLIC_DEFAULTS, Api
from tests.serving import Served, free_port, server_process
from tests.tokens import token

OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "websocket": {"transports": ["websocket"]},
    "polling": {"transports": ["polling"]},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
async def test_a_session_from_connect_to_leave(served: Served, options: dict[str, Any]) -> None:
    async with (
        node_device(served.url, **options) as phone,
        joined(served.url, deviceId="tablet") as tablet,
        aiohttp.ClientSession(served.url) as http,
    ):
        opened = await phone.happens("open")
        assert opened["transport"] == options.get("transports", ["polling"])[0]
        connect = await phone.happens("connect")
        if not options:
            assert (await phone.happens("upgrade"))["transport"] == "websocket"
        answer = await phone.call("presence:join", {"deviceId": "phone"})
        assert answer["ok"] is True
        assert answer["sessionId"] == connect["id"]
        assert answer["stats"].keys() == {"userId", "rev", "updatedAt", *DEFAULTS}
        assert answer["presence"]["devices"] == 2

        answer = await phone.call("user:clientUpdate", {"xp": 10, "opId": "a"})
        assert (answer["ok"], answer["rev"], answer["duplicate"]) == (True, 1, False)
        assert await tablet.next("user:data:updated") == answer["stats"]
        answer = await tablet.call("user:clientUpdate", {"xp": 5})
        assert await phone.next("user:data:updated") == answer["stats"]
        patched = await Api(http).patch(diamonds=1)
        assert (await phone.next("user:data:updated"))["rev"] == patched["rev"] == 3
        phone.emit("user:clientUpdate", {"xp": 1})  # no ack: the document comes as an event
        assert (await phone.next("user:data:updated"))["xp"] == 16

        answer = await phone.call("presence:watch", {"userIds": ["bob"]})
        assert answer["users"][0]["stats"] == PUBLIC_DEFAULTS
        async with joined(served.url, "bob") as bob:
            assert (await phone.next("presence:update"))["online"] is True
            await bob.call("user:clientUpdate", {"xp": 2})
            assert (await phone.next("user:update"))["xp"] == 2
            await bob.call("presence:status", {"status": "offline"})
            assert (await phone.next("presence:update"))["online"] is False

        phone.emit("presence:ping", {"t": 7})
        assert (await phone.next("presence:pong"))["t"] == 7
        assert (await phone.call("presence:ping", {"t": 8}))["t"] == 8
        assert (await phone.call("presence:leave"))["ok"] is True
        refused = await phone.call("user:clientUpdate", {"xp": 1})
        assert refused["error"]["code"] == "not_joined"
        phone.emit("user:clientUpdate", {"xp": 1})
        assert (await phone.next("error"))["error"]["code"] == "not_joined"
        assert phone.pending("disconnect") == phone.pending("connect_error") == 0


async def test_a_refused_client_learns_why_by_code(served: Served) -> None:
    for auth, code, options in (
        (None, "missing_token", OPTIONS["default"]),
        ("nonsense", "invalid_token", OPTIONS["polling"]),
        (token(ttl=-1), "token_expired", OPTIONS["websocket"]),
        (None, "token_in_query", {"query": {"token": token()}}),
    ):
        async with node_device(served.url, auth=auth, **options) as phone:
            error = await phone.happens("connect_error")
            assert error["data"]["code"] == code
            assert error["data"]["retryable"] is False
            assert error["message"] == error["data"]["message"]


@pytest.mark.parametrize(
    ("kind", "end"),
    [
        ("default", "SIGTERM"),
        ("default", "SIGKILL"),
        ("websocket", "SIGTERM"),
        ("polling", "SIGTERM"),
    ],
)
async def test_after_a_restart_it_reconnects_by_itself(
    stores: dict[str, Any], tmp_path: Path, kind: str, end: str
) -> None:
    port = free_port()
    patience = {} if (kind, end) == ("default", "SIGTERM") else {"reconnectionDelayMax": 300}
    options = {**OPTIONS[kind], **patience}
    async with node_device(f"http://127.0.0.1:{port}", **options) as phone:
        async with server_process(tmp_path, **stores, port=port) as first:
            before = await phone.happens("connect")
            if kind == "default":
                await phone.happens("upgrade")
            answer = await phone.call("presence:join", {})
            assert answer["ok"], answer
            assert (await phone.call("user:clientUpdate", {"xp": 1, "opId": "a"}))["ok"]
            if end == "SIGTERM":
                assert await first.terminate() == 0
            else:
                await first.kill()
            gone = await phone.happens("disconnect")
            assert gone["reason"] in ("transport close", "transport error")
            assert gone["active"] is True  # it will reconnect by itself
        async with server_process(tmp_path, **stores, port=port):
            after = await phone.happens("connect")
            assert after["id"] != before["id"]
            assert (await phone.call("presence:join", {}))["stats"]["xp"] == 1
            again = await phone.call("user:clientUpdate", {"xp": 1, "opId": "a"})
            assert (again["duplicate"], again["stats"]["xp"]) == (True, 1)


async def test_a_client_with_a_wrong_path_is_told_so(served: Served) -> None:
    async with node_device(served.url, path="/elsewhere") as phone:
        assert (await phone.happens("connect_error"))["message"]
