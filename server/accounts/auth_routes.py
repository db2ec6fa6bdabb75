"""Registering, logging in and out: `/auth` for one source document, `/api/auth` for the other."""

from contextlib import aclosing
from typing import Any

import orjson
from aiohttp import web

from domain.errors import AppError, Code
from domain.parsing import parse
from server.access import count_address, identify, identify_if_told
from server.accounts.models import (
    ChangePassword,
    EndedAnswer,
    ErasedAnswer,
    Guest,
    LoggedInAnswer,
    LoggedInUser,
    LogIn,
    LogOut,
    MeAnswer,
    Refresh,
    Register,
    RegisterByName,
)
from server.accounts.service import LoggedIn, Registration
from server.answers import UNCACHED, json_answer
from server.endpoints import Answer, Endpoint
from server.keys import ACCOUNTS, LIMITS
from server.problems import read_json


async def _register(request: web.Request, model: type[Register | RegisterByName]) -> LoggedIn:
    asking = await identify_if_told(request)
    body = parse(model, await read_json(request))
    accounts = request.app[ACCOUNTS].service
    password = accounts.passwords.parse(body.password)
    wish = Registration(body.email, password, body.username, body.name, body.id)
    logged_in = await accounts.register(wish, asking)
    if asking is not None and asking.user_id == logged_in.account.id:
        request.app[ACCOUNTS].profiles.tell(logged_in.account)
    return logged_in


async def _log_in(request: web.Request) -> LoggedIn:
    address = count_address(request)
    body = parse(LogIn, await read_json(request))
    name = body.email if body.username is None else body.username
    if name is None or None not in (body.email, body.username):
        raise AppError(Code.MISSING_FIELD, "Send either email or username, and the password")
    return await request.app[ACCOUNTS].service.log_in(name, body.password, address)


def _beside(logged_in: LoggedIn, status: int = 200) -> web.Response:
    """The tokens beside the account's fields."""
    document = {**logged_in.account.whole(), **logged_in.login.document()}
    return json_answer(document, status, UNCACHED)


def _inside(logged_in: LoggedIn, status: int = 200) -> web.Response:
    """The account and the tokens inside `data`."""
    return _success({"user": logged_in.account.whole(), **logged_in.login.document()}, status)


def _success(data: dict[str, Any], status: int = 200) -> web.Response:
    return json_answer({"success": True, "data": data}, status, UNCACHED)


async def register(request: web.Request) -> web.Response:
    """POST /auth/register."""
    return _beside(await _register(request, Register), 201)


async def log_in(request: web.Request) -> web.Response:
    """POST /auth/login."""
    return _beside(await _log_in(request))


async def api_register(request: web.Request) -> web.Response:
    """POST /api/auth/register."""
    return _inside(await _register(request, RegisterByName), 201)


async def api_log_in(request: web.Request) -> web.Response:
    """POST /api/auth/login."""
    return _inside(await _log_in(request))


async def guest(request: web.Request) -> web.Response:
    """POST /api/auth/guest."""
    count_address(request)
    body = parse(Guest, await read_json(request))
    return _inside(await request.app[ACCOUNTS].service.guest(body.device_id), 201)


async def refresh(request: web.Request) -> web.Response:
    """POST /api/auth/refresh."""
    count_address(request)
    body = parse(Refresh, await read_json(request))
    return _inside(await request.app[ACCOUNTS].service.refresh(body.refresh_token))


async def me(request: web.Request) -> web.Response:
    """GET /api/auth/me."""
    identity = await identify(request)
    account = await request.app[ACCOUNTS].profiles.read(identity.user_id)
    return _success({"user": account.whole()})


async def log_out(request: web.Request) -> web.Response:
    """POST /api/auth/logout: by refresh token, or the session of the token that comes along."""
    sessions = request.app[ACCOUNTS].sessions
    body = parse(LogOut, await read_json(request) if request.can_read_body else {})
    if body.refresh_token is not None:
        count_address(request)
        return _success({"sessions": await sessions.end_by_refresh_token(body.refresh_token)})
    identity = await identify(request)
    if identity.session_id is None:
        raise AppError(Code.BAD_REQUEST, "This token has no session: it ends by itself")
    return _success({"sessions": await sessions.end(identity.session_id)})


async def log_out_all(request: web.Request) -> web.Response:
    """POST /api/auth/logout-all."""
    identity = await identify(request)
    return _success({"sessions": await request.app[ACCOUNTS].sessions.end_all(identity.user_id)})


async def change_password(request: web.Request) -> web.Response:
    """POST /api/auth/password: the other sessions end."""
    identity = await identify(request)
    body = parse(ChangePassword, await read_json(request))
    accounts = request.app[ACCOUNTS].service
    new = accounts.passwords.parse(body.new_password, "newPassword")
    address = request.app[LIMITS].client_address(request)
    ended = await accounts.change_password(identity, body.current_password, new, address)
    return _success({"sessions": ended})


async def erase_me(request: web.Request) -> web.Response:
    """DELETE /api/auth/me."""
    identity = await identify(request)
    await request.app[ACCOUNTS].people.erase(identity.user_id)
    return _success({})


async def export_me(request: web.Request) -> web.StreamResponse:
    """GET /api/auth/me/export: NDJSON, a record a line."""
    identity = await identify(request)
    response = web.StreamResponse(
        headers={**UNCACHED, "Content-Disposition": 'attachment; filename="export.ndjson"'}
    )
    response.content_type = "application/x-ndjson"
    async with aclosing(request.app[ACCOUNTS].people.export(identity.user_id)) as records:
        first = await anext(records, None)  # what fails at once fails as a problem
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        try:
            if first is not None:
                await _write(response, first)
            async for record in records:
                await _write(response, record)
            await response.write_eof()
        except BaseException:
            if request.transport is not None:
                request.transport.abort()  # half an answer must not look like a whole one
            raise
    return response


async def _write(response: web.StreamResponse, record: Any) -> None:
    await response.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))


_TAG = "accounts"
_LOGGED_IN = Answer("Logged in", LoggedInAnswer)
_TAKEN = (
    Code.EMAIL_TAKEN,
    Code.USERNAME_TAKEN,
    Code.ID_TAKEN,
    Code.ERASED,
    Code.CONFLICT,
    Code.FORBIDDEN,
    Code.OVERLOADED,
)
_WITHOUT_TOKEN = (Code.TOKEN_IN_QUERY, Code.RATE_LIMITED, Code.UNAVAILABLE)
_REFUSED = (*_WITHOUT_TOKEN, Code.INVALID_CREDENTIALS, Code.FORBIDDEN, Code.OVERLOADED)
_ENDED = Answer("How many sessions have ended", EndedAnswer)

ENDPOINTS = [
    Endpoint(
        "POST",
        "/auth/register",
        register,
        _TAG,
        "Make an account; with a guest's token the guest becomes it",
        {201: Answer("The account, with its tokens beside its fields", LoggedInUser)},
        body=Register,
        auth="optional",
        refuses=_TAKEN,
    ),
    Endpoint(
        "POST",
        "/auth/login",
        log_in,
        _TAG,
        "Log in with an e-mail address or a username",
        {200: Answer("The account, with its tokens beside its fields", LoggedInUser)},
        body=LogIn,
        auth="none",
        refuses=_REFUSED,
    ),
    Endpoint(
        "POST",
        "/api/auth/register",
        api_register,
        _TAG,
        "Make an account; a username is found where none is sent",
        {201: _LOGGED_IN},
        body=RegisterByName,
        auth="optional",
        refuses=_TAKEN,
    ),
    Endpoint(
        "POST",
        "/api/auth/login",
        api_log_in,
        _TAG,
        "Log in with an e-mail address or a username",
        {200: _LOGGED_IN},
        body=LogIn,
        auth="none",
        refuses=_REFUSED,
    ),
    Endpoint(
        "POST",
        "/api/auth/guest",
        guest,
        _TAG,
        "Play first: an account of a device",
        {201: _LOGGED_IN},
        body=Guest,
        auth="none",
        refuses=(*_WITHOUT_TOKEN, Code.FORBIDDEN),
    ),
    Endpoint(
        "POST",
        "/api/auth/refresh",
        refresh,
        _TAG,
        "The next tokens of a session",
        {200: _LOGGED_IN},
        body=Refresh,
        auth="none",
        refuses=_REFUSED,
    ),
    Endpoint(
        "POST",
        "/api/auth/logout",
        log_out,
        _TAG,
        "End the session of the token, or of a refresh token",
        {200: _ENDED},
        body=LogOut,
        body_needed=False,
        auth="optional",
        refuses=(Code.MISSING_TOKEN,),
    ),
    Endpoint(
        "POST",
        "/api/auth/logout-all",
        log_out_all,
        _TAG,
        "End all sessions of the user",
        {200: _ENDED},
    ),
    Endpoint(
        "POST",
        "/api/auth/password",
        change_password,
        _TAG,
        "Change the password; the other sessions end",
        {200: _ENDED},
        body=ChangePassword,
        refuses=(Code.INVALID_CREDENTIALS, Code.CONFLICT, Code.ERASED, Code.OVERLOADED),
    ),
    Endpoint(
        "GET",
        "/api/auth/me",
        me,
        _TAG,
        "One's own account",
        {200: Answer("The account", MeAnswer)},
        refuses=(Code.NOT_FOUND, Code.ERASED),
    ),
    Endpoint(
        "DELETE",
        "/api/auth/me",
        erase_me,
        _TAG,
        "Erase oneself everywhere, for good",
        {200: Answer("Nothing is held about this person any more", ErasedAnswer)},
    ),
    Endpoint(
        "GET",
        "/api/auth/me/export",
        export_me,
        _TAG,
        "Everything held about oneself",
        {
            200: Answer(
                "A JSON object a line, each with the `feature` that holds it",
                {"type": "string"},
                media="application/x-ndjson",
            )
        },
        refuses=(Code.ERASED,),
    ),
]
