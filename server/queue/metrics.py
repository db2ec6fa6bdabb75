"""What the queue counts."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class QueueMetrics:
    """Counters, gauges and histograms of the queue, registered in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.depth = Gauge(
            "livetally_queue_items",
            "Items of all users that are not completed; the same on every instance",
            ["status"],
            registry=registry,
        )
        self.oldest = Gauge(
            "livetally_queue_oldest_pending_seconds",
            "Age of the oldest pending item; the same on every instance",
            registry=registry,
        )
        self.seconds = Histogram(
            "livetally_queue_done_seconds",
            "From an item's adding to its completion",
            buckets=(0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 21_600, 86_400),
            registry=registry,
        )
        self.attempts = Histogram(
            "livetally_queue_attempts",
            "Attempts that an item took until it ended",
            ["status"],
            buckets=(1, 2, 3, 5, 10, 20),
            registry=registry,
        )
        self.expired = Counter(
            "livetally_queue_leases_expired",
            "Items taken back from workers that died or were too slow",
            registry=registry,
        )
