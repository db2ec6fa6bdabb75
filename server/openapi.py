"""The OpenAPI 3.1 document: everything it says comes from the endpoints."""

import re
from collections.abc import Sequence
from typing import Any

from domain.errors import RETRYABLE, AppError, Code
from domain.parsing import ID_SCHEMA
from server.endpoints import Answer, Endpoint
from server.problems import MAX_BODY, STATUS, tell
from server.schemas import Schemas

DESCRIPTION = f"""\
The live backend for games and learning apps. These are its routes; its events are spoken over
Socket.IO at the path `/socket.io`.

Tokens go into `Authorization: Bearer …`, never into the query string. Bodies are JSON of at most
{MAX_BODY // 1024} KiB, which may come as `gzip` or `deflate`. Unknown fields are refused by name;
answers may get new fields with a later version. Refusals are `application/problem+json`
(RFC 9457), and `code` says which: the codes stand with each route. Every `GET` answers `HEAD` too.
"""

EVERYWHERE = (Code.BAD_REQUEST, Code.INTERNAL)
"""What any route may answer."""

WITH_BODY = (
    Code.INVALID_JSON,
    Code.INVALID_TYPE,
    Code.INVALID_VALUE,
    Code.INVALID_ID,
    Code.UNKNOWN_FIELD,
    Code.MISSING_FIELD,
    Code.REQUEST_TIMEOUT,
    Code.PAYLOAD_TOO_LARGE,
    Code.UNSUPPORTED_MEDIA_TYPE,
)
"""What reading and parsing a body may end with."""

WITH_QUERY = (Code.INVALID_TYPE, Code.INVALID_VALUE, Code.UNKNOWN_FIELD, Code.MISSING_FIELD)
"""What parsing a query may end with."""

WITH_TOKEN = (
    Code.TOKEN_IN_QUERY,
    Code.INVALID_TOKEN,
    Code.TOKEN_EXPIRED,
    Code.RATE_LIMITED,
    Code.UNAVAILABLE,  # the keys of a JWKS
)
"""What telling who asks may end with."""

_SECURITY: dict[str, list[dict[str, list[str]]]] = {
    "needed": [{"bearer": []}],
    "optional": [{"bearer": []}, {}],
    "none": [],
}

_BEARER = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "A JWT with `sub`, the user's id, and `exp`. A user acts on themselves, a token"
    " with the `role` `service` or `admin` on anyone.",
}

_HEADERS = {
    "X-Request-Id": "The id that the caller gave the request in this header, or a new one",
    "Retry-After": "Seconds to wait before the next try, where they are known",
    "WWW-Authenticate": "`Bearer`",
}


def document(endpoints: Sequence[Endpoint], version: str) -> dict[str, Any]:
    """The document of `endpoints`; raises ValueError when two have the same name."""
    schemas = Schemas(endpoints)
    paths: dict[str, dict[str, Any]] = {}
    named: set[str] = set()
    for endpoint in endpoints:
        if (name := operation_id(endpoint)) in named:
            raise ValueError(f"{endpoint.method} {endpoint.path}: another one is called {name}")
        named.add(name)
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "livetally", "version": version, "description": DESCRIPTION},
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(each.tag for each in endpoints)],
        "paths": paths,
        "components": {
            "schemas": schemas.named(),
            "headers": {name: _header(says) for name, says in _HEADERS.items()},
            "securitySchemes": {"bearer": _BEARER},
        },
    }


def refusals(endpoint: Endpoint) -> dict[int, list[Code]]:
    """The codes that `endpoint` may refuse with, by status."""
    codes = [*EVERYWHERE, *endpoint.refuses]
    if endpoint.auth == "needed":
        codes.append(Code.MISSING_TOKEN)
    if endpoint.auth != "none":
        codes.extend(WITH_TOKEN)
    if endpoint.body is not None:
        codes.extend(WITH_BODY)
    if endpoint.query is not None:
        codes.extend(WITH_QUERY)
    if set(_names(endpoint.path)) - set(endpoint.params):
        codes.append(Code.INVALID_ID)
    named = set(codes)
    by_status: dict[int, list[Code]] = {}
    for code in Code:  # its order
        if code in named:
            by_status.setdefault(STATUS[code], []).append(code)
    return dict(sorted(by_status.items()))


def operation_id(endpoint: Endpoint) -> str:
    """A name for generated clients, such as `getApiUsersByUserIdStats`."""
    words = re.sub(r"\{(\w+)\}", r"by-\1", endpoint.path)
    parts = re.findall(r"[A-Za-z0-9]+", words)
    return endpoint.method.lower() + "".join(part[0].upper() + part[1:] for part in parts)


def _operation(endpoint: Endpoint, schemas: Schemas) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": operation_id(endpoint),
        "tags": [endpoint.tag],
        "summary": endpoint.summary,
    }
    if endpoint.description:
        operation["description"] = endpoint.description
    if parameters := _parameters(endpoint, schemas):
        operation["parameters"] = parameters
    if endpoint.body is not None:
        content = {"application/json": {"schema": schemas.of_body(endpoint.body)}}
        operation["requestBody"] = {"required": endpoint.body_needed, "content": content}
    operation["responses"] = _responses(endpoint, schemas)
    operation["security"] = _SECURITY[endpoint.auth]
    return operation


def _parameters(endpoint: Endpoint, schemas: Schemas) -> list[dict[str, Any]]:
    found = [
        {"name": name, "in": "path", "required": True, "schema": dict(schema)}
        for name in _names(endpoint.path)
        for schema in [endpoint.params.get(name, ID_SCHEMA)]
    ]
    for name, schema, needed in schemas.of_query(endpoint.query) if endpoint.query else ():
        says = {"description": schema.pop("description")} if "description" in schema else {}
        found.append({"name": name, "in": "query", "required": needed, **says, "schema": schema})
    found += [
        {"name": name, "in": "header", "description": says, "schema": {"type": "string"}}
        for name, says in endpoint.headers.items()
    ]
    return found


def _names(path: str) -> list[str]:
    return re.findall(r"\{(\w+)\}", path)


def _responses(endpoint: Endpoint, schemas: Schemas) -> dict[str, Any]:
    responses = {status: _answered(answer, schemas) for status, answer in endpoint.answers.items()}
    for status, codes in refusals(endpoint).items():
        refused = _refused(status, codes, schemas)
        if status in responses:  # the media type tells them apart
            answered = responses[status]
            refused["description"] = f"{answered['description']}. {refused['description']}"
            refused["headers"] |= answered["headers"]
            refused["content"] = {**answered.get("content", {}), **refused["content"]}
        responses[status] = refused
    return {str(status): response for status, response in sorted(responses.items())}


def _answered(answer: Answer, schemas: Schemas) -> dict[str, Any]:
    headers = {name: _header(says) for name, says in answer.headers.items()}
    response = {"description": answer.description, "headers": {**headers, **_shared()}}
    if answer.schema is not None:
        response["content"] = {answer.media: {"schema": schemas.of_answer(answer.schema)}}
    return response


def _refused(status: int, codes: list[Code], schemas: Schemas) -> dict[str, Any]:
    headers = _shared("WWW-Authenticate") if status == 401 else _shared()
    if RETRYABLE.intersection(codes):
        headers |= _shared("Retry-After")
    one_of = {"properties": {"code": {"enum": [code.value for code in codes]}}}
    schema = {"allOf": [schemas.problem, one_of]}
    example = tell(AppError(codes[0], "What to do about it"), "5b0c1d7e")
    return {
        "description": ", ".join(f"`{code.value}`" for code in codes),
        "headers": headers,
        "content": {"application/problem+json": {"schema": schema, "example": example}},
    }


def _header(says: str) -> dict[str, Any]:
    return {"description": says, "schema": {"type": "string"}}


def _shared(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*names, "X-Request-Id")}
