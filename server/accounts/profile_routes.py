"""`/users`: profiles, search and status."""

from urllib.parse import urlencode

from aiohttp import web

from domain.accounts import Account
from domain.errors import Code
from domain.ids import parse_id
from domain.parsing import parse
from domain.profiles import ProfileBody, parse_profile
from domain.search import parse_query
from server.access import identify, read_query
from server.accounts.models import (
    FoundUsers,
    Page,
    Profile,
    PublicProfiles,
    Search,
    SetStatus,
    StatusAnswer,
    WholeProfile,
)
from server.accounts.profiles import etag
from server.answers import UNCACHED, json_answer
from server.endpoints import Answer, Endpoint
from server.keys import ACCOUNTS
from server.problems import read_json

OWN = {"Cache-Control": "private, no-cache"}
VERSION = {"ETag": "the profile's version, for If-Match"}


async def show(request: web.Request) -> web.Response:
    """GET /users/{id}: whole for oneself, the public part of others."""
    identity = await identify(request)
    user_id = parse_id(request.match_info["id"], "id")
    profiles = request.app[ACCOUNTS].profiles
    account = await profiles.read(user_id)
    whole = identity.may_act_for(user_id)
    (shown,) = await profiles.with_presence([account], Account.whole if whole else Account.public)
    return json_answer(shown, headers={**OWN, "ETag": etag(account)})


async def update(request: web.Request) -> web.Response:
    """PUT /users/{id}: a partial change, last write wins."""
    identity = await identify(request)
    user_id = identity.acting_for(parse_id(request.match_info["id"], "id"))
    profiles = request.app[ACCOUNTS].profiles
    wish = parse_profile(user_id, await read_json(request))
    account = await profiles.update(user_id, wish, request.headers.get("If-Match"))
    (shown,) = await profiles.with_presence([account], Account.whole)
    return json_answer(shown, headers={**OWN, "ETag": etag(account)})


async def page(request: web.Request) -> web.Response:
    """GET /users: everybody, page by page; the next page is in `Link`."""
    await identify(request)
    query = read_query(Page, request)
    profiles = request.app[ACCOUNTS].profiles
    accounts, following = await profiles.page(query.cursor, query.limit)
    headers = dict(OWN)
    if following is not None:
        parameters = urlencode({"limit": query.limit, "cursor": following})
        headers["Link"] = f'<{request.path}?{parameters}>; rel="next"'
    return json_answer(await profiles.with_presence(accounts, Account.public), headers=headers)


async def search(request: web.Request) -> web.Response:
    """GET /users/search: by the beginning of any word of a username or name."""
    await identify(request)
    query = read_query(Search, request)
    profiles = request.app[ACCOUNTS].profiles
    accounts = await profiles.search(parse_query(query.q), query.q, query.limit)
    found = await profiles.with_presence(accounts, Account.found)
    for user in found:
        del user["status"], user["lastSeen"]
    return json_answer(found, headers=OWN)


async def set_status(request: web.Request) -> web.Response:
    """POST /users/{id}/status."""
    identity = await identify(request)
    user_id = identity.acting_for(parse_id(request.match_info["id"], "id"))
    wish = parse(SetStatus, await read_json(request))
    shown = await request.app[ACCOUNTS].profiles.set_status(user_id, wish.status, wish.note)
    return json_answer(shown, headers=UNCACHED)


_TAG = "users"

ENDPOINTS = [
    Endpoint(
        "GET",
        "/users",
        page,
        _TAG,
        "Everybody, page by page",
        {
            200: Answer(
                "A page, in the order in which the accounts were made",
                PublicProfiles,
                headers={"Link": "the next page, rel=next; absent on the last"},
            )
        },
        query=Page,
    ),
    Endpoint(
        "GET",
        "/users/search",
        search,
        _TAG,
        "Find people by the beginning of any word of their username or name",
        {200: Answer("Who was found, the exact ones first", FoundUsers)},
        query=Search,
    ),
    Endpoint(
        "GET",
        "/users/{id}",
        show,
        _TAG,
        "A profile: whole for oneself, public for others",
        {
            200: Answer(
                "The profile; e-mail, custom, role, guest and createdAt only for oneself",
                Profile,
                headers=VERSION,
            )
        },
        refuses=(Code.NOT_FOUND, Code.ERASED),
    ),
    Endpoint(
        "PUT",
        "/users/{id}",
        update,
        _TAG,
        "Change one's profile",
        {
            200: Answer(
                "The stored profile, after this change or a newer one",
                WholeProfile,
                headers=VERSION,
            )
        },
        body=ProfileBody,
        headers={"If-Match": "change only this version (an ETag, or *)"},
        refuses=(
            Code.FORBIDDEN,
            Code.USERNAME_TAKEN,
            Code.ERASED,
            Code.PRECONDITION_FAILED,
        ),
    ),
    Endpoint(
        "POST",
        "/users/{id}/status",
        set_status,
        _TAG,
        "Say how one is; keeps clients without a socket online for 5 minutes",
        {200: Answer("How the user stands now", StatusAnswer)},
        body=SetStatus,
        refuses=(Code.FORBIDDEN, Code.ERASED),
    ),
]
