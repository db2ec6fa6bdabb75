"""Sessions: one login of a person, prolonged by refresh tokens that are used once.

A refresh token is `family.secret`. Of the family the session's id is derived, of the secret
only a hash is kept. The secret that follows is computed from the one that was shown and a
stored nonce, so that a repeat whose first answer was lost gets the very same token again,
while the store alone gives none away.
"""

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass, replace

PART = 32  # bytes of a family and of a secret


@dataclass(frozen=True, slots=True)
class Session:
    """What is kept of a session; times in milliseconds."""

    id: str
    user_id: str
    created_at: int
    refreshed_at: int
    expires_at: int
    current: bytes
    previous: bytes = b""
    nonce: bytes = b""


@dataclass(frozen=True, slots=True)
class Refreshed:
    """The session after a refresh, and the secret that its client has to show next time.

    `session` is the stored one itself when this was a repeat.
    """

    session: Session
    secret: bytes


def session_id(family: bytes) -> str:
    """The id of a family's session: it goes into access tokens, which must not give it away."""
    return _text(hashlib.sha256(b"session" + family).digest()[:16])


def hashed(secret: bytes) -> bytes:
    """What is stored of a secret. It is random, so that a plain hash is enough."""
    return hashlib.sha256(secret).digest()


def refresh(
    session: Session, secret: bytes, nonce: bytes, now: int, lifetime: int, grace: int
) -> Refreshed | None:
    """Use a refresh token; None when it was used before, so that the family has to end.

    The last token but one is good again for `grace` milliseconds. `nonce` is fresh and random.
    """
    shown = hashed(secret)
    if hmac.compare_digest(shown, session.current):
        following = _following(secret, nonce)
        return Refreshed(
            replace(
                session,
                refreshed_at=now,
                expires_at=now + lifetime,
                current=hashed(following),
                previous=session.current,
                nonce=nonce,
            ),
            following,
        )
    if hmac.compare_digest(shown, session.previous) and now - session.refreshed_at <= grace:
        return Refreshed(session, _following(secret, session.nonce))
    return None


def _following(secret: bytes, nonce: bytes) -> bytes:
    return hmac.digest(secret, nonce, "sha256")


def write_token(family: bytes, secret: bytes) -> str:
    """A refresh token."""
    return f"{_text(family)}.{_text(secret)}"


def read_token(token: str) -> tuple[bytes, bytes] | None:
    """The family and the secret of a refresh token; None when it is none."""
    parts = token.split(".")
    if len(parts) != 2 or not token.isascii():
        return None
    try:
        family, secret = (base64.b64decode(part + "=", b"-_", validate=True) for part in parts)
    except binascii.Error:
        return None
    return (family, secret) if len(family) == len(secret) == PART else None


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
