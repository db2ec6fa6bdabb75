"""The schemas of all routes, gathered under `#/components/schemas`."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, models_json_schema

from server.endpoints import Endpoint, Schema
from server.problems import Problem

REF = "#/components/schemas/{model}"

_BODY: JsonSchemaMode = "validation"
_ANSWER: JsonSchemaMode = "serialization"


class _Generate(GenerateJsonSchema):
    """Without the titles that only say a field's name again."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


class Schemas:
    """Every named schema once; raises ValueError when two differ under one name."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self._named: dict[str, Any] = {}
        models: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {(Problem, _ANSWER): None}
        models |= dict.fromkeys(_models(endpoints))
        self._refs, found = models_json_schema(
            list(models), ref_template=REF, schema_generator=_Generate
        )
        self._add_all(found.get("$defs", {}))
        self.problem = self.of_answer(Problem)

    def of_body(self, schema: Schema) -> dict[str, Any]:
        """The schema of what a client sends, by reference when it has a name."""
        return self._of(schema, _BODY)

    def of_answer(self, schema: Schema) -> dict[str, Any]:
        """The schema of what we answer, by reference when it has a name."""
        return self._of(schema, _ANSWER)

    def of_query(self, model: type[BaseModel]) -> list[tuple[str, dict[str, Any], bool]]:
        """Name, schema and whether it is needed of each parameter that `model` reads."""
        whole = model.model_json_schema(ref_template=REF, schema_generator=_Generate)
        self._add_all(whole.get("$defs", {}))
        needed = whole.get("required", [])
        return [(name, part, name in needed) for name, part in whole["properties"].items()]

    def named(self) -> dict[str, Any]:
        """All named schemas, by name, in its order."""
        return dict(sorted(self._named.items()))

    def _of(self, schema: Schema, mode: JsonSchemaMode) -> dict[str, Any]:
        if isinstance(schema, type):
            return dict(self._refs[schema, mode])
        return self._lifted(_pointing_here(schema))

    def _lifted(self, schema: dict[str, Any]) -> dict[str, Any]:
        self._add_all(schema.pop("$defs", {}))
        if "title" not in schema:
            return schema
        self._add_all({schema["title"]: schema})
        return {"$ref": REF.format(model=schema["title"])}

    def _add_all(self, named: Mapping[str, Any]) -> None:
        for name, schema in named.items():
            if self._named.setdefault(name, schema) != schema:
                raise ValueError(f"two schemas are called {name}")


def _models(endpoints: Iterable[Endpoint]) -> Iterator[tuple[type[BaseModel], JsonSchemaMode]]:
    for endpoint in endpoints:
        if isinstance(endpoint.body, type):
            yield endpoint.body, _BODY
        for answer in endpoint.answers.values():
            if isinstance(answer.schema, type):
                yield answer.schema, _ANSWER


def _pointing_here(schema: Any) -> Any:
    """A copy whose references to its own `$defs` lead to the gathered schemas."""
    if isinstance(schema, Mapping):
        return {name: _pointing_here(part) for name, part in schema.items()}
    if isinstance(schema, list | tuple):
        return [_pointing_here(part) for part in schema]
    if isinstance(schema, str) and schema.startswith("#/$defs/"):
        return REF.format(model=schema.removeprefix("#/$defs/"))
    return schema
