"""Cross-origin requests of browsers, for REST; Socket.IO's path answers for itself."""

from collections.abc import Sequence

from aiohttp import hdrs, web

from server.problems import Handler

METHODS = "GET, POST, PUT, DELETE"
HEADERS = "Authorization, Content-Type, If-None-Match, If-Match, Idempotency-Key, X-Request-Id"
EXPOSED = "ETag, X-Request-Id, Retry-After, Link"
MAX_AGE = "600"  # seconds that a browser may remember a preflight


class Cors:
    """Lets pages of `origins` in; `*` is every page, and then never with credentials."""

    def __init__(self, origins: Sequence[str], socket_path: str) -> None:
        self._any = "*" in origins
        self._origins = frozenset(origins)
        self._socket_path = socket_path

    def allowed(self, origin: str) -> bool:
        """Whether a page of `origin` may call."""
        return self._any or origin in self._origins

    @web.middleware
    async def answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer preflights and mark what pages may read."""
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None or request.path.startswith(self._socket_path):
            return await handler(request)
        if request.method == "OPTIONS" and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers:
            response: web.StreamResponse = web.Response(status=204)
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = METHODS
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = HEADERS
            response.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = MAX_AGE
        else:
            response = await handler(request)
        if self.allowed(origin):
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = "*" if self._any else origin
            response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = EXPOSED
            if not self._any:
                response.headers[hdrs.ACCESS_CONTROL_ALLOW_CREDENTIALS] = "true"
        if not self._any:
            response.headers.add(hdrs.VARY, "Origin")
        return response
