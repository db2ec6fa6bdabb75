"""Methods, paths and headers that lead nowhere."""

import contextlib
import json

import pytest

from tests.rest import Api, http_request, raw_http
from tests.serving import Served
from tests.tokens import bearer

POSTS = ["/api/users/data/patch", "/api/users/updateStats", "/api/users/stats/batch"]
GETS = [
    *("/api/users/ada/stats", "/health", "/health/live", "/health/ready", "/metrics"),
    *("/openapi.json", "/docs", "/docs/docs.js", "/docs/swagger-ui.css"),
]


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("path", POSTS)
async def test_other_methods_on_a_post_route_are_405_with_allow(api: Api, path: str) -> None:
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        answer = await api.send(method, path)
        answer.problem(405, "method_not_allowed")
        assert answer.headers["Allow"] == "POST"
    head = await api.send("HEAD", path)
    assert (head.status, head.headers["Allow"], head.raw) == (405, "POST", b"")


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("path", GETS)
async def test_other_methods_on_a_get_route_are_405_with_allow(api: Api, path: str) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        answer = await api.send(method, path)
        answer.problem(405, "method_not_allowed")
        assert answer.headers["Allow"] == "GET, HEAD"
    head = await api.send("HEAD", path)
    assert (head.status, head.raw) == (200, b"")


@pytest.mark.usefixtures("quiet")
async def test_unknown_paths_are_404(api: Api) -> None:
    for path in (
        "/",
        "/api",
        "/api/users",
        "/api/users/",
        "/api/users//stats",
        "/api/users/ada/stats/",
        "/API/users/ada/stats",
        "/api/users/ada",
        "/health/",
        "/health/x",
        "/favicon.ico",
        "/.git/config",
    ):
        (await api.get(path)).problem(404, "not_found")


TARGETS = [
    "/api/users/%00/stats",
    "/api/users/ada%00/stats",
    "/api/users/%2e%2e/stats",
    "/api/users/../stats",
    "/api/users/..%2f..%2fhealth/stats",
    "/api/users/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/../../etc/passwd",
    "//api/users/ada/stats",
    "/api/users/%/stats",
    "/api/users/%zz/stats",
    "/api/users/%e/stats",
    "/api/users/%ff%fe/stats",
    "/api/users/%ED%A0%80/stats",
    "/api/users/%u0041/stats",
    "/api/users/ada%/stats?%=%zz&%ff",
    "/api/users/%7B%22a%22%3A1%7D/stats",
    "/api/users/ada/stats?" + "a=1&" * 1500,
    "/" + "a" * 7000,
    "/" + "a/" * 3500,
    "/api/users/" + "%41" * 2000 + "/stats",
    "/\\..\\windows",
    "http://other.example/api/users/bob/stats",
]


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target[:40])
async def test_a_weird_target_is_answered_with_a_problem(served: Served, target: str) -> None:
    headers = [f"{name}: {value}" for name, value in bearer().items()]
    answer = await raw_http(served.url, http_request(f"GET {target}", *headers))
    if answer.status == 200:  # read as the path that it means
        assert answer.json["userId"] in ("ada", "..", "A" * 128)
        return
    assert answer.status in (400, 403, 404, 405), answer
    answer.problem(answer.status, json.loads(answer.raw)["code"])


async def test_a_target_that_is_no_path_is_no_failure(served: Served) -> None:
    for line in (
        *("OPTIONS *", "GET *", "GET ?a=1", "CONNECT other.example:443", "TRACE /health"),
        *("GET http://[::1/health", "GET http://a:99999999/health"),
    ):
        answer = await raw_http(served.url, http_request(line))
        assert 400 <= answer.status < 500, (line, answer)


MALFORMED = {
    "overlong target": http_request("GET /" + "a" * 70_000),
    "overlong header": http_request("GET /health", "X-Big: " + "a" * 70_000),
    "many headers": http_request("GET /health", *(f"X-{n}: {n}" for n in range(50_000))),
    "NUL in a header": http_request("GET /health", "X-A: a\x00b"),
    "NUL in a name": http_request("GET /health", "X\x00A: b"),
    "no colon": http_request("GET /health", "just words"),
    "folded": http_request("GET /health", "X-A: a\r\n b"),
    "two hosts": http_request("GET /health", "Host: other"),
    "unknown method": http_request("FROBNICATE /health"),
    "no version": b"GET /health\r\n\r\n",
    "version 9": b"GET /health HTTP/9.9\r\nHost: a\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,
    "a bare LF": b"GET /health HTTP/1.1\nHost: a\nConnection: close\n\n",
    "a control in the target": b"GET /hea\x01lth HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", MALFORMED.values(), ids=MALFORMED.keys())
async def test_malformed_http_never_fails_the_server(served: Served, request_bytes: bytes) -> None:
    try:
        answer = await raw_http(served.url, request_bytes)
    except (ConnectionError, IndexError):
        return  # hung up on, which is an answer
    assert answer.status == 200 or 400 <= answer.status < 500, answer


async def test_a_flood_of_headers_leaves_the_server_well(served: Served, api: Api) -> None:
    flood = http_request("GET /health", *(f"X-{n}: {'a' * 100}" for n in range(20_000)))
    for _ in range(10):
        with contextlib.suppress(ConnectionError):
            assert (await raw_http(served.url, flood)).status in (200, 400, 431)
    assert (await api.get("/health")).status == 200
