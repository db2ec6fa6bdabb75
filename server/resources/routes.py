"""Resources over REST: what users keep, one's own only."""

import re
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import orjson
from aiohttp import web

from domain.errors import AppError, Code
from domain.ids import parse_id
from domain.resources import BUILT_IN, Document, Resource, given_id
from server.access import identify, read_query
from server.answers import UNCACHED, json_answer
from server.endpoints import Answer, Endpoint
from server.keys import RESOURCES
from server.problems import read_json
from server.resources.models import DocumentPage, PageQuery
from server.resources.service import Versions

TIMEOUT = 6.0  # seconds
_ETAG = re.compile(r'"([0-9]{1,18})"')


def endpoints(kind: Resource) -> list[Endpoint]:
    """The routes of one kind."""
    one = kind.name[:-1]

    async def page(request: web.Request) -> web.Response:
        identity = await identify(request)
        query = read_query(PageQuery, request)
        repository = request.app[RESOURCES].repository
        after = None if query.cursor is None else parse_id(query.cursor, "cursor")
        found = await repository.page(identity.user_id, kind, after, query.limit + 1, TIMEOUT)
        count, total = await repository.total(identity.user_id, kind, TIMEOUT)
        shown = found[: query.limit]
        more = len(found) > len(shown)
        return json_answer(
            {
                kind.name: [document.shown() for document in shown],
                "count": count,
                "total": orjson.Fragment(f"{total:f}"),  # all digits, however many
                "cursor": shown[-1].id if more else None,
            },
            headers=UNCACHED,
        )

    async def show(request: web.Request) -> web.Response:
        identity = await identify(request)
        doc_id = parse_id(request.match_info["id"], "id")
        document = await request.app[RESOURCES].repository.read(
            identity.user_id, kind, doc_id, TIMEOUT
        )
        if document is None:
            raise AppError(Code.NOT_FOUND, f"There is no {one} {doc_id} of yours")
        return _shown(document)

    async def create(request: web.Request) -> web.Response:
        identity = await identify(request)
        data = _object(await read_json(request, mend=True))
        body, doc_id = kind.parse(data), given_id(data) or str(uuid4())
        service = request.app[RESOURCES]
        document = await service.units.run(
            identity.user_id, lambda unit: service.create(unit, kind, doc_id, body), TIMEOUT
        )
        return _shown(document, 201)

    async def change(request: web.Request) -> web.Response:
        identity = await identify(request)
        doc_id = parse_id(request.match_info["id"], "id")
        data = _object(await read_json(request, mend=True))
        if given_id(data) not in (None, doc_id):
            raise AppError(Code.INVALID_ID, "id: must be the id in the path")
        body, versions, service = kind.parse(data), _versions(request), request.app[RESOURCES]
        document = await service.units.run(
            identity.user_id,
            lambda unit: service.change(unit, kind, doc_id, body, versions),
            TIMEOUT,
        )
        return _shown(document)

    async def remove(request: web.Request) -> web.Response:
        identity = await identify(request)
        doc_id = parse_id(request.match_info["id"], "id")
        versions, service = _versions(request), request.app[RESOURCES]
        document = await service.units.run(
            identity.user_id, lambda unit: service.remove(unit, kind, doc_id, versions), TIMEOUT
        )
        return _shown(document)

    return _documented(kind, page, show, create, change, remove)


def _documented(kind: Resource, *handlers: Any) -> list[Endpoint]:
    page, show, create, change, remove = handlers
    path, one = f"/api/{kind.name}", f"/api/{kind.name}/{{id}}"
    tag, name = "resources", kind.name[:-1]
    version = {"ETag": "the document's version, for If-Match"}
    shown = {200: Answer(f"The {name}", {"type": "object"}, headers=version)}
    match = {"If-Match": "only this version (an ETag)"}
    writing = (Code.ERASED, Code.PRECONDITION_FAILED, Code.NOT_FOUND, Code.OVERLOADED)
    return [
        Endpoint(
            "GET",
            path,
            page,
            tag,
            f"One's own {kind.name}, page by page, and the exact sum of all",
            {200: Answer("A page, in the order of their ids", DocumentPage)},
            query=PageQuery,
            refuses=(Code.INVALID_ID,),
        ),
        Endpoint(
            "POST",
            path,
            create,
            tag,
            "Add one",
            {201: shown[200]},
            body=kind.model,
            refuses=(Code.ERASED, Code.ID_TAKEN, Code.OVERLOADED),
            description=f"Needed: {', '.join(kind.needed)}. It may bring its own `id`.",
        ),
        Endpoint("GET", one, show, tag, "One of one's own", shown, refuses=(Code.NOT_FOUND,)),
        Endpoint(
            "PUT",
            one,
            change,
            tag,
            "Replace some fields",
            shown,
            body=kind.model,
            headers=match,
            refuses=writing,
        ),
        Endpoint("DELETE", one, remove, tag, "Remove one", shown, headers=match, refuses=writing),
    ]


def _object(payload: Any) -> Mapping[str, Any]:
    if not isinstance(payload, dict):
        raise AppError(Code.INVALID_TYPE, "Expected a JSON object")
    return payload


def _versions(request: web.Request) -> Versions:
    """Those that If-Match names; what is no ETag of ours names none."""
    tags = [tag.strip() for tag in request.headers.get("If-Match", "*").split(",")]
    if "*" in tags:
        return None
    return {int(found[1]) for tag in tags if (found := _ETAG.fullmatch(tag))}


def _shown(document: Document, status: int = 200) -> web.Response:
    headers = {**UNCACHED, "ETag": f'"{document.version}"'}
    return json_answer(document.shown(), status, headers)


ENDPOINTS = [endpoint for kind in BUILT_IN for endpoint in endpoints(kind)]
