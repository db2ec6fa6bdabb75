"""The roster's Lua scripts: every step that decides about an edge is one of them.

So it happens once however many instances take part. All times are milliseconds of Redis' own
clock; the keys are listed in storage/names.py, their prefix is every script's first argument.
"""

from storage.redis import Script

_COMMON = """
local P = ARGV[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local function roster(user) return P .. ':roster:' .. user end
local function held(instance) return P .. ':held:' .. instance end
local function visited(user) return P .. ':visit:' .. user end
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
local function linger(user, ends, seen)
  redis.call('ZADD', P .. ':grace', ends, user)
  redis.call('HSET', P .. ':last', user, seen)
end
local function back(user)
  redis.call('HDEL', P .. ':last', user)
  return redis.call('ZREM', P .. ':grace', user)
end
local function end_visit(user)
  redis.call('DEL', visited(user))
  local ends = redis.call('ZSCORE', P .. ':grace', user)
  if ends and tonumber(ends) > now then redis.call('ZADD', P .. ':grace', now, user) end
end
local function left(user, last_sign, grace, visit)
  -- The grace counts from the last sign of life of any of the user's devices.
  local key = P .. ':seen:' .. user
  local seen = math.max(tonumber(redis.call('GET', key) or 0), last_sign)
  if redis.call('EXISTS', roster(user)) == 0 then
    redis.call('SREM', P .. ':online', user)
    local came = tonumber(redis.call('GET', visited(user)) or 0)
    linger(user, math.max(seen + grace, came + visit), math.max(seen, came))
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

RENEW = Script(
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

JOIN = Script(
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
local graced = back(user)
local devices = attendance(user, alive)
return {(not entered and graced == 0) and 1 or 0, devices}
"""
)

LEAVE = Script(
    _COMMON
    + """
local user, instance, sid = ARGV[2], ARGV[3], ARGV[4]
local silent, grace, visit = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
if redis.call('HDEL', roster(user), instance .. '|' .. sid) == 0 then return 0 end
local others = false
for _, field in ipairs(redis.call('HKEYS', roster(user))) do
  if mine(field, instance) then others = true end
end
if not others then redis.call('SREM', held(instance), user) end
left(user, now - silent, grace, visit)
return 1
"""
)

PURGE = Script(
    _COMMON
    + """
local instance, lease = ARGV[2], tonumber(ARGV[3])
local grace, visit = tonumber(ARGV[4]), tonumber(ARGV[5])
local ends = redis.call('ZSCORE', P .. ':instances', instance)
if not ends or tonumber(ends) >= now then return -1 end
-- A negative end is the time of a resignation, see below.
local last_sign = tonumber(ends) < 0 and -tonumber(ends) or tonumber(ends) - lease
local users = redis.call('SRANDMEMBER', held(instance), tonumber(ARGV[6]))
for _, user in ipairs(users) do
  for _, field in ipairs(redis.call('HKEYS', roster(user))) do
    if mine(field, instance) then redis.call('HDEL', roster(user), field) end
  end
  redis.call('SREM', held(instance), user)
  left(user, last_sign, grace, visit)
end
local rest = redis.call('SCARD', held(instance))
if rest == 0 then
  redis.call('ZREM', P .. ':instances', instance)
  redis.call('HDEL', P .. ':clients', instance)
end
return rest
"""
)

DUE = Script(
    _COMMON
    + """
local due = redis.call(
  'ZRANGEBYSCORE', P .. ':grace', '-inf', now, 'WITHSCORES', 'LIMIT', 0, ARGV[2]
)
for at = 1, #due, 2 do
  due[at + 1] = redis.call('HGET', P .. ':last', due[at]) or due[at + 1]
end
return {redis.call('ZRANGEBYSCORE', P .. ':instances', '-inf', '(' .. now), due}
"""
)

CLAIM = Script(
    _COMMON
    + """
local claimed = {}
for at = 2, #ARGV do
  local user = ARGV[at]
  local offline_at = redis.call('ZSCORE', P .. ':grace', user)
  if offline_at and tonumber(offline_at) <= now then
    back(user)
    if redis.call('EXISTS', roster(user)) == 0 then
      redis.call('DEL', visited(user))
      table.insert(claimed, user)
    end
  end
end
return claimed
"""
)

ATTENDANCE = Script(
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

SYNC = Script(
    _COMMON
    + """
local user, instance, grace, visit = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local keep = {}
for at = 6, #ARGV, 2 do keep[instance .. '|' .. ARGV[at]] = ARGV[at + 1] end
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
  back(user)
else
  redis.call('SREM', held(instance), user)
  if gone > 0 then left(user, now, grace, visit) end
end
return 1
"""
)

VISIT = Script(
    _COMMON
    + """
local user, visit, grace = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
redis.call('SET', visited(user), now, 'PX', visit + grace)
if redis.call('EXISTS', roster(user)) == 1 then return 0 end
local ends = redis.call('ZSCORE', P .. ':grace', user)
linger(user, math.max(tonumber(ends or 0), now + visit), now)
return ends and 0 or 1
"""
)

END_VISIT = Script(
    _COMMON
    + """
end_visit(ARGV[2])
return 1
"""
)

FORGET = Script(
    _COMMON
    + """
local user = ARGV[2]
end_visit(user)
redis.call('DEL', P .. ':seen:' .. user)
redis.call('HDEL', P .. ':last', user)
return 1
"""
)

RESIGN = Script(
    _COMMON
    + """
return redis.call('ZADD', P .. ':instances', -now, ARGV[2])
"""
)

COUNTS = Script(
    _COMMON
    + """
local clients = 0
for _, instance in ipairs(redis.call('ZRANGEBYSCORE', P .. ':instances', now, '+inf')) do
  clients = clients + tonumber(redis.call('HGET', P .. ':clients', instance) or 0)
end
return {clients, redis.call('SCARD', P .. ':online')}
"""
)
