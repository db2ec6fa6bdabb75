"""What the application holds, by typed key."""

import asyncio

from aiohttp import web

from realtime.live import Live
from server.accounts.feature import Accounts
from server.auth import TokenVerifier
from server.health import Health
from server.limits import RequestLimits
from server.metrics import HttpMetrics
from server.queue.service import QueueService
from server.resources.service import ResourceService
from server.settings import Settings
from server.signing import Keyring
from server.sync.service import SyncService

SETTINGS = web.AppKey("settings", Settings)
KEYRING = web.AppKey("keyring", Keyring)
VERIFIER = web.AppKey("verifier", TokenVerifier)
LIMITS = web.AppKey("limits", RequestLimits)
METRICS = web.AppKey("metrics", HttpMetrics)
LIVE = web.AppKey("live", Live)
ACCOUNTS = web.AppKey("accounts", Accounts)
SYNC = web.AppKey("sync", SyncService)
RESOURCES = web.AppKey("resources", ResourceService)
QUEUE = web.AppKey("queue", QueueService)
HEALTH = web.AppKey("health", Health)
DRAINING = web.AppKey("draining", asyncio.Event)
