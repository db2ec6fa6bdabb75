"""The names of everything on the wire (PROTOCOL, section 1)."""

JOIN = "presence:join"
PING = "presence:ping"
PONG = "presence:pong"
STATUS = "presence:status"
LEAVE = "presence:leave"
WATCH = "presence:watch"
UNWATCH = "presence:unwatch"
PRESENCE_UPDATE = "presence:update"

CLIENT_UPDATE = "user:clientUpdate"
DATA_UPDATED = "user:data:updated"
USER_UPDATE = "user:update"
PROFILE_UPDATED = "user:profile:updated"
SYNC_CHANGED = "sync:changed"
SYNC_ITEM = "sync:item"

AUTH_REFRESH = "auth:refresh"
AUTH_EXPIRED = "auth:expired"

ERROR = "error"
