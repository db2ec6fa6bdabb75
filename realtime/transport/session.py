"""One Engine.IO session, on a wire or on long-polling.

Private names of python-engineio 4.15.1 are used here and in engine.py, and only there.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from engineio import exceptions as eio_exceptions
from engineio import packet as eio
from engineio.async_socket import AsyncSocket

from realtime.frames import Event, Packet, ProtocolError, attachments_due, parse_event
from realtime.lane import Lane
from realtime.transport.polling import attachment, next_packets, posted
from realtime.transport.wire import (
    CONGESTED_BYTES,
    MAX_PENDING_BYTES,
    PROTOCOL_ERROR,
    SLOW_READER,
    TRANSPORT_CLOSE,
    Wire,
    take_over,
    wants_websocket,
    when_lost,
)
from realtime.wheel import TICK, Timer

if TYPE_CHECKING:
    from realtime.transport.engine import EngineServer

MAX_LANE: Final = 1024  # packets of one connection that wait for an earlier one
FAREWELL: Final = 2.0  # seconds that the last words wait for the next poll
UPGRADE_TIMEOUT: Final = 10.0  # seconds for the probe, as in Engine.IO for Node

CONNECT_TIMEOUT: Final = "connect timeout"
FLOOD: Final = "flood"

Endpoint = Callable[["Socket", Event], Awaitable[None] | None]
"""Takes a namespace's events: at once (None), or with work that later events wait for."""


class Socket(AsyncSocket):
    """One Engine.IO session, on a `Wire` or on long-polling."""

    server: "EngineServer"
    closing: bool
    closed: bool
    queue: Any
    """What waits for the next poll; None on a wire."""
    _farewell: str | None = None
    """Why it ends with the next poll."""

    def __init__(self, server: "EngineServer", sid: str) -> None:
        super().__init__(server, sid)
        self.app: Any = None
        """What the endpoint of namespace `/` keeps for this connection; has `caught_up()`."""
        self.wire: Wire | None = None
        self.heard = True
        self.alive_at = server.wheel.now
        self.namespaces: tuple[str, ...] = ()
        self.connect_attempts = 0
        self._latest: dict[str, tuple[int, bytes]] = {}  # version and payload by key
        self._queued_bytes = 0
        self._due = 0  # attachments that have to come next
        self.partial: Packet | None = None
        """An event whose binary attachments are still to come."""
        self._lane = Lane(server.tasks, self._handle, self._refuse, MAX_LANE)
        self._polling = False
        self._timer: Timer = server.wheel.after(server.ping_interval, self._ping)
        self._pong_due = self._now() + server.ping_interval + server.ping_timeout
        self._idle_timer: Timer = Timer(None)
        self.expect_namespace()

    # --- life ---------------------------------------------------------------------------

    def expect_namespace(self) -> None:
        """Close this connection if it is in no namespace when the time is over."""
        self._idle_timer.cancel()
        self._idle_timer = self.server.wheel.after(
            self.server.connect_timeout, self._check_namespace
        )

    def _check_namespace(self) -> None:
        if not self.namespaces:
            self.finish(CONNECT_TIMEOUT)

    def _ping(self) -> None:
        if self.closed:
            return
        self._note_life()
        if self.wire is not None and self.wire.behind_for() > self.server.ping_timeout:
            self.finish(SLOW_READER)
            return
        self._put(eio.Packet(eio.PING))
        # The wheel is a tick late at most; when the whole loop was, it is not the client's fault.
        latest = self._now() - 2 * TICK + self.server.ping_timeout
        self._pong_due = max(self._pong_due, latest)
        self._timer = self.server.wheel.after(self.server.ping_timeout, self._check_pong)

    def _check_pong(self) -> None:
        if not self.heard:
            self.finish(SLOW_READER if self.congested else self.server.reason.PING_TIMEOUT)
            return
        self._note_life()
        rest = max(0.0, self.server.ping_interval - self.server.ping_timeout)
        self._timer = self.server.wheel.after(rest, self._ping)
        self._pong_due = self._now() + rest + self.server.ping_timeout

    def _now(self) -> float:
        return self.server.wheel.loop.time()

    def check_overdue(self) -> None:
        """End this session now if its pong is due, rather than with the wheel's next tick."""
        if not self.heard and self._now() >= self._pong_due:
            self.finish(self.server.reason.PING_TIMEOUT)

    def _note_life(self) -> None:
        if self.heard:
            self.alive_at = self.server.wheel.now
        self.heard = False

    def schedule_ping(self) -> None:
        """Nothing: the heartbeat is on the wheel since the socket was made."""

    async def check_ping_timeout(self) -> bool:
        """Nothing to do either, for the same reason."""
        return not self.closed

    def finish(self, reason: str) -> None:
        """End this session now, transport first; its clean-up runs as a task of the server."""
        if not self.closed:
            self._end(reason)
            self.server.tasks.spawn(self._clean_up(reason), "clean up")

    def finish_told(self, reason: str) -> None:
        """Likewise, but not before the client has what was sent: on polling, its next poll."""
        if self.wire is None and not self._polling:
            self._farewell = reason
            self.server.wheel.after(FAREWELL, lambda: self.finish(reason))
        else:
            self.finish(reason)

    def wire_lost(self, wire: Wire, reason: str) -> None:
        """`wire` is of no more use; the session ends with it, if it was the session's own."""
        if self.wire is wire:
            self.finish(reason)
        elif wire.probing:
            wire.probing = False
            self.upgrading = False
            if not wire.transport.is_closing():
                wire.close(1000)

    async def close(
        self, wait: bool = True, abort: bool = False, reason: str | None = None
    ) -> None:
        """Likewise, for the library; returns when it is cleaned up."""
        if not self.closed:
            reason = reason or self.server.reason.SERVER_DISCONNECT
            self._end(reason)
            await self._clean_up(reason)

    def _end(self, reason: str) -> None:
        if reason == SLOW_READER:
            self._note_life()
        elif reason != self.server.reason.PING_TIMEOUT:
            self.alive_at = self.server.wheel.now
        self.closing = self.closed = True
        self.server.sockets.pop(self.sid, None)
        self._timer.cancel()
        self._idle_timer.cancel()
        self._lane.close()
        self._latest.clear()
        wire, self.wire = self.wire, None  # no cycle stays: it would wait for a full collection
        if wire is not None:
            wire.close(1000)
        else:  # for the poll that waits
            known = reason == self.server.reason.CLIENT_DISCONNECT
            self._put(eio.Packet(eio.NOOP if known else eio.CLOSE))
        self.server.metrics.closed.labels(reason).inc()
        self.server.metrics.sockets.set(len(self.server.sockets))

    async def _clean_up(self, reason: str) -> None:
        await self.server._trigger_event("disconnect", self.sid, reason, run_async=False)

    # --- in -----------------------------------------------------------------------------

    def receive_text(self, data: bytes) -> None:
        """Take one Socket.IO text packet; raises ProtocolError."""
        if self._due:
            raise ProtocolError
        self._due = attachments_due(data)
        event = parse_event(data) if "/" in self.namespaces and self.server.endpoint else None
        if event is None:
            self._lane.push(data)
        elif self._lane.busy and event.name not in self.server.unordered:
            self._lane.push(event)
        elif (work := self._handle(event)) is not None:
            self._lane.run(work)

    def receive_binary(self, data: bytes) -> None:
        """Take one binary attachment; raises ProtocolError when none is due."""
        if not self._due:
            raise ProtocolError
        self._due -= 1
        self._lane.push(bytearray(data))

    def _handle(self, item: Event | bytes | bytearray) -> Awaitable[None] | None:
        if isinstance(item, Event):
            assert self.server.endpoint is not None
            return self.server.endpoint(self, item)
        return self.server.on_packet(self, item)

    def _refuse(self) -> None:
        self.finish(PROTOCOL_ERROR)

    async def handle_post_request(self, environ: dict[str, Any]) -> None:
        """Take one POST of long-polling; raises ProtocolError, which ends the session."""
        self.heard = True
        packets = await posted(environ["aiohttp.request"], self.server.max_http_buffer_size)
        if packets is None or self.closed:
            # The library answers 400 only for a session that it finds, and fails otherwise.
            self.server.sockets.setdefault(self.sid, self)
            raise ProtocolError
        for packet in packets:
            if self.closed:
                return
            self._receive_polled(packet)

    def _receive_polled(self, packet: bytes) -> None:
        code = packet[:1]
        if code == b"4":
            self.receive_text(packet[1:])
        elif code == b"b":
            self.receive_binary(attachment(packet))
        elif code == b"1":
            self.finish(self.server.reason.CLIENT_DISCONNECT)
        elif code != b"3":
            raise ProtocolError

    # --- out ----------------------------------------------------------------------------

    def send_text(self, payload: bytes) -> None:
        """Send one Engine.IO message, its leading `4` included. Never waits."""
        if self.closed:
            return
        if self.wire is not None:
            self.wire.send_text(payload)
        else:
            self._put(eio.Packet(eio.MESSAGE, payload[1:].decode()))

    def send_latest(self, key: str, payload: bytes, version: int = 0) -> None:
        """Like `send_text`, but while the reader is behind only the newest per `key` waits.

        That is the last one given of the highest version.
        """
        if self.writable:
            self.send_text(payload)
            return
        waiting = self._latest.get(key)
        if waiting is not None:
            self.server.metrics.coalesced.inc()
        if waiting is None or version >= waiting[0]:
            self._latest[key] = version, payload

    @property
    def writable(self) -> bool:
        """Whether what can wait had better be sent now."""
        return self.wire.writable if self.wire is not None else not self.congested

    @property
    def congested(self) -> bool:
        """Whether the reader is so far behind that documents are better coalesced."""
        if self.wire is not None:
            return self.wire.congested_since is not None
        return self._queued_bytes > CONGESTED_BYTES

    def caught_up(self) -> None:
        """Send what `send_latest` held back, and let the endpoint go on."""
        latest, self._latest = self._latest, {}
        for _, payload in latest.values():
            self.send_text(payload)
        if self.app is not None:
            self.app.caught_up()

    async def send(self, pkt: eio.Packet) -> None:
        """The library's way to send; raises nothing when the session has ended."""
        if not self.closed:
            self._put(pkt)

    def _put(self, pkt: eio.Packet) -> None:
        if self.wire is not None:
            encoded = pkt.encode()
            if isinstance(encoded, str):
                self.wire.send_text(encoded.encode())
            else:
                self.wire.send_binary(encoded)
            return
        if pkt.binary:  # a packet keeps its first encoding, and websockets may share this one
            pkt = eio.Packet(eio.MESSAGE, pkt.data)
        self._queued_bytes += len(pkt.encode(b64=True))
        self.queue.put_nowait(pkt)
        if self._queued_bytes > MAX_PENDING_BYTES:
            self.finish(SLOW_READER)

    async def handle_get_request(self, environ: dict[str, Any]) -> Any:
        """Answer a long-poll, or begin an upgrade; raises ProtocolError for a second poll at once.

        A poll that is cut off ends the session, as its client does; what it may have missed
        comes after the next connect.
        """
        request: web.Request = environ["aiohttp.request"]
        if wants_websocket(request):
            return await self._begin_upgrade(request)
        if self.upgrading:
            return [eio.Packet(eio.NOOP)]
        if self._polling:
            self.finish(self.server.reason.TRANSPORT_ERROR)
            raise ProtocolError
        when_lost(request, self._poll_lost)
        self._polling = True
        try:
            return await self.poll()
        finally:
            self._polling = False

    def _poll_lost(self) -> None:
        if self.wire is None:
            self.finish(TRANSPORT_CLOSE)

    async def poll(self) -> list[eio.Packet]:
        """What waits for a long-poll; raises QueueEmpty after a heartbeat."""
        self.heard = True
        if self._farewell is not None:
            self.finish(self._farewell)
        try:
            patience = self.server.ping_interval + self.server.ping_timeout
            packets = await next_packets(self.queue, patience)
        except TimeoutError:
            raise eio_exceptions.QueueEmpty from None
        self._queued_bytes -= sum(len(pkt.encode(b64=True)) for pkt in packets)
        if not self.congested:
            self.caught_up()
        return packets

    # --- upgrade ------------------------------------------------------------------------

    async def _begin_upgrade(self, request: web.Request) -> web.WebSocketResponse:
        self.upgrading = True
        try:
            response, wire = await self.take_over(request, probing=True)
        except BaseException:
            self.upgrading = False
            raise
        self.server.wheel.after(UPGRADE_TIMEOUT, lambda: self._check_upgrade(wire))
        return response

    async def turn_away(self, request: web.Request) -> web.WebSocketResponse:
        """Take a websocket that this session has no use for, and close it."""
        response, wire = await self.take_over(request, probing=False)
        wire.close(1000)
        return response

    async def take_over(
        self, request: web.Request, *, probing: bool
    ) -> tuple[web.WebSocketResponse, Wire]:
        """Finish the websocket handshake of `request` for this session."""
        return await take_over(request, self, self.server.fittings, probing=probing)

    def probed(self) -> None:
        """The probe was answered: end the long-poll that waits."""
        self._put(eio.Packet(eio.NOOP))

    def _check_upgrade(self, wire: Wire) -> None:
        if wire.probing:
            self.wire_lost(wire, PROTOCOL_ERROR)

    def upgrade(self, wire: Wire) -> None:
        """The probe is over: from here on this session lives on `wire`."""
        if self.closed:
            wire.close(1000)
            return
        waiting = self.queue
        self.attach(wire)
        while not waiting.empty():
            pkt = waiting.get_nowait()
            if pkt is not None and pkt.packet_type != eio.NOOP:
                self._put(eio.Packet(pkt.packet_type, pkt.data))

    def attach(self, wire: Wire) -> None:
        """Make `wire` the transport of this session."""
        self.wire = wire
        self.queue = None
        self.connected = self.upgraded = True
        self.upgrading = False
