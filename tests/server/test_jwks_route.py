"""Who verifies this server's tokens elsewhere finds its public keys, and nothing else."""

import json
from typing import Any

import aiohttp
import jwt
import pytest

from domain.identity import Role
from server.settings import Settings
from server.signing import signer_of
from tests.issuer import Key
from tests.rest import Answer, Api
from tests.serving import serving
from tests.tokens import SECRET

pytestmark = pytest.mark.usefixtures("quiet")

PATH = "/.well-known/jwks.json"
PUBLIC = {"kty", "kid", "use", "alg", "n", "e", "crv", "x", "y"}


async def published(stores: dict[str, Any], method: str = "GET", **keys: Any) -> Answer:
    """The answer of a server with these keys to somebody without a token."""
    settings = {**stores, "jwt_secret": None, **keys}
    async with serving(**settings) as served, aiohttp.ClientSession(served.url) as http:
        return await Api(http, None).send(method, PATH)


def signed(**keys: Any) -> str:
    signer = signer_of(Settings(**keys))
    assert signer is not None
    return signer.sign("ada", Role.USER, 900)[0]


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_a_token_verifies_with_the_key_that_it_names(
    stores: dict[str, Any], algorithm: str
) -> None:
    keys = {"jwt_private_key": Key(algorithm).private_pem}
    answer = await published(stores, **keys)
    found = jwt.PyJWKSet.from_dict(answer.ok())
    token = signed(**keys)
    key = found[jwt.get_unverified_header(token)["kid"]]
    assert jwt.decode(token, key, audience="livetally")["sub"] == "ada"
    assert answer.headers["Content-Type"].split(";")[0] == "application/json"
    assert answer.headers["Cache-Control"] == "public, max-age=300"
    assert [(entry["alg"], entry["use"]) for entry in answer.json["keys"]] == [(algorithm, "sig")]


async def test_the_current_and_the_next_key_are_published_before_the_next_one_signs(
    stores: dict[str, Any],
) -> None:
    old, new = Key("RS256").private_pem, Key("EdDSA").private_pem
    entries = (await published(stores, jwt_private_key=old, jwt_private_key_next=new)).ok()["keys"]
    signers = [signed(jwt_private_key=old), signed(jwt_private_key=new)]
    kids = [jwt.get_unverified_header(token)["kid"] for token in signers]
    assert [entry["kid"] for entry in entries] == kids


async def test_nothing_private_is_published(stores: dict[str, Any]) -> None:
    keys = [Key(algorithm).private_pem for algorithm in ("RS256", "ES256", "EdDSA")]
    for current, following in zip(keys, keys[1:] + keys[:1], strict=True):
        answer = await published(stores, jwt_private_key=current, jwt_private_key_next=following)
        for entry in answer.ok()["keys"]:
            assert entry.keys() <= PUBLIC


async def test_a_public_key_is_published_too(stores: dict[str, Any]) -> None:
    key = Key("ES256")
    (entry,) = (await published(stores, jwt_public_key=key.pem)).ok()["keys"]
    assert (entry["x"], entry["y"]) == (key.jwk["x"], key.jwk["y"])


async def test_of_a_secret_nothing_is_published(stores: dict[str, Any]) -> None:
    answer = await published(stores, jwt_secret=SECRET, jwt_secret_next=SECRET[::-1])
    assert answer.ok() == {"keys": []}
    assert answer.headers["Cache-Control"] == "public, max-age=300"


async def test_keys_that_come_by_url_are_not_published_again(stores: dict[str, Any]) -> None:
    answer = await published(stores, jwt_jwks_url="http://127.0.0.1:1/keys")
    answer.problem(404, "not_found")


async def test_the_route_is_for_reading(stores: dict[str, Any]) -> None:
    key = Key("EdDSA")
    head = await published(stores, "HEAD", jwt_private_key=key.private_pem)
    assert (head.status, head.raw) == (200, b"")
    (await published(stores, "POST", jwt_private_key=key.private_pem)).problem(
        405, "method_not_allowed"
    )


async def test_it_is_not_counted_against_a_limit(stores: dict[str, Any]) -> None:
    limited = {**stores, "rate_limit_per_minute": 2}
    async with serving(**limited) as served, aiohttp.ClientSession(served.url) as http:
        for _ in range(10):
            assert (await Api(http, None).get(PATH)).status == 200


async def test_another_server_verifies_by_it_and_takes_no_session_from_it(
    stores: dict[str, Any],
) -> None:
    own = {"jwt_private_key": Key("ES256").private_pem}
    signer = signer_of(Settings(**own))
    assert signer is not None
    async with serving(**{**stores, "jwt_secret": None, **own}) as signing:
        by_url = {**stores, "jwt_secret": None, "jwt_jwks_url": signing.url + PATH}
        async with serving(**by_url) as other, aiohttp.ClientSession(other.url) as http:
            token, _ = signer.sign("ada", Role.USER, 900, "session-1")
            headers = {"Authorization": f"Bearer {token}"}
            answer = await Api(http, None).get("/api/users/ada/stats", headers=headers)
            assert json.loads(answer.raw)["userId"] == "ada"
