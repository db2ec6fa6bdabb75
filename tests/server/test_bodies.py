"""Bodies that no good client sends: refused with a code, never a failure of the server."""

import asyncio
import gzip
import io
import json
import resource
import zlib
from functools import cache
from typing import Any

import aiohttp
import pytest

from tests.rest import Api, http_request, raw_http
from tests.serving import Served
from tests.tokens import bearer

ROUTES = ["/api/users/data/patch", "/api/users/updateStats", "/api/users/stats/batch"]
PATCH = ROUTES[0]
MAX_BODY = 256 * 1024


@cache
def gzip_of_spaces(megabytes: int) -> bytes:
    """Made piece by piece: this process must not need the memory that it measures."""
    packer = zlib.compressobj(9, wbits=31)
    piece = b" " * 1_000_000
    return b"".join(packer.compress(piece) for _ in range(megabytes)) + packer.flush()


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("path", ROUTES)
async def test_what_is_not_json_is_invalid_json(api: Api, path: str) -> None:
    for body in (
        b"",
        b" ",
        b"{",
        b"{}x",
        b'{"xp": NaN}',
        b'{"xp": Infinity}',
        b'{"xp": 1e400}',
        b'{"xp": 01}',
        b"{'xp': 1}",
        b'{"xp": 1,}',
        b'{"a": "\xff"}',
        b'{"a": "\\ud800"}',
        b'\xff\xfe{\x00"\x00',
        "﻿{}".encode(),
        b"[" * 100_000,
        b"xp=1",
    ):
        (await api.post_raw(path, body)).problem(400, "invalid_json")


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("path", ROUTES)
async def test_json_that_is_no_object_is_invalid_type(api: Api, path: str) -> None:
    for body in (b"[]", b"null", b"1", b'"{}"', b"true", b"[{}]"):
        (await api.post_raw(path, body)).problem(400, "invalid_type")


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("path", ROUTES)
async def test_deep_nesting_is_refused(api: Api, path: str) -> None:
    for depth in (100, 1000, 5000):
        deep = b'{"a":' * depth + b"1" + b"}" * depth
        for body in (
            deep,
            b'{"__set":{"lastGameResults":%b}}' % deep,
            b'{"stats":{"lastGameResults":%b}}' % deep,
            b'{"userIds":%b}' % (b"[" * depth + b"]" * depth),
        ):
            answer = await api.post_raw(path, body)
            assert answer.status == 400, (depth, body[:20], answer)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("path", ROUTES)
async def test_ten_megabytes_are_too_large(api: Api, path: str) -> None:
    body = io.BytesIO(b'{"a":"' + b"x" * 10_000_000 + b'"}')
    answer = await api.send("POST", path, data=body)
    answer.problem(413, "payload_too_large")


async def test_the_largest_body_is_read_and_one_byte_more_is_not(api: Api) -> None:
    padded = b'{"xp":1}'.ljust(MAX_BODY)
    assert (await api.post_raw(PATCH, padded)).status == 200
    (await api.post_raw(PATCH, padded + b" ")).problem(413, "payload_too_large")


async def test_a_body_without_a_length_is_bounded_too(api: Api) -> None:
    async def endless() -> Any:
        for _ in range(200):
            yield b" " * 65_536

    answer = await api.send("POST", PATCH, data=endless())
    answer.problem(413, "payload_too_large")


async def test_a_compressed_body_is_read(api: Api) -> None:
    body = json.dumps({"xp": 1}).encode()
    for coding, packed in (("gzip", gzip.compress(body)), ("deflate", zlib.compress(body))):
        answer = await api.post_raw(PATCH, packed, headers={"Content-Encoding": coding})
        assert answer.status == 200
    assert (await api.stats())["xp"] == 2


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("path", ROUTES)
async def test_a_compressed_bomb_is_too_large_and_costs_no_memory(api: Api, path: str) -> None:
    bomb = gzip_of_spaces(200)
    assert len(bomb) < MAX_BODY
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = await api.post_raw(path, bomb, headers={"Content-Encoding": "gzip"})
    answer.problem(413, "payload_too_large")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000  # KB


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_a_body_that_is_not_what_its_encoding_says_is_a_bad_request(
    api: Api, coding: str
) -> None:
    answer = await api.post_raw(PATCH, b"\x00garbage" * 9, headers={"Content-Encoding": coding})
    answer.problem(400, "bad_request")


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "identity, gzip", "x" * 2000])
async def test_an_encoding_that_is_not_read_here_is_refused(api: Api, coding: str) -> None:
    answer = await api.post_raw(PATCH, b"\x00garbage" * 9, headers={"Content-Encoding": coding})
    assert answer.status in (400, 415), answer


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "multipart/form-data",
        "application/json; charset=no-such-charset",
        "application/json; charset=utf-16",
        "nonsense",
        "",
        "/" * 500,
    ],
)
async def test_a_wrong_content_type_is_read_as_json_or_refused(api: Api, kind: str) -> None:
    good = await api.post_raw(PATCH, b'{"xp":1}', headers={"Content-Type": kind})
    assert good.status in (200, 415), good
    bad = await api.post_raw(PATCH, b"--x\r\n\r\nxp=1", headers={"Content-Type": kind})
    assert bad.status in (400, 415), bad


async def test_lengths_that_lie_are_refused_at_once(served: Served) -> None:
    headers = [f"{name}: {value}" for name, value in bearer().items()]
    for lie in (
        ["Content-Length: 5", "Content-Length: 50"],
        ["Content-Length: -1"],
        ["Content-Length: 1e3"],
        ["Content-Length: 2", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked, identity"],
    ):
        request = http_request(f"POST {PATCH}", *headers, *lie, body=b"{}")
        assert (await raw_http(served.url, request)).status == 400, lie


async def test_a_body_that_ends_early_changes_nothing_and_is_no_fault_of_the_server(
    served: Served, api: Api
) -> None:
    headers = [f"{name}: {value}" for name, value in bearer().items()]
    host, port = served.url.removeprefix("http://").split(":")
    for length in ("Content-Length: 100", "Transfer-Encoding: chunked"):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(http_request(f"POST {PATCH}", *headers, length, body=b'8\r\n{"xp":1}'))
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    assert (await api.stats())["rev"] == 0


async def test_a_body_without_a_token_is_not_even_read(http: aiohttp.ClientSession) -> None:
    answer = await Api(http, None).post_raw(PATCH, b"{")
    answer.problem(401, "missing_token")
