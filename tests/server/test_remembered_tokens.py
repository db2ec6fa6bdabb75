"""A token once verified is not verified again, and counts no longer than it would otherwise."""

import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import server.auth
import server.jwks
from domain.errors import AppError, Code
from domain.identity import Role
from server.auth import MAX_VERIFIED, TokenVerifier
from server.jwks import JWKS_COOLDOWN, JWKS_FRESH, JwksKeys
from server.signing import Keyring, secret_key
from tests.tokens import SECRET, token


class Clock:
    """`time` for the module under test; starts now."""

    def __init__(self) -> None:
        self.passed = 0.0

    def time(self) -> float:
        return time.time() + self.passed

    def monotonic(self) -> float:
        return time.monotonic() + self.passed


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of what is remembered; PyJWT keeps its own."""
    clock = Clock()
    monkeypatch.setattr(server.auth, "time", clock)
    monkeypatch.setattr(server.jwks, "time", clock)
    return clock


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens whose signature was verified."""
    checked: list[str] = []
    decode = jwt.decode

    def counting(given: str, *args: Any, **options: Any) -> Any:
        checked.append(given)
        return decode(given, *args, **options)

    monkeypatch.setattr(server.auth.jwt, "decode", counting)
    return checked


@pytest.fixture
def verifier() -> TokenVerifier:
    return TokenVerifier(Keyring(secret_key(SECRET)), None, None)


async def code_of(verifier: TokenVerifier, given: str) -> Code:
    with pytest.raises(AppError) as caught:
        await verifier.verify(given)
    return caught.value.code


async def test_a_token_is_verified_once_and_known_from_then_on(
    verifier: TokenVerifier, checks: list[str]
) -> None:
    ada = token("ada", role="admin")
    first = await verifier.verify(ada)
    assert await verifier.verify(ada) == first
    assert (first.user_id, first.role) == ("ada", Role.ADMIN)
    assert checks == [ada]


async def test_each_token_has_its_own_identity(verifier: TokenVerifier) -> None:
    tokens = [token(f"u{n}") for n in range(20)]
    for _ in range(2):
        found = [(await verifier.verify(one)).user_id for one in tokens]
        assert found == [f"u{n}" for n in range(20)]


async def test_a_known_token_that_has_run_out_is_verified_again_and_refused(
    verifier: TokenVerifier, clock: Clock, checks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = token(ttl=60)
    await verifier.verify(ada)

    class Later(server.auth.jwt.api_jwt.datetime):  # type: ignore[name-defined, misc]
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return super().fromtimestamp(clock.time(), tz)

    monkeypatch.setattr(jwt.api_jwt, "datetime", Later)
    clock.passed = 50
    assert (await verifier.verify(ada)).user_id == "ada"
    clock.passed = 61
    assert await code_of(verifier, ada) is Code.TOKEN_EXPIRED
    assert await code_of(verifier, ada) is Code.TOKEN_EXPIRED
    assert checks == [ada, ada, ada]


async def test_a_known_token_is_good_until_the_very_second_that_it_names(
    verifier: TokenVerifier, clock: Clock, checks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = token(ttl=60)
    until = (await verifier.verify(ada)).expires_at
    monkeypatch.setattr(clock, "time", lambda: until - 0.001)
    await verifier.verify(ada)
    assert len(checks) == 1
    monkeypatch.setattr(clock, "time", lambda: float(until))
    await verifier.verify(ada)  # by PyJWT's clock it is good: what counts is that it was asked
    assert len(checks) == 2


@pytest.mark.parametrize(
    "bad",
    [
        "x",
        token()[:-3] + "AAA",
        token(ttl=-5),
        jwt.encode({"sub": "ada", "exp": 2**33}, "another-secret-0123456789-0123456789"),
        jwt.encode({"sub": "$", "exp": 2**33}, SECRET),
        jwt.encode({"sub": "ada"}, SECRET),
        "x" * 9000,
    ],
    ids=["no JWT", "bad signature", "run out", "another key", "bad sub", "no exp", "too long"],
)
async def test_a_token_that_is_refused_is_never_remembered(
    verifier: TokenVerifier, bad: str
) -> None:
    for _ in range(2):
        with pytest.raises(AppError):
            await verifier.verify(bad)
    assert verifier._verified == {}


async def test_a_known_token_with_another_signature_is_refused(verifier: TokenVerifier) -> None:
    ada = token()
    await verifier.verify(ada)
    head, _, signature = ada.rpartition(".")
    forged = f"{head}.{signature[::-1]}"
    assert await code_of(verifier, forged) is Code.INVALID_TOKEN


async def test_what_is_remembered_is_bounded_and_the_oldest_goes_first(
    verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch, checks: list[str]
) -> None:
    assert MAX_VERIFIED <= 2_000
    monkeypatch.setattr(server.auth, "MAX_VERIFIED", 10)
    tokens = [token(f"u{n}") for n in range(25)]
    for one in tokens:
        await verifier.verify(one)
    assert list(verifier._verified) == tokens[15:]
    for one in tokens[15:]:
        await verifier.verify(one)
    assert len(checks) == 25


async def test_a_known_token_is_refused_as_soon_as_the_key_is_another(
    verifier: TokenVerifier,
) -> None:
    ada = token()
    await verifier.verify(ada)
    verifier._keys = Keyring(secret_key("another-secret-0123456789-0123456789"))
    assert await code_of(verifier, ada) is Code.INVALID_TOKEN


class Issuer:
    """Has a key named `k`, which it can replace."""

    def __init__(self) -> None:
        self.rotate()

    def rotate(self) -> None:
        self._key = Ed25519PrivateKey.generate()

    async def fetch(self) -> dict[str, Any]:
        jwk = jwt.algorithms.OKPAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return {"keys": [{**jwk, "kid": "k"}]}

    def token(self, kid: str = "k") -> str:
        claims = {"sub": "ada", "exp": int(time.time()) + 3600}
        return jwt.encode(claims, self._key, algorithm="EdDSA", headers={"kid": kid})


async def refreshed(verifier: TokenVerifier, clock: Clock) -> None:
    """Let the issuer's keys be fetched anew, as a token with an unknown key makes happen."""
    clock.passed += JWKS_COOLDOWN + 1
    with pytest.raises(AppError):
        await verifier.verify(Issuer().token("unknown"))


async def test_a_known_token_is_refused_as_soon_as_its_issuers_key_was_replaced(
    clock: Clock,
) -> None:
    issuer = Issuer()
    verifier = TokenVerifier(JwksKeys(issuer.fetch), None, None)
    ada = issuer.token()
    await verifier.verify(ada)
    issuer.rotate()
    await refreshed(verifier, clock)
    assert await code_of(verifier, ada) is Code.INVALID_TOKEN
    assert (await verifier.verify(issuer.token())).user_id == "ada"
    await verifier.close()


async def test_a_known_token_stays_good_when_the_same_keys_are_fetched_anew(
    clock: Clock, checks: list[str]
) -> None:
    issuer = Issuer()
    verifier = TokenVerifier(JwksKeys(issuer.fetch), None, None)
    ada = issuer.token()
    await verifier.verify(ada)
    await refreshed(verifier, clock)
    for _ in range(3):
        assert (await verifier.verify(ada)).user_id == "ada"
    assert checks.count(ada) == 2
    await verifier.close()


async def test_a_known_token_does_not_keep_old_keys_from_being_refreshed(clock: Clock) -> None:
    issuer = Issuer()
    verifier = TokenVerifier(JwksKeys(issuer.fetch), None, None)
    ada = issuer.token()
    await verifier.verify(ada)
    issuer.rotate()
    clock.passed = JWKS_FRESH + 1
    await verifier.verify(ada)  # the keys at hand are used at once
    keys: Any = verifier._keys
    await keys._tasks.wait(5)
    assert await code_of(verifier, ada) is Code.INVALID_TOKEN
    await verifier.close()
