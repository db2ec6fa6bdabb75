"""Tokens as an app's backend would make them."""

import time
from typing import Any

import jwt

SECRET = "a-secret-for-tests-that-is-long-enough-0123456789"


def token(user: str = "ada", *, role: str | None = None, ttl: float = 3600, **claims: Any) -> str:
    """A token of `user`, `ttl` seconds to live (negative: run out already)."""
    body: dict[str, Any] = {"sub": user, "exp": int(time.time() + ttl), **claims}
    if role is not None:
        body["role"] = role
    return jwt.encode(body, SECRET, algorithm="HS256")


def bearer(user: str = "ada", **claims: Any) -> dict[str, str]:
    """The header that carries such a token."""
    return {"Authorization": f"Bearer {token(user, **claims)}"}
