"""Who asks over REST, counted against their limit, and what their query says."""

from typing import TypeVar

from aiohttp import web

from domain.errors import AppError, Code
from domain.identity import Identity, refuse_query_token
from domain.parsing import Query, parse
from server.keys import LIMITS, VERIFIER

Q = TypeVar("Q", bound=Query)


def read_query(model: type[Q], request: web.Request) -> Q:
    """The query string as a model; raises AppError naming the parameter."""
    if len(set(request.query)) != len(request.query):
        raise AppError(Code.INVALID_VALUE, "A parameter is there twice")
    return parse(model, dict(request.query))


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
