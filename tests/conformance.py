"""The servers that the official protocol suites expect, on our transport.

The suites are docs/engine.io-protocol/v4-test-suite and docs/socket.io-protocol/v5-test-suite
of github.com/socketio/socket.io; `scripts/conformance-server` serves them.
"""

import argparse
from functools import partial
from typing import Any, Final

import uvloop
from aiohttp import web
from prometheus_client import CollectorRegistry
from socketio import packet as sio

from realtime.frames import Packet
from realtime.metrics import Metrics
from realtime.transport import Event, Socket, SocketServer

TIMING: Final[dict[str, float]] = {"ping_interval": 0.3, "ping_timeout": 0.2}  # seconds
MAX_PAYLOAD: Final = 1_000_000  # bytes


class EchoSocket(Socket):
    """Engine.IO alone, where no Socket.IO packet announces a binary message."""

    def receive_binary(self, data: bytes) -> None:
        self._due = 1
        super().receive_binary(data)


def engine_app() -> tuple[SocketServer, web.Application]:
    """Engine.IO on `/engine.io/`: every message comes back."""
    io = _server()
    io.eio.socket_class = EchoSocket

    async def echo(socket: Socket, data: bytes | bytearray) -> None:
        message = bytes(data) if isinstance(data, bytearray) else data.decode()
        await io.eio.send(socket.sid, message)

    io.eio.on_packet = echo
    return io, _app(io, "/engine.io")


def socket_app() -> tuple[SocketServer, web.Application]:
    """Socket.IO on `/socket.io/`: `/` answered by an endpoint, `/custom` by the library's way."""

    async def endpoint(socket: Socket, event: Event) -> None:
        if event.name == "message":
            await send(socket, Packet(sio.EVENT, ["message-back", *event.args]))
        elif event.name == "message-with-ack":
            await send(socket, Packet(sio.ACK, event.args, id=event.ack))

    async def send(socket: Socket, packet: Packet) -> None:
        encoded = packet.encode()
        for part in encoded if isinstance(encoded, list) else [encoded]:
            await io.eio.send(socket.sid, part)

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
        metrics=metrics, describe=lambda _: {}, max_payload=MAX_PAYLOAD, **TIMING, **options
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


def main() -> None:
    """`{sio|eio} PORT`: serve until interrupted, on every address of localhost."""
    parser = argparse.ArgumentParser(description="serve a protocol suite")
    parser.add_argument("protocol", choices=["sio", "eio"])
    parser.add_argument("port", type=int)
    arguments = parser.parse_args()
    _, app = engine_app() if arguments.protocol == "eio" else socket_app()
    loop = uvloop.new_event_loop()
    web.run_app(app, host="localhost", port=arguments.port, print=None, loop=loop)


if __name__ == "__main__":
    main()
