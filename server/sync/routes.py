"""`/api/sync`: push and pull, the first pull, the log."""

from typing import Any

import orjson
from aiohttp import web

from domain.errors import Code
from domain.parsing import parse
from domain.times import iso
from server.access import identify, read_query
from server.answers import UNCACHED, json_answer
from server.endpoints import Answer as Documented
from server.endpoints import Endpoint
from server.keys import SYNC
from server.problems import read_json
from server.sync.models import Initial, LogAnswer, LogPage, Push, SyncAnswer
from server.sync.service import Answer
from server.sync.tokens import read_log_cursor, write_log_cursor
from storage.sync import operation_document

MAX_PUSH = 1024 * 1024  # bytes of a body, inflated
MIN_COMPRESSED = 1024  # bytes of an answer that is worth it


async def push_and_pull(request: web.Request) -> web.Response:
    """POST /api/sync."""
    identity = await identify(request)
    body = parse(Push, await read_json(request, MAX_PUSH, mend=True))
    answer = await request.app[SYNC].sync(identity.user_id, body)
    return await _answered(request, identity.user_id, answer)


async def initial(request: web.Request) -> web.Response:
    """GET /api/sync/initial."""
    identity = await identify(request)
    query = read_query(Initial, request)
    answer = await request.app[SYNC].initial(identity.user_id, query.limit, query.page_token)
    return await _answered(request, identity.user_id, answer)


async def show_log(request: web.Request) -> web.Response:
    """GET /api/sync/log."""
    identity = await identify(request)
    query = read_query(LogPage, request)
    before = None if query.cursor is None else read_log_cursor(query.cursor)
    service = request.app[SYNC]
    found = await service.operations(identity.user_id, before, query.limit + 1)
    page = found[: query.limit]
    following = None
    if len(found) > len(page):
        op_id, op = page[-1]
        following = write_log_cursor(op.stamp, op_id)
    operations = [operation_document(op) for _, op in page]
    data = {"operations": operations, "cursor": following}
    return json_answer({"success": True, "data": data}, headers=UNCACHED)


async def _answered(request: web.Request, user_id: str, answer: Answer) -> web.Response:
    data: dict[str, Any] = {
        "acknowledged": [ack.document(user_id) for ack in answer.acks],
        "serverUpdates": {
            plural: orjson.Fragment(b"[" + b",".join(rows) + b"]")
            for plural, rows in answer.rows.items()
        },
        "syncTimestamp": answer.cursor if answer.stamp is None else iso(answer.stamp),
        "epoch": await request.app[SYNC].epoch(),
    }
    if answer.paged:
        data["hasMore"] = answer.more is not None
        data["pageToken"] = None if answer.more is None else answer.more.write()
    body = orjson.dumps({"success": True, "data": data})
    response = json_answer(body, headers=UNCACHED)
    if len(body) >= MIN_COMPRESSED:
        response.enable_compression()  # if the client takes it
    return response


_TAG = "sync"
_REFUSED = (Code.FULL_SYNC_REQUIRED, Code.ERASED, Code.OVERLOADED)

ENDPOINTS = [
    Endpoint(
        "POST",
        "/api/sync",
        push_and_pull,
        _TAG,
        "Push changes and pull what is new",
        {200: Documented("An acknowledgement for each change, and what is new", SyncAnswer)},
        body=Push,
        refuses=_REFUSED,
    ),
    Endpoint(
        "GET",
        "/api/sync/initial",
        initial,
        _TAG,
        "Everything that is not deleted, for a device that has nothing yet",
        {200: Documented("All rows, and the cursor to go on with", SyncAnswer)},
        query=Initial,
        refuses=(Code.ERASED, Code.OVERLOADED),
    ),
    Endpoint(
        "GET",
        "/api/sync/log",
        show_log,
        _TAG,
        "One's own recent operations, newest first",
        {200: Documented("A page of the log", LogAnswer)},
        query=LogPage,
    ),
]
