"""A token counts for a session only if this server signed it, and only while that lasts."""

import asyncio
import time
from typing import Any

import jwt
import pytest

from domain.errors import AppError, Code
from domain.identity import Identity, Role
from server.auth import TokenVerifier
from server.jwks import JwksKeys
from server.settings import Settings
from server.signing import keyring, signer_of
from tests.issuer import Key
from tests.tokens import SECRET, token

pytestmark = pytest.mark.usefixtures("quiet")

OWN = {"jwt_secret": SECRET}


class Sessions:
    """Answers about sessions; `may_answer` holds the answers back."""

    def __init__(self) -> None:
        self.ended: set[str | None] = set()
        self.asked: list[str | None] = []
        self.away = False
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def check(self, identity: Identity) -> None:
        self.asked.append(identity.session_id)
        ended = identity.session_id in self.ended  # as it was when the question arrived
        await self.may_answer.wait()
        if self.away:
            raise AppError(Code.UNAVAILABLE, "away")
        if ended:
            raise AppError(Code.INVALID_TOKEN, "The session has ended")


@pytest.fixture
def sessions() -> Sessions:
    return Sessions()


@pytest.fixture
def verifier(sessions: Sessions) -> TokenVerifier:
    return TokenVerifier(keyring(Settings(**OWN)), None, None, sessions.check)


def signed(session: str | None, user: str = "ada", **settings: Any) -> str:
    signer = signer_of(Settings(**(settings or OWN)))
    assert signer is not None
    return signer.sign(user, Role.USER, 900, session)[0]


def with_sid(sid: object, *, kid: str | None = "ours", **claims: Any) -> str:
    """A token with our secret, `kid` and issuer unless told otherwise."""
    key = keyring(Settings(**OWN)).current
    assert key is not None
    kid = key.kid if kid == "ours" else kid
    body = {"sub": "ada", "exp": int(time.time()) + 900, "iss": "livetally", **claims, "sid": sid}
    return jwt.encode(body, SECRET, "HS256", headers={"kid": kid} if kid else None)


async def code_of(verifier: TokenVerifier, given: str) -> Code:
    with pytest.raises(AppError) as caught:
        await verifier.verify(given)
    return caught.value.code


# ---- whose session


@pytest.mark.parametrize("session", ["s", "s" * 128, "é☃"])
async def test_a_token_of_ours_has_the_session_it_was_signed_for(
    verifier: TokenVerifier, sessions: Sessions, session: str
) -> None:
    assert (await verifier.verify(signed(session))).session_id == session
    assert sessions.asked == [session]


async def test_a_token_without_a_session_is_not_asked_about(
    verifier: TokenVerifier, sessions: Sessions
) -> None:
    for given in (signed(None), token(), token(sid=None), token(sid="x")):
        assert (await verifier.verify(given)).session_id is None
    assert sessions.asked == []


@pytest.mark.parametrize("sid", [None, "", "s" * 129, 7, 1.5, True, ["s"], {"s": 1}])
async def test_a_sid_that_is_no_session_is_refused_in_our_name(
    verifier: TokenVerifier, sessions: Sessions, sid: object
) -> None:
    assert await code_of(verifier, with_sid(sid)) is Code.INVALID_TOKEN
    assert sessions.asked == []


@pytest.mark.parametrize("sid", ["s", "", "s" * 129, 7, ["s"], None])
@pytest.mark.parametrize(
    "other",
    [{"iss": "https://backend.example"}, {"iss": "livetally", "kid": None}, {"kid": "theirs"}],
    ids=["issuer", "no kid", "kid"],
)
async def test_a_backend_with_the_same_secret_may_have_a_sid_of_its_own(
    verifier: TokenVerifier, sessions: Sessions, other: dict[str, Any], sid: object
) -> None:
    identity = await verifier.verify(with_sid(sid, **other))
    assert (identity.user_id, identity.session_id) == ("ada", None)
    assert sessions.asked == []


async def test_a_configured_issuer_is_the_own_one(sessions: Sessions) -> None:
    ours = {**OWN, "jwt_issuer": "https://game.example", "jwt_audience": "game"}
    verifier = TokenVerifier(
        keyring(Settings(**ours)), ours["jwt_issuer"], ours["jwt_audience"], sessions.check
    )
    assert (await verifier.verify(signed("s", **ours))).session_id == "s"
    for other in ({}, {"jwt_issuer": ours["jwt_issuer"]}, {"jwt_audience": "game"}):
        assert await code_of(verifier, signed("s", **{**OWN, **other})) is Code.INVALID_TOKEN


@pytest.mark.parametrize("sid", ["s", "", 7, ["s"], None])
async def test_the_sid_of_a_provider_is_never_one_of_our_sessions(
    sessions: Sessions, sid: object
) -> None:
    key = Key("ES256")
    public = keyring(Settings(jwt_public_key=key.pem))
    assert public.current is not None

    jwks = {"keys": [key.jwk, {**key.jwk, "kid": public.current.kid}]}

    async def fetch() -> dict[str, Any]:
        return jwks

    tokens = [key.token(iss="livetally", sid=sid)]
    key.kid = str(public.current.kid)
    tokens.append(key.token(iss="livetally", sid=sid))
    for keys in (public, JwksKeys(fetch)):
        verifier = TokenVerifier(keys, None, None, sessions.check)
        for given in tokens:
            assert (await verifier.verify(given)).session_id is None
        await verifier.close()
    assert sessions.asked == []


async def test_without_a_check_a_token_of_a_session_is_a_token() -> None:
    verifier = TokenVerifier(keyring(Settings(**OWN)), None, None)
    assert (await verifier.verify(signed("s"))).session_id == "s"


# ---- checks, and what is remembered of them


async def test_a_session_is_asked_about_once_and_known_from_then_on(
    verifier: TokenVerifier, sessions: Sessions
) -> None:
    given = signed("s")
    for _ in range(3):
        await verifier.verify(given)
    assert sessions.asked == ["s"]


async def test_a_refused_session_is_asked_about_again(
    verifier: TokenVerifier, sessions: Sessions
) -> None:
    given = signed("s")
    sessions.ended.add("s")
    assert await code_of(verifier, given) is Code.INVALID_TOKEN
    sessions.away = True
    assert await code_of(verifier, given) is Code.UNAVAILABLE
    sessions.away = False
    sessions.ended.clear()
    assert (await verifier.verify(given)).session_id == "s"
    assert len(sessions.asked) == 3


async def test_what_does_not_verify_is_never_asked_about(
    verifier: TokenVerifier, sessions: Sessions
) -> None:
    for bad in (
        signed("s")[:-4] + "AAAA",
        signed("s", jwt_secret=SECRET[::-1]),
        with_sid("s", exp=1),
        with_sid("s", sub="$"),
    ):
        await code_of(verifier, bad)
    assert sessions.asked == []


async def test_forget_by_session_or_by_user_touches_nobody_else(
    verifier: TokenVerifier, sessions: Sessions
) -> None:
    phone, tablet = signed("phone"), signed("tablet")
    bob, backend = signed("of bob", "bob"), token("ada")
    everything = (phone, tablet, bob, backend)
    for given in everything:
        await verifier.verify(given)

    verifier.forget(["phone", "unknown"], [])
    assert list(verifier._verified) == [tablet, bob, backend]
    verifier.forget([], {"ada", "unknown"})
    assert list(verifier._verified) == [bob]
    verifier.forget((), ())
    assert list(verifier._verified) == [bob]

    sessions.asked.clear()
    for given in everything:
        await verifier.verify(given)
    assert sessions.asked == ["phone", "tablet"]


@pytest.mark.parametrize("named", [(["s"], []), ([], ["ada"])], ids=["session", "user"])
async def test_a_session_that_ends_while_it_is_checked_is_refused(
    verifier: TokenVerifier, sessions: Sessions, named: Any
) -> None:
    given = signed("s")
    sessions.may_answer.clear()
    entering = [asyncio.create_task(verifier.verify(given)) for _ in range(3)]
    await asyncio.sleep(0)
    assert sessions.asked == ["s", "s", "s"]  # and told that it lasts
    sessions.ended.add("s")
    verifier.forget(*named)
    sessions.may_answer.set()
    results = await asyncio.gather(*entering, return_exceptions=True)
    assert [getattr(result, "code", result) for result in results] == [Code.INVALID_TOKEN] * 3
    assert verifier._verified == {}
    assert await code_of(verifier, given) is Code.INVALID_TOKEN


async def test_a_check_under_way_is_not_disturbed_by_others_that_are_forgotten(
    verifier: TokenVerifier, sessions: Sessions
) -> None:
    given = signed("s")
    sessions.may_answer.clear()
    entering = asyncio.create_task(verifier.verify(given))
    await asyncio.sleep(0)
    verifier.forget(["other"], ["bob"])
    sessions.may_answer.set()
    await entering
    await verifier.verify(given)
    assert sessions.asked == ["s"]


async def test_a_check_that_is_given_up_leaves_nothing_behind(
    verifier: TokenVerifier, sessions: Sessions
) -> None:
    sessions.may_answer.clear()
    entering = asyncio.create_task(verifier.verify(signed("s")))
    await asyncio.sleep(0)
    entering.cancel()
    await asyncio.gather(entering, return_exceptions=True)
    assert (verifier._verified, verifier._asking) == ({}, set())


async def test_many_sessions_do_not_grow_what_is_remembered(
    verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.auth.MAX_VERIFIED", 10)
    tokens = [signed(f"s{n}") for n in range(30)]
    await asyncio.gather(*(verifier.verify(given) for given in tokens * 2))
    assert len(verifier._verified) == 10
