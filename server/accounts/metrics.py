"""What accounts count."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class AccountMetrics:
    """Counters and gauges of accounts, registered in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.logins = Counter(
            "livetally_logins", "Attempts to log in", ["outcome"], registry=registry
        )
        self.registrations = Counter(
            "livetally_registrations", "Accounts made", ["kind"], registry=registry
        )
        self.throttled = Counter(
            "livetally_logins_throttled",
            "Logins refused after too many failures",
            registry=registry,
        )
        self.hashing = Gauge(
            "livetally_password_hashes_waiting",
            "Password hashes under way or waiting for a thread",
            registry=registry,
        )
