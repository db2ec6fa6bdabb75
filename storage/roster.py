"""Presence: the live roster in Redis.

A roster entry is one connection, `instance|sid`, valid while its instance's lease lives.
What decides about an edge is one Lua script (storage/roster_scripts.py).
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from domain.presence import Attendance
from storage import roster_scripts as scripts
from storage.names import RedisNames
from storage.redis import RedisLink


class Renewal(NamedTuple):
    """`kept`: the lease had not run out; `alive`: the instances with a lease, this one too."""

    kept: bool
    alive: frozenset[str]


class Due(NamedTuple):
    """Instances whose lease ran out, and users whose grace is over, with when last seen (ms)."""

    instances: list[str]
    users: dict[str, int]


class Joined(NamedTuple):
    """`accepted` is False at the limit of sockets; `first`: watchers learn of it."""

    accepted: bool
    first: bool
    devices: int


class Roster:
    """The cluster's roster in Redis; every method raises RedisAway."""

    def __init__(
        self, link: RedisLink, instance: str, lease_ms: int, grace_ms: int, visit_ms: int
    ) -> None:
        self._link = link
        self._instance = instance
        self._lease = lease_ms
        self._grace = grace_ms
        self._visit = visit_ms

    @property
    def names(self) -> RedisNames:
        """The keys in use."""
        return self._link.names

    async def renew(self, clients: int) -> Renewal:
        """Prolong this instance's lease and tell how many clients it has."""
        kept, alive = await self._link.script(scripts.RENEW, self._instance, self._lease, clients)
        return Renewal(bool(kept), frozenset(name.decode() for name in alive))

    async def join(self, user: str, sid: str, device: str, most: int) -> Joined:
        """Enter a connection; at most `most` of one user (0: any number)."""
        edge, devices = await self._link.script(
            scripts.JOIN, user, self._instance, sid, device, most
        )
        return Joined(accepted=edge >= 0, first=edge == 1, devices=devices)

    async def leave(self, user: str, sid: str, silent_ms: int) -> None:
        """Take a connection out; its last sign of life was `silent_ms` ago."""
        await self._link.script(
            scripts.LEAVE, user, self._instance, sid, silent_ms, self._grace, self._visit
        )

    async def visit(self, user: str) -> bool:
        """Hold a user present for a visit's length from now on, with a connection or without.

        Whether it is watchers' news: they had neither a connection nor a grace.
        """
        return bool(await self._link.script(scripts.VISIT, user, self._visit, self._grace))

    async def end_visit(self, user: str) -> None:
        """End the visit; who has no connection is offline with the next sweep."""
        await self._link.script(scripts.END_VISIT, user)

    async def forget(self, user: str) -> None:
        """End the visit and drop what is remembered of an erased user's times."""
        await self._link.script(scripts.FORGET, user)

    async def held(self) -> set[str]:
        """The users that Redis believes this instance to hold."""
        members = await self._link.command("SMEMBERS", self.names.held(self._instance))
        return {user.decode() for user in members}

    async def sync(self, user: str, devices: Mapping[str, str]) -> None:
        """Make this instance's entries of `user` exactly these: sid -> device."""
        flat = [part for pair in devices.items() for part in pair]
        await self._link.script(scripts.SYNC, user, self._instance, self._grace, self._visit, *flat)

    async def due(self, limit: int) -> Due:
        """What a sweep has to look at, at most `limit` users."""
        instances, flat = await self._link.script(scripts.DUE, limit)
        users = {flat[i].decode(): int(flat[i + 1]) for i in range(0, len(flat), 2)}
        return Due([name.decode() for name in instances], users)

    async def purge(self, instance: str, limit: int) -> int:
        """Take out entries of a dead instance, `limit` users at most; how many are left.

        -1 when it is not dead, or no longer known.
        """
        left = await self._link.script(
            scripts.PURGE, instance, self._lease, self._grace, self._visit, limit
        )
        return int(left)

    async def resign(self) -> None:
        """End this instance's lease now: its users are in their grace from here on."""
        await self._link.script(scripts.RESIGN, self._instance)

    async def claim(self, users: Collection[str]) -> list[str]:
        """Those of `users` that are offline and that nobody else announces."""
        if not users:
            return []
        return [user.decode() for user in await self._link.script(scripts.CLAIM, *users)]

    async def attendance(self, users: Sequence[str]) -> dict[str, Attendance]:
        """Who of `users` is there, in one round trip."""
        if not users:
            return {}
        flat = await self._link.script(scripts.ATTENDANCE, *users)
        return {
            user: Attendance(devices=flat[2 * i], present=bool(flat[2 * i + 1]))
            for i, user in enumerate(users)
        }

    async def counts(self) -> tuple[int, int]:
        """Connected clients and connected users of the whole cluster."""
        clients, users = await self._link.script(scripts.COUNTS)
        return int(clients), int(users)
