"""The servers that the official protocol suites expect, on our transport.

The suites are docs/engine.io-protocol/v4-test-suite and docs/socket.io-protocol/v5-test-suite
of github.com/socketio/socket.io; `scripts/conformance-server` serves them.
"""

import argparse
import socket
from functools import partial
from typing import Any, Final

import uvloop
from aiohttp import web
from prometheus_client import CollectorRegistry
from socketio import packet as sio

from realtime.frames import Packet
from realtime.metrics import Metrics
from realtime.transport import Event, Socket, SocketServer

PING_INTERVAL: Final = 0.3  # seconds
PING_TIMEOUT: Final = 0.2  # seconds
MAX_PAYLOAD: Final = 1_000_000  # bytes


class EchoSocket(Socket):
    """Engine.IO alone: any text is a message, and none has to announce a binary one."""

    def receive_text(self, data: bytes) -> None:
        self._lane.push(data)

    def receive_binary(self, data: bytes) -> None:
        self._lane.push(bytearray(data))


def engine_app() -> tuple[SocketServer, web.Application]:
    """Engine.IO on `/engine.io/`: every message comes back."""
    io = _server()
    io.eio.socket_class = EchoSocket

    async def echo(session: Socket, data: bytes | bytearray) -> None:
        message = bytes(data) if isinstance(data, bytearray) else data.decode()
        await io.eio.send(session.sid, message)

    io.eio.on_packet = echo
    return io, _app(io, "/engine.io")


def socket_app() -> tuple[SocketServer, web.Application]:
    """Socket.IO on `/socket.io/`: `/` answered by an endpoint, `/custom` by the library's way."""

    async def endpoint(session: Socket, event: Event) -> None:
        if event.name == "message":
            await send(session, Packet(sio.EVENT, ["message-back", *event.args]))
        elif event.name == "message-with-ack":
            await send(session, Packet(sio.ACK, event.args, id=event.ack))

    async def send(session: Socket, packet: Packet) -> None:
        encoded = packet.encode()
        for part in encoded if isinstance(encoded, list) else [encoded]:
            await io.eio.send(session.sid, part)

    async def connected(sid: str, environ: dict[str, Any], auth: Any, namespace: str) -> None:
        await io.emit("auth", auth or {}, to=sid, namespace=namespace)

    # The handler emits: that has to come after the CONNECT that the library sends.
    io = _server(endpoint=endpoint, always_connect=True)
    for namespace in ("/", "/custom"):
        io.on("connect", partial(connected, namespace=namespace), namespace=namespace)

    @io.on("message", namespace="/custom")
    async def message(sid: str, *args: Any) -> None:
        await io.emit("message-back", args, to=sid, namespace="/custom")

    @io.on("message-with-ack", namespace="/custom")
    async def message_with_ack(sid: str, *args: Any) -> tuple[Any, ...]:
        return args

    return io, _app(io, "/socket.io")


def _server(**options: Any) -> SocketServer:
    metrics = Metrics(CollectorRegistry())
    return SocketServer(
        metrics=metrics,
        describe=lambda _: {},
        ping_interval=PING_INTERVAL,
        ping_timeout=PING_TIMEOUT,
        max_payload=MAX_PAYLOAD,
        **options,
    )


def _app(io: SocketServer, path: str) -> web.Application:
    async def start(app: web.Application) -> None:
        io.start()

    async def stop(app: web.Application) -> None:
        await io.stop()

    app = web.Application()
    app.on_startup.append(start)
    app.on_shutdown.append(stop)
    io.attach(app, path)
    return app


def _localhost() -> list[str]:
    """The addresses of localhost that this machine has."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return ["127.0.0.1"]
    return ["127.0.0.1", "::1"]


def main() -> None:
    """`{sio|eio} PORT`: serve until interrupted."""
    parser = argparse.ArgumentParser(description="serve a protocol suite")
    parser.add_argument("protocol", choices=["sio", "eio"])
    parser.add_argument("port", type=int)
    arguments = parser.parse_args()
    _, app = engine_app() if arguments.protocol == "eio" else socket_app()
    loop = uvloop.new_event_loop()
    web.run_app(app, host=_localhost(), port=arguments.port, shutdown_timeout=1.0, loop=loop)


if __name__ == "__main__":
    main()
