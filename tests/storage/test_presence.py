"""The roster: who is there, on how many devices, and edges that are told exactly once."""

import asyncio
from itertools import pairwise

from domain.presence import ABSENT, Attendance
from storage.roster import Joined, Roster
from tests.storage.conftest import NewRoster, eventually

SECOND = Joined(accepted=True, first=False, devices=1)


async def attendance(roster: Roster, user: str = "u") -> Attendance:
    return (await roster.attendance([user]))[user]


async def offline(roster: Roster) -> list[str]:
    """Claim whoever is offline; one sweep."""
    return await roster.claim((await roster.due(100)).users)


async def test_the_first_of_twenty_concurrent_joins_is_told_and_no_other(
    rosters: list[Roster],
) -> None:
    joined = await asyncio.gather(
        *(rosters[n % 5].join("u", f"s{n}", f"d{n}", 0) for n in range(20))
    )
    assert [one.first for one in sorted(joined, key=lambda one: one.devices)] == [
        True,
        *[False] * 19,
    ]
    assert sorted(one.devices for one in joined) == list(range(1, 21))
    assert all(one.accepted for one in joined)


async def test_joining_again_with_the_same_connection_is_no_edge(rosters: list[Roster]) -> None:
    assert (await rosters[0].join("u", "s", "d", 1)).first
    assert await rosters[0].join("u", "s", "other", 1) == SECOND
    assert await attendance(rosters[1]) == Attendance(1, present=True)


async def test_while_one_device_is_left_nobody_is_in_their_grace(rosters: list[Roster]) -> None:
    for n, roster in enumerate(rosters):
        await roster.join("u", f"s{n}", f"d{n}", 0)
    await asyncio.gather(
        *(roster.leave("u", f"s{n}", 0) for n, roster in enumerate(rosters[1:], 1))
    )
    # Somebody who leaves later is offline, the user is not.
    await rosters[1].join("later", "s", "", 0)
    await rosters[1].leave("later", "s", 0)
    assert await eventually(lambda: offline(rosters[2])) == ["later"]
    assert await attendance(rosters[3]) == Attendance(1, present=True)


async def test_nobody_is_offline_before_their_grace_is_over(new_roster: NewRoster) -> None:
    one, other = new_roster("a", grace=60_000), new_roster("b")
    await one.join("u", "s", "d", 0)
    await one.leave("u", "s", 0)
    assert await other.claim(["u"]) == []
    assert (await other.due(10)).users == {}
    assert await attendance(other) == Attendance(0, present=True)
    assert await one.held() == set()


async def test_the_last_to_leave_is_present_until_claimed_and_then_offline_once(
    rosters: list[Roster],
) -> None:
    await rosters[0].join("u", "s", "d", 0)
    await rosters[0].leave("u", "s", 0)
    assert await attendance(rosters[1]) == Attendance(0, present=True)

    assert await eventually(lambda: offline(rosters[1])) == ["u"]
    assert await attendance(rosters[1]) == ABSENT
    assert await rosters[2].claim(["u"]) == []
    assert (await rosters[0].join("u", "s", "d", 0)).first


async def test_coming_back_within_the_grace_is_no_edge(rosters: list[Roster]) -> None:
    await rosters[0].join("u", "s", "d", 0)
    for here, there in pairwise([*rosters, rosters[0]]):
        await here.leave("u", "s", 0)
        assert await there.join("u", "s", "d", 0) == SECOND
    await rosters[1].join("later", "s", "", 0)
    await rosters[1].leave("later", "s", 0)
    assert await eventually(lambda: offline(rosters[2])) == ["later"]


async def test_the_grace_counts_from_the_last_sign_of_life(new_roster: NewRoster) -> None:
    roster = new_roster("a", grace=60_000)
    for user, silent in (("lively", 0), ("quiet", 59_999), ("gone", 60_000), ("longer", 99_999)):
        await roster.join(user, "s", "", 0)
        await roster.leave(user, "s", silent)
    await asyncio.sleep(0.01)
    assert sorted(await offline(roster)) == ["gone", "longer", "quiet"]


async def test_who_was_silent_for_longer_than_the_grace_was_last_seen_before_the_silence(
    new_roster: NewRoster,
) -> None:
    roster = new_roster("a", grace=1_000)
    for user, silent in (("within", 1_000), ("beyond", 31_000)):
        await roster.join(user, "s", "", 0)
        await roster.leave(user, "s", silent)
    await asyncio.sleep(0.01)
    seen = (await roster.due(10)).users
    assert 29_000 < seen["within"] - seen["beyond"] < 31_000


async def test_the_grace_counts_from_the_last_sign_of_life_of_any_device(
    new_roster: NewRoster,
) -> None:
    """A connection that died unnoticed times out right after another one has left."""
    roster = new_roster("a", grace=60_000)
    await roster.join("u", "dead", "phone", 0)
    await roster.join("u", "lively", "phone", 0)
    await roster.leave("u", "lively", 0)
    await roster.leave("u", "dead", 70_000)
    await asyncio.sleep(0.01)
    assert await offline(roster) == []


async def test_leaving_without_having_joined_changes_nothing(rosters: list[Roster]) -> None:
    await rosters[0].join("u", "s", "", 0)
    await rosters[0].leave("u", "another", 0)
    await rosters[1].leave("u", "s", 0)  # the other instance's
    await rosters[0].leave("stranger", "s", 0)
    assert await attendance(rosters[0]) == Attendance(1, present=True)
    assert await attendance(rosters[0], "stranger") == ABSENT
    assert await rosters[0].held() == {"u"}


async def test_five_concurrent_sweepers_announce_each_user_once(rosters: list[Roster]) -> None:
    users = {f"u{n}" for n in range(100)}
    for user in users:
        await rosters[0].join(user, "s", "", 0)
    await asyncio.gather(*(rosters[0].leave(user, "s", 0) for user in users))

    async def all_due() -> bool:
        return (await rosters[0].due(1000)).users.keys() == users

    await eventually(all_due)
    found = await asyncio.gather(*(offline(roster) for roster in rosters * 2))
    claimed = [user for some in found for user in some]
    assert sorted(claimed) == sorted(users)


async def test_nobody_is_claimed_who_came_back_meanwhile(rosters: list[Roster]) -> None:
    users = [f"u{n}" for n in range(40)]
    for user in users:
        await rosters[0].join(user, "s", "", 0)
        await rosters[0].leave(user, "s", 0)

    async def due() -> list[str]:
        found = list((await rosters[1].due(1000)).users)
        return found if len(found) == len(users) else []

    found = await eventually(due)
    back = users[::2]
    joined, *claims = await asyncio.gather(
        asyncio.gather(*(rosters[0].join(user, "s2", "", 0) for user in back)),
        *(roster.claim(found) for roster in rosters),
    )
    claimed = [user for some in claims for user in some]
    # Whoever was claimed first came back to be told online; the others were never offline.
    first = {user for user, one in zip(back, joined, strict=True) if one.first}
    assert sorted(claimed) == sorted({*users[1::2], *first})


async def test_edges_alternate_however_joins_leaves_and_sweeps_interleave(
    new_roster: NewRoster,
) -> None:
    """Devices come and go at random; the user is told on, off, on, off, and ends offline."""
    rosters = [new_roster(name, grace=5) for name in "abcd"]
    for roster in rosters:
        await roster.renew(0)
    told: list[str] = []
    done = False

    async def device(n: int) -> None:
        for turn in range(60):
            sid = f"s{n}-{turn}"
            if (await rosters[n].join("u", sid, f"d{n}", 0)).first:
                told.append("on")
            await asyncio.sleep(0.002 * (turn % 3))
            await rosters[n].leave("u", sid, 0)
            await asyncio.sleep(0.004 * (turn % 5))

    async def sweeper(roster: Roster) -> None:
        while not done or (await attendance(roster)).present:
            told.extend(["off"] * len(await offline(roster)))

    sweepers = [asyncio.create_task(sweeper(roster)) for roster in rosters]
    await asyncio.gather(*(device(n) for n in range(4)))
    done = True
    async with asyncio.timeout(10):
        await asyncio.gather(*sweepers)
    # Told here is answered: two answers may overtake each other, their numbers may not.
    assert told.count("on") == told.count("off") >= 1
