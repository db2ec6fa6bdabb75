"""`DELETE /api/auth/me`: afterwards nothing of the person is anywhere, nothing comes back."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from domain.errors import AppError, Code
from server.accounts.people import People
from server.accounts.service import AccountService, LoggedIn
from server.embedded import PrivateServer
from server.keys import ACCOUNTS
from server.settings import Settings
from storage.accounts import AccountRepository
from storage.presence import PresenceRepository
from storage.sessions import SessionRepository
from storage.stats import StatsRepository
from tests.canaries import CANARIES, DEVICES, PROFILE, WORDS, leave_traces
from tests.clients_py import connected, joined
from tests.dumps import documents, found, keys
from tests.interleaving import Steps, Work, every_order
from tests.outages import frozen
from tests.people import (
    PASSWORD,
    Login,
    all_gone,
    goes_on,
    guest,
    is_over,
    log_in,
    login_of,
    refresh,
    register,
    sockets_of,
)
from tests.rest import PUBLIC_DEFAULTS, Answer, Api
from tests.serving import Served, serving
from tests.tokens import token
from tests.waiting import soon

pytestmark = pytest.mark.usefixtures("quick")

GRACE = 0.5  # seconds
KINDS = ["account", "guest", "own tokens"]


@dataclass(frozen=True)
class Somebody:
    """A person of any kind, who has left traces everywhere."""

    api: Api
    id: str
    auth: dict[str, str]
    ops: list[dict[str, Any]]
    login: Login | None

    async def erase(self) -> Answer:
        return await self.api.send("DELETE", "/api/auth/me")


@pytest.fixture
async def served(stores: dict[str, Any]) -> AsyncIterator[Served]:
    """Without visits of five minutes, which keys in Redis would outlast."""
    async with serving(**stores, presence_grace=GRACE) as server:
        yield server


async def somebody(kind: str, served: Served, http: aiohttp.ClientSession) -> Somebody:
    login: Login | None = None
    if kind == "account":
        body = {name: WORDS[name] for name in ("username", "email", "password")}
        login = login_of(http, await Api(http, None).post("/api/auth/register", body))
    elif kind == "guest":
        login = await guest(http, DEVICES[0])
    if login is None:
        user_id = str(uuid4())
        api, auth = Api(http, user_id), {"token": token(user_id)}
    else:
        user_id, api, auth = login.id, login.api, login.auth
    ops = await leave_traces(api, user_id, served.url, auth)
    return Somebody(api, user_id, auth, ops, login)


async def everywhere(stores: dict[str, Any]) -> list[str]:
    """The canaries in any of the stores."""
    return found(CANARIES, [await documents(stores), await keys(stores)])


async def nowhere(stores: dict[str, Any]) -> None:
    """No store has a canary."""
    assert await everywhere(stores) == []


def problem_of(answer: Answer) -> str:
    return str(answer.problem(410, "erased")["code"])


# --- nothing is left ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_nothing_of_the_person_is_left_but_tombstones_with_the_bare_id(
    served: Served, http: aiohttp.ClientSession, stores: dict[str, Any], kind: str
) -> None:
    person = await somebody(kind, served, http)
    before = await everywhere(stores)
    assert {"canary", *map(str, (7_310_581, 9_264_107))} <= set(before), "it was there"
    answer = await person.erase()
    assert answer.ok() == {"success": True, "data": {}}
    in_mongodb = await documents(stores)
    assert found(CANARIES, in_mongodb) == [], "from the answer on"
    await soon(lambda: nowhere(stores), within=GRACE + 3)
    left = {
        name: [doc for doc in docs if found([person.id], doc)] for name, docs in in_mongodb.items()
    }
    for name in ("users", "stats", "presence", "sync_heads", "queue_heads"):
        [tombstone] = left.pop(name)
        assert tombstone["_id"] == person.id
        assert tombstone["erased"] is True
        assert "erasing" not in tombstone
        plain = {"_id", "erased", "erasedAt", "rev", "updatedAt", "_v", "_by"}
        assert tombstone.keys() <= plain
    for doc in left.pop("sessions"):
        assert doc.keys() <= {"_id", "userId", "endedAt", "expiresAt", "everything"}
    assert not any(left.values())


async def test_redis_has_nothing_of_the_person_after_the_grace_not_even_the_id(
    served: Served, http: aiohttp.ClientSession, stores: dict[str, Any]
) -> None:
    """Whether they had a socket, had left one, or had only said their status over REST."""
    person = await somebody("account", served, http)
    assert person.login is not None
    async with joined(served.url, auth=person.auth, deviceId=DEVICES[1]) as phone:
        assert found([person.id], await keys(stores))
        (await person.erase()).ok()
        await phone.gone.wait()

    async def bare() -> None:
        assert found([person.id, "canary"], await keys(stores)) == []

    await soon(bare, within=GRACE + 3)


async def test_other_peoples_data_stays_as_it_is(
    served: Served, http: aiohttp.ClientSession, stores: dict[str, Any]
) -> None:
    bob = await register(http, "bob")
    await bob.api.patch(xp=5, opId="b1", deviceId="bobs-phone")
    (await bob.api.send("PUT", f"/users/{bob.id}", json={"bio": "of bob"})).ok()
    (await bob.api.post(f"/users/{bob.id}/status", {"status": "busy", "note": "bobs note"})).ok()
    person = await somebody("account", served, http)

    async def of_bob() -> dict[str, Any]:
        whole = await documents(stores)
        his = {n: [d for d in docs if found([bob.id], d)] for n, docs in whole.items()}
        return {n: docs for n, docs in his.items() if docs}

    before = await of_bob()
    (await person.erase()).ok()
    assert await of_bob() == before
    assert (await bob.api.stats(bob.id))["xp"] == 5
    await goes_on(bob)


async def test_the_names_and_the_device_are_free_for_others(
    served: Served, http: aiohttp.ClientSession
) -> None:
    person = await somebody("account", served, http)
    first = await guest(http, DEVICES[0])
    (await person.erase()).ok()
    (await first.api.send("DELETE", "/api/auth/me")).ok()
    body = {name: WORDS[name] for name in ("username", "email", "password")}
    other = login_of(http, await Api(http, None).post("/api/auth/register", body))
    assert other.id != person.id
    assert (await other.api.stats(other.id))["rev"] == 0
    again = await guest(http, DEVICES[0])
    assert again.id != first.id
    assert again.user["createdAt"] >= first.user["createdAt"]


async def test_nobody_finds_or_sees_the_person_any_more(
    served: Served, http: aiohttp.ClientSession
) -> None:
    person = await somebody("account", served, http)
    bob = await register(http, "bob")

    async def seen() -> list[str]:
        page = (await bob.api.get("/users")).ok()
        search = (await bob.api.get("/users/search?q=canary")).ok()
        return [user["id"] for user in (*page, *search)]

    assert person.id in await seen()
    (await person.erase()).ok()
    assert person.id not in await seen()
    problem_of(await bob.api.get(f"/users/{person.id}"))
    batch = await bob.api.post("/api/users/stats/batch", {"userIds": [person.id]})
    assert batch.ok() == {person.id: PUBLIC_DEFAULTS}
    body = {"email": WORDS["email"], "password": WORDS["password"]}
    answer = await Api(http, None).post("/api/auth/login", body)
    answer.problem(401, "invalid_credentials")


# --- nothing comes back -------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_whatever_is_written_later_is_refused_as_erased_and_changes_nothing(
    served: Served,
    http: aiohttp.ClientSession,
    stores: dict[str, Any],
    service: Api,
    kind: str,
) -> None:
    person = await somebody(kind, served, http)
    (await person.erase()).ok()
    await soon(lambda: nowhere(stores), within=GRACE + 3)
    before = await documents(stores)
    own = Api(http, person.id)  # the app's own backend may still sign for the id
    later = {"updatedAt": "2099-01-01T00:00:00.000Z", "xp": 5}
    refused = [
        *[await service.post("/api/users/data/patch", {**op, "userId": person.id})
          for op in (*person.ops, {"xp": 1}, {"xp": 1, "opId": "new", "deviceId": DEVICES[0]})],
        *[await own.post("/api/users/data/patch", op) for op in (*person.ops, {"xp": 1})],
        await service.post("/api/users/updateStats", {"userId": person.id, "stats": later}),
        await own.post("/api/users/updateStats", {"stats": {"xp": 5}}),
        await own.post(f"/users/{person.id}/status", {"status": "online", "note": "canary"}),
        await own.post(f"/users/{person.id}/status", {"status": "offline"}),
        await service.post(f"/users/{person.id}/status", {"status": "busy"}),
        await own.send("PUT", f"/users/{person.id}", json=PROFILE),
        await own.send("PUT", f"/users/{person.id}", json={"bio": "", "updatedAt": 1}),
        await service.send("PUT", f"/users/{person.id}", json=PROFILE),
        await own.get(f"/users/{person.id}"),
        await own.get("/api/auth/me"),
        await own.get("/api/auth/me/export"),
        await own.get(f"/api/users/{person.id}/stats"),
    ]  # fmt: skip
    for n, api in enumerate((own, Api(http, None))):
        body = {
            "username": f"canary{n}",
            "email": f"canary{n}@example.org",
            "password": PASSWORD,
            "id": person.id,
        }
        refused.append(await api.post("/auth/register", body))
        del body["username"]
        refused.append(await api.post("/api/auth/register", body))
    for answer in refused:
        problem_of(answer)
    async with connected(served.url, auth={"token": token(person.id)}) as socket:
        for payload in ({}, {"status": "busy"}, {"deviceId": DEVICES[0], "rev": 3}):
            answer = await socket.call("presence:join", payload)
            assert answer["error"]["code"] == "erased", answer
        answer = await socket.call("user:clientUpdate", person.ops[0])
        assert answer["error"]["code"] in ("erased", "not_joined")
    backend = {"token": token("backend", role="service")}
    async with connected(served.url, auth=backend) as socket:
        answer = await socket.call("presence:join", {"userId": person.id})
        assert answer["error"]["code"] == "erased"
    assert await documents(stores) == before
    await soon(lambda: nowhere(stores), within=GRACE + 3)


async def test_the_persons_tokens_are_refused(served: Served, http: aiohttp.ClientSession) -> None:
    person = await somebody("account", served, http)
    assert person.login is not None
    other = await log_in(http, WORDS["username"], WORDS["password"])
    (await person.erase()).ok()
    (await refresh(http, other.refresh_token)).problem(401, "invalid_credentials")
    for login in (person.login, other):
        await soon(lambda login=login: is_over(login), within=3)


@pytest.mark.parametrize("kind", KINDS)
async def test_erasing_again_is_harmless(
    served: Served, http: aiohttp.ClientSession, stores: dict[str, Any], kind: str
) -> None:
    person = await somebody(kind, served, http)
    answers = await asyncio.gather(*(person.erase() for _ in range(20)))
    for answer in answers:
        if answer.status != 200:
            answer.problem(401, "invalid_token")  # the session had ended
    assert answers[0].status == 200 or {a.status for a in answers} >= {200}
    for _ in range(2):
        (await Api(http, person.id).send("DELETE", "/api/auth/me")).ok()
    await soon(lambda: nowhere(stores), within=GRACE + 3)
    users = (await documents(stores))["users"]
    assert [doc["_id"] for doc in users] == [person.id]
    assert "erasing" not in users[0]


async def test_who_never_was_here_can_be_erased(
    served: Served, http: aiohttp.ClientSession, service: Api
) -> None:
    """A user of the app's own tokens, of whom nothing is held yet."""
    user = str(uuid4())
    api = Api(http, user)
    for answer in await asyncio.gather(*(api.send("DELETE", "/api/auth/me") for _ in range(20))):
        answer.ok()
    problem_of(await service.post("/api/users/data/patch", {"userId": user, "xp": 1}))
    problem_of(await Api(http, user).send("PUT", f"/users/{user}", json={"bio": "x"}))


async def test_without_a_token_nobody_is_erased(http: aiohttp.ClientSession) -> None:
    ada = await register(http)
    (await Api(http, None).send("DELETE", "/api/auth/me")).problem(401, "missing_token")
    (await Api(http, "x", ttl=-5).send("DELETE", "/api/auth/me")).problem(401, "token_expired")
    await goes_on(ada)


# --- who watches, who is connected --------------------------------------------------------


@asynccontextmanager
async def watched(served: Served, user: str) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    """Yields a wait for the news that the user is offline."""
    async with joined(served.url, "eve") as eve:
        answer = await eve.call("presence:watch", {"userIds": [user]})
        assert answer["users"][0]["online"], "they are there"

        async def offline() -> Any:
            return await eve.until(
                "presence:update", lambda news: not news["online"], timeout=GRACE + 4
            )

        yield offline


@pytest.mark.parametrize("there_by", ["socket", "visit", "both"])
async def test_watchers_see_the_person_go_offline_and_nothing_of_them(
    served: Served, http: aiohttp.ClientSession, stores: dict[str, Any], there_by: str
) -> None:
    ada = await guest(http, DEVICES[0])
    said = {"status": "busy", "note": WORDS["note"]}
    async with serving(**stores, presence_grace=GRACE) as other:
        if there_by != "socket":
            (await ada.api.post(f"/users/{ada.id}/status", said)).ok()
        if there_by == "visit":
            async with watched(other, ada.id) as offline:
                (await ada.api.send("DELETE", "/api/auth/me")).ok()
                news = await offline()
        else:
            async with (
                sockets_of(ada, served.url, other.url) as sockets,
                watched(other, ada.id) as offline,
            ):
                await sockets[0].call("presence:status", said)
                (await ada.api.send("DELETE", "/api/auth/me")).ok()
                await all_gone(sockets)
                news = await offline()
    assert found(CANARIES, news) == []
    assert news["devices"] == 0


# --- races --------------------------------------------------------------------------------


async def test_writes_under_way_leave_nothing(
    served: Served, http: aiohttp.ClientSession, stores: dict[str, Any], service: Api
) -> None:
    """A hundred of every kind, on two instances, the erasure in their midst."""
    async with (
        serving(**stores, presence_grace=GRACE) as other,
        aiohttp.ClientSession(other.url) as there,
    ):
        for round_ in range(3):
            person = await somebody(["account", "guest", "own tokens"][round_], served, http)
            apis = [Api(at, person.id) for at in (http, there)]
            started = asyncio.Event()

            async def write(
                n: int,
                apis: list[Api] = apis,
                person: Somebody = person,
                started: asyncio.Event = started,
            ) -> Answer:
                api = apis[n % 2]
                if n == 30:
                    started.set()
                kind = n % 5
                if kind == 0:
                    op = {"xp": 1, "opId": f"canary{n}", "deviceId": DEVICES[0]}
                    return await api.post("/api/users/data/patch", op)
                if kind == 1:
                    body = {"userId": person.id, "stats": {"xp": 7_310_581}}
                    return await api.post("/api/users/updateStats", body)
                if kind == 2:
                    body = {"status": "busy", "note": f"canary {n}"}
                    return await api.post(f"/users/{person.id}/status", body)
                body = {"bio": f"canary {n}", "name": "canary"}
                return await api.send("PUT", f"/users/{person.id}", json=body)

            async def erase(person: Somebody = person, started: asyncio.Event = started) -> Answer:
                await started.wait()
                return await person.erase()

            erased, *answers = await asyncio.gather(erase(), *map(write, range(100)))
            assert erased.ok() == {"success": True, "data": {}}
            assert {answer.status for answer in answers} <= {200, 410, 503}, answers
            assert found(CANARIES, await documents(stores)) == []
            await soon(lambda: nowhere(stores), within=GRACE + 3)


def fresh_names() -> Callable[[], str]:
    names = iter(f"canary{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(600))
    return lambda: next(names)


@pytest.fixture
def steps(served: Served, monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Each call of a store is one."""
    return Steps(
        monkeypatch, AccountRepository, SessionRepository, StatsRepository, PresenceRepository
    )


async def test_no_login_outlives_the_erasure_at_whichever_step_it_comes(
    served: Served, http: aiohttp.ClientSession, stores: dict[str, Any], steps: Steps
) -> None:
    name = fresh_names()
    service: AccountService = served.app[ACCOUNTS].service

    async def prepare() -> tuple[Work, Work]:
        person = await register(http, name())

        async def erases() -> None:
            (await person.api.send("DELETE", "/api/auth/me")).ok()

        return lambda: service.log_in(person.user["username"], PASSWORD, "::1"), erases

    orders = 0
    async for outcome in every_order(steps, prepare):
        orders += 1
        await worth_nothing(http, outcome)
    assert orders >= 8
    await soon(lambda: nowhere(stores), within=GRACE + 3)


async def worth_nothing(http: aiohttp.ClientSession, outcome: Any) -> None:
    """A login was refused, or what it answered is refused."""
    if isinstance(outcome, LoggedIn):
        answer = await refresh(http, outcome.login.refresh_token)
        answer.problem(401, "invalid_credentials")
    else:
        assert isinstance(outcome, AppError), outcome
        assert outcome.code in (Code.INVALID_CREDENTIALS, Code.ERASED), outcome


async def test_nothing_that_comes_at_any_step_of_the_erasure_stays(
    served: Served, http: aiohttp.ClientSession, stores: dict[str, Any], steps: Steps
) -> None:
    """A login, a refresh, a profile, a status, a patch and a guest's registration."""
    name = fresh_names()
    people: People = served.app[ACCOUNTS].people
    outcomes: list[tuple[str, Answer]] = []

    async def prepare() -> tuple[Work, Work]:
        device = f"canary-device-{name()}-0000"
        person = await guest(http, device)
        own = Api(http, person.id)

        async def comes() -> None:
            called = name()
            body = {"username": called, "email": f"{called}@x.org", "password": PASSWORD}
            for what, answer in (
                ("refresh", await refresh(http, person.refresh_token)),
                ("profile", await own.send("PUT", f"/users/{person.id}", json={"bio": "canary"})),
                ("status", await own.post(f"/users/{person.id}/status", {"status": "busy"})),
                ("patch", await own.post("/api/users/data/patch", {"xp": 7_310_581})),
                ("register", await own.post("/api/auth/register", body)),
            ):
                outcomes.append((what, answer))

        return lambda: people.erase(person.id), comes

    orders = 0
    async for outcome in every_order(steps, prepare):
        orders += 1
        assert outcome is None
        assert found(CANARIES, await documents(stores)) == []
    assert orders >= 9
    for what, answer in outcomes:
        assert answer.status in (200, 201, 401, 410), (what, answer)
        if answer.status in (200, 201) and what in ("refresh", "register"):
            following = answer.json["data"]["refreshToken"]
            (await refresh(http, following)).problem(401, "invalid_credentials")
    await soon(lambda: nowhere(stores), within=GRACE + 3)


# --- what is cut off is finished ----------------------------------------------------------


@pytest.mark.parametrize("fails", [SessionRepository, StatsRepository, PresenceRepository])
async def test_what_was_cut_off_is_finished_by_another_instance(
    served: Served,
    http: aiohttp.ClientSession,
    stores: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    fails: type,
) -> None:
    person = await somebody("account", served, http)

    async def away(*_: Any) -> None:
        raise AppError(Code.UNAVAILABLE, "away", retry_after=1.0)

    with monkeypatch.context() as patched:
        patched.setattr(fails, "erase", away)
        (await person.erase()).problem(503, "unavailable")
    problem_of(await Api(http, person.id).send("PUT", f"/users/{person.id}", json=PROFILE))
    async with serving(**stores, presence_grace=GRACE, erasure_resume_interval=0.1):
        await soon(lambda: nowhere(stores), within=GRACE + 3)

        async def finished() -> None:
            [tombstone] = [d for d in (await documents(stores))["users"] if d["_id"] == person.id]
            assert tombstone.keys() == {"_id", "erased", "erasedAt"}

        await soon(finished)
    assert person.login is not None
    login = person.login
    await soon(lambda: is_over(login), within=3)


async def test_one_that_cannot_be_finished_does_not_keep_others_waiting(
    served: Served,
    http: aiohttp.ClientSession,
    stores: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    people = [await guest(http, f"canary-device-{n}-00000000") for n in range(3)]
    erase = StatsRepository.erase
    stuck: set[str] = {person.id for person in people}

    async def some(self: StatsRepository, user_id: str, timeout: float) -> None:
        if user_id in stuck:
            raise AppError(Code.UNAVAILABLE, "away")
        await erase(self, user_id, timeout)

    monkeypatch.setattr(StatsRepository, "erase", some)
    for person in people:
        (await person.api.send("DELETE", "/api/auth/me")).problem(503, "unavailable")
    stuck -= {people[1].id, people[2].id}

    async def others_finished() -> None:
        users = (await documents(stores))["users"]
        assert [doc["_id"] for doc in users if "erasing" in doc] == [people[0].id]

    async with serving(**stores, erasure_resume_interval=0.1):
        await soon(others_finished, within=3)


async def test_with_mongodb_away_it_is_unavailable_and_finished_later(
    own_mongod: PrivateServer,
    stores: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.accounts.people.TIMEOUT", 0.5)
    erase = StatsRepository.erase
    own_stores = {**stores, "mongodb_uri": own_mongod.url}
    async with (
        serving(**own_stores, presence_grace=GRACE, erasure_resume_interval=0.2) as served,
        aiohttp.ClientSession(served.url) as http,
    ):
        person = await somebody("account", served, http)
        with frozen(own_mongod):
            (await person.erase()).problem(503, "unavailable")
        person = Somebody(
            Api(http, person.id), person.id, {"token": token(person.id)}, person.ops, None
        )

        async def goes_away(self: StatsRepository, user_id: str, timeout: float) -> None:
            with frozen(own_mongod):
                await erase(self, user_id, timeout)

        with monkeypatch.context() as patched:
            patched.setattr(StatsRepository, "erase", goes_away)
            (await person.erase()).problem(503, "unavailable")
        await soon(lambda: nowhere(own_stores), within=8)


def test_by_default_it_is_resumed_within_half_a_minute() -> None:
    assert Settings().erasure_resume_interval <= 30
