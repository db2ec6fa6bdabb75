"""Tokens: verified by the algorithm that the configuration names, never the token's own."""

import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jwt

from domain.errors import AppError, Code
from domain.identity import Identity, Role
from domain.ids import parse_id
from server.jwks import Key, kid_of
from server.signing import NAME

MAX_TOKEN = 8 * 1024
MAX_VERIFIED = 2_000  # tokens remembered as good: 1 MB, 16 MB if each were as long as can be
MAX_SESSION_ID = 128
FAR_FUTURE = 253_402_300_799  # the last second of 9999


class Keys(Protocol):
    """Finds the keys for a token: this server's own, or those of a JWKS."""

    async def find(self, token: str) -> Sequence[Key]:
        """The keys to verify `token` with, in this order; raises AppError."""

    async def close(self) -> None:
        """End what is under way."""


@dataclass(slots=True, eq=False)
class _Asking:
    """A question about a session that is under way."""

    identity: Identity
    stale: bool = True
    """Whether the answer may tell of how it was before `forget`."""


class TokenVerifier:
    """From a token to an Identity.

    The newest tokens are remembered, since REST clients send theirs with each request.
    `check_session` is asked about a token that this server signed for a session, before that is
    remembered; it raises AppError to refuse.
    """

    def __init__(
        self,
        keys: Keys,
        issuer: str | None,
        audience: str | None,
        check_session: Callable[[Identity], Awaitable[None]] | None = None,
    ) -> None:
        self._keys = keys
        self._own_issuer = issuer or NAME
        self._check_session = check_session
        self._checks: dict[str, Any] = {"issuer": issuer, "audience": audience, "leeway": 0}
        required = ["exp", "sub"] + ["iss"] * bool(issuer) + ["aud"] * bool(audience)
        self._verified: dict[str, tuple[Key, Identity]] = {}  # by token, with the key it is for
        self._asking: set[_Asking] = set()
        self._options: Any = {"require": required, "verify_aud": audience is not None}

    async def close(self) -> None:
        """End what is under way for keys."""
        await self._keys.close()

    async def verify(self, token: str) -> Identity:
        """The identity of a token; raises AppError `invalid_token` or `token_expired`.

        And whatever the check of its session raises.
        """
        if len(token) > MAX_TOKEN:
            raise AppError(Code.INVALID_TOKEN, "The token is too long")
        keys = await self._keys.find(token)
        known = self._verified.get(token)
        if known is not None and known[0] in keys and known[1].expires_at > time.time():
            return known[1]
        key, claims = self._decode(token, keys)
        identity = self._identity(token, key, claims)
        if identity.session_id is not None:
            await self._ask(identity)
        if len(self._verified) >= MAX_VERIFIED:
            del self._verified[next(iter(self._verified))]
        self._verified[token] = key, identity
        return identity

    def forget(self, sessions: Collection[str], users: Collection[str]) -> None:
        """Check the tokens of these sessions, and of these users, anew when they come next.

        What a check under way was told about one of them does not count: it asks once more.
        """

        def named(identity: Identity) -> bool:
            return identity.session_id in sessions or identity.user_id in users

        for token in [token for token, (_, known) in self._verified.items() if named(known)]:
            del self._verified[token]
        for asking in self._asking:
            asking.stale = asking.stale or named(asking.identity)

    async def _ask(self, identity: Identity) -> None:
        if self._check_session is None:
            return
        asking = _Asking(identity)
        self._asking.add(asking)
        try:
            while asking.stale:
                asking.stale = False
                await self._check_session(identity)
        finally:
            self._asking.remove(asking)

    def _decode(self, token: str, keys: Sequence[Key]) -> tuple[Key, dict[str, Any]]:
        for key in keys:
            try:
                claims = jwt.decode(
                    token,
                    key.public,
                    algorithms=[key.algorithm],
                    options=self._options,
                    **self._checks,
                )
            except jwt.ExpiredSignatureError:
                raise AppError(Code.TOKEN_EXPIRED, "The token has run out: get a new one") from None
            except (jwt.PyJWTError, ValueError, TypeError, RecursionError, OverflowError):
                continue
            return key, claims
        raise AppError(Code.INVALID_TOKEN, "The token is not valid here")

    def _identity(self, token: str, key: Key, claims: dict[str, Any]) -> Identity:
        try:
            user = parse_id(claims["sub"], "sub")
        except AppError:
            raise AppError(Code.INVALID_TOKEN, "The token's sub is not a valid id") from None
        expires_at = min(int(claims["exp"]), FAR_FUTURE)
        session = self._session(token, key, claims)
        return Identity(user, Role.of(claims.get("role")), expires_at, session)

    def _session(self, token: str, key: Key, claims: dict[str, Any]) -> str | None:
        """The session that this server signed the token for.

        Others have a `sid` of their own (OpenID Connect providers, also the app's backend).
        """
        if "sid" not in claims or key.private is None:
            return None
        if claims.get("iss") != self._own_issuer or kid_of(token) != key.kid:
            return None
        session = claims["sid"]
        if not isinstance(session, str) or not 1 <= len(session) <= MAX_SESSION_ID:
            raise AppError(Code.INVALID_TOKEN, "The token's sid is not a session")
        return session
