"""What clients can ask for over a socket: each event, its payload, its handler."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Annotated, Any, TypeVar

import orjson
from pydantic import BeforeValidator, FailFast, Field, StringConstraints
from pydantic_core import PydanticCustomError

from domain.errors import AppError, Code
from domain.identity import Identity
from domain.parsing import Id, Payload, parse
from domain.patch import Patch, parse_patch
from domain.presence import MAX_NOTE, Status
from domain.stats import Stats
from domain.times import iso
from realtime import protocol
from realtime.connection import NOBODY, Connection, Parts
from realtime.delivery import Delivery
from realtime.fanout import Fanout
from realtime.gateway import Answer, EventSpec, Gateway
from realtime.limits import LiveLimits
from realtime.presence import PresenceService
from realtime.rooms import Document, Rooms
from realtime.stats import Committed, StatsService, Verdict

Clock = Callable[[], int]
TAGS = (int, float, str, type(None))  # of a ping; a tuple is checked faster than a union
SNAPSHOT_TRIES = 5  # who has news that often soon has more
A = TypeVar("A")
B = TypeVar("B")


def _status(value: object) -> Status:
    if not isinstance(value, str) or value not in set(Status):
        raise PydanticCustomError("status", "must be online, away, busy or offline")
    return Status(value)


StatusName = Annotated[Status, BeforeValidator(_status)]


class Join(Payload):
    """`presence:join`."""

    user_id: Id | None = None
    device_id: Id | None = None
    rev: Annotated[int, Field(ge=0)] | None = None
    status: StatusName | None = None


class SetStatus(Payload):
    """`presence:status`."""

    status: StatusName
    note: Annotated[str, StringConstraints(max_length=MAX_NOTE)] = ""


class Users(Payload):
    """`presence:watch` and `presence:unwatch`."""

    user_ids: Annotated[list[Id], FailFast()]


class Refresh(Payload):
    """`auth:refresh`."""

    token: str


class Nothing(Payload):
    """An event without a payload."""


def parse_join(payload: Any) -> Join:
    """A Join, also from a bare user id or nothing."""
    if isinstance(payload, str):
        return parse(Join, {"userId": payload})
    return parse(Join, {} if payload is None else payload)


def parse_ping(payload: Any) -> Any:
    """The `t` to send back: a number or a short text."""
    if payload is None:
        return None
    if not isinstance(payload, dict) or len(payload) > ("t" in payload):
        raise AppError(Code.INVALID_VALUE, "presence:ping takes {t} or nothing")
    t = payload.get("t")
    if isinstance(t, bool) or not isinstance(t, TAGS) or len(str(t)) > 64:
        raise AppError(Code.INVALID_TYPE, "t must be a number or a text of at most 64 characters")
    return t


class Events:
    """The handlers of namespace `/`, and what they need."""

    def __init__(
        self,
        gateway: Gateway,
        rooms: Rooms,
        fanout: Fanout,
        stats: StatsService,
        presence: PresenceService,
        delivery: Delivery,
        verify: Callable[[str], Awaitable[Identity]],
        limits: LiveLimits,
        clock: Clock,
    ) -> None:
        self._gateway = gateway
        self._rooms = rooms
        self._fanout = fanout
        self._stats = stats
        self._presence = presence
        self._delivery = delivery
        self._verify = verify
        self._limits = limits
        self._clock = clock

    def table(self) -> dict[str, EventSpec]:
        """Every event that clients can send."""

        def patch(payload: Any) -> Patch:
            return parse_patch(self._stats.schema, payload)

        def of(model: type[Payload]) -> Callable[[Any], Payload]:
            return lambda payload: parse(model, {} if payload is None else payload)

        return {
            protocol.JOIN: EventSpec(parse_join, self._join, before_join=True),
            protocol.PING: EventSpec(parse_ping, self._ping, before_join=True, after_expiry=True),
            protocol.STATUS: EventSpec(of(SetStatus), self._status),
            protocol.LEAVE: EventSpec(of(Nothing), self._leave, after_expiry=True),
            protocol.WATCH: EventSpec(of(Users), self._watch),
            protocol.UNWATCH: EventSpec(of(Users), self._unwatch),
            protocol.CLIENT_UPDATE: EventSpec(patch, self._update, in_line=True),
            protocol.AUTH_REFRESH: EventSpec(
                of(Refresh), self._refresh, before_join=True, after_expiry=True
            ),
        }

    # --- presence -------------------------------------------------------------------------

    async def _join(self, connection: Connection, join: Join, _: int | None) -> Answer:
        user = connection.identity.acting_for(join.user_id)
        if connection.joined_as not in (None, user):
            await self.left(connection)
        again = connection.joined_as == user
        connection.device_id = join.device_id or ""
        self._rooms.enter(user, connection)
        try:
            await self._fanout.wanted(user)
            stats, shown = await _both(
                self._stats.read(user), self._presence.join(connection, user, join.status)
            )
        except BaseException:
            if again:
                self._delivery.not_joined(user, connection)
            else:
                self._rooms.leave(user, connection)
                await self._presence.leave(connection, user)
            raise
        if connection.closed:  # it went while we waited: nothing of it may stay
            self._rooms.leave(user, connection)
            await self._presence.leave(connection, user)
            raise AppError(Code.NOT_JOINED, "The connection is closed")
        connection.joined_as = user
        document = self._delivery.welcome(stats, connection)
        return self._welcome(connection, user, document, shown, current=join.rev == document.rev)

    def _welcome(
        self, connection: Connection, user: str, document: Document, shown: Answer, *, current: bool
    ) -> Answer:
        answer: Answer = {
            "ok": True,
            "userId": user,
            "sessionId": connection.sid,
            "stats": None if current else orjson.Fragment(document.body),
            "presence": shown,
            "serverTime": iso(self._clock()),
            "limits": self._limits.for_clients(),
        }
        if current:
            answer["current"] = True
        return answer

    async def left(self, connection: Connection) -> None:
        """Take a connection out of its room, its watches and the roster."""
        for watched in connection.watched:
            self._rooms.unwatch(watched, connection)
            self._presence.forget(watched)
            self._delivery.unfollowed(watched)
        connection.watched = NOBODY
        user, connection.joined_as = connection.joined_as, None
        if user is not None:
            self._rooms.leave(user, connection)
            await self._presence.leave(connection, user)

    async def _leave(self, connection: Connection, _: Nothing, __: int | None) -> Answer:
        await self.left(connection)
        return {"ok": True}

    def _ping(self, connection: Connection, t: Any, _: int | None) -> Answer:
        pong = {"t": t, "serverTime": iso(self._clock())}
        connection.emit(protocol.PONG, pong)
        return pong

    async def _status(self, connection: Connection, wish: SetStatus, _: int | None) -> Answer:
        user = _joined(connection)
        shown = await self._presence.set_status(user, wish.status, wish.note)
        return {"ok": True, "presence": shown}

    async def _watch(self, connection: Connection, wish: Users, _: int | None) -> Answer:
        users = list(dict.fromkeys(wish.user_ids))
        most = self._limits.watch_max
        if len(connection.watched.union(users)) > most:
            raise AppError(Code.WATCH_LIMIT, f"A socket watches at most {most} users")
        new = [user for user in users if user not in connection.watched]
        for user in new:
            self._rooms.watch(user, connection)
        connection.watched |= set(new)
        try:
            await asyncio.gather(*(self._fanout.wanted(user) for user in new))
            shown, stats = await self._snapshot(users)
        except AppError:
            self._stop_watching(connection, new)
            raise
        if connection.closed:
            self._stop_watching(connection, new)
        else:
            self._presence.noticed(shown)
            for user in new:
                self._delivery.followed(stats[user])
        public = self._stats.schema.public
        return {
            "ok": True,
            "users": [{**shown[user], "stats": public(stats[user])} for user in users],
        }

    async def _snapshot(self, users: list[str]) -> tuple[dict[str, Answer], dict[str, Stats]]:
        """How users stand; who had news while we read is read again."""
        shown: dict[str, Answer] = {}
        stats: dict[str, Stats] = {}
        stale = users
        for _ in range(SNAPSHOT_TRIES):
            before = self._rooms.news(stale)
            shown |= await self._presence.entries(stale)
            stats |= await self._stats.read_many(stale)
            now = self._rooms.news(stale)
            stale = [user for user in stale if now[user] != before[user]]
            if not stale:
                break
        return shown, stats

    async def _unwatch(self, connection: Connection, wish: Users, _: int | None) -> Answer:
        self._stop_watching(connection, wish.user_ids)
        return {"ok": True}

    def _stop_watching(self, connection: Connection, users: list[str]) -> None:
        for user in users:
            self._rooms.unwatch(user, connection)
            self._presence.forget(user)
            self._delivery.unfollowed(user)
        connection.watched -= set(users)

    # --- stats ----------------------------------------------------------------------------

    def _update(self, connection: Connection, patch: Patch, ack: int | None) -> None:
        user = connection.identity.acting_for(patch.user_id) if patch.user_id else None
        if connection.in_flight() >= self._limits.max_in_flight:
            raise AppError(
                Code.TOO_MANY_IN_FLIGHT,
                f"At most {self._limits.max_in_flight} updates may wait for their answer",
            )
        slot = connection.reserve()

        def settle(verdict: Verdict) -> None:
            if isinstance(verdict, AppError):
                connection.settle(slot, connection.refusal(ack, verdict))
            elif ack is None:
                connection.settle(slot)
            else:
                connection.settle(slot, *_update_answer(ack, verdict))

        user = user or _joined(connection)
        try:
            self._stats.submit(user, patch, settle, connection, answered=ack is not None)
        except AppError as error:
            settle(error)

    # --- auth -----------------------------------------------------------------------------

    async def _refresh(self, connection: Connection, wish: Refresh, _: int | None) -> Answer:
        identity = await self._verify(wish.token)
        if identity.user_id != connection.identity.user_id:
            raise AppError(Code.FORBIDDEN, "The new token is another user's: connect anew")
        connection.identity = identity
        self._gateway.watch_expiry(connection)
        if not identity.may_act_for(connection.joined_as):
            await self.left(connection)
        return {"ok": True}


async def _both(one: Coroutine[Any, Any, A], other: Coroutine[Any, Any, B]) -> tuple[A, B]:
    """Await two things at once; when one fails the other is over too before it is raised."""
    first, second = await asyncio.gather(one, other, return_exceptions=True)
    if isinstance(first, BaseException):
        raise first
    if isinstance(second, BaseException):
        raise second
    return first, second


def _joined(connection: Connection) -> str:
    assert connection.joined_as is not None  # the gateway lets nobody here before
    return connection.joined_as


def _update_answer(ack: int, verdict: Committed) -> Parts:
    duplicate = b"true" if verdict.outcome.duplicate else b"false"
    return (
        b'43%d[{"ok":true,"stats":' % ack,
        verdict.body,
        b',"rev":%d,"duplicate":%b}]' % (verdict.stats.rev, duplicate),
    )
