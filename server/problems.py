"""Errors over HTTP: RFC 9457 problems, one table from codes to statuses."""

import asyncio
import json
import logging
import math
import re
import uuid
import zlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import orjson
from aiohttp import web
from aiohttp.web_protocol import RequestPayloadError
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from domain.errors import AppError, Code

log = logging.getLogger(__name__)

STATUS: dict[Code, int] = {
    Code.INVALID_JSON: 400,
    Code.INVALID_TYPE: 400,
    Code.INVALID_VALUE: 400,
    Code.INVALID_ID: 400,
    Code.UNKNOWN_FIELD: 400,
    Code.MISSING_FIELD: 400,
    Code.BAD_REQUEST: 400,
    Code.TOKEN_IN_QUERY: 400,
    Code.UNKNOWN_EVENT: 400,
    Code.NOT_JOINED: 400,
    Code.WATCH_LIMIT: 400,
    Code.MISSING_TOKEN: 401,
    Code.INVALID_TOKEN: 401,
    Code.TOKEN_EXPIRED: 401,
    Code.INVALID_CREDENTIALS: 401,
    Code.FORBIDDEN: 403,
    Code.NOT_FOUND: 404,
    Code.METHOD_NOT_ALLOWED: 405,
    Code.REQUEST_TIMEOUT: 408,
    Code.CONFLICT: 409,
    Code.ID_TAKEN: 409,
    Code.USERNAME_TAKEN: 409,
    Code.EMAIL_TAKEN: 409,
    Code.OP_ID_REUSED: 409,
    Code.OPERATION_ID_REUSED: 409,
    Code.ENTITY_MISSING: 409,
    Code.PARENT_MISSING: 409,
    Code.ENTITY_LIMIT: 409,
    Code.FULL_SYNC_REQUIRED: 410,
    Code.QUEUE_FULL: 409,
    Code.ITEM_BUSY: 409,
    Code.DEVICE_LIMIT: 409,
    Code.SOCKET_LIMIT: 409,
    Code.ERASED: 410,
    Code.PRECONDITION_FAILED: 412,
    Code.PAYLOAD_TOO_LARGE: 413,
    Code.UNSUPPORTED_MEDIA_TYPE: 415,
    Code.RATE_LIMITED: 429,
    Code.TOO_MANY_IN_FLIGHT: 429,
    Code.INTERNAL: 500,
    Code.OVERLOADED: 503,
    Code.DRAINING: 503,
    Code.UNAVAILABLE: 503,
}

_CODES = {
    404: Code.NOT_FOUND,
    405: Code.METHOD_NOT_ALLOWED,
    413: Code.PAYLOAD_TOO_LARGE,
    415: Code.UNSUPPORTED_MEDIA_TYPE,
}

MAX_BODY = 256 * 1024
"""Bytes of a request's body, after decompression."""

BODY_TIMEOUT = 30.0
"""Seconds in which a body has to arrive."""

_ID = web.RequestKey("request_id", str)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def request_id(request: web.Request) -> str:
    """The id that the caller gave the request, if it is a harmless one, or a new one."""
    known: str | None = request.get(_ID)
    if known is None:
        given = request.headers.get("X-Request-Id", "")
        known = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        request[_ID] = known
    return known


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Put on an answer what all of them have (an `on_response_prepare` signal)."""
    response.headers["X-Request-Id"] = request_id(request)
    response.headers["Server"] = "livetally"  # and not which versions of what


class Fault(BaseModel):
    """One field that was refused."""

    pointer: str = Field(description="JSON Pointer (RFC 6901) into the body", examples=["/xp"])
    message: str


class Problem(BaseModel):
    """A refusal or a failure (RFC 9457)."""

    model_config = ConfigDict(alias_generator=to_camel)

    type: str = Field(description="`urn:livetally:problem:` and the code; `about:blank` with 500")
    title: str
    status: int
    detail: str = Field(description="What to do about it, for people")
    code: Code
    request_id: str = Field(description="As in the header X-Request-Id: name it in reports")
    errors: list[Fault] = Field([], description="Absent where no field is at fault")


def tell(error: AppError, request_id: str) -> dict[str, Any]:
    """The problem object that tells of `error`."""
    status = STATUS[error.code]
    body: dict[str, Any] = {
        "type": "about:blank" if status == 500 else f"urn:livetally:problem:{error.code.value}",
        "title": error.code.value.replace("_", " ").capitalize(),
        "status": status,
        "detail": error.message,
        "code": error.code.value,
        "requestId": request_id,
    }
    if error.fields:
        body["errors"] = [field._asdict() for field in error.fields]
    return body


def problem(request: web.Request, error: AppError) -> web.Response:
    """The answer that tells of `error`."""
    status = STATUS[error.code]
    response = web.Response(
        body=orjson.dumps(tell(error, request_id(request))),
        status=status,
        content_type="application/problem+json",
    )
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Translate whatever a handler raises."""
    try:
        return await handler(request)
    except AppError as error:
        return problem(request, error)
    except web.HTTPException as error:
        # A 404 is kept by its request, which its traceback keeps: no cycle may stay.
        return _translated(request, error.with_traceback(None))
    except ConnectionError:  # nobody is there to read the answer
        return problem(request, AppError(Code.BAD_REQUEST, "The connection was lost"))
    except Exception:
        log.exception(
            "%s %s failed", request.method, request.path, extra={"request": request_id(request)}
        )
        return problem(request, AppError(Code.INTERNAL, "Something went wrong on the server"))


def _translated(request: web.Request, error: web.HTTPException) -> web.Response:
    if error.status < 400:
        raise error
    code = _CODES.get(error.status, Code.BAD_REQUEST)
    details = {
        Code.NOT_FOUND: "There is nothing at this path",
        Code.METHOD_NOT_ALLOWED: f"This path does not take {request.method}",
        Code.PAYLOAD_TOO_LARGE: "The body is too large",
        Code.BAD_REQUEST: "The request is not valid HTTP for this path",
    }
    response = problem(request, AppError(code, details.get(code, error.reason)))
    if isinstance(error, web.HTTPMethodNotAllowed):
        response.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
    return response


async def read_json(request: web.Request, limit: int = MAX_BODY, *, mend: bool = False) -> Any:
    """The body as JSON, at most `limit` bytes of it, inflated too.

    With `mend` halves of surrogate pairs become U+FFFD: JavaScript leaves them where it cuts a
    text inside an emoji. Raises AppError `invalid_json` or `payload_too_large`.
    """
    body = await _read(request, limit)
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    body = _decompressed(body, encoding, limit)
    if not body:
        raise AppError(Code.INVALID_JSON, "The body is empty; send a JSON object")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if mend and b"\\u" in body:
            with suppress(ValueError, RecursionError):
                return orjson.loads(_whole_characters(body))
        raise AppError(Code.INVALID_JSON, f"The body is not JSON: {error.msg}") from None


def _whole_characters(body: bytes) -> str:
    text = json.dumps(json.loads(body), ensure_ascii=False)
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


async def _read(request: web.Request, limit: int) -> bytes:
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > limit:
                    raise _too_large(limit)
    except TimeoutError:
        raise AppError(
            Code.REQUEST_TIMEOUT, f"The body did not arrive within {BODY_TIMEOUT:.0f} s"
        ) from None
    except (RequestPayloadError, ValueError, ConnectionResetError):
        raise AppError(Code.BAD_REQUEST, "The body does not match its headers") from None
    return bytes(body)


def _decompressed(body: bytes, encoding: str, limit: int) -> bytes:
    if encoding == "identity":
        return body
    if encoding not in ("gzip", "deflate"):
        raise AppError(Code.UNSUPPORTED_MEDIA_TYPE, "Content-Encoding is gzip, deflate or none")
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)  # zlib or gzip, as its header says
    try:
        unpacked = unpacker.decompress(body, limit + 1)
    except zlib.error:
        raise AppError(Code.BAD_REQUEST, f"The body is not {encoding}") from None
    if len(unpacked) > limit:
        raise _too_large(limit)
    if not unpacker.eof:
        raise AppError(Code.BAD_REQUEST, f"The {encoding} body is cut off")
    return unpacked


def _too_large(limit: int) -> AppError:
    return AppError(Code.PAYLOAD_TOO_LARGE, f"The body must be at most {limit} bytes")
