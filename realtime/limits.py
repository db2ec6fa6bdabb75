"""Limits and timings of the live part; seconds and bytes. `server/settings.py` fills them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LiveLimits:
    """What one process grants; a limit of 0 is none, where that makes sense."""

    ping_interval: float = 25.0
    ping_timeout: float = 20.0
    connect_timeout: float = 10.0
    max_payload: int = 131_072
    events_per_second: int = 50
    max_in_flight: int = 128
    """Stats changes of one connection whose ack is still to come."""
    watch_max: int = 500
    sockets_per_user: int = 100
    lease: float = 12.0
    grace: float = 15.0
    visit: float = 300.0
    """How long a status said without a socket keeps its user online."""
    expired_grace: float = 25.0
    """From `auth:expired` to the end of the transport."""
    reconcile_every: float = 30.0
    write_timeout: float = 4.0
    """From a change's arrival to its verdict, `unavailable` at the latest."""
    read_timeout: float = 4.0
    max_batch: int = 500
    max_waiting: int = 20_000
    """Changes in one process that wait for their commit."""
    max_publishes: int = 20_000
    """Messages that wait for Redis."""
    user_updates_per_second: float = 2.0
    echo_every: float = 2.0
    echo_timeout: float = 6.0

    def for_clients(self) -> dict[str, int]:
        """The limits that the answer to `presence:join` tells."""
        return {
            "pingInterval": round(self.ping_interval * 1000),
            "eventsPerSecond": self.events_per_second,
            "maxPayload": self.max_payload,
            "maxInFlight": self.max_in_flight,
            "watchMax": self.watch_max,
        }
