"""What this server signs, and the keys it signs with."""

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from domain.identity import Role
from server.serve import with_secret
from server.settings import Settings, SettingsError, load
from server.signing import (
    CLOCK_SKEW,
    Signer,
    keyring,
    mint,
    private_key,
    secret_key,
    signer_of,
    thumbprint,
)
from tests.commands import command, path_of
from tests.issuer import Key
from tests.tokens import SECRET

STORES = {"mongodb_uri": "mongodb://127.0.0.1:1/", "redis_url": "redis://127.0.0.1:1/0"}
KINDS = ("RS256", "ES256", "EdDSA")


def signer(**settings: Any) -> Signer:
    made = signer_of(Settings(**settings))
    assert made is not None
    return made


def pem(private: Any, password: bytes | None = None) -> str:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return str(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode())


def test_a_token_names_its_key_and_says_who_for_whom_and_until_when() -> None:
    before = int(time.time())
    made, expires_at = signer(jwt_secret=SECRET).sign("ada", Role.SERVICE, 900.0)
    assert expires_at - before in (900, 901)
    assert jwt.get_unverified_header(made) == {
        "alg": "HS256",
        "typ": "JWT",
        "kid": hmac.new(SECRET.encode(), b"kid", hashlib.sha256).hexdigest()[:16],
    }
    claims = jwt.decode(made, SECRET, algorithms=["HS256"], audience="livetally")
    assert len(base64.urlsafe_b64decode(claims.pop("jti") + "==")) == 16
    assert claims == {
        "sub": "ada",
        "role": "service",
        "iat": expires_at - 900 - CLOCK_SKEW,
        "exp": expires_at,
        "iss": "livetally",
        "aud": "livetally",
    }


def test_a_token_has_a_session_only_when_one_is_given() -> None:
    ours = signer(jwt_secret=SECRET, jwt_issuer="https://game.example", jwt_audience="game")
    for session in (None, "s1"):
        made, _ = ours.sign("ada", Role.USER, 900, session)
        claims = jwt.decode(made, SECRET, algorithms=["HS256"], audience="game")
        assert claims.get("sid") == session
        assert claims["iss"] == "https://game.example"


def test_no_two_tokens_are_the_same() -> None:
    ours = signer(jwt_secret=SECRET)
    assert len({ours.sign("ada", Role.USER, 900)[0] for _ in range(1000)}) == 1000


async def test_the_command_signs_with_a_private_key_and_says_nothing_else() -> None:
    key = Key("EdDSA")
    made = await command("token", "ada", **STORES, jwt_private_key=key.private_pem)
    assert (made.code, made.err) == (0, "")
    public = jwt.PyJWK(key.jwk).key
    claims = jwt.decode(made.out.strip(), public, algorithms=["EdDSA"], audience="livetally")
    assert claims["sub"] == "ada"


@pytest.mark.parametrize("algorithm", KINDS)
@pytest.mark.parametrize("form", ["text", "one line", "path"])
def test_a_private_key_of_each_kind_signs_for_its_public_half(
    algorithm: str, form: str, tmp_path: Path
) -> None:
    key = Key(algorithm)
    given = {
        "text": key.private_pem,
        "one line": key.private_pem.replace("\n", "\\n"),
        "path": str(path_of(tmp_path, "key.pem", key.private_pem)),
    }[form]
    made = mint(Settings(jwt_private_key=given), "ada", Role.ADMIN)
    header = jwt.get_unverified_header(made)
    required = {n: v for n, v in sorted(key.jwk.items()) if n in ("crv", "e", "kty", "n", "x", "y")}
    assert (header["alg"], header["kid"]) == (algorithm, thumbprint(required))
    public = jwt.PyJWK(key.jwk).key
    claims = jwt.decode(made, public, algorithms=[algorithm], audience="livetally")
    assert (claims["sub"], claims["role"]) == ("ada", "admin")


@pytest.mark.parametrize(
    ("jwk", "expected"),
    [
        (  # RFC 7638, 3.1
            {
                "e": "AQAB",
                "kty": "RSA",
                "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxu"
                "hDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0"
                "h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91Cb"
                "OpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFC"
                "ur-kEgU8awapJzKnqDKgw",
            },
            "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
        ),
        (  # RFC 8037, A.3
            {
                "crv": "Ed25519",
                "kty": "OKP",
                "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
            },
            "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
        ),
    ],
    ids=["RFC 7638", "RFC 8037"],
)
def test_thumbprints_are_the_ones_of_the_rfcs(jwk: dict[str, str], expected: str) -> None:
    assert thumbprint(jwk) == expected


def test_the_kid_of_a_key_is_the_same_wherever_the_key_is() -> None:
    key = Key("ES256")
    public = keyring(Settings(jwt_public_key=key.pem)).current
    assert public is not None
    assert public.kid == private_key(key.private_pem).kid
    assert secret_key(SECRET).kid != secret_key(SECRET + "x").kid


@pytest.mark.parametrize(
    "only", [{"jwt_public_key": Key("EdDSA").pem}, {"jwt_jwks_url": "https://issuer.example/k"}]
)
def test_who_only_verifies_does_not_sign(only: dict[str, str]) -> None:
    settings = Settings(**only)
    assert signer_of(settings) is None
    with pytest.raises(SettingsError, match="JWT_PRIVATE_KEY"):
        mint(settings, "ada", Role.USER)


BODY = "".join(Key("RS256").private_pem.splitlines()[1:-1])


UNUSABLE = {
    "RSA 1024": pem(rsa.generate_private_key(65537, 1024)),
    "P-384": pem(ec.generate_private_key(ec.SECP384R1())),
    "Ed448": pem(ed448.Ed448PrivateKey.generate()),
    "encrypted": pem(ed25519.Ed25519PrivateKey.generate(), b"password"),
    "public": Key("EdDSA").pem,
    "not one": "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----",
    "no file": "/no/such/key.pem",
    "a folder": "/",
    "no path": "a\0b",
    "no first line": BODY,
    "a part": BODY[:60],
}


@pytest.mark.parametrize("name", ["jwt_private_key", "jwt_private_key_next"])
@pytest.mark.parametrize("bad", UNUSABLE.values(), ids=UNUSABLE)
def test_a_private_key_that_cannot_be_used_is_named_and_not_shown(name: str, bad: str) -> None:
    good = {"jwt_private_key": Key("EdDSA").private_pem}
    with pytest.raises(SettingsError, match=f"^{name.upper()}: ") as caught:
        keyring(Settings(**{**good, name: bad}))
    shown = str(caught.value)
    assert not any(line in shown for line in bad.splitlines() if len(line) > 1 and line[0] != "-")


def test_a_key_pairs_text_is_not_taken_as_a_secret() -> None:
    for text in (Key("RS256").pem, Key("EdDSA").private_pem):
        with pytest.raises(SettingsError, match=r"^JWT_SECRET: ") as caught:
            keyring(Settings(jwt_secret=text))
        assert text.splitlines()[1] not in str(caught.value)


ENVIRONMENTS = [
    ({"JWT_SECRET": SECRET, "JWT_PRIVATE_KEY": "x"}, "JWT_PRIVATE_KEY"),
    ({"JWT_PUBLIC_KEY": "x", "JWT_PRIVATE_KEY": "x"}, "JWT_PRIVATE_KEY"),
    ({"JWT_JWKS_URL": "x", "JWT_PRIVATE_KEY": "x"}, "JWT_PRIVATE_KEY"),
    ({"JWT_SECRET_NEXT": SECRET}, "JWT_SECRET_NEXT"),
    ({"JWT_SECRET_NEXT": SECRET, "JWT_PRIVATE_KEY": "x"}, "JWT_SECRET_NEXT"),
    ({"JWT_PRIVATE_KEY_NEXT": "x"}, "JWT_PRIVATE_KEY_NEXT"),
    ({"JWT_PRIVATE_KEY_NEXT": "x", "JWT_SECRET": SECRET}, "JWT_PRIVATE_KEY_NEXT"),
    ({"JWT_PRIVATE_KEY_NEXT": "x", "JWT_PUBLIC_KEY": "x"}, "JWT_PRIVATE_KEY_NEXT"),
]


@pytest.mark.parametrize(("variables", "named"), ENVIRONMENTS)
def test_there_is_one_current_key_and_a_next_one_only_beside_it(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], named: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=named) as caught:
        load()
    assert SECRET not in str(caught.value)


def test_the_next_secret_is_as_long_as_the_current_one() -> None:
    short = Settings(**STORES, jwt_secret=SECRET, jwt_secret_next="x" * 31)
    with pytest.raises(SettingsError, match="JWT_SECRET_NEXT must have at least 32"):
        with_secret(short)
    assert with_secret(Settings(**STORES, jwt_secret=SECRET, jwt_secret_next="x" * 32))


def test_a_private_key_is_enough_outside_the_embedded_default(tmp_path: Path) -> None:
    settings = Settings(**STORES, jwt_private_key=Key("EdDSA").private_pem, data_dir=tmp_path)
    assert with_secret(settings) is settings
    assert not list(tmp_path.iterdir())


def test_no_key_is_shown_with_the_settings_or_with_itself() -> None:
    own, following = Key("EdDSA").private_pem, Key("EdDSA").private_pem
    for settings, keys in (
        (Settings(jwt_private_key=own, jwt_private_key_next=following), (own, following)),
        (Settings(jwt_secret=SECRET, jwt_secret_next=SECRET[::-1]), (SECRET, SECRET[::-1])),
    ):
        shown = repr(settings) + json.dumps(settings.model_dump(mode="json"))
        shown += repr(keyring(settings)) + repr(keyring(settings).current)
        for key in keys:
            assert key not in shown
            assert repr(key)[1:-1] not in shown
