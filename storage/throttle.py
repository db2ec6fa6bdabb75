"""Failed logins, counted in Redis for all instances together."""

from typing import NamedTuple

from storage.redis import RedisLink, Script

_TAKE = Script("""
local window = tonumber(ARGV[2])
local wait = 0
for at = 3, #ARGV, 2 do
  local key = ARGV[1] .. ':login:' .. ARGV[at]
  if tonumber(redis.call('GET', key) or 0) >= tonumber(ARGV[at + 1]) then
    wait = math.max(wait, redis.call('PTTL', key))
  end
end
if wait > 0 then return wait end
for at = 3, #ARGV, 2 do
  local key = ARGV[1] .. ':login:' .. ARGV[at]
  if redis.call('INCR', key) == 1 then redis.call('PEXPIRE', key, window) end
end
return 0
""")

_GIVE_BACK = Script("""
for at = 2, #ARGV do
  local key = ARGV[1] .. ':login:' .. ARGV[at]
  if tonumber(redis.call('GET', key) or 0) > 0 then redis.call('DECR', key) end
end
return 0
""")


class Tries(NamedTuple):
    """Somebody who tries, and how many failures they have in a window."""

    who: str
    most: int


class Throttle:
    """Counts tries and takes those back that succeed; every method raises RedisAway."""

    def __init__(self, link: RedisLink, window_ms: int) -> None:
        self._link = link
        self._window = window_ms

    async def take(self, tries: list[Tries]) -> float:
        """Count one try of each: 0.0, or the seconds to wait when one of them has too many."""
        flat = [part for one in tries for part in one]
        wait = await self._link.script(_TAKE, self._window, *flat)
        return float(wait) / 1000

    async def give_back(self, tries: list[Tries]) -> None:
        """The try has succeeded."""
        await self._link.script(_GIVE_BACK, *(one.who for one in tries))
