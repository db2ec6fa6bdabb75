"""A websocket after aiohttp: its transport taken over by a callback protocol.

Private names of aiohttp 3.14.5 are used here and only here.
"""

import asyncio
import logging
from collections.abc import Callable
from socket import SO_SNDBUF, SOL_SOCKET
from typing import Any, Final, Protocol

from aiohttp import WSMsgType, web
from aiohttp._websocket.reader import WebSocketDataQueue, WebSocketReader
from aiohttp.streams import EmptyStreamReader

from realtime.frames import ProtocolError, make_frame
from realtime.tasks import Trickle
from realtime.wheel import Wheel

log = logging.getLogger(__name__)

CONGESTED_BYTES: Final = 64 * 1024  # from here on documents are coalesced
MAX_PENDING_BYTES: Final = 512 * 1024  # and here the reader is dropped
SEND_BUFFER: Final = 128 * 1024  # in the kernel, which doubles it and by itself takes up to 4 MB
CLOSE_LINGER: Final = 2.0  # seconds to take our close frame before the transport is aborted

SLOW_READER: Final = "slow reader"
PROTOCOL_ERROR: Final = "protocol error"
TRANSPORT_CLOSE: Final = "transport close"
CLIENT_DISCONNECT: Final = "client disconnect"


class Session(Protocol):
    """What a Wire tells of; `Socket` in realtime/transport/session.py."""

    heard: bool

    def receive_text(self, data: bytes) -> None:
        """Take a Socket.IO text packet."""

    def receive_binary(self, data: bytes) -> None:
        """Take a binary attachment."""

    def probed(self) -> None:
        """The upgrade's probe was answered: end the poll that waits."""

    def upgrade(self, wire: "Wire") -> None:
        """The upgrade is done."""

    def caught_up(self) -> None:
        """The reader takes more."""

    def wire_lost(self, wire: "Wire", reason: str) -> None:
        """The wire is of no more use."""


class _Inbox(WebSocketDataQueue):
    """Where aiohttp's readers put frames: a plain list, a new one for each read.

    All wires share it, since reading never waits: one each would be 900 bytes a connection.
    """

    __slots__ = ("frames",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(None, 0, loop=loop)  # type: ignore[arg-type] # never pauses: it never fills
        self.frames: list[Any] = []

    def feed_data(self, data: Any, size: int) -> None:
        self.frames.append(data)


class Cork:
    """Holds back what wires have to send until the end of the loop's turn, then sends it all.

    A frame sent alone wakes its reader at once, and waking costs far more than sending:
    measured on a virtual machine, 12.8 µs a frame against 1.1 µs. In one go most readers
    are awake already, and a wire's frames of one turn are one system call.
    """

    def __init__(self) -> None:
        self._wires: list[Wire] = []

    def hold(self, wire: "Wire") -> None:
        """Send what `wire` has at the end of this turn."""
        if not self._wires:
            asyncio.get_running_loop().call_soon(self._release)
        self._wires.append(wire)

    def _release(self) -> None:
        wires, self._wires = self._wires, []
        for wire in wires:
            try:
                wire.flush()
            except Exception:  # one connection's fault must not keep back the others' frames
                log.exception("a connection could not be written to")


class Fittings:
    """What all wires of a server share; `max_size` is of a message, in bytes."""

    def __init__(self, wheel: Wheel, max_size: int) -> None:
        self.wheel = wheel
        self.cork = Cork()
        self.inbox = _Inbox(wheel.loop)
        self.losses = Trickle()
        self.max_size = max_size


class Wire(asyncio.Protocol):
    """One websocket after its handshake: frames in, frames out, no task of its own."""

    __slots__ = (
        "_fittings",
        "_frames",
        "_held",
        "_parser",
        "congested_since",
        "probing",
        "socket",
        "transport",
    )

    def __init__(
        self, socket: Session, transport: asyncio.Transport, fittings: Fittings, *, probing: bool
    ) -> None:
        self._fittings = fittings
        self._frames: list[bytes] | None = None  # to be sent at the end of this turn
        self._held = 0  # bytes of them
        self._parser = WebSocketReader(
            fittings.inbox, fittings.max_size, compress=False, decode_text=False
        )
        self.socket = socket
        self.transport = transport
        self.probing = probing
        self.congested_since: float | None = None
        transport.set_write_buffer_limits(high=CONGESTED_BYTES)

    def data_received(self, data: bytes) -> None:
        """Parse and handle what arrived; anything invalid ends the connection."""
        frames = self._fittings.inbox.frames = []  # a new one: never another connection's
        failed, _ = self._parser.feed_data(data)
        try:
            for frame in frames:
                if self.transport.is_closing():
                    return
                self._on_frame(frame)
        except ProtocolError:
            failed = True
        if failed:
            self.close(1002)
            self.socket.wire_lost(self, PROTOCOL_ERROR)

    def receive_early(self, data: bytes) -> None:
        """Take what came before the connection was this one's, and read on."""
        self.data_received(data)
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def _on_frame(self, frame: Any) -> None:
        kind, payload = frame[0], frame[1]
        socket = self.socket
        socket.heard = True
        if kind is WSMsgType.TEXT:
            if self.probing:
                self._on_probe(payload)
                return
            code = payload[:1]
            if code == b"4":
                socket.receive_text(payload[1:])
            elif code == b"1":
                self.close(1000)
                socket.wire_lost(self, CLIENT_DISCONNECT)
            elif code not in (b"3", b"5", b"6"):
                raise ProtocolError
        elif kind is WSMsgType.BINARY:
            if self.probing:
                raise ProtocolError
            socket.receive_binary(payload)
        elif kind is WSMsgType.PING:
            self._write(make_frame(WSMsgType.PONG, payload))
        elif kind is WSMsgType.CLOSE:
            self.close(1000)
            socket.wire_lost(self, TRANSPORT_CLOSE)

    def _on_probe(self, payload: bytes) -> None:
        if payload == b"2probe":
            self.send_text(b"3probe")
            self.socket.probed()
        elif payload == b"5":
            self.probing = False
            self.socket.upgrade(self)
        else:
            raise ProtocolError

    def send_text(self, payload: bytes) -> None:
        """Send one text frame. A reader far behind is dropped instead."""
        self._write(make_frame(WSMsgType.TEXT, payload))

    def send_binary(self, payload: bytes) -> None:
        """Send one binary frame, likewise."""
        self._write(make_frame(WSMsgType.BINARY, payload))

    def _write(self, frame: bytes) -> None:
        self._held += len(frame)
        if self._frames is None:
            self._frames = [frame]
            self._fittings.cork.hold(self)
        else:
            self._frames.append(frame)

    def flush(self) -> None:
        """Send what was written in this turn."""
        frames, self._frames = self._frames, None
        held, self._held = self._held, 0
        transport = self.transport
        if frames is None or transport.is_closing():
            return
        transport.write(frames[0] if len(frames) == 1 else b"".join(frames))
        if (
            self.congested_since is not None
            and transport.get_write_buffer_size() > MAX_PENDING_BYTES
        ):
            transport.abort()
            self.socket.wire_lost(self, SLOW_READER)
        elif held >= CONGESTED_BYTES and self.congested_since is None:
            self.socket.caught_up()

    @property
    def writable(self) -> bool:
        """Whether the reader keeps up, and this turn has not much for it yet."""
        return self.congested_since is None and self._held < CONGESTED_BYTES

    def pause_writing(self) -> None:
        """The reader is behind by more than CONGESTED_BYTES."""
        self.congested_since = self._fittings.wheel.now

    def resume_writing(self) -> None:
        """The reader has caught up: it gets the newest documents that it missed."""
        self.congested_since = None
        self.socket.caught_up()

    def behind_for(self) -> float:
        """Seconds since the reader fell behind; 0.0 when it keeps up."""
        return (
            0.0 if self.congested_since is None else self._fittings.wheel.now - self.congested_since
        )

    def close(self, code: int) -> None:
        """Send a close frame and end the transport, at the latest after CLOSE_LINGER."""
        self.flush()
        if not self.transport.is_closing():
            self.transport.write(make_frame(WSMsgType.CLOSE, code.to_bytes(2, "big")))
            self._end()

    def _end(self) -> None:
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self._fittings.wheel.after(CLOSE_LINGER, self.transport.abort)

    # A process or a network that dies takes thousands of connections in one moment. What that
    # costs is spread over many turns of the loop: closing 10,000 in one took 1.5 s.

    def eof_received(self) -> bool:
        """The client has gone. True: the transport stays until it is this one's turn."""
        self._fittings.losses.add(self._hang_up)
        return True

    def _hang_up(self) -> None:
        self.flush()
        self._end()
        self.socket.wire_lost(self, TRANSPORT_CLOSE)

    def connection_lost(self, exc: Exception | None) -> None:
        """The TCP connection is gone."""
        self._fittings.losses.add(lambda: self.socket.wire_lost(self, TRANSPORT_CLOSE))


async def take_over(
    request: web.Request, socket: Session, fittings: Fittings, *, probing: bool
) -> tuple[web.WebSocketResponse, Wire]:
    """Do the websocket handshake with aiohttp, then take the transport from it.

    Raises HTTPBadRequest for a bad handshake and ConnectionResetError for a client gone.
    """
    http: Any = request.protocol
    early, http._message_tail = http._message_tail, b""
    response = web.WebSocketResponse(compress=False, decode_text=False)
    await response.prepare(request)
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("client left during the handshake")
    raw = transport.get_extra_info("socket")
    raw.setsockopt(SOL_SOCKET, SO_SNDBUF, SEND_BUFFER)
    wire = Wire(socket, transport, fittings, probing=probing)
    transport.set_protocol(wire)
    # For aiohttp the connection ends here: no request, task or reader of its own stays.
    http.transport = None
    http._payload_parser = None
    http.connection_lost(None)
    response._eof_sent = True
    if early:  # sent without waiting for our answer, and to be read before anything else
        transport.pause_reading()
        fittings.wheel.loop.call_soon(wire.receive_early, early)
    return response, wire


class _Farewell(EmptyStreamReader):
    """Stands for the body of a request without one, which aiohttp tells of a lost connection."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[], None]) -> None:
        super().__init__()
        self._call = call

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        self._call()


def when_lost(request: web.Request, call: Callable[[], None]) -> None:
    """Call `call` when the connection of `request` is lost before its answer is written."""
    request._payload = _Farewell(call)


def wants_websocket(request: web.Request) -> bool:
    """Whether `request` is a websocket's handshake."""
    return request.headers.get("Upgrade", "").lower() == "websocket"
