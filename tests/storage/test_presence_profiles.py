"""What is kept of a user's presence in MongoDB."""

import asyncio

import pytest

from domain.presence import MAX_NOTE, Profile, Status
from domain.times import LAST
from storage.presence import PresenceRepository

TIMEOUT = 10.0


async def profile(profiles: PresenceRepository, user: str = "u") -> Profile:
    return (await profiles.read([user], TIMEOUT))[user]


async def test_users_never_seen_read_as_defaults(profiles: PresenceRepository) -> None:
    await profiles.seen({}, TIMEOUT)
    assert await profiles.read(["a", "b"], TIMEOUT) == {"a": Profile(), "b": Profile()}
    assert await profiles.read([], TIMEOUT) == {}
    assert Profile() == Profile(Status.ONLINE, "", 0)


@pytest.mark.parametrize("status", [Status.ONLINE, Status.AWAY, Status.BUSY])
@pytest.mark.parametrize("note", ["", "$note", "Zug 🚂 $set.x \0 \\", "x" * MAX_NOTE])
async def test_status_and_note_are_kept(
    profiles: PresenceRepository, status: Status, note: str
) -> None:
    await profiles.set_status("u", Status.BUSY, "before", 1, TIMEOUT)
    await profiles.set_status("u", status, note, 2, TIMEOUT)
    assert await profile(profiles) == Profile(status, note, 0)


@pytest.mark.parametrize("at", [1, 999, 1_700_000_000_123, LAST])
async def test_last_seen_keeps_its_milliseconds(profiles: PresenceRepository, at: int) -> None:
    await profiles.seen({"u": at}, TIMEOUT)
    assert await profile(profiles) == Profile(last_seen=at)


async def test_last_seen_only_moves_forward(profiles: PresenceRepository) -> None:
    for at, expected in ((1_000, 1_000), (999, 1_000), (1_001, 1_001), (5, 1_001)):
        await profiles.seen({"u": at}, TIMEOUT)
        assert (await profile(profiles)).last_seen == expected
    await asyncio.gather(*(profiles.seen({"u": at}, TIMEOUT) for at in range(2_000, 2_030)))
    assert (await profile(profiles)).last_seen == 2_029


async def test_many_users_are_seen_at_once(profiles: PresenceRepository) -> None:
    await profiles.set_status("u7", Status.BUSY, "n", 1, TIMEOUT)
    await profiles.set_status("u8", Status.OFFLINE, "", 1, TIMEOUT)
    seen = {f"u{n}": 1_000 + n for n in range(500)}
    await asyncio.gather(*(profiles.seen(seen, TIMEOUT) for _ in range(4)))
    read = await profiles.read(list(seen), TIMEOUT)
    assert read.pop("u7") == Profile(Status.BUSY, "n", 1_007)
    assert read.pop("u8") == Profile(Status.OFFLINE, "", 1)
    assert all(read[user] == Profile(last_seen=seen[user]) for user in read)


async def test_going_invisible_is_being_last_seen(profiles: PresenceRepository) -> None:
    await profiles.seen({"u": 1_000}, TIMEOUT)
    await profiles.set_status("u", Status.OFFLINE, "", 2_000, TIMEOUT)
    assert await profile(profiles) == Profile(Status.OFFLINE, "", 2_000)
    await profiles.seen({"u": 3_000, "other": 3_000}, TIMEOUT)
    assert (await profile(profiles)).last_seen == 2_000
    assert (await profile(profiles, "other")).last_seen == 3_000


async def test_saying_invisible_again_is_not_being_seen(profiles: PresenceRepository) -> None:
    """The time would tell their watchers when the invisible were there."""
    await profiles.set_status("u", Status.OFFLINE, "", 2_000, TIMEOUT)
    await profiles.set_status("u", Status.OFFLINE, "another note", 5_000, TIMEOUT)
    assert await profile(profiles) == Profile(Status.OFFLINE, "another note", 2_000)


async def test_who_is_visible_again_is_seen_again(profiles: PresenceRepository) -> None:
    await profiles.set_status("u", Status.OFFLINE, "", 2_000, TIMEOUT)
    await profiles.set_status("u", Status.AWAY, "", 3_000, TIMEOUT)
    assert (await profile(profiles)).last_seen == 2_000
    await profiles.seen({"u": 4_000}, TIMEOUT)
    assert await profile(profiles) == Profile(Status.AWAY, "", 4_000)


async def test_the_first_words_of_a_user_said_at_the_same_time_all_arrive(
    profiles: PresenceRepository,
) -> None:
    for n in range(10):
        user = f"u{n}"
        await asyncio.gather(
            *(profiles.set_status(user, Status.AWAY, "n", 1, TIMEOUT) for _ in range(10)),
            *(profiles.seen({user: at}, TIMEOUT) for at in range(1, 11)),
        )
        assert await profile(profiles, user) == Profile(Status.AWAY, "n", 10)


async def test_going_invisible_never_moves_last_seen_back(profiles: PresenceRepository) -> None:
    await profiles.seen({"u": 5_000}, TIMEOUT)
    await profiles.set_status("u", Status.OFFLINE, "", 2_000, TIMEOUT)
    assert (await profile(profiles)).last_seen == 5_000
