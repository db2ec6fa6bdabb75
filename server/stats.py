"""Stats over REST: the other door to the stats service."""

from typing import Annotated, Any

import orjson
from aiohttp import web
from pydantic import FailFast, Field

from domain.errors import Code
from domain.ids import parse_id
from domain.parsing import Id, Payload, parse
from domain.patch import parse_patch, parse_replacement
from domain.stats import StatsSchema
from server import stats_shapes as shapes
from server.access import identify
from server.answers import json_answer
from server.endpoints import Answer, Endpoint
from server.etags import matches
from server.keys import LIVE
from server.problems import read_json

BATCH_MAX = 200


class UpdateStats(Payload):
    """Body of `POST /api/users/updateStats`."""

    user_id: Id | None = None
    stats: dict[str, Any]


class Batch(Payload):
    """Body of `POST /api/users/stats/batch`."""

    user_ids: Annotated[list[Id], FailFast(), Field(max_length=BATCH_MAX)]


async def pull(request: web.Request) -> web.Response:
    """GET /api/users/{userId}/stats."""
    identity = await identify(request)
    user = identity.acting_for(parse_id(request.match_info["userId"]))
    service = request.app[LIVE].stats
    stats = await service.read(user)
    etag = f'"{stats.rev}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if matches(request.headers.get("If-None-Match", ""), etag):
        return web.Response(status=304, headers=headers)
    return json_answer(service.encode(stats), headers=headers)


async def patch(request: web.Request) -> web.Response:
    """POST /api/users/data/patch."""
    identity = await identify(request)
    service = request.app[LIVE].stats
    change = parse_patch(service.schema, await read_json(request))
    committed = await service.apply(identity.acting_for(change.user_id), change)
    duplicate = b"true" if committed.outcome.duplicate else b"false"
    return json_answer(committed.body[:-1] + b',"duplicate":' + duplicate + b"}")


async def update(request: web.Request) -> web.Response:
    """POST /api/users/updateStats: last write wins."""
    identity = await identify(request)
    service = request.app[LIVE].stats
    body = parse(UpdateStats, await read_json(request))
    user = identity.acting_for(body.user_id)
    committed = await service.apply(user, parse_replacement(service.schema, body.stats))
    applied = b"true" if committed.outcome.applied else b"false"
    return json_answer(b'{"applied":%b,"stats":%b}' % (applied, committed.body))


async def batch(request: web.Request) -> web.Response:
    """POST /api/users/stats/batch: public stats by user id."""
    await identify(request)
    users = parse(Batch, await read_json(request)).user_ids
    service = request.app[LIVE].stats
    found = await service.read_many(list(dict.fromkeys(users))) if users else {}
    return json_answer(
        orjson.dumps({user: service.schema.public(stats) for user, stats in found.items()})
    )


OWN = "Of the caller's own stats; of anyone's with the role `service` or `admin`."
ACTING = (Code.FORBIDDEN, Code.OVERLOADED, Code.ERASED)


def endpoints(schema: StatsSchema) -> list[Endpoint]:
    """The routes of stats that have the fields of `schema`."""
    etag = {"ETag": "The `rev`, quoted"}
    return [
        Endpoint(
            "GET",
            "/api/users/{userId}/stats",
            pull,
            "stats",
            "A user's stats",
            {
                200: Answer(
                    "The document; defaults for a user never written",
                    shapes.document(schema),
                    headers=etag,
                ),
                304: Answer("The caller has the newest", headers=etag),
            },
            headers={"If-None-Match": "The `ETag` that the caller has"},
            refuses=ACTING,
            description=OWN,
        ),
        Endpoint(
            "POST",
            "/api/users/data/patch",
            patch,
            "stats",
            "Add to a user's stats",
            {200: Answer("The stored document", shapes.patched(schema))},
            body=shapes.patch(schema),
            refuses=(*ACTING, Code.OP_ID_REUSED, Code.DEVICE_LIMIT),
            description=f"{OWN} With an `opId` the patch counts once, over REST and socket alike; "
            "without one each time that it arrives. After `unavailable` the outcome is unknown: "
            "send the same patch again, with the same `opId`.",
        ),
        Endpoint(
            "POST",
            "/api/users/updateStats",
            update,
            "stats",
            "Replace fields of a user's stats, last write wins",
            {200: Answer("The stored document", shapes.updated(schema))},
            body=shapes.update(schema),
            refuses=ACTING,
            description=f"{OWN} Applied when `updatedAt` is not older than the stored one.",
        ),
        Endpoint(
            "POST",
            "/api/users/stats/batch",
            batch,
            "stats",
            "Public stats of many users",
            {200: Answer("What anyone may see, by user id", shapes.public_by_id(schema))},
            body=Batch,
            refuses=(Code.OVERLOADED,),
        ),
    ]
