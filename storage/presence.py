"""Presence: the live roster in Redis, and what outlives a connection in MongoDB.

A roster entry is one connection, `instance|sid`, valid while its instance's lease lives.
Every step that decides about an edge is one Lua script, so that it happens once however
many instances take part; all times are milliseconds of Redis' own clock.
"""

from collections.abc import Collection as Sized
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bson.datetime_ms import DatetimeMS
from pymongo import UpdateOne

from domain.presence import Attendance, Profile, Status
from storage.mongo import Collection, Document, Mongo, available
from storage.names import PRESENCE, RedisNames
from storage.redis import RedisLink, Script

_COMMON = """
local P = ARGV[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local function roster(user) return P .. ':roster:' .. user end
local function held(instance) return P .. ':held:' .. instance end
local function mine(field, instance)
  return string.sub(field, 1, #instance + 1) == instance .. '|'
end
local function attendance(user, alive)
  local devices, count, valid = {}, 0, 0
  local entries = redis.call('HGETALL', roster(user))
  for i = 1, #entries, 2 do
    local instance = string.match(entries[i], '^([^|]*)|')
    local device = entries[i + 1] == '' and entries[i] or 'd:' .. entries[i + 1]
    if alive[instance] then
      valid = valid + 1
      if not devices[device] then count = count + 1 end
      devices[device] = true
    end
  end
  return count, #entries > 0, valid
end
local function leases()
  local alive = {}
  for _, instance in ipairs(redis.call('ZRANGEBYSCORE', P .. ':instances', now, '+inf')) do
    alive[instance] = true
  end
  return alive
end
local function left(user, last_sign, grace)
  -- The grace counts from the last sign of life of any of the user's devices.
  local key = P .. ':seen:' .. user
  local seen = math.max(tonumber(redis.call('GET', key) or 0), last_sign)
  if redis.call('EXISTS', roster(user)) == 0 then
    redis.call('SREM', P .. ':online', user)
    redis.call('ZADD', P .. ':grace', seen + grace, user)
    redis.call('DEL', key)
  elseif seen + grace > now then
    redis.call('SET', key, seen, 'PX', seen + grace - now)
  end
end
local function note(instance)
  -- Without a lease this instance was purged: enter it as having resigned just now, so that
  -- its next renewal registers everything again, and so that its death will be noticed.
  redis.call('ZADD', P .. ':instances', 'NX', -now, instance)
end
"""

_RENEW = Script(
    _COMMON
    + """
local instance, lease, clients = ARGV[2], tonumber(ARGV[3]), ARGV[4]
local ends = redis.call('ZSCORE', P .. ':instances', instance)
redis.call('ZADD', P .. ':instances', now + lease, instance)
redis.call('HSET', P .. ':clients', instance, clients)
local kept = ends and tonumber(ends) >= now and 1 or 0
return {kept, redis.call('ZRANGEBYSCORE', P .. ':instances', now, '+inf')}
"""
)

_JOIN = Script(
    _COMMON
    + """
local user, instance, sid, device = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local most = tonumber(ARGV[6])
note(instance)
local alive = leases()
alive[instance] = true
local _, entered, valid = attendance(user, alive)
local field = instance .. '|' .. sid
if most > 0 and valid >= most and redis.call('HEXISTS', roster(user), field) == 0 then
  return {-1, 0}
end
redis.call('HSET', roster(user), field, device)
redis.call('SADD', held(instance), user)
redis.call('SADD', P .. ':online', user)
local graced = redis.call('ZREM', P .. ':grace', user)
local devices = attendance(user, alive)
return {(not entered and graced == 0) and 1 or 0, devices}
"""
)

_LEAVE = Script(
    _COMMON
    + """
local user, instance, sid = ARGV[2], ARGV[3], ARGV[4]
local silent, grace = tonumber(ARGV[5]), tonumber(ARGV[6])
if redis.call('HDEL', roster(user), instance .. '|' .. sid) == 0 then return 0 end
local others = false
for _, field in ipairs(redis.call('HKEYS', roster(user))) do
  if mine(field, instance) then others = true end
end
if not others then redis.call('SREM', held(instance), user) end
left(user, now - silent, grace)
return 1
"""
)

_PURGE = Script(
    _COMMON
    + """
local instance, lease, grace = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local ends = redis.call('ZSCORE', P .. ':instances', instance)
if not ends or tonumber(ends) >= now then return -1 end
-- A negative end is the time of a resignation, see below.
local last_sign = tonumber(ends) < 0 and -tonumber(ends) or tonumber(ends) - lease
local users = redis.call('SRANDMEMBER', held(instance), tonumber(ARGV[5]))
for _, user in ipairs(users) do
  for _, field in ipairs(redis.call('HKEYS', roster(user))) do
    if mine(field, instance) then redis.call('HDEL', roster(user), field) end
  end
  redis.call('SREM', held(instance), user)
  left(user, last_sign, grace)
end
local rest = redis.call('SCARD', held(instance))
if rest == 0 then
  redis.call('ZREM', P .. ':instances', instance)
  redis.call('HDEL', P .. ':clients', instance)
end
return rest
"""
)

_DUE = Script(
    _COMMON
    + """
return {
  redis.call('ZRANGEBYSCORE', P .. ':instances', '-inf', '(' .. now),
  redis.call('ZRANGEBYSCORE', P .. ':grace', '-inf', now, 'WITHSCORES', 'LIMIT', 0, ARGV[2])
}
"""
)

_CLAIM = Script(
    _COMMON
    + """
local claimed = {}
for at = 2, #ARGV do
  local user = ARGV[at]
  local offline_at = redis.call('ZSCORE', P .. ':grace', user)
  if offline_at and tonumber(offline_at) <= now then
    redis.call('ZREM', P .. ':grace', user)
    if redis.call('EXISTS', roster(user)) == 0 then table.insert(claimed, user) end
  end
end
return claimed
"""
)

_ATTENDANCE = Script(
    _COMMON
    + """
local alive, answer = leases(), {}
for at = 2, #ARGV do
  local count, entered = attendance(ARGV[at], alive)
  local present = entered or redis.call('ZSCORE', P .. ':grace', ARGV[at])
  table.insert(answer, count)
  table.insert(answer, present and 1 or 0)
end
return answer
"""
)

_SYNC = Script(
    _COMMON
    + """
local user, instance, grace = ARGV[2], ARGV[3], tonumber(ARGV[4])
local keep = {}
for at = 5, #ARGV, 2 do keep[instance .. '|' .. ARGV[at]] = ARGV[at + 1] end
local gone = 0
for _, field in ipairs(redis.call('HKEYS', roster(user))) do
  if mine(field, instance) and not keep[field] then
    gone = gone + redis.call('HDEL', roster(user), field)
  end
end
for field, device in pairs(keep) do redis.call('HSET', roster(user), field, device) end
if next(keep) then
  note(instance)
  redis.call('SADD', held(instance), user)
  redis.call('SADD', P .. ':online', user)
  redis.call('ZREM', P .. ':grace', user)
else
  redis.call('SREM', held(instance), user)
  if gone > 0 then left(user, now, grace) end
end
return 1
"""
)

_RESIGN = Script(
    _COMMON
    + """
return redis.call('ZADD', P .. ':instances', -now, ARGV[2])
"""
)

_COUNTS = Script(
    _COMMON
    + """
local clients = 0
for _, instance in ipairs(redis.call('ZRANGEBYSCORE', P .. ':instances', now, '+inf')) do
  clients = clients + tonumber(redis.call('HGET', P .. ':clients', instance) or 0)
end
return {clients, redis.call('SCARD', P .. ':online')}
"""
)


class Renewal(NamedTuple):
    """`kept`: the lease had not run out; `alive`: the instances with a lease, this one too."""

    kept: bool
    alive: frozenset[str]


class Due(NamedTuple):
    """Instances whose lease ran out, and users whose grace is over, with when (ms)."""

    instances: list[str]
    users: dict[str, int]


class Joined(NamedTuple):
    """`accepted` is False at the limit of sockets; `first`: watchers learn of it."""

    accepted: bool
    first: bool
    devices: int


class Roster:
    """The cluster's roster in Redis; every method raises RedisAway."""

    def __init__(self, link: RedisLink, instance: str, lease_ms: int, grace_ms: int) -> None:
        self._link = link
        self._instance = instance
        self._lease = lease_ms
        self._grace = grace_ms

    @property
    def names(self) -> RedisNames:
        """The keys in use."""
        return self._link.names

    async def renew(self, clients: int) -> Renewal:
        """Prolong this instance's lease and tell how many clients it has."""
        kept, alive = await self._link.script(_RENEW, self._instance, self._lease, clients)
        return Renewal(bool(kept), frozenset(name.decode() for name in alive))

    async def join(self, user: str, sid: str, device: str, most: int) -> Joined:
        """Enter a connection; at most `most` of one user (0: any number)."""
        edge, devices = await self._link.script(_JOIN, user, self._instance, sid, device, most)
        return Joined(accepted=edge >= 0, first=edge == 1, devices=devices)

    async def leave(self, user: str, sid: str, silent_ms: int) -> None:
        """Take a connection out; its last sign of life was `silent_ms` ago."""
        await self._link.script(_LEAVE, user, self._instance, sid, silent_ms, self._grace)

    async def held(self) -> set[str]:
        """The users that Redis believes this instance to hold."""
        members = await self._link.command("SMEMBERS", self.names.held(self._instance))
        return {user.decode() for user in members}

    async def sync(self, user: str, devices: Mapping[str, str]) -> None:
        """Make this instance's entries of `user` exactly these: sid -> device."""
        flat = [part for pair in devices.items() for part in pair]
        await self._link.script(_SYNC, user, self._instance, self._grace, *flat)

    async def due(self, limit: int) -> Due:
        """What a sweep has to look at, at most `limit` users."""
        instances, flat = await self._link.script(_DUE, limit)
        users = {flat[i].decode(): int(flat[i + 1]) for i in range(0, len(flat), 2)}
        return Due([name.decode() for name in instances], users)

    async def purge(self, instance: str, limit: int) -> int:
        """Take out entries of a dead instance, `limit` users at most; how many are left.

        -1 when it is not dead, or no longer known.
        """
        left = await self._link.script(_PURGE, instance, self._lease, self._grace, limit)
        return int(left)

    async def resign(self) -> None:
        """End this instance's lease now: its users are in their grace from here on."""
        await self._link.script(_RESIGN, self._instance)

    async def claim(self, users: Sized[str]) -> list[str]:
        """Those of `users` that are offline and that nobody else announces."""
        if not users:
            return []
        return [user.decode() for user in await self._link.script(_CLAIM, *users)]

    async def attendance(self, users: Sequence[str]) -> dict[str, Attendance]:
        """Who of `users` is there, in one round trip."""
        if not users:
            return {}
        flat = await self._link.script(_ATTENDANCE, *users)
        return {
            user: Attendance(devices=flat[2 * i], present=bool(flat[2 * i + 1]))
            for i, user in enumerate(users)
        }

    async def counts(self) -> tuple[int, int]:
        """Connected clients and connected users of the whole cluster."""
        clients, users = await self._link.script(_COUNTS)
        return int(clients), int(users)


class PresenceRepository:
    """Status, note and last seen, in MongoDB; every method raises AppError `unavailable`."""

    def __init__(self, mongo: Mongo) -> None:
        self._presence: Collection = mongo.collection(PRESENCE)

    async def read(self, user_ids: Sized[str], timeout: float) -> dict[str, Profile]:
        """What is kept of each user, defaults for the unknown."""
        with available(timeout):
            found = await self._presence.find({"_id": {"$in": list(user_ids)}}).to_list()
        stored = {doc["_id"]: _decode(doc) for doc in found}
        return {user: stored.get(user, Profile()) for user in user_ids}

    async def set_status(
        self, user: str, status: Status, note: str, now: int, timeout: float
    ) -> None:
        """Keep what a user says of themselves. Going invisible is their last being seen."""
        update: Document = {"status": status.value, "note": {"$literal": note}}
        if status is Status.OFFLINE:
            update["lastSeen"] = _seen(now)
        with available(timeout):
            await self._presence.update_one({"_id": user}, [{"$set": update}], upsert=True)

    async def seen(self, users: Mapping[str, int], timeout: float) -> None:
        """Keep when each user was last seen (ms). The invisible were last seen before."""
        if not users:
            return
        operations = [
            UpdateOne({"_id": user}, [{"$set": {"lastSeen": _seen(at)}}], upsert=True)
            for user, at in users.items()
        ]
        with available(timeout):
            await self._presence.bulk_write(operations, ordered=False)


def _seen(at: int) -> Document:
    """`lastSeen` moved forward to `at`, unless the user is invisible: they went before."""
    hidden = {"$eq": ["$status", Status.OFFLINE.value]}
    return {"$cond": [hidden, "$lastSeen", {"$max": ["$lastSeen", DatetimeMS(at)]}]}


def _decode(doc: Document) -> Profile:
    return Profile(
        status=Status(doc.get("status", Status.ONLINE)),
        note=doc.get("note", ""),
        last_seen=int(doc.get("lastSeen", 0)),
    )
