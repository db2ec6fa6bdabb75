"""Who gets into namespace `/`, and what the others are told."""

import asyncio
import base64
import hashlib
import hmac
import json
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import jwt
import pytest
import socketio

from tests.clients_py import Client, connected
from tests.issuer import Key
from tests.serving import Served, serving
from tests.tokens import SECRET, bearer, token
from tests.traces import nothing_stays, outcry
from tests.wires import Wire, frame, wire

UPGRADE = (
    "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\n"
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def claims(**more: Any) -> dict[str, Any]:
    return {"sub": "ada", "exp": int(time.time()) + 600, **more}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in claims().items() if key != name}


def signed(body: dict[str, Any], algorithm: str = "HS256", secret: str = SECRET) -> str:
    return jwt.encode(body, secret, algorithm=algorithm)


async def refusal(socket: Wire, auth: Any) -> dict[str, Any]:
    """CONNECT with `auth` and answer the connect_error."""
    await socket.send("40" + ("" if auth is None else json.dumps(auth)))
    reply = await socket.receive()
    assert reply is not None
    assert reply.startswith("44"), reply
    return dict(json.loads(reply[2:]))


REFUSED: dict[str, tuple[Any, str]] = {
    "nothing": (None, "missing_token"),
    "no token": ({}, "missing_token"),
    "token null": ({"token": None}, "missing_token"),
    "auth is text": ("token", "invalid_type"),
    "auth is a list": ([token()], "invalid_type"),
    "token is a number": ({"token": 7}, "invalid_token"),
    "token is empty": ({"token": ""}, "invalid_token"),
    "not a JWT": ({"token": "a.b.c"}, "invalid_token"),
    "not ASCII": ({"token": "ä.ö.ü"}, "invalid_token"),
    "too long": ({"token": "a" * 9000}, "invalid_token"),
    "run out": ({"token": token(ttl=-1)}, "token_expired"),
    "another key": ({"token": signed(claims(), secret="x" * 40)}, "invalid_token"),
    "alg none": ({"token": jwt.encode(claims(), None, algorithm="none")}, "invalid_token"),
    "another alg": ({"token": signed(claims(), "HS384")}, "invalid_token"),
    "never ends": ({"token": signed(without("exp"))}, "invalid_token"),
    "nobody's": ({"token": signed(without("sub"))}, "invalid_token"),
    "bad user id": ({"token": token("$ada")}, "invalid_token"),
    "user id with a slash": ({"token": token("a/b")}, "invalid_token"),
    "not valid yet": ({"token": signed(claims(nbf=time.time() + 3600))}, "invalid_token"),
}


async def test_a_bad_token_is_refused_with_code_message_and_retryable(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    codes = {}
    for name, (auth, _) in REFUSED.items():
        async with wire(served.url) as socket:
            error = await refusal(socket, auth)
            assert error["message"]
            assert error["data"]["message"] == error["message"]
            assert error["data"]["retryable"] is False
            codes[name] = error["data"]["code"]
    assert codes == {name: code for name, (_, code) in REFUSED.items()}
    await nothing_stays(served)
    assert outcry(caplog) == []


async def test_pythons_own_client_is_told_the_code(served: Served) -> None:
    told: list[Any] = []
    client = Client()
    client.sio.on("connect_error", told.append)
    with pytest.raises(socketio.exceptions.ConnectionError):
        await client.sio.connect(served.url, auth={"token": "no"}, transports=["websocket"])
    assert [error["data"]["code"] for error in told] == ["invalid_token"]


@pytest.mark.parametrize("name", ["token", "access_token", "Authorization"])
async def test_a_token_in_the_query_string_is_refused_even_beside_a_good_one(
    served: Served, name: str
) -> None:
    query = f"EIO=4&transport=websocket&{name}={token()}"
    async with wire(served.url, query) as socket:
        error = await refusal(socket, {"token": token()})
        assert error["data"]["code"] == "token_in_query"


async def test_the_authorization_header_works_too(served: Served) -> None:
    client = Client()
    await client.sio.connect(served.url, headers=bearer("ada"), transports=["websocket"])
    try:
        assert (await client.join())["userId"] == "ada"
    finally:
        await client.sio.disconnect()


async def test_a_refused_socket_may_try_again_with_a_better_token(served: Served) -> None:
    async with wire(served.url) as socket:
        await refusal(socket, {"token": "no"})
        await socket.connect("ada")
        assert (await socket.call(1, "presence:join", None))["ok"]


async def test_issuer_and_audience_are_checked_when_configured(stores: dict[str, Any]) -> None:
    async with serving(**stores, jwt_issuer="us", jwt_audience="app") as served:
        for wrong in ({}, {"iss": "us"}, {"iss": "them", "aud": "app"}, {"iss": "us", "aud": "x"}):
            async with wire(served.url) as socket:
                error = await refusal(socket, {"token": token("ada", **wrong)})
                assert error["data"]["code"] == "invalid_token", wrong
        good = {"token": token("ada", iss="us", aud=["app", "other"])}
        async with connected(served.url, auth=good) as client:
            assert (await client.join())["ok"]


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_tokens_are_verified_with_a_public_key(
    stores: dict[str, Any], algorithm: str
) -> None:
    key, other = Key(algorithm), Key(algorithm)
    async with serving(**stores, jwt_secret=None, jwt_public_key=key.pem) as served:
        async with wire(served.url) as socket:
            error = await refusal(socket, {"token": other.token()})
            assert error["data"]["code"] == "invalid_token"
        async with connected(served.url, auth={"token": key.token("ada")}) as client:
            assert (await client.join())["userId"] == "ada"


async def test_a_public_key_is_never_taken_as_a_shared_secret(stores: dict[str, Any]) -> None:
    key = Key("RS256")
    async with serving(**stores, jwt_secret=None, jwt_public_key=key.pem) as served:
        for secret in (key.pem, key.pem.strip()):
            async with wire(served.url) as socket:
                error = await refusal(socket, {"token": _hs256(claims(), secret)})
                assert error["data"]["code"] == "invalid_token"


def _hs256(body: dict[str, Any], secret: str) -> str:
    """As PyJWT refuses to make it: HMAC with a PEM text as the secret."""
    parts = [{"alg": "HS256", "typ": "JWT"}, body]
    text = b".".join(_base64(json.dumps(part).encode()) for part in parts)
    mac = hmac.new(secret.encode(), text, hashlib.sha256).digest()
    return (text + b"." + _base64(mac)).decode()


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


async def test_compression_of_messages_is_not_agreed_to(served: Served) -> None:
    address = served.url + "/socket.io/?EIO=4&transport=websocket"
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(address, compress=15) as socket,
    ):
        assert socket.compress == 0


async def test_what_is_sent_before_the_answer_to_the_handshake_is_read_in_order(
    served: Served,
) -> None:
    address = urlsplit(served.url)
    for number in range(40):  # it went wrong in one of four
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        hello = frame("40" + json.dumps({"token": token()}))
        ping = frame('427["presence:ping",{"t":1}]')
        writer.write(UPGRADE.encode() + hello[:20])
        await asyncio.sleep(0.0005 * (number % 4))
        writer.write(hello[20:] + ping)
        async with asyncio.timeout(5):
            await reader.readuntil(b"437[")
        writer.close()
