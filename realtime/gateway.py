"""The door for sockets: who may in, which event goes where, and how errors are told."""

import logging
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web
from prometheus_client import Counter
from socketio.exceptions import ConnectionRefusedError as Refused

from domain.bucket import TokenBucket
from domain.errors import AppError, Code
from domain.identity import Identity, refuse_query_token
from realtime import protocol
from realtime.connection import Connection
from realtime.frames import UNREADABLE
from realtime.limits import LiveLimits
from realtime.metrics import Metrics
from realtime.transport import FLOOD, CorsOrigins, Event, Socket, SocketServer

log = logging.getLogger(__name__)

BURST_SECONDS = 2  # of events that a quiet client may send at once
FLOOD_SECONDS = 10  # of refused events in a row, then the connection ends
LONGEST_TIMER = 60.0  # seconds; a token may live for days, a timer on the wheel does not

Answer = dict[str, Any]
Handler = Callable[[Connection, Any, int | None], Coroutine[Any, Any, Answer] | Answer | None]
"""Takes (connection, payload, ack id). None: it answers by itself, later."""


@dataclass(frozen=True, slots=True)
class EventSpec:
    """One event: how its payload is read and who handles it."""

    parse: Callable[[Any], Any]
    handle: Handler
    before_join: bool = False
    after_expiry: bool = False
    in_line: bool = False
    """Its answers keep the order in which the events were sent."""


class Gateway:
    """Connections of namespace `/`, from handshake to farewell."""

    def __init__(
        self,
        verify: Callable[[str], Awaitable[Identity]],
        client_address: Callable[[web.Request], str],
        limits: LiveLimits,
        metrics: Metrics,
        transports: tuple[str, ...],
        cors_origins: CorsOrigins,
    ) -> None:
        self._verify = verify
        self._client_address = client_address
        self._limits = limits
        self._metrics = metrics
        self._events: Mapping[str, EventSpec] = {}
        self._counted: dict[str, Counter] = {}  # looking up a label costs more than counting
        self._on_left: Callable[[Connection], Awaitable[None]] | None = None
        self.connections: dict[str, Connection] = {}
        """By Socket.IO session id."""
        self.io = SocketServer(
            metrics=metrics,
            describe=self._describe,
            endpoint=self._on_event,
            unordered=frozenset({protocol.PING}),
            transports=transports,
            ping_interval=limits.ping_interval,
            ping_timeout=limits.ping_timeout,
            connect_timeout=limits.connect_timeout,
            max_payload=limits.max_payload,
            cors_origins=cors_origins,
        )
        self.io.on("connect", self._on_connect)
        self.io.on("disconnect", self._on_disconnect)

    def serve(
        self,
        events: Mapping[str, EventSpec],
        on_left: Callable[[Connection], Awaitable[None]],
    ) -> None:
        """Set what clients can ask for, and what happens when one has gone."""
        self._events = events
        self._counted = {name: self._metrics.events.labels(name) for name in events}
        self._on_left = on_left

    def has_session(self, sid: str | None) -> bool:
        """Whether an Engine.IO session of this id is open."""
        return sid in self.io.eio.sockets

    def sockets(self) -> int:
        """Transports open now, joined to a namespace or not."""
        return len(self.io.eio.sockets)

    # --- coming and going -----------------------------------------------------------------

    def _describe(self, request: web.Request) -> dict[str, Any]:
        return {
            "address": self._client_address(request),
            "authorization": request.headers.get("Authorization", ""),
            "query": request.query_string,
        }

    async def _on_connect(self, sid: str, environ: dict[str, Any], auth: Any) -> None:
        try:
            identity = await self._verify(_token(environ, auth))
        except AppError as error:
            self._metrics.refused.labels(error.code).inc()
            raise Refused(error.message, error.as_ack()["error"]) from None
        socket = self.io.socket_of(sid)
        if socket is None or socket.closed:
            raise Refused("gone")
        rate = self._limits.events_per_second
        bucket = TokenBucket(rate, rate * BURST_SECONDS, self.io.wheel.loop.time())
        connection = Connection(sid, socket, identity, bucket)
        socket.app = connection
        self.connections[sid] = connection
        self.watch_expiry(connection)
        log.info("connected", extra={"session": sid, "user": identity.user_id})

    async def _on_disconnect(self, sid: str, reason: str) -> None:
        connection = self.connections.pop(sid, None)
        if connection is None:
            return
        connection.closed = True
        connection.expiry.cancel()
        connection.socket.app = None
        log.info("disconnected", extra={"session": sid, "reason": reason})
        assert self._on_left is not None
        await self._on_left(connection)

    def watch_expiry(self, connection: Connection) -> None:
        """Tell the client when its token has run out, and close it a while later."""
        connection.expiry.cancel()
        if connection.closed:
            return
        left = connection.identity.expires_at - time.time()
        if left <= 0:
            self._expire(connection)
            return
        connection.expired = False
        connection.expiry = self.io.wheel.after(
            min(left, LONGEST_TIMER), lambda: self.watch_expiry(connection)
        )

    def _expire(self, connection: Connection) -> None:
        connection.expired = True
        connection.emit(protocol.AUTH_EXPIRED, _expired().as_ack()["error"])
        connection.expiry = self.io.wheel.after(
            self._limits.expired_grace, lambda: connection.socket.finish("token expired")
        )

    def end(self, sessions: Collection[str], users: Collection[str], reason: str) -> int:
        """End the connections of these sessions, and those of or joined as these users.

        Each is told `auth:expired` first, its events are dropped from now on, and its transport
        is closed for `reason`. Answers how many these were.
        """
        if not sessions and not users:
            return 0
        sessions, users = frozenset(sessions), frozenset(users)
        return self.end_each(
            (
                connection
                for connection in self.connections.values()
                if connection.identity.session_id in sessions
                or connection.identity.user_id in users
                or connection.joined_as in users
            ),
            reason,
        )

    def end_each(self, connections: Iterable[Connection], reason: str) -> int:
        """Likewise end these connections; those that are ending already do not count."""
        ended = 0
        for connection in list(connections):
            socket = connection.socket
            if socket.app is connection and not socket.closed:
                connection.emit(protocol.AUTH_EXPIRED, _ENDED)
                socket.app = None
                socket.finish_told(reason)
                ended += 1
        return ended

    # --- events ---------------------------------------------------------------------------

    def _on_event(self, socket: Socket, event: Event) -> Awaitable[None] | None:
        connection: Connection | None = socket.app
        if connection is None:
            return None  # it left the namespace with this one on its way
        spec = self._events.get(event.name)
        (self._counted.get(event.name) or self._metrics.events.labels("unknown")).inc()
        try:
            answer = self._admit(connection, spec, event)
        except AppError as error:
            self._refuse(connection, spec, event.ack, error)
            return None
        except Exception:
            self._fail(connection, event)
            return None
        if answer is None:
            return None
        if isinstance(answer, dict):
            connection.answer(event.ack, answer)
            return None
        return self._await(connection, event, answer)

    def _admit(
        self, connection: Connection, spec: EventSpec | None, event: Event
    ) -> Coroutine[Any, Any, Answer] | Answer | None:
        now = self.io.wheel.loop.time()
        if not connection.bucket.take(now):
            self._check_flood(connection)
            wait = round(connection.bucket.wait(now), 3)
            raise AppError(Code.RATE_LIMITED, "Too many events: slow down", retry_after=wait)
        if spec is None:
            raise AppError(Code.UNKNOWN_EVENT, f"There is no event {event.name[:64]!r}")
        if connection.expired and not spec.after_expiry:
            raise _expired()
        if connection.joined_as is None and not spec.before_join:
            raise AppError(Code.NOT_JOINED, "Send presence:join first")
        if len(event.args) > 1:
            raise AppError(Code.INVALID_VALUE, "Send one payload, not several arguments")
        if event.args and event.args[0] is UNREADABLE:
            raise AppError(
                Code.INVALID_VALUE,
                "The payload is not valid Unicode (half an emoji?), or has an impossible number",
            )
        payload = spec.parse(event.args[0] if event.args else None)
        return spec.handle(connection, payload, event.ack)

    async def _await(
        self, connection: Connection, event: Event, work: Coroutine[Any, Any, Answer]
    ) -> None:
        try:
            answer = await work
        except AppError as error:
            self._metrics.refused.labels(error.code).inc()
            connection.refuse(event.ack, error)
        except Exception:
            self._fail(connection, event)
        else:
            connection.answer(event.ack, answer)

    def _refuse(
        self, connection: Connection, spec: EventSpec | None, ack: int | None, error: AppError
    ) -> None:
        self._metrics.refused.labels(error.code).inc()
        if spec is not None and spec.in_line:
            connection.settle(connection.reserve(), connection.refusal(ack, error))
        else:
            connection.refuse(ack, error)

    def _fail(self, connection: Connection, event: Event) -> None:
        log.exception("event %s failed", event.name, extra={"session": connection.sid})
        connection.refuse(event.ack, AppError(Code.INTERNAL, "Something went wrong on the server"))

    def _check_flood(self, connection: Connection) -> None:
        allowed = self._limits.events_per_second * FLOOD_SECONDS
        if connection.bucket.refused_in_a_row > allowed:
            connection.socket.finish(FLOOD)


_ENDED = AppError(Code.INVALID_TOKEN, "The session has ended: log in again").as_ack()["error"]


def _expired() -> AppError:
    return AppError(Code.TOKEN_EXPIRED, "The token has run out: send auth:refresh with a new one")


def _token(environ: dict[str, Any], auth: Any) -> str:
    """The token of a handshake; raises AppError."""
    refuse_query_token(parse_qs(environ["query"], keep_blank_values=True))
    if auth is not None and not isinstance(auth, dict):
        raise AppError(Code.INVALID_TYPE, "auth must be an object: {token}")
    token = (auth or {}).get("token")
    if token is None:
        scheme, _, token = environ["authorization"].partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise AppError(Code.MISSING_TOKEN, "Connect with auth: {token: <JWT>}")
    if not isinstance(token, str):
        raise AppError(Code.INVALID_TOKEN, "auth.token must be a string")
    return token.strip()
