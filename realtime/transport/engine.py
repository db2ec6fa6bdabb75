"""The Engine.IO server that holds the sessions.

Private names of python-engineio 4.15.1 are used here and in session.py, and only there.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import engineio
from aiohttp import web
from engineio import packet as eio

from realtime.metrics import Metrics
from realtime.tasks import Tasks
from realtime.transport.session import Endpoint, Socket
from realtime.transport.wire import Fittings, wants_websocket
from realtime.wheel import Wheel

METHODS: Final = frozenset({"GET", "POST", "OPTIONS"})


class EngineServer(engineio.AsyncServer):
    """Engine.IO with our sockets; set up by `SocketServer` (realtime/transport/server.py)."""

    socket_class: type[Socket] = Socket
    wheel: Wheel
    fittings: Fittings
    tasks: Tasks
    metrics: Metrics
    connect_timeout: float
    endpoint: Endpoint | None
    unordered: frozenset[str]
    on_packet: Callable[[Socket, bytes | bytearray], Awaitable[None]]
    describe: Callable[[web.Request], dict[str, Any]]

    def attach(self, app: web.Application, engineio_path: str = "engine.io") -> None:
        """Serve `engineio_path`; methods that it does not have are refused like all else there."""
        super().attach(app, engineio_path)
        app.router.add_route("*", f"/{engineio_path.strip('/')}/", self.handle_request)

    async def handle_request(self, request: web.Request) -> web.StreamResponse:
        """Answer one request; what the library would let pass is refused first."""
        if request.method not in METHODS:
            return await self._refuse(request, "Invalid method")
        if not request.query.get("transport"):
            return await self._refuse(request, "Invalid transport")
        socket: Socket | None = self.sockets.get(request.query.get("sid"))
        if socket is not None:
            socket.check_overdue()
            if (socket.upgraded or socket.upgrading) and wants_websocket(request):
                return await socket.turn_away(request)
        response: web.StreamResponse = await super().handle_request(request)
        return response

    async def _refuse(self, request: web.Request, reason: str) -> web.StreamResponse:
        environ = self._async["translate_request"](request)
        response: web.StreamResponse = await self._make_response(self._bad_request(reason), environ)
        return response

    def _ok(self, packets: list[eio.Packet] | None = None, **options: Any) -> dict[str, Any]:
        answer: dict[str, Any] = super()._ok(packets, **options)
        if packets is None:
            answer["response"] = b"ok"  # as the protocol has it, and not in capitals
        return answer

    def create_queue(self, *_: Any, **__: Any) -> Any:
        """None: only a session that polls needs a queue, which takes 3 KB."""
        return None

    async def _handle_connect(
        self, environ: dict[str, Any], transport: str, jsonp_index: int | None = None
    ) -> Any:
        request = environ["aiohttp.request"]
        socket = self.socket_class(self, self.generate_id())
        response: Any = None
        if transport == "websocket":
            try:
                response, wire = await socket.take_over(request, probing=False)
            except BaseException:
                socket._timer.cancel()
                socket._idle_timer.cancel()
                socket._lane.close()
                raise
            socket.attach(wire)
        else:
            socket.queue = asyncio.Queue()
        self.sockets[socket.sid] = socket
        self.metrics.sockets.set(len(self.sockets))
        socket._put(eio.Packet(eio.OPEN, self._opening(socket, transport)))
        # The library would keep the whole request for as long as the socket lives.
        await self._trigger_event("connect", socket.sid, self.describe(request), run_async=False)
        if response is not None:
            return response
        socket.connected = True
        return self._ok(await socket.poll(), jsonp_index=jsonp_index)

    def _opening(self, socket: Socket, transport: str) -> dict[str, Any]:
        return {
            "sid": socket.sid,
            "upgrades": self._upgrades(socket.sid, transport),
            "pingTimeout": int(self.ping_timeout * 1000),
            "pingInterval": int(self.ping_interval * 1000),
            "maxPayload": self.max_http_buffer_size,
        }

    def _upgrades(self, sid: str, transport: str) -> list[str]:
        upgrades = transport == "polling" and "websocket" in self.transports
        return ["websocket"] if upgrades else []
