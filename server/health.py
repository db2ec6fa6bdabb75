"""Health: for people (`/health`), for orchestrators (`/health/live`, `/health/ready`)."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any, Literal

from aiohttp import web

from domain.errors import AppError
from domain.times import iso
from realtime.live import Live
from realtime.tasks import Loop
from server.answers import UNCACHED, json_answer
from server.endpoints import Answer, AnswerBody, Endpoint, Time
from server.problems import Handler
from storage.mongo import Mongo
from storage.redis import RedisAway, RedisLink

log = logging.getLogger(__name__)

CHECK_EVERY = 1.0  # seconds
CHECK_TIMEOUT = 2.0
COUNT_EVERY = 10.0
VERSION = version("livetally")


class Counts(AnswerBody):
    """Who is connected."""

    connected_clients: int
    connected_users: int


class InstanceReport(Counts):
    """The process that answers."""

    id: str
    ready: bool


class ComponentReport(AnswerBody):
    """A store, as it was a second ago."""

    status: Literal["up", "down"]


class ComponentReports(AnswerBody):
    """All stores."""

    mongodb: ComponentReport
    redis: ComponentReport


class HealthReport(Counts):
    """The health for people; the counts are the whole cluster's."""

    status: Literal["OK", "DEGRADED", "DOWN"]
    timestamp: Time
    total_users: int
    uptime: float
    version: str
    instance: InstanceReport
    components: ComponentReports


class Alive(AnswerBody):
    """The process runs."""

    status: Literal["live"]


class Ready(AnswerBody):
    """It may get traffic."""

    status: Literal["ready"]


class NotReady(AnswerBody):
    """It should get no traffic now, and why."""

    status: Literal["not ready"]
    reasons: list[str]


class Health:
    """What the last look at MongoDB and Redis has shown; answers never wait for either."""

    def __init__(
        self,
        instance: str,
        mongo: Mongo,
        link: RedisLink,
        live: Live,
        clock: Callable[[], int],
        draining: asyncio.Event,
    ) -> None:
        self._instance = instance
        self._mongo = mongo
        self._link = link
        self._live = live
        self._clock = clock
        self._draining = draining
        self._started = time.monotonic()
        self._mongodb_up: bool | None = None  # not looked yet
        self._redis_up: bool | None = None
        self._users = 0
        self._counted_at = -COUNT_EVERY
        self._cluster: tuple[int, int] | None = None
        self._loop = Loop("health", self._look, CHECK_EVERY)

    async def start(self) -> None:
        """Look once, then again and again."""
        await self._look()
        self._loop.start()

    async def stop(self) -> None:
        """End."""
        await self._loop.stop()

    async def _look(self) -> None:
        await asyncio.gather(self._look_at_mongodb(), self._look_at_redis())

    async def _look_at_mongodb(self) -> None:
        try:
            await self._mongo.ping(CHECK_TIMEOUT)
            self._note("MongoDB", self._mongodb_up, True)
            self._mongodb_up = True
            if time.monotonic() - self._counted_at >= COUNT_EVERY:
                self._users = await self._live.stats.count()
                self._counted_at = time.monotonic()
        except AppError:
            self._note("MongoDB", self._mongodb_up, False)
            self._mongodb_up = False

    async def _look_at_redis(self) -> None:
        try:
            await self._link.ping()
        except RedisAway:
            self._note("Redis", self._redis_up, False)
            self._redis_up = False
            self._cluster = None
        else:
            self._note("Redis", self._redis_up, True)
            self._redis_up = True
            self._cluster = await self._live.presence.counts()

    def _note(self, name: str, was_up: bool | None, is_up: bool) -> None:
        if was_up != is_up:
            log.log(
                logging.INFO if is_up else logging.ERROR,
                "%s is %s",
                name,
                "reachable" if is_up else "away",
            )

    def reasons(self) -> list[str]:
        """Why this process should get no traffic now; empty when it should."""
        reasons = []
        if self._draining.is_set():
            reasons.append("draining")
        if not self._mongodb_up:
            reasons.append("mongodb away")
        if self._redis_up and self._live.fanout.deaf:
            reasons.append("own messages do not come back through redis")
        return reasons

    async def show(self, _: web.Request) -> web.Response:
        """GET /health."""
        status = "OK" if self._redis_up else "DEGRADED"
        if not self._mongodb_up:
            status = "DOWN"
        connections = self._live.gateway.connections.values()
        here = {
            "connectedClients": len(connections),
            "connectedUsers": len({connection.identity.user_id for connection in connections}),
        }
        cluster = self._cluster
        body: dict[str, Any] = {
            "status": status,
            "timestamp": iso(self._clock()),
            "connectedClients": cluster[0] if cluster else here["connectedClients"],
            "connectedUsers": cluster[1] if cluster else here["connectedUsers"],
            "totalUsers": self._users,
            "uptime": round(time.monotonic() - self._started, 3),
            "version": VERSION,
            "instance": {"id": self._instance, **here, "ready": not self.reasons()},
            "components": {
                "mongodb": {"status": "up" if self._mongodb_up else "down"},
                "redis": {"status": "up" if self._redis_up else "down"},
            },
        }
        return json_answer(body, 503 if status == "DOWN" else 200, UNCACHED)

    async def live(self, _: web.Request) -> web.Response:
        """GET /health/live: this very answer is the proof."""
        return json_answer({"status": "live"}, 200, UNCACHED)

    async def ready(self, _: web.Request) -> web.Response:
        """GET /health/ready."""
        if reasons := self.reasons():
            return json_answer({"status": "not ready", "reasons": reasons}, 503, UNCACHED)
        return json_answer({"status": "ready"}, 200, UNCACHED)

    def endpoints(self) -> list[Endpoint]:
        """Its routes."""
        well = Answer("OK, or DEGRADED with Redis away", HealthReport)
        down = Answer("DOWN: MongoDB is away", HealthReport)
        ready = {200: Answer("Yes", Ready), 503: Answer("No", NotReady)}
        return [
            _endpoint("/health", self.show, "Health, for people", {200: well, 503: down}),
            _endpoint("/health/live", self.live, "Whether it runs", {200: Answer("Yes", Alive)}),
            _endpoint("/health/ready", self.ready, "Whether it may get traffic", ready),
        ]


def _endpoint(path: str, handler: Handler, summary: str, answers: Mapping[int, Answer]) -> Endpoint:
    return Endpoint("GET", path, handler, "operations", summary, answers, auth="none")
