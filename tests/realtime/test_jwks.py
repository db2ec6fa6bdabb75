"""Keys by URL: rotation, strangers, and an issuer that is away."""

import asyncio
import json
from typing import Any

import jwt
import pytest

from realtime.connection import Connection
from tests.clients_py import connected
from tests.issuer import Issuer, Key, issuing
from tests.serving import Served, serving
from tests.tokens import token
from tests.traces import alive, eventually, nothing_stays, outcry
from tests.wires import wire


@pytest.fixture
def cooldown(monkeypatch: pytest.MonkeyPatch) -> float:
    """A pause between fetches that a test can wait out, in seconds."""
    monkeypatch.setattr("server.jwks.JWKS_COOLDOWN", 0.2)
    return 0.2


def trusting(issuer: Issuer, stores: dict[str, Any]) -> Any:
    return serving(**stores, jwt_secret=None, jwt_jwks_url=issuer.url)


async def enter(served: Served, credential: str) -> str:
    """CONNECT; answers `in`, or the code of the refusal."""
    async with wire(served.url) as socket:
        await socket.send("40" + json.dumps({"token": credential}))
        reply = await socket.receive()
        assert reply is not None
        return "in" if reply.startswith("40") else json.loads(reply[2:])["data"]["code"]


async def test_each_kind_of_key_of_a_jwks_opens_the_door(stores: dict[str, Any]) -> None:
    keys = [Key("RS256", "r"), Key("ES256", "e"), Key("EdDSA", "d")]
    async with issuing(*keys) as issuer, trusting(issuer, stores) as served:
        for key in keys:
            async with connected(served.url, auth={"token": key.token()}) as client:
                assert (await client.join())["userId"] == "ada"
        assert issuer.fetches == 1


async def test_a_new_key_is_picked_up_and_a_withdrawn_one_is_dropped(
    stores: dict[str, Any], cooldown: float
) -> None:
    old, new = Key("ES256", "old"), Key("ES256", "new")
    async with issuing(old) as issuer, trusting(issuer, stores) as served:
        assert await enter(served, old.token()) == "in"
        issuer.keys = [new]
        await asyncio.sleep(cooldown)
        assert await enter(served, new.token()) == "in"
        assert await enter(served, old.token()) == "invalid_token"


async def test_unknown_key_ids_do_not_cause_a_fetch_each(stores: dict[str, Any]) -> None:
    known = Key("EdDSA", "known")
    async with issuing(known) as issuer, trusting(issuer, stores) as served:
        assert await enter(served, known.token()) == "in"
        strangers = [Key("EdDSA", f"stranger-{n}") for n in range(30)]
        found = await asyncio.gather(*(enter(served, key.token()) for key in strangers))
        assert set(found) == {"invalid_token"}
        assert await enter(served, known.token()) == "in"
        assert issuer.fetches <= 2


async def test_many_at_once_share_one_fetch(stores: dict[str, Any]) -> None:
    key = Key("EdDSA")
    async with issuing(key) as issuer, trusting(issuer, stores) as served:
        issuer.may_answer.clear()
        entering = [asyncio.create_task(enter(served, key.token())) for _ in range(20)]
        await issuer.asked.wait()
        issuer.may_answer.set()
        assert set(await asyncio.gather(*entering)) == {"in"}
        assert issuer.fetches == 1


async def test_keys_at_hand_stay_in_use_while_the_issuer_is_away(
    stores: dict[str, Any], cooldown: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.jwks.JWKS_FRESH", 0.0)
    key = Key("RS256")
    async with issuing(key) as issuer, trusting(issuer, stores) as served:
        assert await enter(served, key.token()) == "in"
        issuer.broken = True
        await asyncio.sleep(cooldown)
        assert await enter(served, key.token()) == "in"
        await eventually(lambda: issuer.fetches == 2)
        issuer.broken, issuer.keys = False, []  # answers again, but with nothing to use
        await asyncio.sleep(cooldown)
        assert await enter(served, key.token()) == "in"


async def test_an_issuer_that_hangs_does_not_hold_up_who_has_a_known_key(
    stores: dict[str, Any], cooldown: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.jwks.JWKS_FRESH", 0.0)
    key = Key("EdDSA")
    async with issuing(key) as issuer, trusting(issuer, stores) as served:
        assert await enter(served, key.token()) == "in"
        await asyncio.sleep(cooldown)
        issuer.may_answer.clear()
        async with asyncio.timeout(1):
            assert await enter(served, key.token()) == "in"


async def test_a_new_key_while_the_issuer_is_away_is_not_called_invalid(
    stores: dict[str, Any], cooldown: float
) -> None:
    old, new = Key("EdDSA", "old"), Key("EdDSA", "new")
    async with issuing(old) as issuer, trusting(issuer, stores) as served:
        assert await enter(served, old.token()) == "in"
        issuer.broken, issuer.keys = True, [old, new]
        await asyncio.sleep(cooldown)
        assert await enter(served, new.token()) == "unavailable"  # come back when it is there
        issuer.broken = False
        await asyncio.sleep(cooldown)
        assert await enter(served, new.token()) == "in"


async def test_without_any_key_yet_the_refusal_says_try_again(stores: dict[str, Any]) -> None:
    key = Key("RS256")
    async with issuing(key) as issuer:
        issuer.broken = True
        async with trusting(issuer, stores) as served, wire(served.url) as socket:
            await socket.send("40" + json.dumps({"token": key.token()}))
            reply = await socket.receive()
            assert reply is not None
            error = json.loads(reply[2:])["data"]
            assert (error["code"], error["retryable"]) == ("unavailable", True)


async def test_a_public_jwk_is_never_taken_as_a_shared_secret(
    stores: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    key = Key("RS256")
    body = {"sub": "ada", "exp": 4_000_000_000}
    forged = jwt.encode(body, key.jwk["n"], "HS256", headers={"kid": key.kid})
    async with issuing(key) as issuer, trusting(issuer, stores) as served:
        assert await enter(served, forged) == "invalid_token"
        assert await enter(served, token()) == "invalid_token"
        for kid in (7, None, ["one"], {"a": 1}, "x" * 5000):
            header = json.dumps({"alg": "RS256", "kid": kid})
            part = jwt.utils.base64url_encode(header.encode()).decode()
            assert await enter(served, f"{part}.e30.AAAA") == "invalid_token"
    assert outcry(caplog) == []


async def test_who_goes_while_its_new_token_is_verified_is_forgotten(
    stores: dict[str, Any], cooldown: float
) -> None:
    old, new = Key("EdDSA", "old"), Key("EdDSA", "new")
    async with issuing(old, new) as issuer, trusting(issuer, stores) as served:
        issuer.keys = [old]
        async with wire(served.url) as socket:
            await socket.send("40" + json.dumps({"token": old.token()}))
            assert (await socket.receive() or "").startswith("40")
            assert (await socket.call(1, "presence:join", None))["ok"]
            await asyncio.sleep(cooldown)
            issuer.asked.clear()
            issuer.may_answer.clear()
            issuer.keys = [old, new]
            await socket.event("auth:refresh", {"token": new.token()}, 2)
            await issuer.asked.wait()
            socket.leave()
            await eventually(lambda: not served.live.gateway.connections)
            issuer.may_answer.set()
        await nothing_stays(served)
        await eventually(lambda: not alive(Connection), timeout=4)
