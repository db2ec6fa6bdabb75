"""JSON answers."""

from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

UNCACHED = {"Cache-Control": "no-store"}
"""Headers of an answer that nobody may keep: it has tokens, say, or is true only now."""


def json_answer(
    body: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """`body` as JSON; bytes are JSON already."""
    encoded = body if isinstance(body, bytes) else orjson.dumps(body)
    return web.Response(
        body=encoded, status=status, content_type="application/json", headers=headers
    )
