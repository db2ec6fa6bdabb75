"""Keys that tokens are verified with, and those of others that come by URL (RFC 7517)."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from domain.errors import AppError, Code
from realtime.tasks import Tasks
from server.settings import SettingsError

log = logging.getLogger(__name__)

JWKS_FRESH = 300.0  # seconds until keys are fetched again
JWKS_COOLDOWN = 10.0  # at most one fetch in this time, whatever kids tokens name
JWKS_TIMEOUT = 5.0
JWKS_MAX_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Key:
    """What verifies a token, and the one algorithm it is used with; never shown."""

    public: Any
    """A public key, or a secret."""
    algorithm: str
    kid: str | None = None
    private: Any = None
    """What this server signs with: the other half, or the same secret; None where it does not."""


class JwksKeys:
    """The keys of a JWKS URL: cached, fetched again when old or when a new `kid` appears.

    While the URL does not answer the keys at hand stay in use.
    """

    def __init__(self, fetch: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        self._fetch = fetch
        self._keys: dict[str | None, Key] = {}
        self._fetched_at = -JWKS_FRESH
        self._tried_at = -JWKS_COOLDOWN
        self._lock = asyncio.Lock()
        self._tasks = Tasks()

    async def find(self, token: str) -> Sequence[Key]:
        """The key that the token's `kid` names, or the only one; raises AppError.

        A key at hand is used at once, and an old set of keys refreshed in the background.
        """
        kid = kid_of(token)
        now = time.monotonic()
        key = self._lookup(kid)
        if key is None:
            await self._refresh(now)
            key = self._lookup(kid)
        elif now - self._fetched_at > JWKS_FRESH and not len(self._tasks):
            self._tasks.spawn(self._refresh(now), "jwks")
        if key is not None:
            return (key,)
        if self._fetched_at < self._tried_at:  # the last fetch failed
            raise AppError(Code.UNAVAILABLE, "The keys for tokens are not reachable right now")
        raise AppError(Code.INVALID_TOKEN, "The token is signed with an unknown key")

    async def close(self) -> None:
        """End a fetch under way."""
        await self._tasks.close()

    def _lookup(self, kid: str | None) -> Key | None:
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(kid)

    async def _refresh(self, asked_at: float) -> None:
        async with self._lock:
            if self._tried_at > asked_at or asked_at - self._tried_at < JWKS_COOLDOWN:
                return
            self._tried_at = time.monotonic()
            try:
                found = _parse_jwks(await self._fetch())
            except Exception as error:
                log.warning("JWKS: %s: %s", type(error).__name__, error)
                return
            if found:
                self._keys, self._fetched_at = found, time.monotonic()


def _parse_jwks(document: dict[str, Any]) -> dict[str | None, Key]:
    keys: dict[str | None, Key] = {}
    for entry in document["keys"]:
        if entry.get("use", "sig") != "sig":
            continue
        try:
            public = jwt.PyJWK(entry).key
            keys[entry.get("kid")] = Key(public, algorithm_for(public))
        except (jwt.PyJWTError, SettingsError):
            log.debug("JWKS: a key of an unused kind")
    return keys


async def fetch_jwks(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    """The document at `url`; raises for anything but a JSON object in time and in size."""
    timeout = aiohttp.ClientTimeout(total=JWKS_TIMEOUT)
    async with session.get(url, timeout=timeout, allow_redirects=False) as answer:
        answer.raise_for_status()
        body = await answer.content.read(JWKS_MAX_BYTES)
    document = orjson.loads(body)
    if not isinstance(document, dict):
        raise TypeError("not a JSON object")
    return document


def algorithm_for(key: Any) -> str:
    """The algorithm for a public key; raises SettingsError for kinds that we do not take."""
    if isinstance(key, RSAPublicKey) and key.key_size >= 2048:
        return "RS256"
    if isinstance(key, EllipticCurvePublicKey) and key.curve.name == "secp256r1":
        return "ES256"
    if isinstance(key, Ed25519PublicKey):
        return "EdDSA"
    raise SettingsError("a key must be RSA (2048 bits or more), EC P-256 or Ed25519")


def kid_of(token: str) -> str | None:
    """The `kid` of a token that nobody has verified yet; raises AppError `invalid_token`."""
    try:
        kid = jwt.get_unverified_header(token).get("kid")
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise AppError(Code.INVALID_TOKEN, "The token is not a JWT") from None
    return kid if isinstance(kid, str) else None


class JwksSession:
    """An HTTP client for JWKS, made on first use."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def fetch(self, url: str) -> dict[str, object]:
        """The JWKS document at `url`."""
        if self._session is None:
            self._session = aiohttp.ClientSession()
        return await fetch_jwks(self._session, url)

    async def close(self) -> None:
        """Close its connections."""
        if self._session is not None:
            await self._session.close()
