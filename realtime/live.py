"""Everything live, wired in one place: what to start, in which order, and how to stop it."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from aiohttp import web

from domain.identity import Identity
from domain.stats import StatsSchema
from realtime import sync
from realtime.delivery import Delivery
from realtime.events import Events
from realtime.fanout import ITEM, PROFILE, SYNC, Fanout, Note
from realtime.gateway import Gateway
from realtime.limits import LiveLimits
from realtime.metrics import Metrics
from realtime.presence import PresenceService
from realtime.profiles import Profiles, pack, unpack
from realtime.rooms import Rooms
from realtime.stats import StatsService
from realtime.sync import SyncNews
from realtime.transport import CorsOrigins
from storage.presence import PresenceRepository
from storage.redis import RedisLink
from storage.roster import Roster
from storage.stats import StatsRepository

log = logging.getLogger(__name__)

DRAIN_BATCHES = 20
SESSION_ENDED = "session ended"


@dataclass(frozen=True, slots=True)
class Stores:
    """Where the live part keeps things."""

    stats: StatsRepository
    presence: PresenceRepository
    link: RedisLink


class Live:
    """The live part of one process."""

    def __init__(
        self,
        *,
        instance: str,
        stores: Stores,
        schema: StatsSchema,
        limits: LiveLimits,
        metrics: Metrics,
        clock: Callable[[], int],
        verify: Callable[[str], Awaitable[Identity]],
        client_address: Callable[[web.Request], str],
        transports: tuple[str, ...],
        cors_origins: CorsOrigins,
    ) -> None:
        self._limits = limits
        self.gateway = Gateway(verify, client_address, limits, metrics, transports, cors_origins)
        self.rooms = Rooms(self._want, self._unwant)
        self._profiles = Profiles(self.rooms)
        self._sync = SyncNews(self.rooms)
        self._delivery = Delivery(self.rooms, self.gateway.io.wheel, limits, metrics)
        self.fanout = Fanout(
            stores.link, instance, limits, metrics, self._heard, self._delivery.gap
        )
        self.stats = StatsService(
            stores.stats, schema, limits, metrics, clock, self._delivery.advance
        )
        roster = Roster(
            stores.link,
            instance,
            lease_ms=round(limits.lease * 1000),
            grace_ms=round(limits.grace * 1000),
            visit_ms=round(limits.visit * 1000),
        )
        self.presence = PresenceService(
            roster,
            stores.presence,
            self.rooms,
            self.fanout,
            limits,
            metrics,
            clock,
            lambda: len(self.gateway.connections),
            self._delivery.gap,
        )
        events = Events(
            self.gateway,
            self.rooms,
            self.fanout,
            self.stats,
            self.presence,
            self._delivery,
            verify,
            limits,
            clock,
        )
        self.gateway.serve(events.table(), events.left)
        metrics.joined.set_function(self.rooms.members)
        metrics.watches.set_function(self.rooms.watches)
        metrics.waiting_reads.set_function(
            lambda: self.stats.waiting_reads() + self.presence.waiting_reads()
        )

    def _want(self, user: str) -> None:
        self.fanout.want(user)

    def _unwant(self, user: str) -> None:
        self.fanout.unwant(user)

    def _heard(self, note: Note) -> None:
        """Another instance tells."""
        if note.kind == PROFILE:
            self._profiles.deliver(note.user, note.rev, *unpack(note.body))
        elif note.kind == SYNC:
            self._sync.deliver(note.user, note.rev, note.body)
        elif note.kind == ITEM:
            self._sync.deliver_item(note.user, note.body)
        else:
            self._delivery.note(note)

    async def start(self) -> None:
        """Begin to serve."""
        self.gateway.io.start()
        self.stats.start()
        self._delivery.start(self.fanout, self.stats, self.presence)
        self.fanout.start()
        await self.presence.start()

    def end_sessions(self, sessions: Collection[str], users: Collection[str]) -> int:
        """Disconnect here who is on these sessions, and who is or acts for these users.

        Answers how many connections these were. Their clients come back by themselves: the
        handshake must refuse them by then.
        """
        ended = self.gateway.end(sessions, users, SESSION_ENDED)
        for user in users:
            if (room := self.rooms.room(user)) is not None:  # some may be about to join
                ended += self.gateway.end_each(room.members, SESSION_ENDED)
        return ended

    def tell_profile(self, user: str, version: int, own: bytes, public: bytes) -> None:
        """Send `user:profile:updated` to who is interested, on every instance.

        The JSON object `own` is for the user's own connections, `public` for watchers. Never
        waits; while Redis is away the other instances do not hear of it.
        """
        self._profiles.deliver(user, version, own, public)
        self.fanout.publish(user, PROFILE, version, pack(own, public))

    def tell_sync(self, user: str, stamp: int, device_id: str) -> None:
        """Send `sync:changed` to the user's other devices, on every instance."""
        packed = sync.pack(device_id, stamp)
        self._sync.deliver(user, stamp, packed)
        self.fanout.publish(user, SYNC, stamp, packed)

    def tell_item(self, user: str, body: bytes) -> None:
        """Send `sync:item` with this JSON to the user's devices, on every instance."""
        self._sync.deliver_item(user, body)
        self.fanout.publish(user, ITEM, 0, body)

    async def drain(self, seconds: float) -> None:
        """Close the transports in batches spread over `seconds`, each a little off beat.

        Clients come back within a second of it: all at once they would overrun the others.
        """
        sockets = self.gateway.io.sockets
        if not sockets:
            return
        log.info("closing %d connections", len(sockets))
        random.shuffle(sockets)
        size = -(-len(sockets) // DRAIN_BATCHES)
        for at in range(0, len(sockets), size):
            for socket in sockets[at : at + size]:
                socket.finish("server shutdown")
            pause = seconds / DRAIN_BATCHES if len(sockets) > 1 else 0
            await asyncio.sleep(random.uniform(0.5, 1.0) * pause)  # noqa: S311 - only jitter

    async def stop(self) -> None:
        """Commit what has arrived, tell it, leave the roster."""
        await self.stats.stop()
        await self.gateway.io.stop()
        await self._delivery.stop()
        await self.presence.stop()
        await self.fanout.stop()
