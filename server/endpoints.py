"""What a route is: how it is served, and what the OpenAPI document says of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web
from pydantic import BaseModel

from domain.errors import Code
from server.problems import Handler

Schema = type[BaseModel] | Mapping[str, Any]
"""A model, or a JSON Schema (2020-12) where the shape depends on the configuration."""


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
    query: type[BaseModel] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Request headers that it heeds: what each says, by name."""
    auth: Literal["needed", "optional", "none"] = "needed"
    refuses: tuple[Code, ...] = ()
    """Codes of its own, besides those that every route may answer with."""

    def route(self) -> web.RouteDef:
        """The route that serves it; a GET answers HEAD too."""
        if self.method == "GET":
            return web.get(self.path, self.handler)
        return web.route(self.method, self.path, self.handler)
