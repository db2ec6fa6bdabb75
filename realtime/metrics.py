"""What the live part counts, in Prometheus' terms; one registry per process."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class Metrics:
    """Counters, gauges and histograms of the live part, registered in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.sockets = Gauge(
            "livetally_sockets", "Engine.IO connections open in this process", registry=registry
        )
        self.joined = Gauge(
            "livetally_joined_sockets", "Sockets in a user's room", registry=registry
        )
        self.closed = Counter(
            "livetally_sockets_closed", "Connections ended", ["reason"], registry=registry
        )
        self.events = Counter(
            "livetally_events", "Socket.IO events received", ["event"], registry=registry
        )
        self.refused = Counter(
            "livetally_refusals", "Events refused with a code", ["code"], registry=registry
        )
        self.coalesced = Counter(
            "livetally_coalesced_frames",
            "Documents that a newer one replaced before a slow reader took them",
            registry=registry,
        )
        self.commit_seconds = Histogram(
            "livetally_commit_seconds",
            "From a change's arrival to its durable write",
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_size = Histogram(
            "livetally_commit_batch_changes",
            "Changes in one group commit",
            buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500, 1000),
            registry=registry,
        )
        self.overtaken = Counter(
            "livetally_commit_overtaken",
            "Documents read again because another instance wrote them first",
            registry=registry,
        )
        self.commit_reads = Counter(
            "livetally_commit_reads",
            "Documents read for a commit; the others were remembered from the last one",
            registry=registry,
        )
        self.waiting = Gauge(
            "livetally_commit_queue", "Changes waiting for their commit", registry=registry
        )
        self.waiting_reads = Gauge(
            "livetally_read_queue", "Users that wait for a shared read", registry=registry
        )
        self.published = Counter(
            "livetally_redis_published", "Messages handed to Redis", registry=registry
        )
        self.publish_lost = Counter(
            "livetally_redis_publish_lost",
            "Messages not published because Redis was away or behind; reconciled later",
            registry=registry,
        )
        self.received = Counter(
            "livetally_redis_received", "Messages that came from Redis", registry=registry
        )
        self.subscriptions = Gauge(
            "livetally_redis_subscriptions", "Users' channels subscribed", registry=registry
        )
        self.echo_seconds = Histogram(
            "livetally_redis_echo_seconds",
            "Round trip of this instance's own message through Redis",
            buckets=_SECONDS,
            registry=registry,
        )
        self.reconciled = Counter(
            "livetally_reconciled", "Users brought up to date by comparing revs", registry=registry
        )
        self.watches = Gauge(
            "livetally_watches",
            "Users watched by sockets here, each counted once per socket",
            registry=registry,
        )
        self.edges = Counter(
            "livetally_presence_edges", "Users announced on or off", ["edge"], registry=registry
        )
