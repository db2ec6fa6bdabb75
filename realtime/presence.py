"""Presence: leases, the roster, edges for watchers, and what makes lost ones good."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import orjson

from domain.errors import AppError, Code, erased
from domain.presence import ABSENT, Attendance, Profile, Status, entry
from realtime import protocol
from realtime.connection import Connection, encoded_event_frame
from realtime.fanout import PRESENCE, Fanout
from realtime.limits import LiveLimits
from realtime.metrics import Metrics
from realtime.reads import GroupRead
from realtime.rooms import Rooms
from realtime.tasks import Loop
from storage.presence import PresenceRepository
from storage.redis import RedisAway
from storage.roster import Roster

log = logging.getLogger(__name__)

SWEEP_LIMIT = 500  # users that one sweep announces, and one purge step takes out
REGISTER_CHUNK = 200  # users registered again between two renewals
ATTENDANCE_CHUNK = 200  # users asked for in one script call

Entry = dict[str, Any]


class Said(NamedTuple):
    """The part of an entry whose change is told."""

    online: bool
    status: str
    note: str

    @classmethod
    def of(cls, shown: Entry) -> "Said":
        """That part of `shown`."""
        return cls(shown["online"], shown["status"], shown.get("note", ""))


class PresenceService:
    """This instance's part in the cluster's roster, and its watchers' view of it.

    While Redis is away joins and leaves are only local; when it is back this instance's
    entries are put right first, and nobody is announced offline for one lease.
    """

    def __init__(
        self,
        roster: Roster,
        repository: PresenceRepository,
        rooms: Rooms,
        fanout: Fanout,
        limits: LiveLimits,
        metrics: Metrics,
        clock: Callable[[], int],
        count_clients: Callable[[], int],
        on_gap: Callable[[], None],
    ) -> None:
        self._roster = roster
        self._repository = repository
        self._profiles = GroupRead(repository.read, limits.read_timeout, limits.max_waiting)
        self._rooms = rooms
        self._fanout = fanout
        self._limits = limits
        self._metrics = metrics
        self._clock = clock
        self._count_clients = count_clients
        self._on_gap = on_gap
        self._said: dict[str, Said] = {}
        self._alive: frozenset[str] = frozenset()
        self._quiet_until = 0.0
        self.reachable = False
        """Whether Redis answered at the last renewal."""
        self._loops = [
            Loop("presence lease", self._renew, limits.lease / 3),
            Loop("presence sweep", self._sweep, min(1.0, limits.lease / 8)),
        ]

    async def start(self) -> None:
        """Take a lease, if Redis is there, and keep it."""
        self._be_quiet()
        await self._renew()
        for loop in self._loops:
            loop.start()

    async def stop(self) -> None:
        """End the loops and the lease."""
        for loop in reversed(self._loops):
            await loop.stop()
        await self._profiles.close()
        try:
            await self._roster.resign()
        except RedisAway:
            log.warning("Redis is away: the lease will run out by itself")

    # --- joining and leaving --------------------------------------------------------------

    async def join(self, connection: Connection, user: str, wish: Status | None) -> Entry:
        """Enter the roster, with a status if one is wished; answers the user's entry.

        Raises AppError `socket_limit`, `erased`, or `unavailable` when the database is away.
        """
        before = await self.profile(user)
        if before.erased:
            raise erased()
        profile = before if wish is None else before.saying(wish, before.note, self._clock())
        if profile != before:
            await self._keep(user, profile.status)
        first, attendance = await self._enter(connection, user)
        if wish is Status.OFFLINE:
            await self._end_visit(user)
        return self._tell_change(user, before, profile, attendance, first=first)

    async def _enter(self, connection: Connection, user: str) -> tuple[bool, Attendance]:
        """Whether it is the user's first connection, and how they stand with it."""
        if not self.reachable:
            return False, self._local_attendance(user)
        most = self._limits.sockets_per_user
        try:
            joined = await self._roster.join(user, connection.sid, connection.device_id, most)
        except RedisAway as error:
            self._lost(error)
            return False, self._local_attendance(user)
        if not joined.accepted:
            raise AppError(Code.SOCKET_LIMIT, f"This user has {most} connections already")
        return joined.first, Attendance(joined.devices, present=True)

    async def leave(self, connection: Connection, user: str) -> None:
        """Leave the roster; the grace counts from the connection's last sign of life."""
        now = asyncio.get_running_loop().time()
        silent = max(0.0, now - connection.socket.alive_at)
        if not self.reachable:
            return  # registering again puts it right
        try:
            await self._roster.leave(user, connection.sid, round(silent * 1000))
        except RedisAway as error:
            self._lost(error)

    def _local_attendance(self, user: str) -> Attendance:
        devices = {device or sid for sid, device in self._devices_here(user).items()}
        return Attendance(len(devices), present=bool(devices))

    # --- status ---------------------------------------------------------------------------

    async def set_status(self, user: str, status: Status, note: str) -> Entry:
        """Keep the user's word and tell the watchers; raises AppError `unavailable`, `erased`."""
        before = await self.profile(user)
        profile = before.saying(status, note, self._clock())
        if profile != before:
            await self._keep(user, status, note)
        attendance = (await self._attendance([user]))[user]
        if status is Status.OFFLINE:
            await self._end_visit(user)
        return self._tell_change(user, before, profile, attendance)

    async def visit(self, user: str, status: Status, note: str | None = None) -> Entry:
        """Keep the word of a user who needs no socket: it holds them online for a visit's length.

        None keeps the note; `offline` ends the visit. Raises AppError `unavailable`, `erased`.
        """
        before = await self.profile(user)
        profile = before.saying(status, before.note if note is None else note, self._clock())
        await self._keep(user, status, note)  # also what is known: the erased are refused here
        if status is Status.OFFLINE:
            first, attendance = False, (await self._attendance([user]))[user]
            await self._end_visit(user)
        else:
            first, attendance = await self._begin_visit(user)
        return self._tell_change(user, before, profile, attendance, first=first)

    async def _keep(self, user: str, status: Status, note: str | None = None) -> None:
        await self._repository.set_status(
            user, status, note, self._clock(), self._limits.read_timeout
        )

    async def _begin_visit(self, user: str) -> tuple[bool, Attendance]:
        """Whether the user was not there before, and how they stand with the visit."""
        if not self.reachable:
            return False, self._local_attendance(user)
        try:
            first = await self._roster.visit(user)
        except RedisAway as error:
            self._lost(error)
            return False, self._local_attendance(user)
        devices = 0 if first else (await self._attendance([user]))[user].devices
        return first, Attendance(devices, present=True)

    async def _end_visit(self, user: str) -> None:
        if not self.reachable:
            return  # the status hides them
        try:
            await self._roster.end_visit(user)
        except RedisAway as error:
            self._lost(error)

    async def erased(self, user: str) -> None:
        """Tell an erased user's watchers that they are gone, and forget their times.

        What Redis remembers while it is away runs out by itself.
        """
        self._tell(user, entry(user, Profile(erased=True), ABSENT, self._clock()))
        if not self.reachable:
            return
        try:
            await self._roster.forget(user)
        except RedisAway as error:
            self._lost(error)

    # --- asking ---------------------------------------------------------------------------

    async def profile(self, user: str) -> Profile:
        """What is kept of a user; raises AppError `unavailable`."""
        return await self._profiles.read(user)

    def waiting_reads(self) -> int:
        """Users whose profile waits to be read."""
        return self._profiles.waiting()

    async def entries(self, users: Sequence[str]) -> dict[str, Entry]:
        """The users' presence as watchers see it; raises AppError `unavailable`."""
        profiles = await self._repository.read(users, self._limits.read_timeout)
        attendance = await self._attendance(users)
        now = self._clock()
        return {user: entry(user, profiles[user], attendance[user], now) for user in users}

    async def _attendance(self, users: Sequence[str]) -> dict[str, Attendance]:
        if not self.reachable:
            return {user: self._local_attendance(user) for user in users}
        try:
            found: dict[str, Attendance] = {}
            for at in range(0, len(users), ATTENDANCE_CHUNK):
                found |= await self._roster.attendance(users[at : at + ATTENDANCE_CHUNK])
        except RedisAway as error:
            self._lost(error)
            return {user: self._local_attendance(user) for user in users}
        return found

    async def counts(self) -> tuple[int, int] | None:
        """Connected clients and users of the cluster, or None while Redis is away."""
        if not self.reachable:
            return None
        try:
            return await self._roster.counts()
        except RedisAway as error:
            self._lost(error)
            return None

    # --- telling --------------------------------------------------------------------------

    async def _announce_offline(self, due: Sequence[str]) -> None:
        """Claim who is offline and tell their watchers; the invisible were gone before."""
        profiles = await self._repository.read(due, self._limits.read_timeout)
        for user in await self._roster.claim(due):
            self._metrics.edges.labels("off").inc()
            if profiles[user].status is not Status.OFFLINE:
                self._tell(user, entry(user, profiles[user], ABSENT, self._clock()))

    def _tell_change(
        self,
        user: str,
        before: Profile,
        profile: Profile,
        attendance: Attendance,
        *,
        first: bool = False,
    ) -> Entry:
        """Tell what is new of a user who said something, `first` coming; answers the entry."""
        if first:
            self._metrics.edges.labels("on").inc()
        now = self._clock()
        was = entry(user, before, ABSENT if first else attendance, now)
        shown = entry(user, profile, attendance, now)
        if Said.of(was) != Said.of(shown):
            self._tell(user, shown)
        return shown

    def _tell(self, user: str, shown: Entry) -> None:
        body = orjson.dumps(shown)
        self.deliver(user, body)
        self._fanout.publish(user, PRESENCE, 0, body)

    def deliver(self, user: str, body: bytes) -> None:
        """Send an encoded entry to the watchers here."""
        watchers = self._rooms.watchers(user)
        if not watchers:
            return
        self._rooms.noted(user)
        self._said[user] = Said.of(orjson.loads(body))
        frame = encoded_event_frame(protocol.PRESENCE_UPDATE, body)
        for watcher in watchers:
            watcher.socket.send_text(frame)

    def noticed(self, shown: dict[str, Entry]) -> None:
        """Entries were read: watchers here that were told otherwise are told now."""
        for user, what in shown.items():
            said = self._said.setdefault(user, Said.of(what))
            if said == Said.of(what) or (said.online and self._is_quiet()):
                continue  # no news; or the roster is still filling up again
            self.deliver(user, orjson.dumps(what))

    def forget(self, user: str) -> None:
        """Nobody here watches the user any more."""
        if not self._rooms.watchers(user):
            self._said.pop(user, None)

    async def reconcile(self) -> None:
        """Read how all watched users stand and tell what was missed."""
        if not self.reachable or self._is_quiet():
            return
        watched = self._rooms.watched()
        for at in range(0, len(watched), ATTENDANCE_CHUNK):
            users = watched[at : at + ATTENDANCE_CHUNK]
            before = self._rooms.news(users)
            shown = await self.entries(users)
            now = self._rooms.news(users)
            self.noticed(
                {
                    user: shown[user]
                    for user in users
                    if user in self._said and now[user] == before[user]
                }
            )

    # --- loops ----------------------------------------------------------------------------

    async def _renew(self) -> None:
        try:
            renewal = await self._roster.renew(self._count_clients())
            back = not self.reachable
            self.reachable = True  # from here on joins and leaves reach the roster themselves
            if back or not renewal.kept:
                self._be_quiet()
                await self._register_again()
        except RedisAway as error:
            self._lost(error)
            return
        if back or self._alive - renewal.alive:
            self._on_gap()
        self._alive = renewal.alive

    async def _register_again(self) -> None:
        """Make Redis' entries of this instance equal to what is joined here."""
        users = list({*self._rooms.joined(), *await self._roster.held()})
        for at in range(0, len(users), REGISTER_CHUNK):
            await asyncio.gather(*map(self._register, users[at : at + REGISTER_CHUNK]))
            await self._roster.renew(self._count_clients())
        log.info("this instance's connections are registered in Redis")

    async def _register(self, user: str) -> None:
        synced = None
        while synced != (here := self._devices_here(user)):  # some came or left meanwhile
            await self._roster.sync(user, here)
            synced = here

    def _devices_here(self, user: str) -> dict[str, str]:
        room = self._rooms.room(user)
        return {c.sid: c.device_id for c in room.members} if room else {}

    async def _sweep(self) -> None:
        if not self.reachable or self._is_quiet():
            return
        try:
            due = await self._roster.due(SWEEP_LIMIT)
            for instance in due.instances:
                await self._purge(instance)
            await self._repository.seen(due.users, self._limits.read_timeout)
            if due.users:
                await self._announce_offline(list(due.users))
        except RedisAway as error:
            self._lost(error)
        except AppError as error:
            log.warning("nobody is announced offline now: %s", error.message)

    async def _purge(self, instance: str) -> None:
        log.info("instance %s is gone; its users are in their grace", instance)
        left = 1
        while left > 0:
            left = await self._roster.purge(instance, SWEEP_LIMIT)

    def _lost(self, error: RedisAway) -> None:
        if self.reachable:
            log.warning("Redis is away: %s", error)
        self.reachable = False
        self._be_quiet()

    def _be_quiet(self) -> None:
        self._quiet_until = asyncio.get_running_loop().time() + self._limits.lease

    def _is_quiet(self) -> bool:
        return asyncio.get_running_loop().time() < self._quiet_until
