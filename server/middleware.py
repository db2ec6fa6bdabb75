"""What every request passes: the log line, and the door for live connections."""

import logging
import time

from aiohttp import web

from domain.errors import AppError, Code
from server.keys import DRAINING, LIMITS, LIVE, SETTINGS
from server.problems import Handler, request_id

log = logging.getLogger(__name__)

SOCKET_PATH = "/socket.io"
FREE = ("/health", "/metrics")


@web.middleware
async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let new live connections in while there is room; everything else passes."""
    app = request.app
    if (
        not request.path.startswith(SOCKET_PATH)
        or request.method == "OPTIONS"
        or app[LIVE].gateway.has_session(request.query.get("sid"))
    ):
        return await handler(request)
    transports = app[SETTINGS].transports
    if "polling" not in transports and request.query.get("transport", "polling") == "polling":
        raise AppError(Code.BAD_REQUEST, "No polling here: connect with transports: ['websocket']")
    if app[DRAINING].is_set():
        raise AppError(Code.DRAINING, "This instance is going down: reconnect", retry_after=1.0)
    most = app[SETTINGS].max_connections
    if most and app[LIVE].gateway.sockets() >= most:
        raise AppError(Code.OVERLOADED, "This instance is full: try again", retry_after=5.0)
    limits = app[LIMITS]
    limits.connection(limits.client_address(request))
    return await handler(request)


@web.middleware
async def log_requests(request: web.Request, handler: Handler) -> web.StreamResponse:
    """One line a request: WARNING when it failed here, INFO when refused, else DEBUG."""
    started = time.monotonic()
    response = await handler(request)
    level = logging.DEBUG
    if response.status >= 400:
        level = logging.WARNING if response.status >= 500 else logging.INFO
    if log.isEnabledFor(level) and not request.path.startswith(FREE):
        log.log(
            level,
            "%s %s %d",
            request.method,
            request.path[:200],
            response.status,
            extra={
                "request": request_id(request),
                "ms": round((time.monotonic() - started) * 1000, 1),
            },
        )
    return response
