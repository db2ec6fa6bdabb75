"""A stats server on the usual Python stack: python-socketio, aiohttp, PyMongo, Redis."""

import asyncio
import logging
import os
import signal
from datetime import UTC, datetime

import jwt
import socketio
import uvloop
from aiohttp import web
from pymongo import AsyncMongoClient
from stats import BadRequest, StatsStore, iso

JWT_SECRET = os.environ["JWT_SECRET"]
PORT = int(os.environ.get("PORT", "3000"))
log = logging.getLogger("stock")

sio = socketio.AsyncServer(
    async_mode="aiohttp",
    client_manager=socketio.AsyncRedisManager(os.environ["REDIS_URL"]),
)
routes = web.RouteTableDef()
STORE = web.AppKey("store", StatsStore)


def room(user_id):
    return f"user:{user_id}"


def failure(code, message):
    return {"ok": False, "error": {"code": code, "message": message}}


def user_of(token):
    """The user id of a token; raises jwt.InvalidTokenError when it is not one of ours."""
    claims = jwt.decode(token, JWT_SECRET, algorithms=["HS256"], options={"require": ["sub"]})
    if not claims["sub"]:
        raise jwt.InvalidTokenError("the token names no user")
    return claims["sub"]


@web.middleware
async def answer_errors(request, handler):
    try:
        return await handler(request)
    except BadRequest as error:
        return web.json_response(failure("bad_request", str(error)), status=400)
    except jwt.InvalidTokenError:
        return web.json_response(failure("unauthorized", "send a valid token"), status=401)
    except web.HTTPException:
        raise
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return web.json_response(failure("internal", "try again later"), status=500)


def authenticate(request):
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme != "Bearer":
        raise jwt.InvalidTokenError("no bearer token")
    return user_of(token)


@routes.get("/health")
async def health(request):
    return web.json_response({"status": "OK"})


@routes.get("/api/users/{id}/stats")
async def get_stats(request):
    user_id = authenticate(request)
    if request.match_info["id"] != user_id:
        return web.json_response(failure("forbidden", "only your own stats"), status=403)
    return web.json_response(await request.app[STORE].load(user_id))


@routes.post("/api/users/data/patch")
async def post_patch(request):
    user_id = authenticate(request)
    try:
        patch = await request.json()
    except ValueError as error:
        raise BadRequest("the body must be JSON") from error
    stats = await request.app[STORE].patch(user_id, patch)
    await sio.emit("user:data:updated", stats, room=room(user_id))
    return web.json_response(stats)


@sio.event
async def connect(sid, environ, auth):
    try:
        user_id = user_of(auth["token"])
    except (jwt.InvalidTokenError, KeyError, TypeError):
        raise socketio.exceptions.ConnectionRefusedError("unauthorized") from None
    await sio.save_session(sid, {"user_id": user_id})


def on(event):
    """Register `handler(sid, user_id, data)`; what it returns, or its error, is acked."""

    def register(handler):
        async def run(sid, data=None):
            try:
                session = await sio.get_session(sid)
                return await handler(sid, session["user_id"], data)
            except BadRequest as error:
                return failure("bad_request", str(error))
            except Exception:
                log.exception("%s failed", event)
                return failure("internal", "try again later")

        sio.on(event, run)
        return handler

    return register


def serve_events(store):
    @on("presence:join")
    async def join(sid, user_id, data):
        await sio.enter_room(sid, room(user_id))
        return {"ok": True, "userId": user_id, "sessionId": sid, "stats": await store.load(user_id)}

    @on("presence:ping")
    async def ping(sid, user_id, data):
        t = data.get("t") if isinstance(data, dict) else None
        pong = {"t": t, "serverTime": iso(datetime.now(UTC))}
        # This socket is on this instance: no need to tell the others through Redis.
        await sio.emit("presence:pong", pong, to=sid, ignore_queue=True)
        return pong

    @on("user:clientUpdate")
    async def client_update(sid, user_id, patch):
        stats = await store.patch(user_id, patch)
        await sio.emit("user:data:updated", stats, room=room(user_id), skip_sid=sid)
        return {"ok": True, "stats": stats, "rev": stats["rev"]}


async def main():
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)

    async with AsyncMongoClient(os.environ["MONGODB_URI"], tz_aware=True) as mongo:
        await mongo.aconnect()
        store = StatsStore(mongo[os.environ["MONGODB_DB"]])
        serve_events(store)
        app = web.Application(middlewares=[answer_errors])
        app[STORE] = store
        app.add_routes(routes)
        sio.attach(app)
        # Open websockets are handlers that do not end by themselves: do not wait long for them.
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", PORT).start()
        print(f"listening on {PORT}", flush=True)
        await stopping.wait()
        await sio.shutdown()
        await runner.cleanup()


if __name__ == "__main__":
    uvloop.run(main())
