"""How many devices and connections: of one user, of many, and of the whole cluster."""

import asyncio

from domain.presence import ABSENT, Attendance
from storage.roster import Joined, Roster
from tests.storage.conftest import eventually


async def attendance(roster: Roster, user: str = "u") -> Attendance:
    return (await roster.attendance([user]))[user]


async def test_devices_count_once_and_connections_without_one_each(
    rosters: list[Roster],
) -> None:
    a, b = rosters[:2]
    joins = [
        (a, "s1", "phone", 1),
        (a, "s2", "phone", 1),
        (b, "s3", "phone", 1),
        (b, "s4", "tablet", 2),
        (a, "s5", "", 3),
        (b, "s5", "", 4),  # another instance's session of the same name
        (a, "s6", "a|s5", 5),  # a device named like a session
    ]
    for roster, sid, device, devices in joins:
        assert (await roster.join("u", sid, device, 0)).devices == devices
    await a.leave("u", "s1", 0)
    assert await attendance(b) == Attendance(5, present=True)
    await a.leave("u", "s2", 0)
    await b.leave("u", "s3", 0)
    assert await attendance(b) == Attendance(4, present=True)


async def test_a_user_has_at_most_so_many_connections(rosters: list[Roster]) -> None:
    joined = await asyncio.gather(*(rosters[n % 5].join("u", f"s{n}", "", 7) for n in range(20)))
    accepted = [n for n, one in enumerate(joined) if one.accepted]
    assert len(accepted) == 7
    assert not any(one.first for one in joined if not one.accepted)
    assert await attendance(rosters[0]) == Attendance(7, present=True)
    assert (await rosters[0].counts())[1] == 1

    n = accepted[0]
    assert (await rosters[n % 5].join("u", f"s{n}", "again", 7)).accepted
    await rosters[n % 5].leave("u", f"s{n}", 0)
    assert (await rosters[1].join("u", "free", "", 7)).accepted
    assert not (await rosters[1].join("u", "full", "", 7)).accepted
    assert (await rosters[1].join("other", "full", "", 7)).accepted


async def test_attendance_answers_for_many_users_at_once(
    rosters: list[Roster],
) -> None:
    a, b = rosters[:2]
    for n in range(120):
        await a.join(f"u{n}", "s", "", 0)
        if n % 3:
            await b.join(f"u{n}", "s", "", 0)
    await a.leave("u0", "s", 0)
    expected = {f"u{n}": Attendance(2 if n % 3 else 1, present=True) for n in range(120)}
    expected["u0"] = Attendance(0, present=True)
    expected["nobody"] = ABSENT
    assert await b.attendance(list(expected)) == expected
    assert await b.attendance([]) == {}


async def test_counts_are_the_whole_clusters(rosters: list[Roster]) -> None:
    assert await rosters[0].counts() == (0, 0)
    for n, roster in enumerate(rosters):
        await roster.renew(100 + n)
        await roster.join("everywhere", "s", "", 0)
        await roster.join(f"only {n}", "s", "", 0)
    assert await rosters[0].counts() == (510, 6)
    await rosters[0].leave("only 0", "s", 0)
    await rosters[0].leave("everywhere", "s", 0)
    await rosters[1].renew(1)
    assert await rosters[0].counts() == (410, 5)
    await rosters[2].resign()

    async def without_one() -> bool:
        return (await rosters[0].counts())[0] == 308

    await eventually(without_one)


async def test_users_with_any_id_of_the_alphabet_are_kept_apart(rosters: list[Roster]) -> None:
    users = ["a|s", "a", "d:x", "held:a", ":", "|", "%s", "u.1", "u-1", "+inf", "~", "@", "="]
    for user in users:
        assert (await rosters[0].join(user, "s", user, 0)) == Joined(True, True, 1)
    assert await rosters[0].held() == set(users)
    assert set((await rosters[1].attendance(users)).values()) == {Attendance(1, present=True)}
    for user in users:
        await rosters[0].leave(user, "s", 0)
    assert await rosters[0].held() == set()
