"""Who asks over REST, counted against their limit."""

from aiohttp import web

from domain.errors import AppError, Code
from domain.identity import Identity, refuse_query_token
from server.keys import LIMITS, VERIFIER


async def identify(request: web.Request) -> Identity:
    """Whose request it is, counted against their limit; raises AppError."""
    limits = request.app[LIMITS]
    try:
        identity = await request.app[VERIFIER].verify(_bearer(request))
    except AppError:
        limits.request(f"address {limits.client_address(request)}")
        raise
    limits.request(f"user {identity.user_id}")
    return identity


async def identify_if_told(request: web.Request) -> Identity | None:
    """Likewise, or None, counted against the address, when no token came."""
    if "Authorization" in request.headers:
        return await identify(request)
    count_address(request)
    return None


def count_address(request: web.Request) -> str:
    """Count a request that needs no token against its address; answers the address."""
    refuse_query_token(request.query)
    limits = request.app[LIMITS]
    address = limits.client_address(request)
    limits.request(f"address {address}")
    return address


def _bearer(request: web.Request) -> str:
    refuse_query_token(request.query)
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise AppError(Code.MISSING_TOKEN, "Send Authorization: Bearer <JWT>")
    return token.strip()
