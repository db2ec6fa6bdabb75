"""What is kept of a person's presence can be taken along, and erased for good."""

import asyncio
import json
from typing import Any

import pytest

from domain.errors import AppError, Code
from domain.presence import Profile, Status
from domain.times import iso
from storage.holdings import Holding
from storage.mongo import Mongo
from storage.names import PRESENCE
from storage.presence import PresenceRepository
from tests.storage.conftest import NewMongo, unavailable

TIMEOUT = 10.0
TOMBSTONE = {"_id": "u", "erased": True}


async def stored(mongo: Mongo) -> list[dict[str, Any]]:
    return await mongo.collection(PRESENCE).find().sort("_id").to_list()


async def profile(profiles: PresenceRepository, user: str = "u") -> Profile:
    return (await profiles.read([user], TIMEOUT))[user]


async def exported(holding: Holding, user: str = "u") -> list[dict[str, Any]]:
    return [found async for found in holding.export(user, TIMEOUT)]


async def refused(profiles: PresenceRepository, status: Status, note: str | None = "") -> None:
    with pytest.raises(AppError) as caught:
        await profiles.set_status("u", status, note, 1, TIMEOUT)
    assert caught.value.code is Code.ERASED


@pytest.fixture
def several(new_mongo: NewMongo, mongodb_uri: str) -> list[PresenceRepository]:
    """The repositories of four instances."""
    return [PresenceRepository(new_mongo(mongodb_uri)) for _ in range(4)]


# --- holding and taking along -------------------------------------------------------------


async def test_it_is_told_whether_anything_is_held(profiles: PresenceRepository) -> None:
    holding: Holding = profiles
    assert holding.name == "presence"
    assert not await holding.holds("u", TIMEOUT)
    await profiles.seen({"u": 1}, TIMEOUT)
    assert await holding.holds("u", TIMEOUT)
    assert not await holding.holds("other", TIMEOUT)
    await holding.erase("u", TIMEOUT)
    assert await holding.holds("u", TIMEOUT)


async def test_the_export_has_status_note_and_last_seen(profiles: PresenceRepository) -> None:
    at = 1_700_000_000_123
    await profiles.set_status("u", Status.BUSY, "Zug 🚂", 1, TIMEOUT)
    await profiles.seen({"u": at}, TIMEOUT)
    found = await exported(profiles)
    assert found == [{"status": "busy", "note": "Zug 🚂", "lastSeen": iso(at)}]
    assert json.loads(json.dumps(found)) == found


async def test_the_export_of_who_was_never_seen_says_so(profiles: PresenceRepository) -> None:
    await profiles.set_status("u", Status.AWAY, "", 1, TIMEOUT)
    assert await exported(profiles) == [{"status": "away", "note": "", "lastSeen": None}]


async def test_nothing_is_exported_of_the_unknown_and_the_erased(
    profiles: PresenceRepository,
) -> None:
    await profiles.set_status("u", Status.AWAY, "n", 1, TIMEOUT)
    await profiles.erase("u", TIMEOUT)
    assert await exported(profiles) == []
    assert await exported(profiles, "unknown") == []


# --- erasing ------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False])
async def test_an_erasure_leaves_a_tombstone_and_nothing_else(
    profiles: PresenceRepository, mongo: Mongo, known: bool
) -> None:
    if known:
        await profiles.set_status("u", Status.OFFLINE, "secret", 5_000, TIMEOUT)
    for _ in range(2):  # it may be repeated
        await profiles.erase("u", TIMEOUT)
        assert await stored(mongo) == [TOMBSTONE]
    assert await profile(profiles) == Profile(erased=True)


async def test_what_the_erased_say_later_is_refused_and_their_being_seen_ignored(
    profiles: PresenceRepository, mongo: Mongo
) -> None:
    await profiles.erase("u", TIMEOUT)
    for status in Status:
        await refused(profiles, status)
        await refused(profiles, status, None)
    await profiles.seen({"u": 9_000}, TIMEOUT)
    assert await stored(mongo) == [TOMBSTONE]
    assert await profile(profiles) == Profile(erased=True)


async def test_among_the_erased_the_others_are_seen(profiles: PresenceRepository) -> None:
    erased = [f"u{n}" for n in range(0, 300, 3)]
    await profiles.seen({f"u{n}": 1 for n in range(0, 300, 2)}, TIMEOUT)
    await asyncio.gather(*(profiles.erase(user, TIMEOUT) for user in erased))
    users = {f"u{n}": 1_000 + n for n in range(300)}
    await profiles.seen(users, TIMEOUT)
    read = await profiles.read(list(users), TIMEOUT)
    assert {user: read[user].last_seen for user in users} == {
        user: 0 if user in erased else at for user, at in users.items()
    }


async def test_an_erasure_leaves_others_alone(profiles: PresenceRepository) -> None:
    await profiles.set_status("other", Status.BUSY, "n", 1, TIMEOUT)
    await profiles.erase("u", TIMEOUT)
    assert await profile(profiles, "other") == Profile(Status.BUSY, "n")


async def test_a_write_that_fails_for_another_reason_is_not_taken_for_an_erasure(
    profiles: PresenceRepository, mongo: Mongo
) -> None:
    await mongo._database.create_collection(PRESENCE, validator={"note": {"$ne": "invalid"}})
    await profiles.erase("erased", TIMEOUT)
    await unavailable(lambda: profiles.set_status("u", Status.AWAY, "invalid", 1, TIMEOUT))
    validator = {"lastSeen": {"$exists": False}}
    await mongo._database.command("collMod", PRESENCE, validator=validator)
    await unavailable(lambda: profiles.seen({"erased": 1, "u": 1}, TIMEOUT))


# --- all at once --------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False])
async def test_an_erasure_among_many_writes_leaves_only_the_tombstone(
    several: list[PresenceRepository], mongo: Mongo, known: bool
) -> None:
    for _ in range(10):
        await mongo.collection(PRESENCE).delete_many({})
        if known:
            await several[0].set_status("u", Status.BUSY, "n", 1, TIMEOUT)

        async def writing(n: int) -> Code:
            """Writes until it is refused; with which code it was."""
            one = several[n % 4]
            while True:
                try:
                    await one.set_status("u", Status.AWAY, f"{n}", 1, TIMEOUT)
                except AppError as error:
                    return error.code
                await one.seen({"u": n, f"other{n}": n + 1}, TIMEOUT)

        async def erasing(n: int) -> None:
            await asyncio.sleep(0.01 * known)
            await several[n].erase("u", TIMEOUT)

        async with asyncio.timeout(2 * TIMEOUT):
            codes, *_ = await asyncio.gather(
                asyncio.gather(*(writing(n) for n in range(12))),
                *(several[n % 4].seen({"u": n}, TIMEOUT) for n in range(12)),
                *(erasing(n) for n in range(3)),
            )
        assert set(codes) == {Code.ERASED}
        assert [doc for doc in await stored(mongo) if doc["_id"] == "u"] == [TOMBSTONE]
        await refused(several[3], Status.ONLINE)


async def test_of_first_writes_at_the_same_time_none_is_lost_or_taken_for_an_erasure(
    several: list[PresenceRepository],
) -> None:
    for round_ in range(10):
        users = {f"{round_}-{n}": 1_000 + n for n in range(50)}
        await asyncio.gather(
            *(
                several[n % 4].set_status(user, Status.BUSY, "n", 1, TIMEOUT)
                for n, user in enumerate(users)
            ),
            *(one.seen(users, TIMEOUT) for one in several * 2),
            *(one.seen(dict(reversed(users.items())), TIMEOUT) for one in several),
        )
        expected = {user: Profile(Status.BUSY, "n", at) for user, at in users.items()}
        assert await several[0].read(list(users), TIMEOUT) == expected
