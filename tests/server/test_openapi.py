"""/openapi.json: valid, complete, and true of what the routes do."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from domain.errors import Code
from server.keys import DRAINING
from server.middleware import SOCKET_PATH
from server.problems import STATUS
from tests.openapi import body_schema, conforms, operations, validator
from tests.rest import Api
from tests.serving import Served, serving

pytestmark = pytest.mark.usefixtures("quiet")

STATS = "/api/users/{userId}/stats"
PATCH = "/api/users/data/patch"
UPDATE = "/api/users/updateStats"
BATCH = "/api/users/stats/batch"


@pytest.fixture
async def spec(api: Api) -> Any:
    return (await api.get("/openapi.json")).ok()


@pytest.fixture
async def game(stores: dict[str, Any], tmp_path: Path) -> AsyncIterator[Served]:
    fields = {
        "gold": {"kind": "counter", "public": True},
        "mood": {"kind": "gauge", "min": -1, "max": 1, "default": 0.5},
    }
    file = tmp_path / "stats.json"
    file.write_text(json.dumps({"fields": fields}))
    async with serving(**stores, stats_schema=file) as server:
        yield server


async def test_it_is_valid_openapi_3_1(spec: Any) -> None:
    assert spec["openapi"].startswith("3.1.")
    OpenAPIV31SpecValidator(spec).validate()
    for schema in spec["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


async def test_every_route_is_in_it_and_it_has_no_other(served: Served, spec: Any) -> None:
    routes = {
        (route.method, route.resource.canonical)
        for route in served.app.router.routes()
        if route.resource is not None and not route.resource.canonical.startswith(SOCKET_PATH)
    }
    gets = {(method, path) for method, path in routes if method == "GET"}
    heads = {("HEAD", path) for _, path in gets}
    assert {(method, path) for method, path, _ in operations(spec)} == routes - heads
    assert heads <= routes  # which its description says of all of them


async def test_two_applications_say_the_same_byte_by_byte(stores: dict[str, Any]) -> None:
    said = []
    for _ in range(2):
        async with serving(**stores) as server, aiohttp.ClientSession(server.url) as session:
            answer = await Api(session, None).get("/openapi.json")
            said.append((answer.raw, answer.headers["ETag"]))
    assert said[0] == said[1]


async def test_operation_ids_are_unique_and_those_that_clients_know(spec: Any) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(spec)]
    assert len(set(ids)) == len(ids)
    assert {
        *("getApiUsersByUserIdStats", "postApiUsersDataPatch"),
        *("postApiUsersUpdateStats", "postApiUsersStatsBatch"),
        *("getHealth", "getHealthLive", "getHealthReady", "getMetrics"),
        *("getOpenapiJson", "getDocs", "getDocsByFile"),
    } <= {*ids}


async def test_every_code_exists_and_stands_with_its_status(spec: Any) -> None:
    for _, path, operation in operations(spec):
        refusals = 0
        for status, response in operation["responses"].items():
            problem = response.get("content", {}).get("application/problem+json")
            if problem is None:
                continue
            refusals += 1
            codes = problem["schema"]["allOf"][1]["properties"]["code"]["enum"]
            assert {STATUS[Code(code)] for code in codes} == {int(status)}, path
            assert all(f"`{code}`" in response["description"] for code in codes)
            validator(spec, problem["schema"]).validate(problem["example"])
        assert refusals >= 2, path


async def test_who_needs_a_token_is_as_it_says(http: aiohttp.ClientSession, spec: Any) -> None:
    nobody = Api(http, None)
    for method, path, operation in operations(spec):
        target = path.replace("{userId}", "ada").replace("{id}", "ada")
        target = target.replace("{file}", "docs.js")
        answer = await nobody.send(method, target)
        conforms(spec, method, path, answer)
        if operation["security"] == [{"bearer": []}]:
            answer.problem(401, "missing_token")
        elif method == "GET":
            assert operation["security"] == []
            assert answer.status == 200
        else:  # refused for what is missing in the body
            assert operation["security"] in ([], [{"bearer": []}, {}])
            assert answer.status in (400, 401)


@pytest.mark.parametrize("own_fields", [False, True])
async def test_answers_are_as_it_says(served: Served, game: Served, own_fields: bool) -> None:
    url = game.url if own_fields else served.url
    async with aiohttp.ClientSession(url) as session:
        api = Api(session)
        spec = (await api.get("/openapi.json")).ok()
        first = await api.get("/api/users/ada/stats")
        conforms(spec, "GET", STATS, first)
        known = {"If-None-Match": first.headers["ETag"]}
        same = await api.get("/api/users/ada/stats", headers=known)
        assert same.status == 304
        conforms(spec, "GET", STATS, same)
        patch = {"xp": 3, "accuracy": 0.5, "timePerQuestion": [1.5], "opId": "1"}
        for duplicate in (False, True):
            answer = await api.post(PATCH, patch)
            assert answer.ok()["duplicate"] is duplicate
            conforms(spec, "POST", PATCH, answer)
        answer = await api.post(UPDATE, {"stats": {"xp": 1, "lastGameResults": {"a": [None]}}})
        assert answer.ok()["applied"]
        conforms(spec, "POST", UPDATE, answer)
        answer = await api.post(BATCH, {"userIds": ["ada", "bob"]})
        assert answer.ok().keys() == {"ada", "bob"}
        conforms(spec, "POST", BATCH, answer)


async def test_an_instance_that_should_get_no_traffic_says_so_as_told(
    served: Served, api: Api, spec: Any
) -> None:
    served.app[DRAINING].set()
    answer = await api.get("/health/ready")
    assert answer.status == 503
    conforms(spec, "GET", "/health/ready", answer)


ACCEPTED: list[tuple[str, Any]] = [
    (PATCH, {}),
    (PATCH, {"xp": -5, "hearts": 2.0, "__set": {"level": 2, "accuracy": 99.5}}),
    (PATCH, {"userId": "ada", "deviceId": "a|b", "opId": "x" * 64, "updatedAt": "whatever"}),
    (PATCH, {"xp": 1e12, "timePerQuestion": [0] * 1000}),
    (UPDATE, {"stats": {}}),
    (UPDATE, {"userId": None, "stats": {"userId": 7, "rev": "x", "updatedAt": 1700000000000}}),
    (UPDATE, {"stats": {"xp": 2**53 - 1, "updatedAt": "2026-01-01"}}),
    (BATCH, {"userIds": []}),
    (BATCH, {"userIds": [f"user{n}" for n in range(200)]}),
]

REFUSED: list[tuple[str, Any]] = [
    *((path, {"gold": 1}) for path in (PATCH, UPDATE, BATCH)),
    *((path, []) for path in (PATCH, UPDATE, BATCH)),
    *((PATCH, {"opId": given}) for given in ("", "x" * 65, 7, None)),
    *((PATCH, {"deviceId": given}) for given in ("", "x" * 129, "$a", "a b", "a\nb")),
    *((PATCH, {"xp": given}) for given in (0.5, 2e12, "1", True, None)),
    *((PATCH, {"__set": given}) for given in ({"hearts": -1}, {"gold": 1}, {"accuracy": 101}, 1)),
    *((PATCH, {"timePerQuestion": given}) for given in ([0] * 1001, [-1], ["1"], 1)),
    (PATCH, {"lastGameResults": {}}),
    (PATCH, {"rev": 1}),
    (UPDATE, {}),
    (UPDATE, {"userId": "a b", "stats": {}}),
    *((UPDATE, {"stats": given}) for given in ({"gold": 1}, {"hearts": 1.5}, {"duplicate": True})),
    *((UPDATE, {"stats": {"updatedAt": given}}) for given in (-1, 1e15, "x" * 41, True, [])),
    (UPDATE, {"stats": {"lastGameResults": []}}),
    (BATCH, {}),
    (BATCH, {"userIds": ["a b"]}),
    (BATCH, {"userIds": None}),
    (BATCH, {"userIds": ["ada"] * 201}),
]


async def test_bodies_that_it_allows_are_accepted(api: Api, spec: Any) -> None:
    for path, body in ACCEPTED:
        body_schema(spec, path).validate(body)
        conforms(spec, "POST", path, answer := await api.post(path, body))
        assert answer.status == 200, (path, body, answer)


async def test_bodies_that_it_does_not_allow_are_refused_as_it_says(api: Api, spec: Any) -> None:
    for path, body in REFUSED:
        assert not body_schema(spec, path).is_valid(body), (path, body)
        answer = await api.post(path, body)
        assert answer.status == 400, (path, body, answer)
        conforms(spec, "POST", path, answer)


async def test_examples_are_accepted(api: Api, spec: Any) -> None:
    for example in spec["components"]["schemas"]["StatsPatch"]["examples"]:
        (await api.post(PATCH, example)).ok()


async def test_other_refusals_are_as_it_says(api: Api, spec: Any) -> None:
    await api.patch(xp=1, opId="1")
    for path, answer in [
        (STATS, await api.get("/api/users/bob/stats")),
        (STATS, await api.get("/api/users/a%20b/stats")),
        (STATS, await api.get("/api/users/ada/stats?token=x")),
    ]:
        assert answer.status in (400, 403)
        conforms(spec, "GET", path, answer)
    for status, answer in [
        (403, await api.post(PATCH, {"userId": "bob"})),
        (409, await api.post(PATCH, {"xp": 2, "opId": "1"})),
        (413, await api.post_raw(PATCH, b" " * (256 * 1024 + 1))),
        (415, await api.post_raw(PATCH, b"{}", headers={"Content-Encoding": "br"})),
        (400, await api.post_raw(PATCH, b"{")),
    ]:
        assert answer.status == status
        conforms(spec, "POST", PATCH, answer)
    answer = await api.get("/docs/nothing.js")
    assert answer.status == 404
    conforms(spec, "GET", "/docs/{file}", answer)


async def test_who_asks_too_often_is_refused_as_it_says(stores: dict[str, Any]) -> None:
    async with (
        serving(**stores, rate_limit_per_minute=1) as server,
        aiohttp.ClientSession(server.url) as session,
    ):
        api = Api(session)
        spec = (await api.get("/openapi.json")).ok()
        answers = [await api.get("/api/users/ada/stats") for _ in range(2)]
        assert [answer.status for answer in answers] == [200, 429]
        assert answers[1].headers["Retry-After"]
        conforms(spec, "GET", STATS, answers[1])


async def test_it_has_the_apps_own_fields(game: Served) -> None:
    async with aiohttp.ClientSession(game.url) as session:
        spec = (await Api(session, None).get("/openapi.json")).ok()
    OpenAPIV31SpecValidator(spec).validate()
    schemas = spec["components"]["schemas"]
    assert {"gold", "mood"} < schemas["Stats"]["properties"].keys()
    assert {"gold", "mood"} < {*schemas["Stats"]["required"]}
    assert schemas["PublicStats"]["properties"].keys() >= {"gold", "xp"}
    assert "mood" not in schemas["PublicStats"]["properties"]
    mood = schemas["StatsPatch"]["properties"]["__set"]["properties"]["mood"]
    assert (mood["type"], mood["minimum"], mood["maximum"]) == ("number", -1, 1)
    assert body_schema(spec, PATCH).is_valid({"mood": 0.25})
