"""What a route is: how it is served, and what the OpenAPI document says of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, WithJsonSchema
from pydantic.alias_generators import to_camel

from domain.errors import Code
from server.problems import Handler

Schema = type[BaseModel] | Mapping[str, Any]
"""A model, or a JSON Schema (2020-12) where the shape depends on the configuration.

A JSON Schema with a `title` is shown under that name, and so is each of its `$defs`.
"""

TIME_SCHEMA: Mapping[str, Any] = {
    "type": "string",
    "format": "date-time",
    "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$",
    "examples": ["2026-01-15T10:30:00.000Z"],
}
Time = Annotated[str, WithJsonSchema(dict(TIME_SCHEMA))]
"""A time as answers have it."""


class AnswerBody(BaseModel):
    """The shape of an answer, in camelCase; a later version may add fields."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True)


@dataclass(frozen=True, slots=True)
class Answer:
    """One way in which a route answers when all went well."""

    description: str
    schema: Schema | None = None
    media: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    """What each header says, by name."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one path."""

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    handler: Handler
    tag: str
    summary: str
    answers: Mapping[int, Answer]
    body: Schema | None = None
    body_needed: bool = True
    query: type[BaseModel] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Request headers that it heeds: what each says, by name."""
    auth: Literal["needed", "optional", "none"] = "needed"
    refuses: tuple[Code, ...] = ()
    """Codes of its own, besides those that every route may answer with."""
    description: str = ""
    """More than fits into the summary, as Markdown."""
    params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """JSON Schemas of `{names}` in the path that are no ids."""

    def route(self) -> web.RouteDef:
        """The route that serves it; a GET answers HEAD too."""
        if self.method == "GET":
            return web.get(self.path, self.handler)
        return web.route(self.method, self.path, self.handler)
