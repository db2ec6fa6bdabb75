"""The public keys of this server, for others who verify its tokens."""

import orjson
from aiohttp import web

from domain.errors import AppError, Code
from server.endpoints import Answer, Endpoint
from server.keys import KEYRING, SETTINGS

MAX_AGE = 300  # seconds


async def show_keys(request: web.Request) -> web.Response:
    """GET /.well-known/jwks.json."""
    if request.app[SETTINGS].jwt_jwks_url is not None:
        raise AppError(Code.NOT_FOUND, "The keys are where tokens are signed, not here")
    return web.Response(
        body=orjson.dumps(request.app[KEYRING].published()),
        content_type="application/json",
        headers={"Cache-Control": f"public, max-age={MAX_AGE}"},
    )


_TEXT = {"type": "string"}
_KEY_SET = {
    "type": "object",
    "properties": {
        "keys": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "kty": {"enum": ["RSA", "EC", "OKP"]},
                    "kid": _TEXT,
                    "use": {"const": "sig"},
                    "alg": {"enum": ["RS256", "ES256", "EdDSA"]},
                    **dict.fromkeys(("n", "e", "crv", "x", "y"), _TEXT),
                },
                "required": ["kty", "kid", "use", "alg"],
            },
        }
    },
    "required": ["keys"],
}

ENDPOINTS = (
    Endpoint(
        "GET",
        "/.well-known/jwks.json",
        show_keys,
        tag="tokens",
        summary="The public keys that verify this server's tokens: the current and the next one",
        answers={
            200: Answer(
                "A JWK Set (RFC 7517), empty when tokens are signed with a secret",
                _KEY_SET,
                headers={"Cache-Control": f"`public, max-age={MAX_AGE}`"},
            )
        },
        auth="none",
        refuses=(Code.NOT_FOUND,),
    ),
)
