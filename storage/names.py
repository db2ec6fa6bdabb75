"""The one home of names in MongoDB and Redis."""

STATS = "stats"
PRESENCE = "presence"
USERS = "users"
SESSIONS = "sessions"
SYNC_HEADS = "sync_heads"
SYNC_ENTITIES = "sync_entities"
SYNC_LOG = "sync_log"
META = "meta"
QUEUE_HEADS = "queue_heads"
QUEUE = "sync_queue"
RESOURCES = "resources"


class RedisNames:
    """Keys and channels under one prefix, so that several apps can share a Redis.

    The roster's scripts (storage/roster_scripts.py) use, besides `held`:
    `instances`, sorted set: instance -> when its lease ends (ms, Redis' clock);
    `clients`, hash: instance -> its count of connected clients;
    `roster:<user>`, hash: `instance|sid` -> device; `online`, set of users with a roster;
    `seen:<user>`, last sign of life of a device that left while others stayed (ms);
    `visit:<user>`, when the user last came over REST (ms);
    `grace`, sorted set: user without a device -> when they count as offline (ms);
    `last`, hash: user in `grace` -> when they were last seen (ms).

    `login:<who>` (storage/throttle.py) counts failed logins until its end.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._held = f"{prefix}:held:"
        self._user_channel = f"{prefix}:u:"

    def held(self, instance: str) -> str:
        """Set of the users with an entry of this instance in their roster."""
        return self._held + instance

    def user_channel(self, user_id: str) -> str:
        """Everything live about one user: documents and presence."""
        return self._user_channel + user_id

    def user_of(self, channel: str) -> str | None:
        """The user whose channel it is, or None."""
        if channel.startswith(self._user_channel):
            return channel[len(self._user_channel) :]
        return None

    def echo_channel(self, instance: str) -> str:
        """An instance's messages to itself."""
        return f"{self.prefix}:i:{instance}"
