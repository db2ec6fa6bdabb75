"""Documents to the clients that want them: rooms, followers, and whoever fell behind."""

import asyncio
import logging

import orjson

from domain.errors import AppError
from domain.stats import Stats
from realtime import protocol
from realtime.connection import Connection, encoded_event_frame, event_frame
from realtime.fanout import DOCUMENT, PRESENCE, Fanout, Note
from realtime.limits import LiveLimits
from realtime.metrics import Metrics
from realtime.presence import PresenceService
from realtime.rooms import Document, Rooms
from realtime.stats import Advance, StatsService
from realtime.tasks import Loop
from realtime.wheel import Wheel

log = logging.getLogger(__name__)

READ_CHUNK = 200  # documents read at once for those who are behind


class Delivery:
    """Takes every advance, local or from Redis, to the connections here; never a lower rev.

    In any case every `reconcile_every` seconds, and at once after a gap (Redis was away, an
    instance died), the revs of joined users are compared with the store.
    """

    def __init__(self, rooms: Rooms, wheel: Wheel, limits: LiveLimits, metrics: Metrics) -> None:
        self._rooms = rooms
        self._wheel = wheel
        self._limits = limits
        self._metrics = metrics
        self._followed: dict[str, int] = {}  # newest rev that a user's followers were sent
        self._cooling: dict[str, bytes | None] = {}  # followers' pause, and what waits for its end
        self._gap = asyncio.Event()
        self._loop = Loop("reconcile", self._reconcile, 0.0)
        self._fanout: Fanout
        self._stats: StatsService
        self._presence: PresenceService

    def start(self, fanout: Fanout, stats: StatsService, presence: PresenceService) -> None:
        """Begin; these three in turn call this object, so that they come late."""
        self._fanout, self._stats, self._presence = fanout, stats, presence
        self._loop.start()

    async def stop(self) -> None:
        """End the loop."""
        await self._loop.stop()

    def gap(self) -> None:
        """Something may have been missed: compare soon."""
        self._gap.set()

    def advance(self, advance: Advance) -> None:
        """A change was committed here: tell everybody."""
        self._deliver(advance.user, advance.rev, advance.body, advance.informed)
        self._fanout.publish(advance.user, DOCUMENT, advance.rev, advance.body)

    def note(self, note: Note) -> None:
        """Another instance tells."""
        if note.kind == DOCUMENT:
            self._stats.forget(note.user, note.rev)
            self._deliver(note.user, note.rev, note.body, None)
        elif note.kind == PRESENCE:
            self._presence.deliver(note.user, note.body)

    def welcome(self, stats: Stats, joining: Connection) -> Document:
        """The newest document for the answer to a join, which has read `stats`.

        If these are news here, the others get them too.
        """
        user = stats.user_id
        missed = self._rooms.joined_now(user, joining)
        if missed is not None and missed.rev > stats.rev:
            return missed
        document = Document(stats.rev, self._stats.encode(stats))
        self._deliver(user, *document, joining)
        return document

    def not_joined(self, user: str, joining: Connection) -> None:
        """A repeated join failed: what was held back for its answer is sent as it is."""
        missed = self._rooms.joined_now(user, joining)
        if missed is not None:
            frame = encoded_event_frame(protocol.DATA_UPDATED, missed.body)
            joining.socket.send_latest(user, frame)

    def followed(self, stats: Stats) -> None:
        """Somebody here begins to follow with these: earlier followers get what is news to them."""
        user = stats.user_id
        known = self._followed.setdefault(user, stats.rev)
        if stats.rev > known:
            self._followed[user] = stats.rev
            self._follow(user, self._stats.encode(stats))

    def unfollowed(self, user: str) -> None:
        """Somebody follows no more."""
        if not self._rooms.watchers(user):
            self._followed.pop(user, None)

    def _deliver(self, user: str, rev: int, body: bytes, informed: Connection | None) -> None:
        room = self._rooms.room(user)
        if room is not None and rev > room.rev:
            room.rev = rev
            frame = encoded_event_frame(protocol.DATA_UPDATED, body)
            for member in room.members:
                if member in room.joining:
                    room.joining[member] = Document(rev, body)
                elif member is not informed:
                    member.socket.send_latest(user, frame)
        self._deliver_to_followers(user, rev, body)

    def _erased(self, stats: Stats) -> None:
        """The user is no more: followers see the defaults, as whoever begins to follow does.

        The user's own connections are about to be ended; to them the defaults would be data.
        """
        room = self._rooms.room(stats.user_id)
        if room is not None:
            room.rev = max(room.rev, stats.rev)
        self._deliver_to_followers(stats.user_id, stats.rev, self._stats.encode(stats))

    def _deliver_to_followers(self, user: str, rev: int, body: bytes) -> None:
        if self._rooms.watchers(user) and rev > self._followed.get(user, -1):
            self._followed[user] = rev
            self._rooms.noted(user)
            self._follow(user, body)

    # --- followers: at most so many updates a second --------------------------------------

    def _follow(self, user: str, body: bytes) -> None:
        if user in self._cooling:
            self._cooling[user] = body
            return
        document = self._stats.schema.public_of_document(orjson.loads(body))
        frame = event_frame(protocol.USER_UPDATE, document)
        for watcher in self._rooms.watchers(user):
            watcher.socket.send_latest(f"follow {user}", frame)
        self._cooling[user] = None
        self._wheel.after(1 / self._limits.user_updates_per_second, lambda: self._warm(user))

    def _warm(self, user: str) -> None:
        body = self._cooling.pop(user, None)
        if body is not None and self._rooms.watchers(user):
            self._follow(user, body)

    # --- whoever fell behind --------------------------------------------------------------

    async def _reconcile(self) -> None:
        try:
            async with asyncio.timeout(self._limits.reconcile_every):
                await self._gap.wait()
        except TimeoutError:
            pass  # nothing special happened: it is simply time
        self._gap.clear()
        try:
            await self._compare()
            await self._presence.reconcile()
        except AppError as error:
            log.warning("could not compare revs: %s", error.message)
            await asyncio.sleep(min(1.0, self._limits.reconcile_every))
            self._gap.set()

    async def _compare(self) -> None:
        users = list({*self._rooms.joined(), *self._rooms.watched()})
        if not users:
            return
        stored = await self._stats.revs(users)
        behind = [user for user in users if self._behind(user, stored.get(user, 0))]
        self._metrics.reconciled.inc(len(behind))
        for at in range(0, len(behind), READ_CHUNK):
            documents = await self._stats.read_many(behind[at : at + READ_CHUNK])
            for user, stats in documents.items():
                if stats.erased:
                    self._erased(stats)
                else:
                    self._deliver(user, stats.rev, self._stats.encode(stats), None)

    def _behind(self, user: str, rev: int) -> bool:
        if self._stats.committing(user):
            return False  # what was read is told in a moment
        room = self._rooms.room(user)
        if room is not None and room.rev < rev:
            return True
        return bool(self._rooms.watchers(user)) and self._followed.get(user, rev) < rev
