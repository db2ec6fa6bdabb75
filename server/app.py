"""The application, wired once, top to bottom."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Collection
from typing import Any

from aiohttp import web

from domain.identity import Identity
from realtime.live import Live, Stores
from server import stats, well_known
from server.accounts import auth_routes, profile_routes
from server.accounts.feature import Accounts
from server.auth import Keys, TokenVerifier
from server.cors import Cors
from server.docs import Docs
from server.health import VERSION, Health
from server.jwks import JwksKeys, JwksSession
from server.keys import (
    ACCOUNTS,
    DRAINING,
    HEALTH,
    KEYRING,
    LIMITS,
    LIVE,
    METRICS,
    QUEUE,
    RESOURCES,
    SETTINGS,
    SYNC,
    VERIFIER,
)
from server.limits import RequestLimits
from server.logs import quiet_about_clients
from server.metrics import HttpMetrics
from server.middleware import SOCKET_PATH, admit, log_requests
from server.openapi import document
from server.problems import MAX_BODY, add_headers, problems
from server.queue import routes as queue_routes
from server.queue.handlers import Handlers, built_in, own_handlers
from server.queue.metrics import QueueMetrics
from server.queue.service import QueueService
from server.queue.worker import Worker
from server.resources import routes as resource_routes
from server.resources.service import ResourceService
from server.settings import Settings, naming
from server.signing import keyring, signer_of
from server.sync import routes as sync_routes
from server.sync.metrics import SyncMetrics
from server.sync.service import SyncService
from server.sync.types import entity_types
from storage.indexes import Indexes
from storage.mongo import Mongo
from storage.names import RedisNames
from storage.presence import PresenceRepository
from storage.queue import QueueRepository
from storage.redis import RedisLink
from storage.resources import ResourceRepository
from storage.stats import StatsRepository
from storage.sync import SyncRepository
from storage.units import Units

RUNNER_OPTIONS: dict[str, Any] = {
    "access_log": None,  # log_requests writes our own
    "keepalive_timeout": 75.0,  # seconds; longer than a load balancer's
    "auto_decompress": False,  # read_json does it, with a bound and with problems as answers
}
"""For the `web.AppRunner` that serves the application."""


def now_ms() -> int:
    """The wall clock, milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def create_app(settings: Settings) -> web.Application:
    """The whole server for `settings`, which must name a MongoDB and a Redis.

    Nothing connects before the application starts. Raises SettingsError.
    """
    if settings.mongodb_uri is None or settings.redis_url is None:
        raise ValueError("create_app needs mongodb_uri and redis_url")
    instance = secrets.token_hex(6)
    names = RedisNames(settings.redis_prefix)
    schema = settings.schema_of_stats()
    with naming("MONGODB_URI and MONGODB_DB"):
        mongo = Mongo(settings.mongodb_uri, settings.mongodb_db, settings.queue_lease)
    with naming("REDIS_URL"):
        link = RedisLink(settings.redis_url, names, settings.redis_timeout)
    metrics = HttpMetrics()
    limits = RequestLimits(settings)
    cors = Cors(settings.cors_origin, SOCKET_PATH)
    own_keys = keyring(settings)
    jwks = JwksSession()
    keys: Keys = own_keys
    if (url := settings.jwt_jwks_url) is not None:
        keys = JwksKeys(lambda: jwks.fetch(url))

    async def check_session(identity: Identity) -> None:
        await accounts.sessions.check(identity)

    def end_here(sessions: Collection[str], users: Collection[str]) -> None:
        verifier.forget(sessions, users)
        live.end_sessions(sessions, users)

    verifier = TokenVerifier(keys, settings.jwt_issuer, settings.jwt_audience, check_session)
    stats_kept, presence_kept = StatsRepository(mongo, schema), PresenceRepository(mongo)
    live = Live(
        instance=instance,
        stores=Stores(stats_kept, presence_kept, link),
        schema=schema,
        limits=settings.limits(),
        metrics=metrics.live,
        clock=now_ms,
        verify=verifier.verify,
        client_address=limits.client_address,
        transports=settings.transports,
        cors_origins="*" if "*" in settings.cors_origin else cors.allowed,
    )
    indexes = Indexes(mongo)
    sync_kept = SyncRepository(mongo, indexes, round(settings.sync_log_kept * 1000))
    sync = SyncService(
        entity_types(settings), sync_kept, live, settings, SyncMetrics(metrics.registry), now_ms
    )
    units = Units(mongo)
    resources_kept = ResourceRepository(mongo, indexes)
    queue_kept = QueueRepository(
        mongo,
        indexes,
        round(settings.queue_completed_kept * 1000),
        round(settings.queue_failed_kept * 1000),
    )
    accounts = Accounts(
        settings,
        mongo,
        indexes,
        link,
        live,
        signer_of(settings),
        others=[stats_kept, presence_kept, sync_kept, units, queue_kept, resources_kept],
        on_end=end_here,
        registry=metrics.registry,
        clock=now_ms,
    )
    resources = ResourceService(resources_kept, units, now_ms)
    with naming("QUEUE_HANDLERS"):
        handlers = Handlers([*built_in(resources, accounts.profiles), *own_handlers(settings)])
    queue_metrics = QueueMetrics(metrics.registry)
    queue = QueueService(
        queue_kept,
        units,
        handlers,
        live,
        settings,
        queue_metrics,
        now_ms,
    )
    worker = Worker(queue, queue_kept, queue_metrics, now_ms)
    draining = asyncio.Event()
    health = Health(instance, mongo, link, live, now_ms, draining)

    quiet_about_clients()
    app = web.Application(
        middlewares=[log_requests, metrics.count, cors.answer, problems, admit],
        client_max_size=MAX_BODY,
    )
    app[SETTINGS] = settings
    app[KEYRING] = own_keys
    app[VERIFIER] = verifier
    app[LIMITS] = limits
    app[METRICS] = metrics
    app[LIVE] = live
    app[ACCOUNTS] = accounts
    app[SYNC] = sync
    app[RESOURCES] = resources
    app[QUEUE] = queue
    app[HEALTH] = health
    app[DRAINING] = draining
    app.on_response_prepare.append(add_headers)

    docs = Docs()
    endpoints = [
        *auth_routes.ENDPOINTS,
        *profile_routes.ENDPOINTS,
        *stats.endpoints(schema),
        *sync_routes.ENDPOINTS,
        *queue_routes.ENDPOINTS,
        *resource_routes.ENDPOINTS,
        *health.endpoints(),
        *metrics.endpoints(),
        *well_known.ENDPOINTS,
        *docs.endpoints(),
    ]
    docs.publish(lambda: document(endpoints, VERSION))
    app.add_routes(endpoint.route() for endpoint in endpoints)
    live.gateway.io.attach(app, SOCKET_PATH)

    async def clients(_: web.Application) -> AsyncIterator[None]:
        yield
        await verifier.close()
        await jwks.close()
        await link.close()
        await mongo.close()

    async def running(_: web.Application) -> AsyncIterator[None]:
        await live.start()
        accounts.start()
        sync.start()
        worker.start()
        await health.start()
        metrics.start()
        yield
        await metrics.stop()
        await health.stop()
        await worker.stop()
        await sync.stop()
        await accounts.stop()
        await live.stop()

    app.cleanup_ctx.extend([clients, running])
    return app
