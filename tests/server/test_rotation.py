"""Keys change while instances of both steps serve, and no good token is refused meanwhile."""

import asyncio
import time
from itertools import pairwise
from typing import Any

import aiohttp
import jwt
import pytest

from domain.errors import AppError, Code
from domain.identity import Role
from server.auth import TokenVerifier
from server.settings import Settings
from server.signing import keyring, signer_of
from tests.clients_py import connected
from tests.issuer import Key
from tests.rest import Api
from tests.serving import serving
from tests.tokens import SECRET

pytestmark = pytest.mark.usefixtures("quiet")

NEW_SECRET = SECRET[::-1]


def secrets(*in_order: str) -> dict[str, Any]:
    return dict(zip(("jwt_secret", "jwt_secret_next"), in_order, strict=False))


def pairs(*in_order: Key) -> dict[str, Any]:
    given = (key.private_pem for key in in_order)
    return dict(zip(("jwt_private_key", "jwt_private_key_next"), given, strict=False))


def steps(name: str) -> list[dict[str, Any]]:
    """The settings of each step of a change."""
    configured: Any
    if name == "secret":
        configured, old, new = secrets, SECRET, NEW_SECRET
    else:
        before, after = name.split(" to ")
        configured, old, new = pairs, Key(before), Key(after)
    return [configured(old), configured(old, new), configured(new, old), configured(new)]


CHANGES = ["secret", "EdDSA to EdDSA", "ES256 to ES256", "RS256 to RS256", "RS256 to EdDSA"]


def verifier(settings: dict[str, Any]) -> TokenVerifier:
    return TokenVerifier(keyring(Settings(**settings)), None, None)


def signed(settings: dict[str, Any]) -> str:
    signer = signer_of(Settings(**settings))
    assert signer is not None
    return signer.sign("ada", Role.USER, 900)[0]


def foreign(settings: dict[str, Any], kid: str | None = None) -> str:
    """A token of a backend that has the same current key, with a `kid` of its own or none."""
    key = keyring(Settings(**settings)).current
    assert key is not None
    claims = {"sub": "ada", "exp": int(time.time()) + 900}
    headers = None if kid is None else {"kid": kid}
    return jwt.encode(claims, key.private, key.algorithm, headers=headers)


async def code_of(verifier: TokenVerifier, token: str) -> Code:
    with pytest.raises(AppError) as caught:
        await verifier.verify(token)
    return caught.value.code


@pytest.mark.parametrize("change", CHANGES)
async def test_instances_of_two_neighbouring_steps_accept_each_others_tokens(change: str) -> None:
    for before, after in pairwise(steps(change)):
        tokens = [signed(before), signed(after)]
        tokens += [foreign(step, kid) for step in (before, after) for kid in (None, "theirs")]
        for instance in (verifier(before), verifier(after)):
            for _ in range(2):  # the second time remembered
                for token in tokens:
                    assert (await instance.verify(token)).user_id == "ada"


@pytest.mark.parametrize("change", CHANGES)
async def test_a_token_of_the_old_key_is_good_until_that_is_taken_out(change: str) -> None:
    old, _, swapped, done = steps(change)
    token = signed(old)
    assert (await verifier(swapped).verify(token)).user_id == "ada"
    assert await code_of(verifier(done), token) is Code.INVALID_TOKEN
    assert await code_of(verifier(done), foreign(old)) is Code.INVALID_TOKEN
    assert await code_of(verifier(old), signed(done)) is Code.INVALID_TOKEN


@pytest.mark.parametrize("change", CHANGES)
async def test_only_the_current_key_signs(change: str) -> None:
    old, prepared, swapped, done = (
        jwt.get_unverified_header(signed(step)) for step in steps(change)
    )
    assert old == prepared
    assert swapped == done
    assert old["kid"] != done["kid"]


@pytest.mark.parametrize("change", CHANGES)
async def test_a_kid_of_ours_is_checked_with_that_key_alone(
    change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, prepared, swapped, _ = steps(change)
    tried = []
    decode = jwt.decode

    def counting(token: str, *args: Any, **options: Any) -> Any:
        tried.append(token)
        return decode(token, *args, **options)

    monkeypatch.setattr(jwt, "decode", counting)
    instance = verifier(prepared)
    for step, other in ((prepared, swapped), (swapped, prepared)):
        kid = jwt.get_unverified_header(signed(other))["kid"]
        lying = foreign(step, kid)
        assert await code_of(instance, lying) is Code.INVALID_TOKEN
        assert tried.count(lying) == 1
        honest = signed(step)
        await instance.verify(honest)
        assert tried.count(honest) == 1


@pytest.mark.parametrize("change", CHANGES)
async def test_run_out_is_said_of_tokens_of_either_key(change: str) -> None:
    _, prepared, swapped, _ = steps(change)
    for step in (prepared, swapped):
        key = keyring(Settings(**step)).current
        assert key is not None
        for headers in (None, {"kid": key.kid}):
            old = {"sub": "ada", "exp": int(time.time()) - 1}
            token = jwt.encode(old, key.private, key.algorithm, headers=headers)
            assert await code_of(verifier(prepared), token) is Code.TOKEN_EXPIRED


async def test_the_same_key_as_current_and_next_is_one_key() -> None:
    key = Key("EdDSA")
    ring = keyring(Settings(**pairs(key, key)))
    assert len(ring.published()["keys"]) == 1
    assert (await verifier(pairs(key, key)).verify(signed(pairs(key)))).user_id == "ada"


@pytest.mark.parametrize("change", ["secret", "RS256 to EdDSA"])
async def test_a_rolling_change_is_not_felt_over_rest_or_on_a_socket(
    stores: dict[str, Any], change: str
) -> None:
    shared = {**stores, "jwt_secret": None}
    for before, after in pairwise(steps(change)):
        async with (
            serving(**{**shared, **before}) as one,
            serving(**{**shared, **after}) as other,
        ):
            tokens = [signed(before), signed(after)]
            await asyncio.gather(*(good_at(x.url, token) for x in (one, other) for token in tokens))


async def good_at(url: str, token: str) -> None:
    """Succeeds when the server takes it at both doors."""
    async with aiohttp.ClientSession(url) as http:
        headers = {"Authorization": f"Bearer {token}"}
        assert (await Api(http, None).get("/api/users/ada/stats", headers=headers)).status == 200
    async with connected(url, auth={"token": token}) as client:
        assert (await client.join())["userId"] == "ada"
