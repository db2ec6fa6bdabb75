"""Tokens: verified by the algorithm that the configuration names, never the token's own."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from domain.errors import AppError, Code
from domain.identity import Identity, Role
from domain.ids import parse_id
from realtime.tasks import Tasks
from server.settings import Settings, SettingsError, naming

log = logging.getLogger(__name__)

MAX_TOKEN = 8 * 1024
MAX_VERIFIED = 2_000  # tokens remembered as good: 1 MB, 16 MB if each were as long as can be
JWKS_FRESH = 300.0  # seconds until keys are fetched again
JWKS_COOLDOWN = 10.0  # at most one fetch in this time, whatever kids tokens name
JWKS_TIMEOUT = 5.0
JWKS_MAX_BYTES = 1024 * 1024
FAR_FUTURE = 253_402_300_799  # the last second of 9999

Key = tuple[Any, str]
"""A key and the one algorithm it is used with."""


class Keys(Protocol):
    """Finds the key for a token: a fixed one, or one of a JWKS."""

    async def find(self, token: str) -> Key:
        """The key to verify `token` with; raises AppError."""

    async def close(self) -> None:
        """End what is under way."""


class FixedKey:
    """One secret or public key."""

    def __init__(self, key: Any, algorithm: str) -> None:
        self._key = key, algorithm

    async def find(self, token: str) -> Key:
        """The key, whatever the token says."""
        return self._key

    async def close(self) -> None:
        """Nothing is under way."""


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

    async def find(self, token: str) -> Key:
        """The key that the token's `kid` names, or the only one; raises AppError.

        A key at hand is used at once, and an old set of keys refreshed in the background.
        """
        kid = _header(token).get("kid")
        kid = kid if isinstance(kid, str) else None
        now = time.monotonic()
        key = self._lookup(kid)
        if key is None:
            await self._refresh(now)
            key = self._lookup(kid)
        elif now - self._fetched_at > JWKS_FRESH and not len(self._tasks):
            self._tasks.spawn(self._refresh(now), "jwks")
        if key is not None:
            return key
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
            key = jwt.PyJWK(entry).key
            keys[entry.get("kid")] = key, algorithm_for(key)
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
    raise SettingsError("a public key must be RSA (2048 bits or more), EC P-256 or Ed25519")


def public_key(text: str) -> Any:
    """The key of a PEM text (newlines may be written as \\n) or of a PEM file's path."""
    pem = text.replace("\\n", "\n")
    try:
        if "-----BEGIN" not in pem:
            pem = Path(text).read_text()
        return load_pem_public_key(pem.encode())
    except (OSError, ValueError) as error:
        raise SettingsError(f"not a PEM public key or its path: {error}") from None


def keys_of(settings: Settings, fetch: Callable[[str], Awaitable[dict[str, Any]]]) -> Keys:
    """The configured keys; raises SettingsError."""
    if settings.jwt_jwks_url is not None:
        url = settings.jwt_jwks_url
        return JwksKeys(lambda: fetch(url))
    if settings.jwt_public_key is not None:
        with naming("JWT_PUBLIC_KEY"):
            key = public_key(settings.jwt_public_key)
            return FixedKey(key, algorithm_for(key))
    if settings.jwt_secret is None:
        raise SettingsError(
            "JWT_SECRET is missing: set it to at least 32 random bytes "
            "(openssl rand -hex 32), or set JWT_PUBLIC_KEY or JWT_JWKS_URL"
        )
    return FixedKey(settings.jwt_secret.get_secret_value(), "HS256")


class TokenVerifier:
    """From a token to an Identity.

    The newest tokens are remembered, since REST clients send theirs with each request.
    """

    def __init__(self, keys: Keys, issuer: str | None, audience: str | None) -> None:
        self._keys = keys
        self._checks: dict[str, Any] = {"issuer": issuer, "audience": audience, "leeway": 0}
        required = ["exp", "sub"] + ["iss"] * bool(issuer) + ["aud"] * bool(audience)
        self._verified: dict[str, tuple[Any, Identity]] = {}  # by token, with the key it is for
        self._options: Any = {"require": required, "verify_aud": audience is not None}

    async def close(self) -> None:
        """End what is under way for keys."""
        await self._keys.close()

    async def verify(self, token: str) -> Identity:
        """The identity of a token; raises AppError `invalid_token` or `token_expired`."""
        if len(token) > MAX_TOKEN:
            raise AppError(Code.INVALID_TOKEN, "The token is too long")
        key, algorithm = await self._keys.find(token)
        known = self._verified.get(token)
        if known is not None and known[0] is key and known[1].expires_at > time.time():
            return known[1]
        identity = self._check(token, key, algorithm)
        if len(self._verified) >= MAX_VERIFIED:
            del self._verified[next(iter(self._verified))]
        self._verified[token] = key, identity
        return identity

    def _check(self, token: str, key: Any, algorithm: str) -> Identity:
        try:
            claims = jwt.decode(
                token, key, algorithms=[algorithm], options=self._options, **self._checks
            )
        except jwt.ExpiredSignatureError:
            raise AppError(Code.TOKEN_EXPIRED, "The token has run out: get a new one") from None
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError, OverflowError):
            raise AppError(Code.INVALID_TOKEN, "The token is not valid here") from None
        try:
            user = parse_id(claims["sub"], "sub")
        except AppError:
            raise AppError(Code.INVALID_TOKEN, "The token's sub is not a valid id") from None
        return Identity(user, Role.of(claims.get("role")), min(int(claims["exp"]), FAR_FUTURE))


def _header(token: str) -> dict[str, Any]:
    try:
        return jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise AppError(Code.INVALID_TOKEN, "The token is not a JWT") from None


def mint(settings: Settings, user: str, role: Role) -> str:
    """A token of `user` signed with JWT_SECRET; raises SettingsError without one."""
    if settings.jwt_secret is None:
        raise SettingsError("tokens are made where the private key is; here is no JWT_SECRET")
    now = int(time.time())
    claims = {"sub": user, "role": role.value, "iat": now, "exp": now + int(settings.jwt_expire)}
    if settings.jwt_issuer:
        claims["iss"] = settings.jwt_issuer
    if settings.jwt_audience:
        claims["aud"] = settings.jwt_audience
    return jwt.encode(claims, settings.jwt_secret.get_secret_value(), algorithm="HS256")
