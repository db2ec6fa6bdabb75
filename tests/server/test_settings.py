"""Settings that cannot work: a message that names the variable, no traceback, exit code 1."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from domain.identity import Role
from server.app import create_app
from server.serve import with_secret
from server.settings import Settings, SettingsError, load
from server.signing import mint
from tests.commands import Result, command, path_of
from tests.tokens import SECRET

STORES = {"mongodb_uri": "mongodb://127.0.0.1:1/", "redis_url": "redis://127.0.0.1:1/0"}


def pem(private_key: Any) -> str:
    """The public part of a key, as it stands in JWT_PUBLIC_KEY."""
    public = private_key.public_key()
    return str(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


async def refusal(*arguments: str, **settings: Any) -> str:
    """The message with which it does not start."""
    result = await command(*arguments, **settings)
    _is_a_message(result)
    return result.err


def _is_a_message(result: Result) -> None:
    assert result.code == 1, result
    assert "Traceback" not in result.err, result.err
    assert result.err.strip()
    assert len(result.err) < 1500
    assert result.out == ""


async def test_outside_the_embedded_default_a_secret_of_32_bytes_is_needed() -> None:
    for message in await asyncio.gather(refusal(**STORES), refusal(**STORES, jwt_secret="x" * 31)):
        assert "JWT_SECRET" in message
        assert "32" in message
        assert "openssl rand" in message
        assert "x" * 31 not in message


async def test_a_token_cannot_be_made_without_a_secret_either() -> None:
    assert "JWT_SECRET" in await refusal("token", "ada", **STORES)


async def test_two_keys_are_one_too_many() -> None:
    message = await refusal(**STORES, jwt_secret=SECRET, jwt_jwks_url="https://issuer.example/k")
    assert "JWT_SECRET" in message
    assert "JWT_JWKS_URL" in message
    assert SECRET not in message


async def test_a_stats_schema_that_is_not_one_is_named(tmp_path: Path) -> None:
    file = path_of(tmp_path, "own.json", '{"fields": {"xp": {}}}')
    message = await refusal(**STORES, jwt_secret=SECRET, stats_schema=file)
    assert "STATS_SCHEMA" in message
    assert "own.json" in message


async def test_a_value_that_a_library_refuses_is_named_too() -> None:
    message = await refusal(**STORES | {"redis_url": "localhost:6379"}, jwt_secret=SECRET)
    assert "REDIS_URL" in message


# ---- the same without a process: what the command runs first


@pytest.mark.parametrize("own", STORES)
def test_one_private_server_of_two_is_not_the_embedded_default(own: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="JWT_SECRET"):
        with_secret(Settings(**{own: STORES[own]}, data_dir=tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mongodb_uri", "mongodb://a:b@:c/"),
        ("mongodb_uri", "http://db.example"),
        ("mongodb_db", "my db"),
        ("redis_url", "redis://localhost:port/0"),
        ("jwt_public_key", "/no/such/key.pem"),
        ("jwt_public_key", "-----BEGIN PUBLIC KEY-----\nnonsense"),
        ("jwt_public_key", pem(rsa.generate_private_key(65537, 1024))),
        ("jwt_public_key", pem(ec.generate_private_key(ec.SECP384R1()))),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_value_that_its_user_refuses_is_named(name: str, value: str) -> None:
    key = {} if name == "jwt_public_key" else {"jwt_secret": SECRET}
    with pytest.raises(SettingsError, match=name.upper()):
        create_app(Settings(**{**STORES, **key, name: value}))


def test_a_stats_schema_that_is_not_there_or_not_json_is_named(tmp_path: Path) -> None:
    for file in (tmp_path / "none.json", tmp_path, path_of(tmp_path, "half.json", "{")):
        with pytest.raises(SettingsError, match="STATS_SCHEMA"):
            Settings(stats_schema=file).schema_of_stats()


@pytest.mark.parametrize(
    "fields",
    [
        [],
        {"xp": {"kind": "counter"}},
        {"__proto__": {"kind": "counter"}},
        {"a.b": {"kind": "counter"}},
        {"$gold": {"kind": "counter"}},
        {"gold": {}},
        {"gold": {"kind": "number"}},
        {"gold": {"kind": "counter", "min": 1, "default": 0}},
        {"gold": {"kind": "counter", "max": 0.5}},
        {"gold": {"kind": "gauge", "max": 1e300}},
        {"gold": {"kind": "gauge", "step": 1}},
        {f"f{n}": {"kind": "counter"} for n in range(101)},
    ],
    ids=lambda fields: str(fields)[:40],
)
def test_own_fields_that_cannot_work_are_refused(tmp_path: Path, fields: object) -> None:
    file = path_of(tmp_path, "own.json", json.dumps({"fields": fields}))
    with pytest.raises(SettingsError, match="STATS_SCHEMA"):
        Settings(stats_schema=file).schema_of_stats()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TRANSPORTS", "pigeon"),
        ("TRANSPORTS", "websocket,pigeon"),
        ("TRANSPORTS", ","),
        ("CORS_ORIGIN", "*,https://game.example"),
        ("TRUSTED_PROXIES", "proxy.example"),
        ("TRUSTED_PROXIES", "10.0.0.0/33"),
        ("PORT", "http"),
        ("PORT", "65536"),
        ("RATE_LIMIT_PER_MINUTE", "-1"),
        ("SOCKET_EVENTS_PER_SECOND", "many"),
        ("MAX_CONNECTIONS", "1.5"),
        ("JWT_EXPIRE", "soon"),
        ("JWT_EXPIRE", "0"),
        ("LOG_LEVEL", "LOUD"),
        ("LOG_FORMAT", "xml"),
        ("WORKERS", "0"),
        ("METRICS_PORT", "65536"),
    ],
)
def test_a_value_out_of_range_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        load()


@pytest.mark.parametrize(("port", "metrics_port"), [(3000, 2999), (3000, 3000), (3000, 65_535)])
def test_metrics_ports_that_cannot_be_had_are_refused(
    monkeypatch: pytest.MonkeyPatch, port: int, metrics_port: int
) -> None:
    for name, value in (("PORT", port), ("METRICS_PORT", metrics_port), ("WORKERS", 2)):
        monkeypatch.setenv(name, str(value))
    with pytest.raises(SettingsError, match="METRICS_PORT"):
        load()


def test_several_workers_without_websocket_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSPORTS", "polling")
    assert load().transports == ("polling",)
    monkeypatch.setenv("WORKERS", "2")
    with pytest.raises(SettingsError, match="WORKERS"):
        load()


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PORT", "JWT_SECRET", "CORS_ORIGIN", "TRANSPORTS", "STATS_SCHEMA", "HOST"):
        monkeypatch.setenv(name, "")
    assert load() == Settings()


@pytest.mark.parametrize(
    ("text", "seconds"), [("7d", 604_800), ("12h", 43_200), ("15m", 900), ("30s", 30), ("45", 45)]
)
def test_durations_have_units(monkeypatch: pytest.MonkeyPatch, text: str, seconds: int) -> None:
    monkeypatch.setenv("JWT_EXPIRE", text)
    assert load().jwt_expire == seconds


def test_the_defaults_are_the_documented_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings()
    assert (settings.host, settings.port, str(settings.data_dir)) == ("127.0.0.1", 3000, "var")
    assert settings.jwt_expire == 7 * 86_400
    assert (settings.rate_limit_per_minute, settings.socket_events_per_second) == (100, 50)
    assert settings.embedded


def test_no_message_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWT_SECRET", SECRET)
    monkeypatch.setenv("JWT_PUBLIC_KEY", "x")
    monkeypatch.setenv("PORT", "x")
    with pytest.raises(SettingsError) as caught:
        load()
    assert SECRET not in str(caught.value)
    monkeypatch.delenv("JWT_PUBLIC_KEY")
    monkeypatch.delenv("PORT")
    assert SECRET not in repr(load())
    assert SECRET not in json.dumps(load().model_dump(mode="json"))


def test_tokens_are_not_made_where_only_a_public_key_is() -> None:
    public_only = Settings(**STORES, jwt_public_key=pem(ed25519.Ed25519PrivateKey.generate()))
    with pytest.raises(SettingsError, match="JWT_SECRET"):
        mint(with_secret(public_only), "ada", Role.USER)
