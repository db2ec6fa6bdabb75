"""An app's identity provider: key pairs, tokens signed with them, and a JWKS URL."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

_PRIVATE: dict[str, Any] = {
    "RS256": lambda: rsa.generate_private_key(65_537, 2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}
_JWK: dict[str, Any] = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}


class Key:
    """A private key, for one algorithm."""

    def __init__(self, algorithm: str, kid: str = "one") -> None:
        self.algorithm = algorithm
        self.kid = kid
        self._private = _PRIVATE[algorithm]()

    @property
    def pem(self) -> str:
        """The public key as PEM text."""
        encoded = self._private.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )
        return str(encoded.decode())

    @property
    def private_pem(self) -> str:
        """The private key as PEM text."""
        encoded = self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return str(encoded.decode())

    @property
    def jwk(self) -> dict[str, Any]:
        """The public key as an entry of a JWKS."""
        entry = json.loads(_JWK[self.algorithm].to_jwk(self._private.public_key()))
        return {**entry, "kid": self.kid, "use": "sig", "alg": self.algorithm}

    def token(self, user: str = "ada", **claims: Any) -> str:
        """A token of `user` signed with it."""
        body = {"sub": user, "exp": int(time.time()) + 3600, **claims}
        return jwt.encode(body, self._private, algorithm=self.algorithm, headers={"kid": self.kid})


class Issuer:
    """A JWKS URL whose keys change, fail, or hang."""

    def __init__(self) -> None:
        self.url = ""
        self.keys: list[Key] = []
        self.broken = False
        self.fetches = 0
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def show(self, _: web.Request) -> web.Response:
        """GET the keys."""
        self.fetches += 1
        self.asked.set()
        await self.may_answer.wait()
        if self.broken:
            return web.Response(status=503)
        return web.json_response({"keys": [key.jwk for key in self.keys]})


@asynccontextmanager
async def issuing(*keys: Key) -> AsyncIterator[Issuer]:
    """An issuer with these keys, on a free port."""
    issuer = Issuer()
    issuer.keys = list(keys)
    app = web.Application()
    app.router.add_get("/jwks.json", issuer.show)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        issuer.url = f"http://127.0.0.1:{runner.addresses[0][1]}/jwks.json"
        yield issuer
    finally:
        issuer.may_answer.set()
        await runner.cleanup()
