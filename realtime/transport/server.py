"""Socket.IO on our engine: packets assembled strictly, namespaces left to the library.

Private names of python-socketio 5.18.1 are used here and only here.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

import socketio
from aiohttp import web
from socketio import packet as sio

from realtime.frames import Event, Packet, ProtocolError, checked_event
from realtime.metrics import Metrics
from realtime.tasks import Tasks
from realtime.transport.engine import EngineServer
from realtime.transport.session import Endpoint, Socket
from realtime.transport.wire import CLOSE_LINGER, Fittings
from realtime.wheel import Wheel

log = logging.getLogger(__name__)

CorsOrigins = Literal["*"] | Callable[[str], bool]
"""Which pages may connect: any, without credentials; or those that the function accepts."""

MAX_CONNECT_ATTEMPTS: Final = 10


class Manager(socketio.AsyncManager):
    """Rooms by member: the library scans every room of the server on every disconnect."""

    def __init__(self) -> None:
        super().__init__()
        self._entered: dict[str, tuple[str | None, ...]] = {}

    def basic_enter_room(
        self, sid: str, namespace: str, room: str | None, eio_sid: str | None = None
    ) -> None:
        """Note the room with its member."""
        super().basic_enter_room(sid, namespace, room, eio_sid=eio_sid)
        self._entered[sid] = *self._left(sid, room), room

    def basic_leave_room(self, sid: str, namespace: str, room: str | None) -> None:
        """Forget the room with its member."""
        super().basic_leave_room(sid, namespace, room)
        if sid in self._entered:
            self._entered[sid] = self._left(sid, room)

    def _left(self, sid: str, room: str | None) -> tuple[str | None, ...]:
        return tuple(one for one in self._entered.get(sid, ()) if one != room)

    def basic_disconnect(self, sid: str, namespace: str, **_: Any) -> None:
        """Leave the member's rooms, and no search for them."""
        for room in self._entered.pop(sid, ()):
            super().basic_leave_room(sid, namespace, room)
        self.callbacks.pop(sid, None)
        for pending in (self.pending_connect, self.pending_disconnect):
            if sid in pending.get(namespace, ()):
                pending[namespace].remove(sid)
                if not pending[namespace]:
                    del pending[namespace]


class SocketServer(socketio.AsyncServer):
    """python-socketio's server on our transport.

    `endpoint` takes the events of namespace `/`; those named in `unordered` never wait for
    earlier ones. Other namespaces' events go to the library's handlers, in order.
    `describe` says what to keep of a handshake request. Times in seconds, sizes in bytes.
    """

    def __init__(
        self,
        *,
        metrics: Metrics,
        describe: Callable[[web.Request], dict[str, Any]],
        endpoint: Endpoint | None = None,
        unordered: frozenset[str] = frozenset(),
        transports: Sequence[str] = ("websocket", "polling"),
        ping_interval: float = 25.0,
        ping_timeout: float = 20.0,
        connect_timeout: float = 10.0,
        max_payload: int = 131_072,
        cors_origins: CorsOrigins = "*",
        **options: Any,
    ) -> None:
        super().__init__(
            client_manager=Manager(),
            serializer=Packet,
            async_mode="aiohttp",
            async_handlers=False,
            logger=_library_log("socketio.server"),
            engineio_logger=_library_log("engineio.server"),
            monitor_clients=False,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            max_http_buffer_size=max_payload,
            transports=list(transports),
            cors_allowed_origins=cors_origins,
            cors_credentials=cors_origins != "*",
            **options,
        )
        engine: EngineServer = self.eio
        engine.wheel = self.wheel = Wheel(lambda: log.exception("a connection's timer failed"))
        engine.tasks = self.tasks = Tasks()
        engine.metrics = metrics
        engine.connect_timeout = connect_timeout
        engine.endpoint = endpoint
        engine.unordered = unordered
        engine.describe = describe
        engine.on_packet = self._on_packet

    def _engineio_server_class(self) -> type[EngineServer]:
        return EngineServer

    def start(self) -> None:
        """Begin on the running loop."""
        self.wheel.start()
        self.eio.fittings = Fittings(self.wheel, self.eio.max_http_buffer_size)

    @property
    def sockets(self) -> list[Socket]:
        """The Engine.IO sessions open now."""
        return list(self.eio.sockets.values())

    def socket_of(self, sid: str, namespace: str = "/") -> Socket | None:
        """The Engine.IO session behind a Socket.IO session, if it is still there."""
        found: Socket | None = self.eio.sockets.get(self.manager.eio_sid_from_sid(sid, namespace))
        return found

    async def stop(self) -> None:
        """Close what is open, wait for its clean-up, and stop the timers."""
        for socket in self.sockets:
            socket.finish(self.reason.SERVER_DISCONNECT)
        await self.tasks.wait(timeout=2 * CLOSE_LINGER)
        await self.tasks.close()
        self.wheel.stop()

    async def _on_packet(self, socket: Socket, data: bytes | bytearray) -> None:
        packet = self._assemble(socket, data)
        if packet is None:
            return
        namespace, kind = packet.namespace or "/", packet.packet_type
        if kind == sio.CONNECT:
            await self._connect(socket, namespace, packet.data)
        elif kind == sio.DISCONNECT:
            await self._leave(socket, namespace)
        elif namespace not in socket.namespaces:
            raise ProtocolError
        elif kind in (sio.EVENT, sio.BINARY_EVENT):
            await self._on_event(socket, namespace, checked_event(packet.data, packet.id))
        elif kind in (sio.ACK, sio.BINARY_ACK) and isinstance(packet.data, list):
            await self._handle_ack(socket.sid, namespace, packet.id, packet.data)
        else:
            raise ProtocolError

    def _assemble(self, socket: Socket, data: bytes | bytearray) -> Any:
        """The packet that `data` completes, or None while attachments are missing."""
        try:
            packet: Any
            if isinstance(data, bytearray):
                packet, socket.partial = socket.partial, None
                packet.add_attachment(bytes(data))
            else:
                packet = Packet(encoded_packet=data.decode())
        except Exception as error:  # the decoder raises whatever the client provokes
            raise ProtocolError from error
        if packet.attachment_count > len(packet.attachments):
            if sum(len(part) for part in packet.attachments) > self.eio.max_http_buffer_size:
                raise ProtocolError
            socket.partial = packet
            return None
        return packet

    async def _on_event(self, socket: Socket, namespace: str, event: Event) -> None:
        if namespace != "/" or self.eio.endpoint is None:
            await self._handle_event(socket.sid, namespace, event.ack, [event.name, *event.args])
        elif (work := self.eio.endpoint(socket, event)) is not None:
            await work

    async def _connect(self, socket: Socket, namespace: str, auth: Any) -> None:
        socket.connect_attempts += 1
        if socket.connect_attempts > MAX_CONNECT_ATTEMPTS:
            raise ProtocolError
        if socket.closed:
            return
        served = namespace in self.handlers or namespace in self.namespace_handlers
        if not served or namespace in socket.namespaces:
            reason = "Already connected" if served else "Invalid namespace"
            refusal = Packet(sio.CONNECT_ERROR, data={"message": reason}, namespace=namespace)
            await self._send_packet(socket.sid, refusal)
            return
        await self._handle_connect(socket.sid, namespace, auth)
        sid = self.manager.sid_from_eio_sid(socket.sid, namespace)
        if sid is None or not self.manager.is_connected(sid, namespace):
            return
        if socket.closed:  # it left while its handler awaited; the library forgets it then
            await self._handle_disconnect(socket.sid, namespace, self.reason.TRANSPORT_CLOSE)
        else:
            socket.namespaces += (namespace,)

    async def _leave(self, socket: Socket, namespace: str) -> None:
        if namespace not in socket.namespaces:
            return
        socket.namespaces = tuple(one for one in socket.namespaces if one != namespace)
        await self._handle_disconnect(socket.sid, namespace, self.reason.CLIENT_DISCONNECT)
        if not socket.namespaces:
            socket.expect_namespace()


def _library_log(name: str) -> logging.Logger:
    """The library's logger, telling only of exceptions: the rest is what clients cause."""
    logger = logging.getLogger(name)
    logger.setLevel(logging.ERROR)
    logger.filters.clear()
    logger.addFilter(lambda record: record.exc_info is not None)
    return logger
