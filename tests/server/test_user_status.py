"""`isOnline` and `status` are the live presence; `POST /users/{id}/status` says it over REST."""

import asyncio
from typing import Any

import aiohttp
import pytest
from redis import Redis

from server.embedded import PrivateServer
from tests.clients_py import joined
from tests.profiles import put
from tests.rest import ISO, PATIENCE, Answer, Api
from tests.serving import Served, serving
from tests.watchers import watching

pytestmark = pytest.mark.usefixtures("quiet")

VISIT = 1.5  # seconds, where its end is awaited


@pytest.fixture
async def ada(api: Api) -> Api:
    """Ada, who has a profile."""
    (await put(api, "ada", username="ada")).ok()
    return api


async def standing(api: Api, user: str = "ada") -> tuple[bool, str]:
    """How the user stands: as their profile, the list and a search have it, which agree."""
    shown = (await api.get(f"/users/{user}")).ok()
    (listed,) = [one for one in (await api.get("/users")).ok() if one["id"] == user]
    assert (listed["isOnline"], listed["status"]) == (shown["isOnline"], shown["status"])
    (found,) = (await api.get("/users/search", params={"q": user})).ok()
    assert found["isOnline"] is shown["isOnline"]
    return shown["isOnline"], shown["status"]


async def until(api: Api, wanted: tuple[bool, str]) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await api.get("/users/ada")).ok()["status"] != wanted[1]:
            await asyncio.sleep(0.05)
    assert await standing(api) == wanted


async def say(api: Api, user: str = "ada", **body: Any) -> Answer:
    return await api.post(f"/users/{user}/status", body)


async def test_who_has_a_socket_is_online_on_every_instance_and_offline_after_the_grace(
    served: Served, stores: dict[str, Any], http: aiohttp.ClientSession, ada: Api
) -> None:
    async with serving(**stores) as other, aiohttp.ClientSession(other.url) as session:
        eve, mia = Api(http, "eve"), Api(session, "mia")
        assert await standing(eve) == (False, "offline")
        assert (await eve.get("/users/ada")).ok()["lastSeen"] is None
        async with joined(served.url) as phone:
            for one in (eve, mia, ada):
                assert await standing(one) == (True, "online")
            await phone.call("presence:status", {"status": "busy"})
            assert await standing(mia) == (True, "busy")
        assert await standing(mia) == (True, "busy"), "the last device may come back"
        await until(mia, (False, "offline"))
        assert ISO.fullmatch((await mia.get("/users/ada")).ok()["lastSeen"])


async def test_the_invisible_are_offline_for_everybody(
    served: Served, http: aiohttp.ClientSession, ada: Api
) -> None:
    async with joined(served.url) as phone:
        await phone.call("presence:status", {"status": "offline"})
        for one in (Api(http, "eve"), ada):
            assert await standing(one) == (False, "offline")
        await phone.call("presence:status", {"status": "away"})
        assert await standing(Api(http, "eve")) == (True, "away")


async def test_a_status_over_rest_shows_who_has_no_socket(
    http: aiohttp.ClientSession, ada: Api
) -> None:
    for status in ("online", "away", "busy"):
        answer = (await say(ada, status=status)).ok()
        assert (answer["id"], answer["isOnline"], answer["status"]) == ("ada", True, status)
        assert await standing(Api(http, "eve")) == (True, status)


async def test_a_status_over_rest_keeps_who_has_no_socket_online_for_a_while_and_no_longer(
    stores: dict[str, Any],
) -> None:
    async with (
        serving(**stores, presence_visit=VISIT) as server,
        aiohttp.ClientSession(server.url) as session,
    ):
        ada, eve = Api(session), Api(session, "eve")
        (await put(ada, "ada", username="ada")).ok()
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await say(ada, status="busy")
        await until(eve, (False, "offline"))
        assert loop.time() - begun >= VISIT - 0.05


async def test_offline_over_rest_is_offline_at_once(ada: Api) -> None:
    await say(ada, status="online")
    answer = (await say(ada, status="offline")).ok()
    assert (answer["isOnline"], answer["status"]) == (False, "offline")
    assert await standing(ada) == (False, "offline")


async def test_a_note_is_kept_and_emptied(served: Served, ada: Api) -> None:
    assert (await say(ada, status="busy", note="exam 📚")).ok()["note"] == "exam 📚"
    assert (await say(ada, status="away")).ok()["note"] == "exam 📚"
    async with watching(served, "ada") as eve:
        assert (await eve.call("presence:watch", {"userIds": ["ada"]}))["users"][0]["note"]
        assert "note" not in (await say(ada, status="away", note="")).ok()
        assert "note" not in await eve.next("presence:update")


async def test_a_status_over_rest_is_told_to_watchers(served: Served, ada: Api) -> None:
    async with watching(served, "ada") as eve:
        await say(ada, status="busy", note="exam")
        told = await eve.next("presence:update")
        assert (told["online"], told["status"], told["note"]) == (True, "busy", "exam")


BAD: list[tuple[Any, str, str]] = [
    ({}, "missing_field", "/status"),
    *(({"status": bad}, "invalid_value", "/status") for bad in ("", "Online", "gone", "on line")),
    *(
        ({"status": bad}, None, "/status")
        for bad in (None, 1, True, [], ["online"], {"$ne": "online"})
    ),
    ({"status": "busy", "note": "x" * 141}, "invalid_value", "/note"),
    ({"status": "busy", "note": 7}, "invalid_type", "/note"),
    ({"status": "busy", "note": {"$set": 1}}, "invalid_type", "/note"),
    *(
        ({"status": "busy", name: 1}, "unknown_field", f"/{name}")
        for name in ("isOnline", "role", "$set", "__proto__", "userId", "lastSeen")
    ),
]


async def test_a_bad_status_is_refused_by_name_and_nothing_changes(ada: Api) -> None:
    for body, code, pointer in BAD:
        answer = await ada.post("/users/ada/status", body)
        assert answer.status == 400, body
        answer.refused_field(400, code or _code(answer), pointer)
    assert await standing(ada) == (False, "offline")


def _code(answer: Answer) -> str:
    code = answer.raw.decode().split('"code":"')[1].split('"')[0]
    assert code in ("invalid_type", "invalid_value")
    return code


async def test_one_says_it_of_oneself_only_and_the_apps_backend_of_anyone(
    http: aiohttp.ClientSession, ada: Api, service: Api
) -> None:
    (await say(Api(http, "eve"), status="busy")).problem(403, "forbidden")
    assert await standing(ada) == (False, "offline")
    assert (await say(service, status="busy")).ok()["isOnline"] is True
    assert await standing(ada) == (True, "busy")


async def test_a_page_of_50_and_a_search_ask_redis_once(
    own_redis: PrivateServer, mongodb_uri: str, mongodb_name: str
) -> None:
    async with (
        serving(
            mongodb_uri=mongodb_uri,
            mongodb_db=mongodb_name,
            redis_url=own_redis.url,
            presence_lease=600.0,  # its own business comes rarely
            reconcile_interval=600.0,
        ) as server,
        aiohttp.ClientSession(server.url) as session,
    ):
        for at in range(0, 60, 20):
            names = [f"crowd{n}" for n in range(at, at + 20)]
            await asyncio.gather(*(put(Api(session, user), user, username=user) for user in names))
        api = Api(session)
        async with joined(server.url, "crowd7"):
            for path, most in (
                ("/users", 50),
                ("/users?limit=60", 60),
                ("/users/search?q=crowd", 50),
                ("/users/crowd7", 1),
            ):
                await api.get(path)  # scripts are known from now on
                # The least of several times: once a second the server asks for itself.
                asked = min([await commands(own_redis, api, path) for _ in range(4)])
                answered = (await api.get(path)).ok()
                assert most == (len(answered) if isinstance(answered, list) else 1)
                assert asked == 1, path


async def commands(redis: PrivateServer, api: Api, path: str) -> int:
    """How many commands come to Redis while a request is answered, those of scripts not."""
    with Redis.from_url(redis.url, decode_responses=True) as client, client.monitor() as monitor:
        await api.get(path)
        client.echo("done")
        seen = []
        for command in monitor.listen():
            if command["command"] == "ECHO done":
                break
            if command["client_type"] != "lua":
                seen.append(command["command"])
    return sum(not one.startswith(("HELLO", "CLIENT", "SELECT")) for one in seen)
