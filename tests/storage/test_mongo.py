"""A MongoDB that does not answer: AppError `unavailable` in time, and work as before after it."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from pymongo import AsyncMongoClient, ReadPreference
from pymongo.errors import OperationFailure, WriteConcernError

from domain.errors import AppError
from domain.presence import Status
from domain.stats import Stats, StatsSchema
from server.embedded import PrivateServer
from storage.mongo import Mongo, available
from storage.presence import PresenceRepository
from storage.stats import NOBODY, StatsRepository
from tests.storage.conftest import Call, NewMongo, eventually, suspended, unavailable

pytestmark = pytest.mark.usefixtures("half_open_closed")

TIMEOUT = 1.5
# The driver looks for a primary every 0.5 s, and only then at the time; a busy machine adds to it.
LATE = 0.5 + 0.5
PATIENT = 15.0


def next_of(old: Stats) -> Stats:
    values = {**old.values, "xp": old.values["xp"] + 1}
    return replace(old, values=values, rev=old.rev + 1, version=old.version + 1)


@pytest.fixture
def own(new_mongo: NewMongo, own_mongod: PrivateServer) -> Mongo:
    return new_mongo(own_mongod.url)


@pytest.fixture
def calls(own: Mongo, schema: StatsSchema) -> dict[str, Call]:
    """Everything that talks to MongoDB, with a short timeout."""
    stats, profiles = StatsRepository(own, schema), PresenceRepository(own)
    fresh = schema.fresh("u")
    return {
        "ping": lambda: own.ping(TIMEOUT),
        "stats read": lambda: stats.read(["u"], TIMEOUT),
        "stats write": lambda: stats.write([(fresh, next_of(fresh))], TIMEOUT),
        "revs": lambda: stats.revs(["u"], TIMEOUT),
        "count": lambda: stats.count(TIMEOUT),
        "presence read": lambda: profiles.read(["u"], TIMEOUT),
        "status": lambda: profiles.set_status("u", Status.AWAY, "", 1, TIMEOUT),
        "seen": lambda: profiles.seen({"u": 1}, TIMEOUT),
        "presence held": lambda: profiles.holds("u", TIMEOUT),
        "presence export": lambda: anext(profiles.export("u", TIMEOUT)),
        "presence erase": lambda: profiles.erase("somebody else", TIMEOUT),
    }


async def succeeds(call: Call) -> bool:
    try:
        await call()
    except AppError:
        return False
    return True


async def all_fail_in_time(calls: dict[str, Call]) -> None:
    took = await asyncio.gather(*(unavailable(call) for call in calls.values()))
    assert max(took) < TIMEOUT + LATE, dict(zip(calls, took, strict=True))


async def all_work(own: Mongo, calls: dict[str, Call]) -> None:
    await eventually(lambda: succeeds(lambda: own.ping(TIMEOUT)), PATIENT)
    for name, call in calls.items():
        assert await succeeds(call), name


async def test_a_suspended_mongod_fails_every_call_in_time_and_works_when_it_runs_on(
    own: Mongo,
    own_mongod: PrivateServer,
    calls: dict[str, Call],
) -> None:
    await all_work(own, calls)
    async with suspended(own_mongod):
        await all_fail_in_time(calls)
    await all_work(own, calls)


async def test_a_killed_mongod_fails_every_call_in_time_and_works_when_it_is_back(
    own: Mongo,
    own_mongod: PrivateServer,
    schema: StatsSchema,
    calls: dict[str, Call],
) -> None:
    stats = StatsRepository(own, schema)
    old = (await stats.read(["kept"], PATIENT))["kept"]
    kept = next_of(old)
    assert await stats.write([(old, kept)], PATIENT) == NOBODY
    await all_work(own, calls)

    await own_mongod.kill()
    await all_fail_in_time(calls)
    await own_mongod.restart()

    await all_work(own, calls)
    assert (await stats.read(["kept"], PATIENT))["kept"] == kept


async def test_two_hundred_calls_at_once_all_fail_in_time(
    own: Mongo, own_mongod: PrivateServer, calls: dict[str, Call]
) -> None:
    await own.ping(PATIENT)
    async with suspended(own_mongod):
        some = [calls[name] for name in ("stats read", "stats write") for _ in range(100)]
        took = await asyncio.gather(*(unavailable(call) for call in some))
    assert max(took) < TIMEOUT + LATE


async def test_a_write_whose_answer_was_lost_is_there_once_or_not_at_all(
    own: Mongo, own_mongod: PrivateServer, schema: StatsSchema
) -> None:
    """Killed under eight writers: what was confirmed is there, and nothing is there twice."""
    stats = StatsRepository(own, schema)
    confirmed = [0] * 8
    tried = [0] * 8

    async def writer(n: int) -> None:
        user = f"u{n}"
        old = schema.fresh(user)
        try:
            while True:
                tried[n] += 1
                assert await stats.write([(old, next_of(old))], TIMEOUT) == NOBODY
                confirmed[n] += 1
                old = stats.recall([user])[user]
        except AppError:
            return

    writers = asyncio.gather(*(writer(n) for n in range(8)))

    async def all_are_writing() -> bool:
        return min(confirmed) > 5

    await eventually(all_are_writing)
    await own_mongod.kill()
    await writers
    await own_mongod.restart()
    await eventually(lambda: succeeds(lambda: own.ping(TIMEOUT)), PATIENT)
    read = await stats.read([f"u{n}" for n in range(8)], PATIENT)
    for n, there in enumerate(read.values()):
        assert there.rev == there.version == there.values["xp"]
        assert confirmed[n] <= there.rev <= tried[n]


async def test_ping_is_refused_where_nobody_listens(
    new_mongo: NewMongo, own_mongod: PrivateServer
) -> None:
    await own_mongod.kill()
    stranger = new_mongo(own_mongod.url)
    assert await unavailable(lambda: stranger.ping(TIMEOUT)) < TIMEOUT + LATE


async def test_ping_is_refused_while_there_is_no_primary(
    new_mongo: NewMongo,
    own_mongod: PrivateServer,
) -> None:
    direct = own_mongod.url.partition("?")[0] + "?directConnection=true"
    both = new_mongo(own_mongod.url), new_mongo(direct)
    for mongo in both:
        await mongo.ping(PATIENT)
    async with AsyncMongoClient[dict[str, Any]](direct) as admin:
        await admin.admin.command("replSetStepDown", 3, force=True)
        for mongo in both:
            assert await unavailable(lambda: mongo.ping(TIMEOUT)) < TIMEOUT + LATE  # noqa: B023
        await admin.admin.command("replSetFreeze", 0)
    for mongo in both:
        await eventually(lambda: succeeds(lambda: mongo.ping(TIMEOUT)), PATIENT)  # noqa: B023


@pytest.mark.parametrize("options", ["", "&readPreference=secondaryPreferred&w=1"])
def test_reads_ask_the_primary_and_writes_wait_for_a_majority_whatever_the_uri_says(
    new_mongo: NewMongo, mongodb_uri: str, options: str
) -> None:
    """A secondary may be behind: a write of ours that it does not have yet was not overtaken."""
    collection = new_mongo(mongodb_uri + options).collection("things")
    assert collection.read_preference == ReadPreference.PRIMARY
    assert collection.read_concern.level == "majority"
    assert collection.write_concern.document == {"w": "majority"}


@pytest.mark.parametrize(
    "error", [OperationFailure("E11000 secret detail", 11_000), WriteConcernError("secret detail")]
)
def test_a_drivers_error_is_told_without_its_words(error: Exception) -> None:
    with pytest.raises(AppError) as caught, available(TIMEOUT):
        raise error
    assert caught.value.retryable
    assert "secret" not in str(caught.value.as_ack())


def test_other_errors_pass_unchanged() -> None:
    with pytest.raises(ZeroDivisionError), available(TIMEOUT):
        raise ZeroDivisionError
