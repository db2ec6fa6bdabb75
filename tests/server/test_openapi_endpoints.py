"""What an endpoint declares is what the OpenAPI document says of it."""

from typing import Any, Literal

import pytest
from aiohttp import web
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import BaseModel, Field

from domain.errors import Code
from domain.parsing import ID_SCHEMA, Id, Payload
from server.endpoints import Answer, AnswerBody, Endpoint
from server.openapi import document


class Inner(BaseModel):
    """A part."""

    count: int


class Sent(Payload):
    """What is sent."""

    user_id: Id
    inner_parts: tuple[Inner, ...] = ()


class Shown(AnswerBody):
    """What is answered."""

    last_seen: str
    parts: list[Inner]


class Asked(Payload):
    """What a query has."""

    page_size: int = Field(20, ge=1, le=100, description="How many at most")
    kind: Literal["a", "b"]


async def serve(_: web.Request) -> web.Response:
    return web.Response()


def endpoint(method: Any = "GET", path: str = "/x", **more: Any) -> Endpoint:
    answers = more.pop("answers", {200: Answer("Well")})
    return Endpoint(method, path, serve, "things", "A thing", answers, **more)


def described(*endpoints: Endpoint) -> dict[str, Any]:
    spec = document(endpoints, "1.2.3")
    OpenAPIV31SpecValidator(spec).validate()
    return spec


def codes(operation: Any, status: int) -> list[str]:
    problem = operation["responses"][str(status)]["content"]["application/problem+json"]
    return problem["schema"]["allOf"][1]["properties"]["code"]["enum"]


def test_models_are_shown_by_their_name_in_camel_case() -> None:
    spec = described(endpoint("POST", body=Sent, answers={201: Answer("Made", Shown)}))
    operation = spec["paths"]["/x"]["post"]
    sent = operation["requestBody"]["content"]["application/json"]["schema"]
    shown = operation["responses"]["201"]["content"]["application/json"]["schema"]
    assert sent == {"$ref": "#/components/schemas/Sent"}
    assert shown == {"$ref": "#/components/schemas/Shown"}
    schemas = spec["components"]["schemas"]
    assert schemas["Sent"]["properties"]["userId"] == ID_SCHEMA
    assert schemas["Sent"]["additionalProperties"] is False
    assert schemas["Shown"]["properties"].keys() == {"lastSeen", "parts"}
    assert "Inner" in schemas


def test_a_schema_with_a_title_is_shown_by_it_and_one_without_in_place() -> None:
    titled = {
        "title": "Pair",
        "type": "array",
        "items": {"$ref": "#/$defs/Half"},
        "$defs": {"Half": {"type": "integer"}},
    }
    plain = {"type": "string"}
    spec = described(
        endpoint(answers={200: Answer("Well", titled)}),
        endpoint(path="/y", answers={200: Answer("Well", plain, "text/plain")}),
    )
    assert spec["components"]["schemas"]["Pair"] == {
        "title": "Pair",
        "type": "array",
        "items": {"$ref": "#/components/schemas/Half"},
    }
    answer = spec["paths"]["/y"]["get"]["responses"]["200"]
    assert answer["content"] == {"text/plain": {"schema": plain}}


def test_parameters_are_the_paths_the_querys_and_the_headers() -> None:
    spec = described(
        endpoint(
            path="/x/{userId}/{part}",
            query=Asked,
            headers={"If-Match": "The version"},
            params={"part": {"enum": ["a"]}},
        )
    )
    page = {"default": 20, "maximum": 100, "minimum": 1, "type": "integer"}
    assert spec["paths"]["/x/{userId}/{part}"]["get"]["parameters"] == [
        {"name": "userId", "in": "path", "required": True, "schema": ID_SCHEMA},
        {"name": "part", "in": "path", "required": True, "schema": {"enum": ["a"]}},
        {
            "name": "pageSize",
            "in": "query",
            "required": False,
            "description": "How many at most",
            "schema": page,
        },
        {
            "name": "kind",
            "in": "query",
            "required": True,
            "schema": {"enum": ["a", "b"], "type": "string"},
        },
        {
            "name": "If-Match",
            "in": "header",
            "description": "The version",
            "schema": {"type": "string"},
        },
    ]


@pytest.mark.parametrize(
    ("auth", "security", "refused"),
    [
        ("needed", [{"bearer": []}], ["missing_token", "invalid_token", "token_expired"]),
        ("optional", [{"bearer": []}, {}], ["invalid_token", "token_expired"]),
    ],
)
def test_a_token_is_needed_optional_or_not_asked_for(
    auth: Any, security: Any, refused: list[str]
) -> None:
    operation = described(endpoint(auth=auth))["paths"]["/x"]["get"]
    assert operation["security"] == security
    assert codes(operation, 401) == refused
    assert "WWW-Authenticate" in operation["responses"]["401"]["headers"]
    assert "Retry-After" in operation["responses"]["429"]["headers"]
    free = described(endpoint(auth="none"))["paths"]["/x"]["get"]
    assert free["security"] == []
    assert free["responses"].keys() == {"200", "400", "500"}


def test_its_own_refusals_are_grouped_with_the_shared_ones_by_status() -> None:
    own = (Code.ID_TAKEN, Code.EMAIL_TAKEN, Code.BAD_REQUEST)
    operation = described(endpoint("POST", auth="none", refuses=own, body=Sent))["paths"]["/x"]
    assert codes(operation["post"], 409) == ["id_taken", "email_taken"]
    assert codes(operation["post"], 400).count("bad_request") == 1
    assert "unknown_field" in codes(operation["post"], 400)
    assert codes(operation["post"], 413) == ["payload_too_large"]


def test_an_answer_and_a_refusal_of_one_status_differ_by_media_type() -> None:
    answers = {503: Answer("Not now", Shown, headers={"X-Why": "Why"})}
    operation = described(endpoint(answers=answers))["paths"]["/x"]["get"]
    both = operation["responses"]["503"]
    assert both["content"].keys() == {"application/json", "application/problem+json"}
    assert both["headers"].keys() == {"X-Why", "X-Request-Id", "Retry-After"}
    assert both["description"] == "Not now. `unavailable`"


def test_every_answer_tells_of_the_request_id() -> None:
    for response in described(endpoint())["paths"]["/x"]["get"]["responses"].values():
        assert response["headers"]["X-Request-Id"] == {"$ref": "#/components/headers/X-Request-Id"}


def test_what_is_ambiguous_is_an_error_at_start() -> None:
    def titled(kind: str) -> Endpoint:
        answer = Answer("Well", {"title": "Twice", "type": kind})
        return endpoint(path=f"/{kind}", answers={200: answer})

    with pytest.raises(ValueError, match="Twice"):
        document([titled("string"), titled("integer")], "1")
    with pytest.raises(ValueError, match="GET /x: another one is called getX"):
        document([endpoint(), endpoint()], "1")
    with pytest.raises(ValueError, match="getXByY"):
        document([endpoint(path="/x/{y}"), endpoint(path="/x/by-y", auth="none")], "1")
