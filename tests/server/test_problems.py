"""Errors as RFC 9457 problems, and the request id on every answer."""

import re
from typing import Any

import aiohttp
import pytest

from tests.rest import Api, http_request, raw_http
from tests.serving import Served

pytestmark = pytest.mark.usefixtures("quiet")

PATCH = "/api/users/data/patch"


async def test_a_problem_has_the_documented_members_and_no_others(api: Api) -> None:
    answer = await api.post(PATCH, {"gold": 1}, headers={"X-Request-Id": "my-id"})
    problem = answer.problem(400, "unknown_field")
    assert problem == {
        "type": "urn:livetally:problem:unknown_field",
        "title": "Unknown field",
        "status": 400,
        "detail": problem["detail"],
        "code": "unknown_field",
        "requestId": "my-id",
        "errors": [{"pointer": "/gold", "message": "is not a stats field"}],
    }
    assert "gold" in problem["detail"]


async def test_a_problem_without_a_field_has_no_errors(api: Api) -> None:
    assert "errors" not in (await api.get("/api/users/bob/stats")).problem(403, "forbidden")


async def test_all_faulty_fields_of_a_body_are_named(api: Api) -> None:
    answer = await api.post("/api/users/updateStats", {"xp": 1, "hearts": 2})
    pointers = {fault["pointer"] for fault in answer.problem(400, "missing_field")["errors"]}
    assert pointers == {"/stats", "/xp", "/hearts"}


async def test_a_long_name_is_not_echoed_in_full(api: Api) -> None:
    answer = await api.post(PATCH, {"x" * 10_000: 1})
    answer.problem(400, "unknown_field")
    assert len(answer.raw) < 1000


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("data/patch", {"__set": {"hearts": -1}}, "/__set/hearts"),
        ("updateStats", {"stats": {"hearts": -1}}, "/stats/hearts"),
        ("updateStats", {"stats": {"updatedAt": "x"}}, "/stats/updatedAt"),
        ("stats/batch", {"userIds": ["ada", "$"]}, "/userIds/1"),
    ],
)
async def test_the_pointer_leads_to_the_fault_from_the_top_of_the_body(
    api: Api, path: str, body: dict[str, Any], pointer: str
) -> None:
    code = "invalid_id" if "userIds" in body else "invalid_value"
    (await api.post(f"/api/users/{path}", body)).refused_field(400, code, pointer)


# ---- request ids


@pytest.mark.parametrize("given", ["a", "req-1.2_3", "A" * 128, "0af7651916cd43dd8448eb211c80319c"])
async def test_a_harmless_request_id_is_taken_over(api: Api, given: str) -> None:
    for path in ("/api/users/ada/stats", "/nowhere", "/health"):
        answer = await api.get(path, headers={"X-Request-Id": given})
        assert answer.headers.getall("X-Request-Id") == [given]


@pytest.mark.parametrize("given", ["", " ", "a b", "a;b", "<script>", "é", "A" * 129, '"', "a,b"])
async def test_a_weird_request_id_is_replaced(api: Api, given: str) -> None:
    answer = await api.get("/nowhere", headers={"X-Request-Id": given})
    made = answer.headers["X-Request-Id"]
    assert made != given
    assert re.fullmatch(r"[A-Za-z0-9._-]{8,128}", made)
    answer.problem(404, "not_found")


async def test_made_request_ids_are_different(api: Api) -> None:
    ids = {(await api.get("/health")).headers["X-Request-Id"] for _ in range(20)}
    assert len(ids) == 20


@pytest.mark.parametrize(
    "path",
    [
        "/health",
        "/health/live",
        "/health/ready",
        "/metrics",
        "/nowhere",
        "/api/users/ada/stats",
        "/api/users/bob/stats",
        "/socket.io/?EIO=4&transport=polling",
        "/socket.io/?EIO=4&transport=polling&sid=unknown",
        "/socket.io/?EIO=3&transport=polling",
        "/socket.io/?EIO=4&transport=pigeon",
    ],
)
async def test_every_answer_carries_a_request_id(api: Api, path: str) -> None:
    answer = await api.get(path, headers={"X-Request-Id": "mine"})
    assert answer.headers["X-Request-Id"] == "mine"


async def test_the_websocket_handshake_carries_a_request_id(
    served: Served, http: aiohttp.ClientSession
) -> None:
    address = "/socket.io/?EIO=4&transport=websocket"
    async with http.ws_connect(address, headers={"X-Request-Id": "mine"}) as socket:
        assert socket._response.headers["X-Request-Id"] == "mine"


async def test_what_is_not_valid_http_is_answered_400(served: Served) -> None:
    answer = await raw_http(served.url, http_request("GET /health", "b\x00d: 1"))
    assert answer.status == 400
