"""`GET /api/auth/me/export`: everything of one person, a JSON object a line, and no secret."""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from domain.errors import AppError, Code
from server.keys import ACCOUNTS
from tests.canaries import DEVICES, STATS, WORDS, leave_traces
from tests.dumps import documents, found, writings
from tests.people import Bearer, Login, guest, log_in, login_of, refreshed, register
from tests.rest import ISO, Answer, Api
from tests.serving import Served
from tests.tokens import token

EXPORT = "/api/auth/me/export"


def records(answer: Answer) -> list[dict[str, Any]]:
    """The records of an export, each line by itself."""
    assert answer.status == 200, answer
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    text = answer.raw.decode()
    assert text == "" or text.endswith("\n")
    lines = text.split("\n")[:-1]
    return [json.loads(line) for line in lines]


async def canary(served: Served, http: aiohttp.ClientSession) -> Login:
    """An account that has left something everywhere, with a session that was refreshed."""
    body = {name: WORDS[name] for name in ("username", "email", "password")}
    login = login_of(http, await Api(http, None).post("/api/auth/register", body))
    await leave_traces(login.api, login.id, served.url, login.auth)
    return await refreshed(http, login.refresh_token)


def by_feature(exported: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for record in exported:
        found.setdefault(record["feature"], []).append(record)
    return found


@pytest.mark.usefixtures("quiet")
async def test_it_has_every_features_records_of_the_person(
    served: Served, http: aiohttp.ClientSession
) -> None:
    login = await canary(served, http)
    await log_in(http, WORDS["username"], WORDS["password"])
    answer = await login.api.get(EXPORT)
    features = by_feature(records(answer))
    assert features.keys() == {"account", "sessions", "stats", "presence"}
    [account], [stats], [presence] = (features[n] for n in ("account", "stats", "presence"))
    me = (await login.api.get("/api/auth/me")).ok()["data"]["user"]
    assert {name: account[name] for name in me} == me
    for name in ("username", "email", "name", "bio", "avatar", "custom"):
        assert account[name] == WORDS[name]
    document = await login.api.stats(login.id)
    assert {name: stats[name] for name in document} == document
    assert {name: stats[name] for name in STATS} == STATS
    assert (presence["status"], presence["note"]) == ("away", WORDS["note"])
    assert len(features["sessions"]) == 2
    for session in features["sessions"]:
        for when in ("createdAt", "refreshedAt", "expiresAt"):
            assert ISO.fullmatch(session[when])
    assert "no-store" in answer.headers["Cache-Control"]
    assert answer.headers["Content-Disposition"].startswith("attachment")


async def test_a_guests_does_not_give_the_device_away(http: aiohttp.ClientSession) -> None:
    login = await guest(http, DEVICES[0])
    answer = await login.api.get(EXPORT)
    assert DEVICES[0].encode() not in answer.raw
    features = by_feature(records(answer))
    assert features["account"][0]["guest"] is True


async def test_it_has_no_hash_key_or_secret(
    served: Served, http: aiohttp.ClientSession, stores: dict[str, Any]
) -> None:
    login = await canary(served, http)
    phone = await guest(http, DEVICES[1])
    for one in (login, phone):
        text = (await one.api.get(EXPORT)).raw.decode()
        secrets = [one.token, one.refresh_token, WORDS["password"], "argon2", "passwordHash"]
        secrets += ["deviceKey", "usernameKey", "emailKey", "searchKeys", "nonce", "version"]
        secrets += ["_id", "_by", "_v", "_devices", "ops", "current", "previous"]
        secrets += [hashlib.sha256(DEVICES[1].encode()).hexdigest()]
        for part in one.refresh_token.split("."):
            secrets += [part, *writings(base64.urlsafe_b64decode(part + "="))[1:]]
        whole = await documents(stores)
        for doc in (*whole["users"], *whole["sessions"], *whole["stats"]):
            for value in doc.values():
                if isinstance(value, bytes) and len(value) >= 8:
                    secrets += writings(value)[1:]
        secrets += [doc["_id"] for doc in whole["sessions"]]
        secrets += [doc["passwordHash"] for doc in whole["users"] if doc["passwordHash"]]
        quoted = [f'"{name}"' if name.lstrip("_").isalpha() else name for name in secrets]
        assert found(quoted, text) == []


async def test_it_has_only_ones_own(served: Served, http: aiohttp.ClientSession) -> None:
    login = await canary(served, http)
    bob = await register(http, "bob")
    await bob.api.patch(xp=77_777, deviceId="bobs-device", opId="b")
    theirs = (await bob.api.get(EXPORT)).raw.decode()
    assert found(["canary", login.id, *map(str, STATS.values())], theirs) == []
    ours = (await login.api.get(EXPORT)).raw.decode()
    assert found(["bob", bob.id, "77777"], ours) == []


async def test_a_service_gets_its_own_and_nobody_elses(
    http: aiohttp.ClientSession, service: Api
) -> None:
    bob = await register(http, "bob")
    assert records(await service.get(EXPORT)) == []
    assert bob.id not in (await service.get(f"{EXPORT}?userId={bob.id}")).raw.decode()


async def test_of_a_person_without_anything_it_is_an_empty_200(api: Api) -> None:
    answer = await api.get(EXPORT)
    assert records(answer) == []
    assert answer.raw == b""


async def test_of_a_user_of_the_apps_own_tokens_it_has_what_there_is(api: Api) -> None:
    await api.patch(xp=3)
    [stats] = records(await api.get(EXPORT))
    assert (stats["feature"], stats["userId"], stats["xp"]) == ("stats", "ada", 3)
    await api.post("/users/ada/status", {"status": "busy", "note": "hi\nthere \u2028 “é”"})
    exported = by_feature(records(await api.get(EXPORT)))
    assert exported["presence"][0]["note"] == "hi\nthere \u2028 “é”"


async def test_without_a_token_that_counts_it_is_refused(http: aiohttp.ClientSession) -> None:
    (await Api(http, None).get(EXPORT)).problem(401, "missing_token")
    (await Bearer(http, token(ttl=-5)).get(EXPORT)).problem(401, "token_expired")
    (await Api(http, None).get(f"{EXPORT}?token={token()}")).problem(400, "token_in_query")


# --- a large one --------------------------------------------------------------------------


class Many:
    """A feature with `count` records of 1 KB, made when they are asked for."""

    name = "many"

    def __init__(self, count: int, fails_after: int | None = None) -> None:
        self.count = count
        self.fails_after = fails_after
        self.made = 0
        self.closed = asyncio.Event()

    async def holds(self, user_id: str, timeout: float) -> bool:
        return True

    async def export(self, user_id: str, timeout: float) -> AsyncIterator[dict[str, Any]]:
        try:
            for number in range(self.count):
                if number == self.fails_after:
                    raise AppError(Code.UNAVAILABLE, "The database does not answer")
                self.made += 1
                yield {"number": number, "filling": "x" * 1000}
        finally:
            self.closed.set()

    async def erase(self, user_id: str, timeout: float) -> None:
        pass


def add(served: Served, many: Many) -> None:
    people = served.app[ACCOUNTS].people
    people._holdings = (*people._holdings, many)


async def test_a_large_one_comes_whole_and_in_order(served: Served, api: Api) -> None:
    many = Many(20_000)
    add(served, many)
    exported = records(await api.get(EXPORT))
    assert [record["number"] for record in exported] == list(range(20_000))


async def test_a_large_one_is_made_as_it_is_read_and_ends_with_its_reader(
    served: Served, http: aiohttp.ClientSession, api: Api
) -> None:
    """A gigabyte for somebody who reads a line and then nothing more."""
    many = Many(1_000_000)
    add(served, many)
    answer = await http.get(EXPORT, headers=api._headers)
    assert json.loads(await answer.content.readline())["number"] == 0
    before = -1
    while many.made != before:  # until it has stopped to make more
        before = many.made
        await asyncio.sleep(0.2)
    assert many.made < 20_000, "what the kernel and the buffers take, not all"
    answer.close()
    async with asyncio.timeout(5):
        await many.closed.wait()


async def test_others_are_served_during_a_large_one(
    served: Served, http: aiohttp.ClientSession, api: Api
) -> None:
    many = Many(20_000)
    add(served, many)
    exporting = asyncio.create_task(api.get(EXPORT))
    loop = asyncio.get_running_loop()
    slowest = 0.0
    while not exporting.done():
        started = loop.time()
        (await Api(http, "bob").get("/api/users/bob/stats")).ok()
        slowest = max(slowest, loop.time() - started)
    assert len(records(await exporting)) == 20_000
    assert slowest < 1.0


async def test_what_fails_at_once_fails_as_a_problem(served: Served, api: Api) -> None:
    add(served, Many(5, fails_after=0))
    (await api.get(EXPORT)).problem(503, "unavailable")


async def test_one_that_fails_in_its_midst_does_not_look_whole(
    served: Served, http: aiohttp.ClientSession, api: Api
) -> None:
    """The client is cut off: what it has is no complete answer, and no error is among its lines."""
    add(served, Many(5_000, fails_after=3_000))
    got = bytearray()

    async def read() -> None:
        async with asyncio.timeout(10), http.get(EXPORT, headers=api._headers) as answer:
            assert answer.status == 200
            async for chunk in answer.content.iter_any():
                got.extend(chunk)

    with pytest.raises(aiohttp.ClientError):
        await read()
    lines = got.decode().split("\n")[:-1]
    assert [json.loads(line)["number"] for line in lines] == list(range(len(lines)))
    assert b"HTTP/1" not in got
    assert b"requestId" not in got
    (await api.get("/api/users/ada/stats")).ok()


async def test_one_that_fails_in_its_midst_is_no_error_of_the_server(
    served: Served, api: Api, http: aiohttp.ClientSession, quiet: None
) -> None:
    add(served, Many(5_000, fails_after=3_000))
    with pytest.raises(aiohttp.ClientError):
        await api.get(EXPORT)


async def test_a_head_of_the_export_has_its_headers_and_no_body(
    http: aiohttp.ClientSession,
) -> None:
    api = Api(http)
    await api.patch(xp=1)
    for _ in range(3):  # on one connection: a body would be taken for the next answer
        answer = await api.send("HEAD", EXPORT)
        assert (answer.status, answer.raw) == (200, b"")
        assert answer.headers["Content-Type"] == "application/x-ndjson"
        assert (await api.stats())["xp"] == 1
