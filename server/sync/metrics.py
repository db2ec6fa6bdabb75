"""What sync counts."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class SyncMetrics:
    """Counters and gauges of sync, registered in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.changes = Counter(
            "livetally_sync_changes", "Changes acknowledged", ["outcome"], registry=registry
        )
        self.pulled = Counter("livetally_sync_rows_pulled", "Rows sent", registry=registry)
        self.under_way = Gauge(
            "livetally_sync_under_way", "Pushes and pulls under way", registry=registry
        )
