"""`/api/sync/add`, `/bulk`, `/pending`, `/process`, `/clear`, and what failed."""

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from domain.errors import AppError, Code
from domain.ids import parse_id
from domain.parsing import parse
from domain.queue import AddBody, Status
from server.access import identify, read_query
from server.answers import UNCACHED, json_answer
from server.endpoints import Answer, Endpoint
from server.keys import QUEUE
from server.problems import read_json
from server.queue import models
from server.queue.models import Bulk, QueuePage, Resolve

MAX_BODY = 1024 * 1024  # bytes, inflated
MAX_KEY = 100  # characters of an Idempotency-Key


async def add(request: web.Request) -> web.Response:
    """POST /api/sync/add."""
    identity = await identify(request)
    body = parse(AddBody, await read_json(request, MAX_BODY, mend=True))
    item = await request.app[QUEUE].add(identity.user_id, body, _key(request))
    return _said("Item added to sync queue", 201, syncItem=item.document())


async def bulk(request: web.Request) -> web.Response:
    """POST /api/sync/bulk."""
    identity = await identify(request)
    body = parse(Bulk, await read_json(request, MAX_BODY, mend=True))
    items = await request.app[QUEUE].add_all(identity.user_id, body.items, _key(request))
    shown = [item.document() for item in items]
    return _said("Items added to sync queue", 201, count=len(items), syncItems=shown)


def _key(request: web.Request) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and (not 1 <= len(key) <= MAX_KEY or not key.isprintable()):
        raise AppError(Code.INVALID_VALUE, f"Idempotency-Key: 1 to {MAX_KEY} printable characters")
    return key


async def pending(request: web.Request) -> web.Response:
    """GET /api/sync/pending."""
    return await _list(request, "Pending syncs retrieved", (Status.PENDING, Status.PROCESSING))


async def failed(request: web.Request) -> web.Response:
    """GET /api/sync/failed: conflicts too."""
    return await _list(request, "Failed syncs retrieved", (Status.FAILED, Status.CONFLICT))


async def _list(request: web.Request, message: str, statuses: Sequence[Status]) -> web.Response:
    identity = await identify(request)
    query = read_query(QueuePage, request)
    count, found, more = await request.app[QUEUE].page(
        identity.user_id, statuses, query.cursor, query.limit
    )
    cursor = found[-1].number if more else None
    syncs = [item.document() for item in found]
    return _said(message, count=count, syncs=syncs, cursor=cursor)


async def process(request: web.Request) -> web.Response:
    """POST /api/sync/process."""
    identity = await identify(request)
    counts = await request.app[QUEUE].process(identity.user_id)
    successful, total = counts[Status.COMPLETED], sum(counts.values())
    return _said(
        "Sync queue processed", processed=total, successful=successful, failed=total - successful
    )


async def clear(request: web.Request) -> web.Response:
    """DELETE /api/sync/clear."""
    identity = await identify(request)
    deleted = await request.app[QUEUE].clear(identity.user_id)
    return _said("Sync queue cleared", deletedCount=deleted)


async def retry(request: web.Request) -> web.Response:
    """POST /api/sync/items/{id}/retry."""
    identity = await identify(request)
    await request.app[QUEUE].retry(identity.user_id, _item_id(request))
    return _said("It will be tried again")


async def discard(request: web.Request) -> web.Response:
    """DELETE /api/sync/items/{id}."""
    identity = await identify(request)
    await request.app[QUEUE].discard(identity.user_id, _item_id(request))
    return _said("Item discarded")


async def resolve(request: web.Request) -> web.Response:
    """POST /api/sync/items/{id}/resolve."""
    identity = await identify(request)
    body = parse(Resolve, await read_json(request))
    await request.app[QUEUE].resolve(
        identity.user_id, _item_id(request), keep_mine=body.keep == "mine"
    )
    return _said("Conflict resolved")


def _item_id(request: web.Request) -> str:
    return parse_id(request.match_info["id"], "id")


def _said(message: str, status: int = 200, **rest: Any) -> web.Response:
    return json_answer({"message": message, **rest}, status, UNCACHED)


_TAG = "sync queue"
_KEY = {"Idempotency-Key": "the same key adds once, however often it is sent"}
_ADDING = (Code.OPERATION_ID_REUSED, Code.QUEUE_FULL, Code.ERASED, Code.OVERLOADED)
_ONE = (Code.NOT_FOUND, Code.ITEM_BUSY, Code.ERASED, Code.OVERLOADED)


def _endpoint(
    method: Any, path: str, handler: Any, summary: str, answer: Answer, **rest: Any
) -> Endpoint:
    status = 201 if path in ("/add", "/bulk") else 200
    return Endpoint(method, f"/api/sync{path}", handler, _TAG, summary, {status: answer}, **rest)


ENDPOINTS = [
    _endpoint(
        "POST",
        "/add",
        add,
        "Leave something to be done",
        Answer("The item, or the one that was added before", models.Added),
        body=AddBody,
        headers=_KEY,
        refuses=_ADDING,
    ),
    _endpoint(
        "POST",
        "/bulk",
        bulk,
        "Leave several things to be done, all or none",
        Answer("The items, in their order", models.AddedMany),
        body=Bulk,
        headers=_KEY,
        refuses=_ADDING,
    ),
    _endpoint(
        "GET",
        "/pending",
        pending,
        "What waits to be done, or is being done",
        Answer("A page, in the order added", models.Listed),
        query=QueuePage,
    ),
    _endpoint(
        "GET",
        "/failed",
        failed,
        "What failed for good, or conflicts",
        Answer("A page, in the order added", models.Listed),
        query=QueuePage,
    ),
    _endpoint(
        "POST",
        "/process",
        process,
        "Do what is due, at most 50 items",
        Answer("How many; what will be tried again counts as failed", models.Processed),
    ),
    _endpoint(
        "DELETE",
        "/clear",
        clear,
        "Remove what is pending",
        Answer("How many", models.Cleared),
        refuses=(Code.ERASED, Code.OVERLOADED),
    ),
    _endpoint(
        "POST",
        "/items/{id}/retry",
        retry,
        "Try a failed item again",
        Answer("It is pending", models.Said),
        refuses=_ONE,
    ),
    _endpoint(
        "DELETE",
        "/items/{id}",
        discard,
        "Remove an item",
        Answer("It is gone", models.Said),
        refuses=_ONE,
    ),
    _endpoint(
        "POST",
        "/items/{id}/resolve",
        resolve,
        "End a conflict",
        Answer("It is pending again, or completed with the server's copy", models.Said),
        body=Resolve,
        refuses=_ONE,
    ),
]
