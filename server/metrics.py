"""Prometheus: the process' registry, what HTTP counts, and the route that shows it all."""

import asyncio
import time

from aiohttp import web
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from realtime.metrics import Metrics
from realtime.tasks import Loop
from server.endpoints import Answer, Endpoint
from server.problems import Handler

LAG_EVERY = 0.25  # seconds


class HttpMetrics:
    """Counts requests by route (never by path: the label set is bounded), and the loop's lag."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.live = Metrics(self.registry)
        self.requests = Counter(
            "livetally_http_requests",
            "HTTP requests answered",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "livetally_http_seconds",
            "Time to answer an HTTP request",
            ["route"],
            registry=self.registry,
        )
        self.lag = Gauge(
            "livetally_event_loop_lag_seconds",
            "How late the event loop woke up last",
            registry=self.registry,
        )
        self._loop = Loop("loop lag", self._measure, 0.0)

    def start(self) -> None:
        """Begin to watch the event loop."""
        self._loop.start()

    async def stop(self) -> None:
        """End."""
        await self._loop.stop()

    async def _measure(self) -> None:
        before = time.monotonic()
        await asyncio.sleep(LAG_EVERY)
        self.lag.set(max(0.0, time.monotonic() - before - LAG_EVERY))

    @web.middleware
    async def count(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count one request."""
        started = time.monotonic()
        response = await handler(request)
        resource = request.match_info.route.resource
        route = resource.canonical if resource else "none"
        if response.status != 101:
            self.seconds.labels(route).observe(time.monotonic() - started)
        self.requests.labels(request.method, route, response.status).inc()
        return response

    async def show(self, _: web.Request) -> web.Response:
        """GET /metrics."""
        return web.Response(
            body=generate_latest(self.registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    def endpoints(self) -> list[Endpoint]:
        """Its route."""
        exposed = Answer("Prometheus' text format", {"type": "string"}, "text/plain")
        return [
            Endpoint(
                *("GET", "/metrics", self.show, "operations", "Metrics of this process"),
                answers={200: exposed},
                auth="none",
            )
        ]
