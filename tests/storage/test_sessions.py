"""Sessions in MongoDB: replaced once, ended once, every end learned of, nothing of them kept."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from domain.sessions import PART, Session
from storage.indexes import Indexes
from storage.mongo import Mongo
from storage.sessions import SessionRepository
from tests.storage.conftest import NewMongo, eventually, unavailable

NOW = 1_700_000_000_000
FAR = 4_000_000_000_000  # an expiry that MongoDB's own clock has not reached
TIMEOUT = 5.0


def session(number: int = 0, user: str = "ada", **more: Any) -> Session:
    plain = Session(
        id=f"s{number}",
        user_id=user,
        created_at=NOW,
        refreshed_at=NOW + number,
        expires_at=FAR,
        current=bytes([number]) * PART,
    )
    return replace(plain, **more)


@pytest.fixture
def sessions(mongo: Mongo) -> SessionRepository:
    return SessionRepository(mongo, Indexes(mongo))


async def begin(sessions: SessionRepository, *some: Session) -> None:
    for one in some:
        await sessions.insert(one, TIMEOUT)


async def stored(sessions: SessionRepository) -> dict[str, dict[str, Any]]:
    return {doc["_id"]: doc for doc in await sessions._sessions.find().to_list()}


async def test_a_session_is_read_as_it_was_begun(sessions: SessionRepository) -> None:
    one = session(previous=b"p" * PART, nonce=b"n" * PART)
    await begin(sessions, one)
    assert await sessions.read("s0", TIMEOUT) == one
    assert await sessions.read("s1", TIMEOUT) is None


async def test_of_twenty_replacements_of_one_state_one_counts(sessions: SessionRepository) -> None:
    old = session()
    await begin(sessions, old)
    news = [replace(old, current=bytes([100 + n]) * PART, previous=old.current) for n in range(20)]
    done = await asyncio.gather(*(sessions.replace(old, new, TIMEOUT) for new in news))
    assert done.count(True) == 1
    assert await sessions.read("s0", TIMEOUT) == news[done.index(True)]


async def test_an_ended_session_is_not_read_owned_replaced_or_ended_again(
    sessions: SessionRepository,
) -> None:
    one, other = session(0), session(1)
    await begin(sessions, one, other)
    assert await sessions.owners(["s0", "s1", "s2"], TIMEOUT) == {
        "s0": "ada",
        "s1": "ada",
        "s2": None,
    }
    assert await sessions.end(["s0", "s2"], TIMEOUT) == 1
    assert await sessions.end(["s0"], TIMEOUT) == 0
    assert await sessions.read("s0", TIMEOUT) is None
    assert await sessions.owners(["s0", "s1"], TIMEOUT) == {"s0": None, "s1": "ada"}
    assert not await sessions.replace(one, replace(one, refreshed_at=NOW + 9), TIMEOUT)
    assert await sessions.read("s0", TIMEOUT) is None
    assert await sessions.read("s1", TIMEOUT) == other


async def test_all_of_a_users_end_or_all_but_one(sessions: SessionRepository) -> None:
    await begin(sessions, *(session(n) for n in range(4)), session(9, "bob"))
    assert await sessions.end_all("ada", TIMEOUT, but="s2") == 3
    assert await sessions.newest("ada", 50, TIMEOUT) == ({"s2"}, set())
    assert await sessions.end_all("ada", TIMEOUT) == 1
    assert await sessions.end_all("ada", TIMEOUT) == 0
    assert await sessions.end_all("nobody", TIMEOUT) == 0
    assert await sessions.read("s9", TIMEOUT) is not None


async def test_the_session_that_is_spared_is_the_users_own(sessions: SessionRepository) -> None:
    await begin(sessions, session(0), session(9, "bob"))
    assert await sessions.end_all("ada", TIMEOUT, but="s9") == 1


async def test_the_newest_are_those_used_last(sessions: SessionRepository) -> None:
    await begin(sessions, *(session(n) for n in range(6)), session(9, "bob"))
    used = session(0)
    await sessions.replace(used, replace(used, refreshed_at=NOW + 100), TIMEOUT)
    newest, others = await sessions.newest("ada", 3, TIMEOUT)
    assert (newest, others) == ({"s0", "s5", "s4"}, {"s1", "s2", "s3"})


# --- learning of ends ---------------------------------------------------------------------


async def test_whoever_asks_learns_of_every_end_once_it_is_told(
    sessions: SessionRepository,
) -> None:
    assert await sessions.newest_end(TIMEOUT) == 0
    await begin(sessions, *(session(n) for n in range(5)))
    moment, ended = await sessions.ended_since(0, TIMEOUT)
    assert (moment, bool(ended)) == (0, False)
    for n in range(5):
        await sessions.end([f"s{n}"], TIMEOUT)
        moment, ended = await sessions.ended_since(moment, TIMEOUT)
        assert f"s{n}" in ended.sessions
    assert await sessions.newest_end(TIMEOUT) == moment


async def test_no_end_of_many_at_once_is_missed(
    sessions: SessionRepository, new_mongo: NewMongo, mongodb_uri: str
) -> None:
    others = new_mongo(mongodb_uri)
    other = SessionRepository(others, Indexes(others))
    await begin(sessions, *(session(n) for n in range(60)))
    learned: set[str] = set()
    done = asyncio.Event()

    async def watch() -> None:
        moment = await other.newest_end(TIMEOUT)
        while True:
            last = done.is_set()
            moment, ended = await other.ended_since(moment, TIMEOUT)
            learned.update(ended.sessions)
            if last:
                return

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(sessions.end([f"s{n}"], TIMEOUT) for n in range(60)))
    done.set()
    await watching
    assert len(learned) == 60


async def test_an_end_that_becomes_visible_after_a_later_one_is_learned_of(
    sessions: SessionRepository,
) -> None:
    await begin(sessions, session(0), session(1))
    await sessions.end(["s1"], TIMEOUT)
    moment, _ = await sessions.ended_since(0, TIMEOUT)
    earlier = datetime.fromtimestamp(moment / 1000, UTC) - timedelta(seconds=20)
    await sessions._sessions.update_one({"_id": "s0"}, {"$set": {"endedAt": earlier}})
    _, ended = await sessions.ended_since(moment, TIMEOUT)
    assert "s0" in ended.sessions


async def test_what_has_ended_long_before_is_not_told_again(sessions: SessionRepository) -> None:
    await begin(sessions, session(0), session(1))
    await sessions.end(["s0", "s1"], TIMEOUT)
    moment = await sessions.newest_end(TIMEOUT)
    long_ago = datetime.fromtimestamp(moment / 1000, UTC) - timedelta(hours=1)
    await sessions._sessions.update_one({"_id": "s0"}, {"$set": {"endedAt": long_ago}})
    _, ended = await sessions.ended_since(moment, TIMEOUT)
    assert ended.sessions == {"s1"}


# --- what stays ---------------------------------------------------------------------------


async def test_of_an_ended_session_nothing_stays_but_whose_it_was_and_when_it_ended(
    sessions: SessionRepository,
) -> None:
    await begin(sessions, session(previous=b"p" * PART, nonce=b"n" * PART))
    await sessions.end(["s0"], TIMEOUT)
    left = (await stored(sessions))["s0"]
    assert left.keys() == {"_id", "userId", "endedAt", "expiresAt"}
    assert int(left["expiresAt"]) - int(left["endedAt"]) == 86_400_000


async def test_mongodb_removes_what_has_expired(sessions: SessionRepository) -> None:
    await begin(sessions, session())
    indexes = await sessions._sessions.index_information()
    [expiring] = [index for index in indexes.values() if "expireAfterSeconds" in index]
    assert (expiring["key"], expiring["expireAfterSeconds"]) == ([("expiresAt", 1)], 0)


async def test_an_erased_users_sessions_end_and_so_does_everything_else_of_theirs(
    sessions: SessionRepository,
) -> None:
    await begin(sessions, session(0), session(1), session(9, "bob"))
    await sessions.erase("ada", TIMEOUT)
    _, ended = await sessions.ended_since(0, TIMEOUT)
    assert ended.users == {"ada"}
    assert ended.sessions == {"s0", "s1"}
    assert await sessions.read("s9", TIMEOUT) is not None
    assert "canary" not in str([d for d in (await stored(sessions)).values() if d["_id"] != "s9"])


async def test_of_a_user_without_sessions_everything_ends_too(sessions: SessionRepository) -> None:
    await sessions.erase("ada", TIMEOUT)
    _, ended = await sessions.ended_since(0, TIMEOUT)
    assert (ended.users, ended.sessions) == ({"ada"}, frozenset())
    left = (await stored(sessions))["user:ada"]
    assert left.keys() == {"_id", "userId", "everything", "endedAt", "expiresAt"}


async def test_erasing_again_and_twenty_times_at_once_is_harmless(
    sessions: SessionRepository,
) -> None:
    for user in ("ada", "bob", "eve"):
        await begin(sessions, session(len(await stored(sessions)), user))
        await asyncio.gather(*(sessions.erase(user, TIMEOUT) for _ in range(20)))
        await sessions.erase(user, TIMEOUT)
    _, ended = await sessions.ended_since(0, TIMEOUT)
    assert ended.users == {"ada", "bob", "eve"}


async def test_the_export_has_the_live_sessions_and_no_secret(sessions: SessionRepository) -> None:
    await begin(sessions, session(0), session(1), session(9, "bob"))
    await sessions.end(["s1"], TIMEOUT)
    assert [record async for record in sessions.export("ada", TIMEOUT)] == [
        {
            "createdAt": "2023-11-14T22:13:20.000Z",
            "refreshedAt": "2023-11-14T22:13:20.000Z",
            "expiresAt": "2096-10-02T07:06:40.000Z",
        }
    ]
    assert [record async for record in sessions.export("nobody", TIMEOUT)] == []


async def test_it_holds_something_of_those_with_sessions(sessions: SessionRepository) -> None:
    await begin(sessions, session())
    assert await sessions.holds("ada", TIMEOUT)
    assert not await sessions.holds("bob", TIMEOUT)


# --- without MongoDB ----------------------------------------------------------------------


async def test_without_mongodb_every_method_is_unavailable_in_time(new_mongo: NewMongo) -> None:
    mongo = new_mongo("mongodb://127.0.0.1:1/")
    sessions = SessionRepository(mongo, Indexes(mongo))
    one = session()

    async def exported() -> None:
        async for _ in sessions.export("ada", 0.3):
            pass

    took = await asyncio.gather(
        *map(
            unavailable,
            (
                lambda: sessions.insert(one, 0.3),
                lambda: sessions.read("s0", 0.3),
                lambda: sessions.owners(["s0"], 0.3),
                lambda: sessions.replace(one, one, 0.3),
                lambda: sessions.newest("ada", 50, 0.3),
                lambda: sessions.end(["s0"], 0.3),
                lambda: sessions.end_all("ada", 0.3),
                lambda: sessions.ended_since(0, 0.3),
                lambda: sessions.newest_end(0.3),
                lambda: sessions.holds("ada", 0.3),
                lambda: sessions.erase("ada", 0.3),
                exported,
            ),
        )
    )
    assert max(took) < 2


async def test_the_indexes_stand_before_the_first_session(sessions: SessionRepository) -> None:
    await begin(sessions, session())

    async def made() -> bool:
        return len(await sessions._sessions.index_information()) == 4

    await eventually(made)
