"""Visits: who says something without a socket is there for a while."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from domain.presence import ABSENT, Attendance
from storage.roster import Joined, Roster
from tests.storage.conftest import LEASE, NewRoster, eventually

VISIT, GRACE = 400, 60  # ms
LONG = 60_000
CLOCKS = 0.01  # seconds by which two clocks of one machine may differ

Step = Callable[[Roster], Awaitable[object]]


@pytest.fixture
async def one(new_roster: NewRoster) -> Roster:
    roster = new_roster("one", LONG, GRACE, VISIT)
    await roster.renew(0)
    return roster


@pytest.fixture
async def two(new_roster: NewRoster) -> Roster:
    roster = new_roster("two", LONG, GRACE, VISIT)
    await roster.renew(0)
    return roster


async def attendance(roster: Roster, user: str = "u") -> Attendance:
    return (await roster.attendance([user]))[user]


async def offline(*rosters: Roster) -> list[str]:
    """Claim whoever is offline; one sweep of each instance, all at once."""

    async def sweep(roster: Roster) -> list[str]:
        return await roster.claim((await roster.due(100)).users)

    found = await asyncio.gather(*(sweep(roster) for roster in rosters))
    return [user for some in found for user in some]


async def last_seen(roster: Roster, user: str = "u") -> int:
    """When the user was last seen, once they are due."""

    async def due() -> dict[str, int]:
        return (await roster.due(100)).users

    return (await eventually(due))[user]


async def now(roster: Roster) -> int:
    """Redis' clock, in ms."""
    seconds, micros = await roster._link.command("TIME")
    return int(seconds) * 1000 + int(micros) // 1000


async def kept(roster: Roster) -> set[str]:
    """What is in Redis, apart from the instances' leases."""
    prefix = f"{roster.names.prefix}:"
    keys = await roster._link.command("KEYS", f"{prefix}*")
    return {key.decode().removeprefix(prefix) for key in keys} - {"instances", "clients"}


async def test_a_visitor_is_present_without_a_device_and_counts_as_no_connection(
    one: Roster, two: Roster
) -> None:
    assert await one.visit("u")
    assert await attendance(two) == Attendance(0, present=True)
    assert await two.counts() == (0, 0)
    assert await one.held() == set()


async def test_a_visit_lasts_its_length_and_ends_once_although_two_sweep(
    one: Roster, two: Roster
) -> None:
    came = time.monotonic()
    await one.visit("u")
    assert await eventually(lambda: offline(one, two, one, two)) == ["u"]
    assert time.monotonic() - came >= VISIT / 1000 - CLOCKS
    assert await attendance(two) == ABSENT
    assert await offline(one, two) == []
    assert await kept(one) == set()
    assert await two.visit("u")


async def test_of_twenty_visits_at_once_one_is_news(one: Roster, two: Roster) -> None:
    news = await asyncio.gather(*((one, two)[n % 2].visit("u") for n in range(20)))
    assert sorted(news) == [False] * 19 + [True]


async def test_a_repeated_visit_is_no_news_and_prolongs(one: Roster, two: Roster) -> None:
    await one.visit("u")
    await one.visit("once")
    until = time.monotonic() + 0.5 * VISIT / 1000
    while time.monotonic() < until:
        assert not await two.visit("u")
        await asyncio.sleep(0.02)
    before_last, began = await now(one), time.monotonic()
    assert not await one.visit("u")
    assert await eventually(lambda: offline(one, two)) == ["once"]
    assert await last_seen(two) >= before_last
    assert await offline(one, two) == ["u"]
    assert time.monotonic() - began >= VISIT / 1000 - CLOCKS


async def test_a_visit_after_a_socket_has_left_is_no_news(one: Roster, two: Roster) -> None:
    await one.join("u", "s", "", 0)
    await one.leave("u", "s", 0)
    began = time.monotonic()
    assert not await two.visit("u")
    assert await eventually(lambda: offline(one, two)) == ["u"]
    assert time.monotonic() - began >= VISIT / 1000 - CLOCKS


async def test_a_visit_that_comes_after_its_grace_was_over_but_before_any_sweep_is_no_news(
    one: Roster, two: Roster
) -> None:
    await one.join("u", "s", "", 0)
    await one.leave("u", "s", 0)
    due = (await eventually(lambda: due_users(one))).keys()
    assert not await two.visit("u")
    assert await one.claim(due) == []
    assert await attendance(one) == Attendance(0, present=True)


async def due_users(roster: Roster) -> dict[str, int]:
    return (await roster.due(10)).users


async def test_a_visit_never_shortens_a_grace(new_roster: NewRoster) -> None:
    roster = new_roster("a", LONG, grace=LONG, visit=1)
    await roster.join("u", "s", "", 0)
    await roster.leave("u", "s", 0)
    await roster.visit("u")
    await roster.visit("u")
    await asyncio.sleep(0.02)
    assert await offline(roster) == []
    assert await attendance(roster) == Attendance(0, present=True)


async def test_a_visit_of_a_user_with_a_socket_is_no_news(one: Roster, two: Roster) -> None:
    await one.join("u", "s", "", 0)
    assert not await two.visit("u")
    assert await attendance(two) == Attendance(1, present=True)


async def test_a_socket_that_joins_during_a_visit_is_no_news(one: Roster, two: Roster) -> None:
    await one.visit("u")
    assert await two.join("u", "s", "", 0) == Joined(accepted=True, first=False, devices=1)
    await asyncio.sleep(1.5 * VISIT / 1000)
    assert await offline(one, two) == []
    assert await attendance(one) == Attendance(1, present=True)


# --- sockets that leave -------------------------------------------------------------------


async def leaving(roster: Roster) -> None:
    await roster.leave("u", "s", 0)


async def not_synced(roster: Roster) -> None:
    await roster.sync("u", {})


@pytest.mark.parametrize("going", [leaving, not_synced])
@pytest.mark.parametrize("joins_first", [True, False])
async def test_who_loses_the_last_socket_during_a_visit_stays_until_its_end(
    one: Roster, two: Roster, going: Step, joins_first: bool
) -> None:
    if joins_first:
        await one.join("u", "s", "", 0)
    began = time.monotonic()
    await two.visit("u")
    if not joins_first:
        await one.join("u", "s", "", 0)
    await going(one)
    left_at = await now(one)
    seen = await last_seen(two)
    assert time.monotonic() - began >= VISIT / 1000 - CLOCKS
    assert abs(seen - left_at) < 100
    assert await offline(one, two) == ["u"]
    assert await kept(one) == set()


async def test_who_loses_the_last_socket_late_in_a_visit_has_the_grace(
    new_roster: NewRoster,
) -> None:
    roster = new_roster("a", LONG, grace=LONG, visit=1)
    await roster.join("u", "s", "", 0)
    await roster.visit("u")
    await roster.leave("u", "s", 0)
    await asyncio.sleep(0.02)
    assert await offline(roster) == []


@pytest.mark.parametrize("silent", [0, 10_000])
async def test_last_seen_is_the_visit_or_a_later_sign_of_life(
    one: Roster, two: Roster, silent: int
) -> None:
    """A connection that died unnoticed times out after the visit."""
    await one.join("u", "s", "", 0)
    before_visit = await now(one)
    await two.visit("u")
    after_visit = await now(one)
    await asyncio.sleep(0.1)
    await one.leave("u", "s", silent)
    if silent:
        assert before_visit <= await last_seen(two) <= after_visit
    else:
        assert await last_seen(two) >= after_visit + 90


async def test_last_seen_is_right_however_late_the_sweep(
    one: Roster, new_roster: NewRoster
) -> None:
    """While MongoDB is away nobody is announced offline; the visit's own key is gone by then."""
    brief = new_roster("brief", LONG, grace=1, visit=1)
    before = await now(one)
    await brief.visit("u")
    after = await now(one)

    async def forgotten() -> bool:
        return await kept(one) == {"grace", "last"}

    await eventually(forgotten)
    assert before <= await last_seen(one) <= after


async def test_the_death_of_the_instance_that_served_it_does_not_end_a_visit(
    one: Roster, new_roster: NewRoster
) -> None:
    mortal = new_roster("mortal", LEASE, GRACE, visit=3 * LEASE)
    began = time.monotonic()
    await mortal.renew(1)
    await mortal.join("both", "s", "", 0)
    await mortal.visit("both")
    await mortal.visit("visitor")

    async def dead() -> bool:
        return "mortal" in (await one.due(1)).instances

    await eventually(dead)
    patient = new_roster("patient", LONG, GRACE, visit=3 * LEASE)
    assert await patient.purge("mortal", 10) == 0
    there = Attendance(0, present=True)
    assert await one.attendance(["both", "visitor"]) == {"both": there, "visitor": there}

    gone: list[str] = []

    async def both() -> bool:
        gone.extend(await offline(one, patient))
        return len(gone) >= 2

    await eventually(both)
    assert time.monotonic() - began >= 3 * LEASE / 1000 - CLOCKS
    assert sorted(gone) == ["both", "visitor"]
    assert await offline(one) == []


async def test_nothing_of_a_visit_outlasts_it_while_a_socket_stays(one: Roster) -> None:
    await one.join("u", "s", "", 0)
    await one.visit("u")
    assert "visit:u" in await kept(one)

    async def over() -> bool:
        return "visit:u" not in await kept(one)

    await eventually(over)
    began = time.monotonic()
    await one.leave("u", "s", 0)
    assert await eventually(lambda: offline(one)) == ["u"]
    assert time.monotonic() - began < VISIT / 1000


# --- ending it ----------------------------------------------------------------------------


async def test_who_ends_a_visit_is_offline_with_the_next_sweep_once(
    new_roster: NewRoster,
) -> None:
    one, two = (new_roster(name, LONG, LONG, LONG) for name in "ab")
    await one.visit("u")
    await two.end_visit("u")
    assert await offline(one, two) == ["u"]
    assert await attendance(one) == ABSENT
    assert await offline(one, two) == []
    assert await kept(one) == set()
    assert await one.visit("u")


async def test_ending_a_visit_ends_a_grace_too(new_roster: NewRoster) -> None:
    roster = new_roster("a", LONG, LONG, LONG)
    await roster.join("u", "s", "", 0)
    await roster.leave("u", "s", 0)
    await roster.end_visit("u")
    assert await offline(roster) == ["u"]


async def test_ending_a_visit_leaves_sockets_alone_and_their_grace(new_roster: NewRoster) -> None:
    patient = new_roster("a", LONG, grace=LONG, visit=LONG)
    brief = new_roster("b", LONG, grace=1, visit=LONG)
    for roster, user in ((patient, "u"), (brief, "v")):
        await roster.renew(0)
        await roster.join(user, "s", "", 0)
        await roster.visit(user)
        await roster.end_visit(user)
        assert await attendance(roster, user) == Attendance(1, present=True)
        await roster.leave(user, "s", 0)
    assert await eventually(lambda: offline(patient, brief)) == ["v"]
    assert await attendance(patient) == Attendance(0, present=True)


async def test_ending_no_visit_leaves_no_trace(one: Roster) -> None:
    await one.end_visit("u")
    await one.forget("u")
    assert await attendance(one) == ABSENT
    assert await kept(one) == set()
    assert await offline(one) == []


async def test_who_visits_again_before_the_end_is_swept_was_never_away(
    new_roster: NewRoster,
) -> None:
    roster = new_roster("a", LONG, LONG, LONG)
    await roster.visit("u")
    await roster.end_visit("u")
    assert not await roster.visit("u")
    assert await offline(roster) == []


async def test_of_the_forgotten_no_times_stay(new_roster: NewRoster) -> None:
    roster = new_roster("a", LONG, LONG, LONG)
    await roster.visit("u")
    await roster.forget("u")
    assert await kept(roster) == {"grace"}
    assert await offline(roster) == ["u"]
    assert await kept(roster) == set()

    await roster.renew(0)
    await roster.join("u", "s1", "", 0)
    await roster.join("u", "s2", "", 0)
    await roster.visit("u")
    await roster.leave("u", "s2", 0)
    assert {"visit:u", "seen:u"} <= await kept(roster)
    await roster.forget("u")
    assert not {"visit:u", "seen:u", "last"} & await kept(roster)
    assert await attendance(roster) == Attendance(1, present=True)


# --- all at once --------------------------------------------------------------------------


async def test_edges_alternate_however_visits_joins_ends_and_sweeps_interleave(
    new_roster: NewRoster,
) -> None:
    rosters = [new_roster(name, grace=3, visit=6) for name in "abcd"]
    for roster in rosters:
        await roster.renew(0)
    told: list[str] = []
    done = False

    async def device(n: int) -> None:
        for turn in range(40):
            if (await rosters[n].join("u", "s", "", 0)).first:
                told.append("on")
            await asyncio.sleep(0.002 * (turn % 3))
            await rosters[n].leave("u", "s", 0)
            await asyncio.sleep(0.004 * (turn % 5))

    async def visitor(n: int) -> None:
        for turn in range(40):
            if await rosters[n].visit("u"):
                told.append("on")
            await asyncio.sleep(0.003 * (turn % 7))
            if turn % 3 == 0:
                await rosters[n].end_visit("u")

    async def sweeper(roster: Roster) -> None:
        while not done or (await attendance(roster)).present:
            told.extend(["off"] * len(await offline(roster)))

    sweepers = [asyncio.create_task(sweeper(roster)) for roster in rosters]
    await asyncio.gather(*(device(n) for n in range(2)), *(visitor(n) for n in range(2, 4)))
    done = True
    async with asyncio.timeout(10):
        await asyncio.gather(*sweepers)
    assert told.count("on") == told.count("off") >= 1
    assert await kept(rosters[0]) <= {"visit:u"}  # the key may outlast an edge by a moment
