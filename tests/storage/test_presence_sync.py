"""An instance puts its own entries right after a gap, and takes its leave."""

import asyncio

import pytest

from domain.presence import ABSENT, Attendance
from storage.roster import Roster
from tests.storage.conftest import GRACE, NewRoster, eventually

LONG = 60_000


@pytest.fixture
async def alive(new_roster: NewRoster) -> Roster:
    """An instance with a lease that outlasts the test."""
    roster = new_roster("alive", LONG)
    await roster.renew(1)
    return roster


async def offline(roster: Roster) -> list[str]:
    """Claim whoever is offline; one sweep."""
    return await roster.claim((await roster.due(10)).users)


async def test_sync_makes_the_entries_of_this_instance_exactly_these(
    alive: Roster, new_roster: NewRoster
) -> None:
    other = new_roster("alive2", LONG)
    await other.renew(0)
    await other.join("u", "s1", "others", 0)
    await alive.join("u", "s1", "stale", 0)
    await alive.join("u", "s2", "phone", 0)
    await alive.join("u", "s3", "", 0)
    await alive.sync("u", {"s2": "phone", "s4": "new", "s5": ""})
    assert (await alive.attendance(["u"]))["u"] == Attendance(4, present=True)
    await alive.sync("u", {"s2": "others"})
    assert (await alive.attendance(["u"]))["u"] == Attendance(1, present=True)
    await other.leave("u", "s1", 0)
    assert (await alive.attendance(["u"]))["u"] == Attendance(1, present=True)
    await alive.leave("u", "s2", 0)
    assert (await alive.attendance(["u"]))["u"] == Attendance(0, present=True)


async def test_sync_brings_back_who_is_missing_and_takes_out_who_is_stale(alive: Roster) -> None:
    await alive.join("stale", "s", "", 0)
    await alive.sync("missing", {"s": "d"})
    await alive.sync("stale", {})
    assert await alive.held() == {"missing"}
    assert (await alive.counts())[1] == 1
    assert (await alive.attendance(["stale"]))["stale"] == Attendance(0, present=True)
    assert await eventually(lambda: offline(alive)) == ["stale"]
    assert (await alive.attendance(["missing"]))["missing"] == Attendance(1, present=True)
    assert await alive.join("missing", "s2", "", 0) == (True, False, 2)


async def test_sync_takes_a_user_out_of_the_grace(alive: Roster) -> None:
    await alive.join("u", "s", "", 0)
    await alive.leave("u", "s", 0)
    await alive.sync("u", {"s": ""})
    await asyncio.sleep(1.5 * GRACE / 1000)
    assert await offline(alive) == []


async def test_sync_of_a_user_who_is_not_there_tells_nobody_anything(alive: Roster) -> None:
    await alive.sync("u", {})
    assert (await alive.attendance(["u"]))["u"] == ABSENT
    await asyncio.sleep(1.5 * GRACE / 1000)
    assert await offline(alive) == []


async def test_sync_does_not_prolong_a_grace(new_roster: NewRoster) -> None:
    roster = new_roster("a", LONG, grace=60_000)
    await roster.join("u", "s", "", 0)
    await roster.leave("u", "s", 59_900)
    await roster.sync("u", {})
    await asyncio.sleep(0.2)
    assert await offline(roster) == ["u"]


# --- resigning ----------------------------------------------------------------------------


async def test_who_resigns_is_due_at_once(alive: Roster, new_roster: NewRoster) -> None:
    leaving = new_roster("leaving", LONG)
    await leaving.renew(3)
    await leaving.join("u", "s", "", 0)
    await leaving.resign()
    assert (await alive.due(10)).instances == ["leaving"]
    assert await alive.counts() == (1, 1)
    assert await alive.purge("leaving", 10) == 0
    assert (await alive.renew(1)).alive == {"alive"}


async def test_users_of_an_instance_that_resigned_have_their_grace(
    new_roster: NewRoster,
) -> None:
    leaving, other = new_roster("leaving", LONG, LONG), new_roster("other", LONG, LONG)
    await leaving.renew(1)
    await leaving.join("u", "s", "", 0)
    await leaving.resign()
    assert await other.purge("leaving", 10) == 0
    await asyncio.sleep(0.05)
    assert (await other.due(10)).users == {}
