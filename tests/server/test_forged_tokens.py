"""Tokens that somebody made up: refused at both doors, without an ERROR in the log."""

import hashlib
import hmac
import json
import time
from functools import cache
from typing import Any

import aiohttp
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.utils import base64url_encode

from domain.errors import AppError, Code
from server.auth import TokenVerifier
from server.settings import Settings
from server.signing import Keyring, keyring
from tests.issuer import Key
from tests.rest import Api
from tests.serving import serving
from tests.tokens import SECRET
from tests.wires import wire

pytestmark = pytest.mark.usefixtures("quiet")

RS256, ES256, EDDSA = Key("RS256"), Key("ES256"), Key("EdDSA")
NEXT_SECRET = SECRET[::-1]
SETTINGS: dict[str, dict[str, Any]] = {
    "secret": {"jwt_secret": SECRET},
    "secrets": {"jwt_secret": SECRET, "jwt_secret_next": NEXT_SECRET},
    "RS256": {"jwt_private_key": RS256.private_pem},
    "ES256 and EdDSA": {
        "jwt_private_key": ES256.private_pem,
        "jwt_private_key_next": EDDSA.private_pem,
    },
    "public RS256": {"jwt_public_key": RS256.pem},
}
LATER = int(time.time()) + 3600
GOOD = {"sub": "ada", "exp": LATER}
NONES = ["none", "None", "NONE", "nOnE", "none ", "", None, False, 0, [], ["none"], {"a": "none"}]


def part(content: Any) -> bytes:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64url_encode(raw)


def by_hand(header: Any, claims: Any = GOOD, secret: bytes | None = None) -> str:
    """A token of any header and claims, bytes or JSON; HMAC-SHA256, or no signature."""
    signed = part(header) + b"." + part(claims)
    mac = b"" if secret is None else hmac.digest(secret, signed, hashlib.sha256)
    return (signed + b"." + base64url_encode(mac)).decode()


@cache
def keys_of(name: str) -> Keyring:
    return keyring(Settings(**SETTINGS[name]))


def kids(name: str) -> list[str | None]:
    return [entry.kid for entry in keys_of(name)._keys]


def signed(name: str, claims: Any = GOOD, which: int = 0, **header: Any) -> str:
    """A token that the owner of the keys made, with more in its header."""
    key = keys_of(name)._keys[which]
    return jwt.api_jws.encode(
        claims if isinstance(claims, bytes) else json.dumps(claims).encode(),
        key.private if key.private is not None else RS256._private,
        key.algorithm,
        header,
    )


def by_public_key(name: str) -> list[str]:
    """HMAC with everything about the public keys that is known to all."""
    made = []
    for key in keys_of(name)._keys:
        if key.algorithm == "HS256":
            continue
        pem, der = (
            key.public.public_bytes(form, PublicFormat.SubjectPublicKeyInfo)
            for form in (Encoding.PEM, Encoding.DER)
        )
        modulus = jwt.utils.base64url_decode(RS256.jwk["n"])
        known = [pem, pem.strip(), pem.replace(b"\n", b"\\n"), der, modulus, b"", b"None"]
        for secret in known:
            for algorithm in ("HS256", key.algorithm):
                for kid in ({}, {"kid": key.kid}):
                    made.append(by_hand({"alg": algorithm, **kid}, secret=secret))
    return made


def forgeries(name: str) -> list[str]:
    """Tokens that no key of these settings has signed."""
    stranger = Key("RS256")
    good = signed(name)
    head, body, mac = good.split(".")
    return [
        *(by_hand({"alg": alg, "kid": kid}) for alg in NONES for kid in kids(name)),
        *(by_hand({"alg": alg}) for alg in NONES),
        *(by_hand({"alg": alg}, secret=SECRET[:-1].encode()) for alg in NONES),
        *by_public_key(name),
        by_hand({}, secret=SECRET.encode()),
        by_hand([], secret=SECRET.encode()),
        by_hand(b"{", secret=SECRET.encode()),
        by_hand(b'{"alg":"HS256","alg":"none"}'),
        by_hand(b'{"alg":"none","alg":"HS256"}'),
        by_hand(b'{"alg":"HS256"' + b',"a":[' * 2000),
        by_hand({"alg": "HS512"}, secret=SECRET.encode()),
        by_hand({"alg": "HS256", "b64": False, "crit": ["b64"]}, b"", SECRET.encode()),
        by_hand({"alg": "HS256", "crit": ["exp"], "exp": 1}, secret=SECRET.encode()),
        jwt.encode(GOOD, stranger._private, "RS256", {"jwk": stranger.jwk}),
        jwt.encode(GOOD, stranger._private, "RS256", {"jku": "http://127.0.0.1:1/keys"}),
        jwt.encode(GOOD, stranger._private, "RS256", {"kid": kids(name)[0]}),
        *(stranger.token(kid) for kid in ("ada", "bob")),
        f"{head}.{body}.",
        f"{head}.{body}",
        f"{head}..{mac}",
        f".{body}.{mac}",
        f"{head}.{part({**GOOD, 'role': 'admin'}).decode()}.{mac}",
        f"{good}.{mac}",
        f"{head}.{body}.{mac}.{body}.{mac}",
        json.dumps({"protected": head, "payload": body, "signature": mac}),
        "..",
        "",
        "\0",
        "\ud800",
        "." * 8000,
    ]


async def code_of(verifier: TokenVerifier, token: str) -> Code | None:
    try:
        await verifier.verify(token)
    except AppError as error:
        return error.code
    return None


def verifier(name: str) -> TokenVerifier:
    return TokenVerifier(keys_of(name), None, None)


@pytest.mark.parametrize("name", SETTINGS)
async def test_what_no_key_of_ours_has_signed_is_invalid(name: str) -> None:
    checking = verifier(name)
    assert await code_of(checking, signed(name)) is None
    for forged in forgeries(name):
        assert await code_of(checking, forged) is Code.INVALID_TOKEN, forged[:300]


CLAIMS: list[tuple[Any, Code | None]] = [
    ({**GOOD, "exp": LATER - 3601}, Code.TOKEN_EXPIRED),
    ({**GOOD, "exp": 0}, Code.TOKEN_EXPIRED),
    ({**GOOD, "exp": -1e300}, Code.TOKEN_EXPIRED),
    ({**GOOD, "exp": True}, Code.TOKEN_EXPIRED),
    *(({**GOOD, "exp": exp}, Code.INVALID_TOKEN) for exp in (None, [], {}, "x", float("nan"))),
    *(({**GOOD, "iat": iat}, Code.INVALID_TOKEN) for iat in (LATER, 1e300, "x", None, [1])),
    *(({**GOOD, "nbf": nbf}, Code.INVALID_TOKEN) for nbf in (LATER, 1e300, "x", None, [1])),
    *(({**GOOD, "jti": jti}, Code.INVALID_TOKEN) for jti in (7, None, ["x"])),
    *(
        ({**GOOD, "sub": sub}, Code.INVALID_TOKEN)
        for sub in (None, 7, 0, 1.5, True, [], ["ada"], {}, {"$ne": 1}, "", "$x", "a b", "\0", "é")
    ),
    ({"sub": "ada"}, Code.INVALID_TOKEN),
    ({"exp": LATER}, Code.INVALID_TOKEN),
    *((claims, Code.INVALID_TOKEN) for claims in ([], "x", 7, None, b"", b"\xff", b"[" * 5000)),
    # The last one of duplicates counts (RFC 7519, section 4).
    (b'{"sub":"$x","sub":"ada","exp":1,"exp":%d}' % LATER, None),
    (b'{"sub":"ada","sub":"$x","exp":%d}' % LATER, Code.INVALID_TOKEN),
    (b'{"sub":"ada","exp":%d,"exp":1}' % LATER, Code.TOKEN_EXPIRED),
    (b'{"sub":"ada","exp":%s}' % (b"9" * 4000), None),
    (b'{"sub":"ada","exp":%s}' % (b"9" * 5000), Code.INVALID_TOKEN),
]


@pytest.mark.parametrize("name", SETTINGS)
async def test_claims_are_as_strict_with_every_kind_of_key(name: str) -> None:
    checking = verifier(name)
    for claims, code in CLAIMS:
        for header in ({}, {"kid": kids(name)[0]}):
            assert await code_of(checking, signed(name, claims, **header)) is code, claims


KIDS = ["", ".", "theirs", "../../../etc/passwd", "/dev/null", "file:///dev/null", "a\0b", "\0"]
KIDS += ["' OR 1=1 --", "$where", "__proto__", "k" * 5000, "☃", "\ud800", "none"]


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("kid", KIDS, ids=lambda kid: ascii(kid)[:20])
async def test_an_unknown_kid_neither_helps_nor_harms(name: str, kid: str) -> None:
    checking = verifier(name)
    for which in range(len(kids(name))):
        good = signed(name, which=which, kid=kid)
        assert await code_of(checking, good) is None
        assert await code_of(checking, good[:-8] + "AAAAAAAA") is Code.INVALID_TOKEN
    assert await code_of(checking, by_hand({"alg": "HS256", "kid": kid}, secret=b"")) is (
        Code.INVALID_TOKEN
    )


@pytest.mark.parametrize("name", ["secrets", "ES256 and EdDSA"])
async def test_a_kid_that_points_at_the_other_key_is_refused(name: str) -> None:
    current, following = kids(name)
    checking = verifier(name)
    for which, own, other in ((0, current, following), (1, following, current)):
        assert await code_of(checking, signed(name, which=which, kid=own)) is None
        lying = signed(name, which=which, kid=other)
        assert await code_of(checking, lying) is Code.INVALID_TOKEN


@pytest.mark.parametrize("name", ["secret", "secrets"])
async def test_a_kid_that_is_no_text_is_refused(name: str) -> None:
    for kid in (None, 7, True, 1.5, [], kids(name), {"kid": kids(name)[0]}):
        token = by_hand({"alg": "HS256", "kid": kid}, secret=SECRET.encode())
        assert await code_of(verifier(name), token) is Code.INVALID_TOKEN
    ours = json.dumps(kids(name)[0]).encode()
    for header in (b'{"alg":"HS256","kid":7,"kid":%s}', b'{"alg":"HS256","kid":"x","kid":%s}'):
        token = by_hand(header % ours, secret=SECRET.encode())
        assert await code_of(verifier(name), token) is None


@pytest.mark.parametrize("name", SETTINGS)
async def test_a_kid_of_8_kb_is_too_long(name: str) -> None:
    assert await code_of(verifier(name), signed(name, kid="k" * 8192)) is Code.INVALID_TOKEN


@pytest.mark.parametrize("name", SETTINGS)
async def test_another_issuer_or_audience_is_refused_when_they_are_configured(name: str) -> None:
    checking = TokenVerifier(keys_of(name), "https://game.example", "game")
    right = {**GOOD, "iss": "https://game.example", "aud": "game"}
    assert await code_of(checking, signed(name, right)) is None
    assert await code_of(checking, signed(name, {**right, "aud": ["chess", "game"]})) is None
    for iss in ("livetally", "https://game.example/", "", None, 7, ["https://game.example"]):
        assert await code_of(checking, signed(name, {**right, "iss": iss})) is Code.INVALID_TOKEN
    for aud in ("livetally", "GAME", "", [], ["chess"], None, 7, {"game": 1}, [["game"]]):
        assert await code_of(checking, signed(name, {**right, "aud": aud})) is Code.INVALID_TOKEN
    for missing in ("iss", "aud"):
        claims = {claim: value for claim, value in right.items() if claim != missing}
        assert await code_of(checking, signed(name, claims)) is Code.INVALID_TOKEN


@pytest.mark.parametrize("name", SETTINGS)
async def test_both_doors_stay_shut(stores: dict[str, Any], name: str) -> None:
    made = [signed(name, claims) for claims, code in CLAIMS if code is Code.INVALID_TOKEN]
    made += [*forgeries(name), signed(name, kid="k" * 5900)[:-8] + "AAAAAAAA"]
    sent = [token for token in made if token and token.isprintable() and len(token) < 8000]
    async with (
        serving(**{**stores, "jwt_secret": None, **SETTINGS[name]}) as served,
        aiohttp.ClientSession(served.url) as http,
    ):
        for token in sent:
            headers = {"Authorization": f"Bearer {token}"}
            answer = await Api(http, None).get("/api/users/ada/stats", headers=headers)
            answer.problem(401, "invalid_token")
        for token in sent[::3]:
            async with wire(served.url) as socket:
                await socket.send("40" + json.dumps({"token": token}))
                reply = await socket.receive()
                assert reply is not None
                assert json.loads(reply[2:])["data"]["code"] == "invalid_token", token[:300]
