"""What realtime/transport relies on beyond the libraries' promises; fails when a version moves it.

A failure here after an update means: read that library's change, mend realtime/transport, run
the official protocol suites on `scripts/conformance-server`, and only then change this page.
"""

import ast
import asyncio
import inspect
import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import engineio
import pytest
import socketio
from aiohttp import WSMsgType, streams, web
from aiohttp._websocket.reader import WebSocketDataQueue, WebSocketReader
from aiohttp.test_utils import make_mocked_request
from aiohttp.web_protocol import RequestHandler
from engineio import packet as eio
from engineio.async_socket import AsyncSocket
from socketio import packet as sio

import realtime.transport
from realtime.frames import Packet
from realtime.transport import Socket, SocketServer
from realtime.transport.engine import EngineServer
from realtime.transport.server import Manager
from realtime.transport.wire import _Farewell, _Inbox, when_lost
from tests.serving import ROOT
from tests.wires import BINARY, frame

PINNED = ("python-socketio", "python-engineio", "aiohttp")

SHAPES: dict[Any, dict[str, str]] = {
    AsyncSocket: {
        "__init__": "server, sid",
        "check_ping_timeout": "",
        "close": "wait=, abort=, reason=",
        "handle_get_request": "environ",
        "handle_post_request": "environ",
        "poll": "",
        "schedule_ping": "",
        "send": "pkt",
    },
    engineio.AsyncServer: {
        "_bad_request": "message=",
        "_handle_connect": "environ, transport, jsonp_index=",
        "_make_response": "response_dict, environ",
        "_ok": "packets=, headers=, jsonp_index=",
        "_trigger_event": "event, *args, **kwargs",
        "_upgrades": "sid, transport",
        "attach": "app, engineio_path=",
        "create_queue": "*args, **kwargs",
        "generate_id": "",
        "handle_request": "*args, **kwargs",
    },
    eio.Packet: {"__init__": "packet_type=, data=, encoded_packet=", "encode": "b64="},
    socketio.AsyncServer: {
        "__init__": "client_manager=, logger=, json=, async_handlers=, namespaces=, **kwargs",
        "_engineio_server_class": "",
        "_handle_ack": "eio_sid, namespace, id, data",
        "_handle_connect": "eio_sid, namespace, data",
        "_handle_disconnect": "eio_sid, namespace, reason=",
        "_handle_event": "eio_sid, namespace, id, data",
        "_send_packet": "eio_sid, pkt",
    },
    socketio.AsyncManager: {
        "__init__": "",
        "basic_disconnect": "sid, namespace, **kwargs",
        "basic_enter_room": "sid, namespace, room, eio_sid=",
        "basic_leave_room": "sid, namespace, room",
        "eio_sid_from_sid": "sid, namespace",
        "is_connected": "sid, namespace",
        "sid_from_eio_sid": "eio_sid, namespace",
    },
    sio.Packet: {"add_attachment": "attachment", "decode": "encoded_packet", "encode": ""},
    RequestHandler: {"connection_lost": "exc"},
    WebSocketDataQueue: {"__init__": "*args, **kwargs", "feed_data": "data, size"},
    streams.EmptyStreamReader: {"__init__": "", "set_exception": "exc, exc_cause="},
}
"""Methods that we call or override, with their parameters."""

FIELDS = {"_async", "_eof_sent", "_message_tail", "_payload", "_payload_parser"}
"""Private attributes that we touch; a test below says of each what it is."""

OURS: list[tuple[type, type]] = [
    (Socket, AsyncSocket),
    (EngineServer, engineio.AsyncServer),
    (SocketServer, socketio.AsyncServer),
    (Manager, socketio.AsyncManager),
    (Packet, sio.Packet),
    (_Inbox, WebSocketDataQueue),
    (_Farewell, streams.EmptyStreamReader),
]


def shape(function: Callable[..., Any]) -> str:
    """A method's parameters without `self` and annotations, `=` for a default."""
    marks = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return ", ".join(
        marks.get(found.kind, "") + name + ("" if found.default is found.empty else "=")
        for name, found in inspect.signature(function).parameters.items()
        if name != "self"
    )


def test_the_installed_versions_are_the_pinned_ones() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    constraints = (ROOT / "constraints.txt").read_text().splitlines()
    for name in PINNED:
        assert f'"{name}=={version(name)}"' in project
        assert f"{name}=={version(name)}" in constraints
        assert f"{name} {version(name)}" in (realtime.transport.__doc__ or "")


@pytest.mark.parametrize("owner", SHAPES, ids=lambda owner: f"{owner.__module__}.{owner.__name__}")
def test_every_method_that_is_called_or_overridden_has_its_parameters(owner: Any) -> None:
    assert {name: shape(getattr(owner, name)) for name in SHAPES[owner]} == SHAPES[owner]


def test_every_override_and_every_private_name_is_on_this_page() -> None:
    listed = {name for methods in SHAPES.values() for name in methods}
    overridden = {
        name
        for ours, base in OURS
        for name, value in vars(ours).items()
        if inspect.isfunction(value) and name in dir(base)
    }
    assert overridden - listed == set()
    used, own = set(), set()
    for path in Path(realtime.transport.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and re.match("_[a-z]", node.attr):
                used.add(node.attr)
                if isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
                    own.add(node.attr)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                own.add(node.name)
    assert used - own - listed == FIELDS


def test_the_servers_keep_what_we_read() -> None:
    server = socketio.AsyncServer(async_mode="aiohttp")
    for fields in (server.environ, server.handlers, server.namespace_handlers):
        assert fields == {}
    assert isinstance(server.eio, engineio.AsyncServer)
    assert server.eio.sockets == {}
    assert callable(server.eio._async["translate_request"])
    reason = server.eio.reason
    named = {name: value for name, value in vars(reason).items() if name.isupper()}
    assert {
        "CLIENT_DISCONNECT": "client disconnect",
        "PING_TIMEOUT": "ping timeout",
        "SERVER_DISCONNECT": "server disconnect",
        "TRANSPORT_CLOSE": "transport close",
        "TRANSPORT_ERROR": "transport error",
    }.items() <= named.items()
    manager = socketio.AsyncManager()
    for fields in (manager.rooms, manager.callbacks):
        assert fields == {}
    assert manager.pending_connect == manager.pending_disconnect == {}


async def test_a_session_of_the_library_keeps_what_we_read() -> None:
    kept = vars(AsyncSocket(engineio.AsyncServer(async_mode="aiohttp"), "sid"))
    states = ("connected", "upgrading", "upgraded", "closing", "closed")
    assert [kept[name] for name in states] == [False] * 5
    assert kept["sid"] == "sid"
    assert isinstance(kept["queue"], asyncio.Queue)


def test_a_packet_keeps_its_first_encoding() -> None:
    packet = eio.Packet(eio.MESSAGE, b"\x01\x02")
    assert packet.binary
    assert packet.encode(b64=True) == packet.encode() == "bAQI="
    assert (eio.OPEN, eio.CLOSE, eio.PING, eio.MESSAGE, eio.NOOP) == (0, 1, 2, 4, 6)


def test_a_socketio_packet_counts_its_attachments() -> None:
    packet = Packet(encoded_packet='51-["x",{"_placeholder":true,"num":0}]')
    assert (packet.attachment_count, packet.attachments) == (1, [])
    assert packet.add_attachment(b"\x01")
    assert packet.data == ["x", b"\x01"]


async def test_aiohttps_reader_gives_frames_at_once_as_bytes() -> None:
    inbox = _Inbox(asyncio.get_running_loop())
    reader = WebSocketReader(inbox, 100, compress=False, decode_text=False)
    assert reader.feed_data(frame("4x") + frame(b"\x01", BINARY)) == (False, b"")
    assert [(kind, payload) for kind, payload, *_ in inbox.frames] == [
        (WSMsgType.TEXT, b"4x"),
        (WSMsgType.BINARY, b"\x01"),
    ]
    failed, _ = reader.feed_data(frame("x" * 101))
    assert failed


def test_aiohttps_connection_has_what_a_takeover_needs() -> None:
    for name in ("_message_tail", "_payload_parser", "transport"):
        assert inspect.isdatadescriptor(getattr(RequestHandler, name)), name
    assert web.WebSocketResponse(compress=False, decode_text=False)._eof_sent is False


def test_aiohttp_tells_the_body_of_a_request_that_its_connection_is_lost() -> None:
    request = make_mocked_request("GET", "/")
    told: list[str] = []
    when_lost(request, lambda: told.append("lost"))
    request._cancel(ConnectionResetError())
    assert told == ["lost"]
    assert "self._current_request._cancel" in inspect.getsource(RequestHandler.connection_lost)
