"""What the API says of itself: `/openapi.json`, and `/docs` for people to read it."""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from domain.errors import AppError, Code
from server.endpoints import Answer, Endpoint
from server.etags import matches
from server.problems import Handler

WEB = Path(__file__).parent.parent / "web"
PAGE = "index.html"
FILES = {
    PAGE: ("docs/index.html", "text/html"),
    "docs.js": ("docs/docs.js", "text/javascript"),
    "docs.css": ("docs/docs.css", "text/css"),
    "swagger-ui-bundle.js": ("vendor/swagger-ui/swagger-ui-bundle.js", "text/javascript"),
    "swagger-ui.css": ("vendor/swagger-ui/swagger-ui.css", "text/css"),
}
"""All that is served below `/docs`, by its last name: where it is in `web/`, and its type."""

PLAIN = {"Cache-Control": "public, max-age=300", "X-Content-Type-Options": "nosniff"}
GUARDED = {
    **PLAIN,
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; style-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}

ETAG = {"ETag": "Of the content"}


@dataclass(frozen=True, slots=True)
class Served:
    """Bytes as they are served."""

    body: bytes
    media: str
    etag: str
    headers: Mapping[str, str]

    def answer(self, request: web.Request) -> web.Response:
        """The bytes, or a 304 to who has them."""
        headers = {**self.headers, "ETag": self.etag}
        if matches(request.headers.get("If-None-Match", ""), self.etag):
            return web.Response(status=304, headers=headers)
        charset = "utf-8" if self.media.startswith("text/") else None
        return web.Response(
            body=self.body, content_type=self.media, charset=charset, headers=headers
        )


class Docs:
    """The document and the page that shows it, in memory."""

    def __init__(self) -> None:
        self._files = read_files()
        self._make: Callable[[], Mapping[str, Any]] = dict
        self._document: Served | None = None

    def publish(self, make: Callable[[], Mapping[str, Any]]) -> None:
        """Serve what `make` returns as `/openapi.json`; it is made when it is asked for first."""
        self._make = make

    def endpoints(self) -> list[Endpoint]:
        """Its routes, which are in the document like all others."""
        text = {"type": "string"}
        document = Answer("OpenAPI 3.1", {"type": "object"}, headers=ETAG)
        page = Answer("The page", text, "text/html", ETAG)
        file = Answer("A script or a style sheet, as its name says", text, "text/*", ETAG)
        return [
            _endpoint("/openapi.json", self.show_document, "This document", document),
            _endpoint("/docs", self.show_page, "A page to read it and to try it out", page),
            _endpoint(
                "/docs/{file}",
                self.show_file,
                "What that page consists of",
                file,
                params={
                    "file": {"type": "string", "enum": [name for name in FILES if name != PAGE]}
                },
                refuses=(Code.NOT_FOUND,),
            ),
        ]

    async def show_document(self, request: web.Request) -> web.Response:
        """GET /openapi.json."""
        if self._document is None:
            # The loop had better not wait for it: it takes some 60 ms.
            self._document = await asyncio.to_thread(self._served_document)
        return self._document.answer(request)

    def _served_document(self) -> Served:
        return _served(orjson.dumps(self._make()), "application/json", PLAIN)

    async def show_page(self, request: web.Request) -> web.Response:
        """GET /docs."""
        return self._files[PAGE].answer(request)

    async def show_file(self, request: web.Request) -> web.Response:
        """GET /docs/{file}: one of a fixed table."""
        name = request.match_info["file"]
        if name == PAGE or name not in self._files:
            raise AppError(Code.NOT_FOUND, "There is nothing at this path")
        return self._files[name].answer(request)


def _endpoint(path: str, handler: Handler, summary: str, answer: Answer, **more: Any) -> Endpoint:
    return Endpoint(
        *("GET", path, handler, "docs", summary),
        answers={200: answer, 304: Answer("The caller has it already", headers=ETAG)},
        headers={"If-None-Match": "The `ETag` that the caller has"},
        auth="none",
        **more,
    )


@cache
def read_files() -> Mapping[str, Served]:
    """All of `FILES`, read once in a process."""
    return {
        name: _served((WEB / path).read_bytes(), media, GUARDED)
        for name, (path, media) in FILES.items()
    }


def _served(body: bytes, media: str, headers: Mapping[str, str]) -> Served:
    return Served(body, media, f'"{hashlib.sha256(body).hexdigest()[:32]}"', headers)
