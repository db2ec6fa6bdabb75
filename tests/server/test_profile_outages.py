"""Profiles while Redis or MongoDB is away."""

import asyncio

import aiohttp

from server.embedded import PrivateServer
from tests.clients_py import joined
from tests.outages import frozen
from tests.profiles import put
from tests.rest import Answer, Api
from tests.serving import serving


async def say(api: Api) -> Answer:
    return await api.post("/users/ada/status", {"status": "busy"})


async def test_with_redis_away_profiles_lists_search_and_status_go_on(
    own_redis: PrivateServer, mongodb_uri: str, mongodb_name: str
) -> None:
    async with (
        serving(
            mongodb_uri=mongodb_uri,
            mongodb_db=mongodb_name,
            redis_url=own_redis.url,
            redis_timeout=0.3,
        ) as server,
        aiohttp.ClientSession(server.url) as session,
        joined(server.url) as phone,
    ):
        api = Api(session)
        (await put(api, "ada", username="ada")).ok()
        (await put(Api(session, "bob"), "bob", username="bob")).ok()
        with frozen(own_redis):
            assert (await put(api, "ada", bio="on")).ok()["bio"] == "on"
            await phone.until("user:profile:updated", lambda told: told["bio"] == "on")
            assert (await say(api)).ok()["isOnline"] is True, "seen from here"
            shown = {one["id"]: one["status"] for one in (await api.get("/users")).ok()}
            assert shown == {"ada": "busy", "bob": "offline"}
            (found,) = (await api.get("/users/search?q=ada")).ok()
            assert found["isOnline"] is True


async def test_with_mongodb_away_nothing_is_changed_or_claimed(
    own_mongod: PrivateServer, redis_url: str, redis_prefix: str
) -> None:
    async with (
        serving(
            mongodb_uri=own_mongod.url, redis_url=redis_url, redis_prefix=redis_prefix
        ) as server,
        aiohttp.ClientSession(server.url) as session,
    ):
        api = Api(session)
        (await put(api, "ada", username="ada", bio="before")).ok()
        with frozen(own_mongod):
            answers = await asyncio.gather(
                put(api, "ada", username="adb"),
                api.get("/users/ada"),
                api.get("/users"),
                api.get("/users/search?q=ada"),
                say(api),
            )
        for answer in answers:
            answer.problem(503, "unavailable")
            assert answer.headers["Retry-After"]
        assert (await api.get("/users/ada")).ok()["username"] in ("ada", "adb")
