"""The keys of this server: the current one signs; it and the next one verify, and are published.

A key is changed in steps, between which instances of both steps serve at the same time: put the
new key next to the current one, swap the two, take the old one out.
"""

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jwt
import orjson
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm
from pydantic import SecretStr

from domain.identity import Role
from server.jwks import Key, algorithm_for, kid_of
from server.settings import Settings, SettingsError, naming

NAME = "livetally"
"""`iss` and `aud` of the tokens signed here, where none are configured."""

CLOCK_SKEW = 5
"""Seconds that another instance's clock may be behind without its taking a token for one from the
future."""

_JWK: dict[str, Any] = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}
_MEMBERS = ("crv", "e", "kty", "n", "x", "y")  # that make up a public key, in this order


class Keyring:
    """The keys that are configured here: the current one, and the next where there is one."""

    def __init__(self, *keys: Key) -> None:
        self._keys = keys
        self._by_kid = {key.kid: key for key in keys}

    @property
    def current(self) -> Key | None:
        """The key that signs, if it has its private half; None when all keys come by URL."""
        return self._keys[0] if self._keys else None

    async def find(self, token: str) -> Sequence[Key]:
        """The one that the token's `kid` names, else all; raises AppError `invalid_token`."""
        if len(self._keys) == 1:
            return self._keys
        named = self._by_kid.get(kid_of(token))
        return self._keys if named is None else (named,)

    async def close(self) -> None:
        """Nothing is under way."""

    def published(self) -> dict[str, Any]:
        """The public keys as a JWK Set (RFC 7517); a secret is not one."""
        return {
            "keys": [
                _members(key.public, key.algorithm)
                | {"kid": key.kid, "use": "sig", "alg": key.algorithm}
                for key in self._by_kid.values()
                if key.algorithm in _JWK
            ]
        }


def secret_key(secret: str) -> Key:
    """A secret, which is not shown by its `kid`; raises what PyJWT has against it."""
    HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)  # has it against a key pair's PEM
    kid = hmac.digest(secret.encode(), b"kid", "sha256").hex()[:16]
    return Key(secret, "HS256", kid, secret)


def public_key(text: str) -> Key:
    """The key of a PEM text (newlines may be written as \\n) or of a PEM file's path.

    Raises SettingsError, and ValueError, without a word of `text`.
    """
    return _pair(load_pem_public_key(_pem(text)))


def private_key(text: str) -> Key:
    """Likewise of an unencrypted private key; raises TypeError for an encrypted one, too."""
    private = load_pem_private_key(_pem(text), None)
    return _pair(private.public_key(), private)


def _pair(public: Any, private: Any = None) -> Key:
    algorithm = algorithm_for(public)
    return Key(public, algorithm, thumbprint(_members(public, algorithm)), private)


def _pem(text: str) -> bytes:
    if "-----BEGIN" in text:
        return text.replace("\\n", "\n").encode()
    try:
        return Path(text).read_bytes()
    except OSError as error:  # its message repeats what may be a key without its first line
        raise SettingsError(f"not a PEM key nor the path of one: {error.strerror}") from None


def _members(public: Any, algorithm: str) -> dict[str, str]:
    jwk = _JWK[algorithm].to_jwk(public, as_dict=True)
    return {name: jwk[name] for name in _MEMBERS if name in jwk}


def thumbprint(members: dict[str, str]) -> str:
    """The thumbprint (RFC 7638, SHA-256) of a JWK's required members in their order."""
    digest = hashlib.sha256(orjson.dumps(members)).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def keyring(settings: Settings) -> Keyring:
    """The configured keys, none when they come by URL; raises SettingsError."""
    given = (
        ("JWT_SECRET", secret_key, settings.jwt_secret),
        ("JWT_SECRET_NEXT", secret_key, settings.jwt_secret_next),
        ("JWT_PRIVATE_KEY", private_key, settings.jwt_private_key),
        ("JWT_PRIVATE_KEY_NEXT", private_key, settings.jwt_private_key_next),
        ("JWT_PUBLIC_KEY", public_key, settings.jwt_public_key),
    )
    keys = []
    for name, read, value in given:
        if value is not None:
            text = value.get_secret_value() if isinstance(value, SecretStr) else value
            with naming(name):
                keys.append(read(text))
    if not keys and settings.jwt_jwks_url is None:
        raise SettingsError(
            "JWT_SECRET is missing: set it to at least 32 random bytes "
            "(openssl rand -hex 32), or set JWT_PRIVATE_KEY, JWT_PUBLIC_KEY or JWT_JWKS_URL"
        )
    return Keyring(*keys)


class Signer:
    """Makes tokens with the current key."""

    def __init__(self, key: Key, issuer: str | None, audience: str | None) -> None:
        self._key = key
        self._fixed = {"iss": issuer or NAME, "aud": audience or NAME}

    def sign(
        self, user: str, role: Role, ttl: float, session_id: str | None = None
    ) -> tuple[str, int]:
        """A token that lives `ttl` seconds, and its end in seconds since 1970.

        A `session_id` has 1 to 128 characters.
        """
        now = int(time.time())
        expires_at = now + int(ttl)
        claims = self._fixed | {
            "sub": user,
            "role": role.value,
            "iat": now - CLOCK_SKEW,
            "exp": expires_at,
            "jti": secrets.token_urlsafe(16),
        }
        if session_id is not None:
            claims["sid"] = session_id
        key = self._key
        token = jwt.encode(claims, key.private, key.algorithm, headers={"kid": key.kid})
        return token, expires_at


def signer_of(settings: Settings) -> Signer | None:
    """What signs here, None where keys only verify; raises SettingsError."""
    key = keyring(settings).current
    if key is None or key.private is None:
        return None
    return Signer(key, settings.jwt_issuer, settings.jwt_audience)


def mint(settings: Settings, user: str, role: Role) -> str:
    """A token of `user` for JWT_EXPIRE; raises SettingsError without a key to sign with."""
    signer = signer_of(settings)
    if signer is None:
        raise SettingsError(
            "tokens are made where the private key is; here is no JWT_SECRET or JWT_PRIVATE_KEY"
        )
    return signer.sign(user, role, settings.jwt_expire)[0]
