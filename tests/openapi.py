"""What /openapi.json says of a route, and whether an answer is so."""

import json
from typing import Any

from jsonschema import Draft202012Validator

from tests.rest import Answer

HEADERS_NOT_ALWAYS = {"Link", "Retry-After"}


def operations(spec: Any) -> list[tuple[str, str, Any]]:
    return [
        (method.upper(), path, item[method])
        for path, item in spec["paths"].items()
        for method in item
    ]


def validator(spec: Any, schema: Any) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": spec["components"]})


def closed(schema: Any) -> Any:
    """The schema without room for more: an answer's field that it does not tell of is a fault."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(part) for name, part in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        inner.setdefault("additionalProperties", False)
    return inner


def conforms(spec: Any, method: str, path: str, answer: Answer) -> None:
    """`answer` is one that the document foresees, with its headers and body."""
    told = spec["paths"][path][method.lower()]["responses"][str(answer.status)]
    missing = {name for name in told["headers"] if name not in answer.headers}
    assert missing <= HEADERS_NOT_ALWAYS
    media = answer.headers.get("Content-Type", "").partition(";")[0]
    if "content" not in told:
        assert answer.raw == b""
    elif media.endswith(("/json", "+json")):
        strict = {**spec, "components": closed(spec["components"])}
        schema = closed(told["content"][media]["schema"])
        validator(strict, schema).validate(json.loads(answer.raw))
    else:
        assert media in told["content"] or f"{media.partition('/')[0]}/*" in told["content"]


def body_schema(spec: Any, path: str) -> Draft202012Validator:
    return validator(
        spec, spec["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    )
