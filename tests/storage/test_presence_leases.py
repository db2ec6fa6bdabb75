"""Leases: what becomes of the entries of an instance that fell silent, and how it comes back."""

import asyncio
import time

import pytest

from domain.presence import ABSENT, Attendance
from storage.roster import Roster
from tests.storage.conftest import GRACE, LEASE, VISIT, NewRoster, eventually

LONG = 60_000


@pytest.fixture
async def alive(new_roster: NewRoster) -> Roster:
    """An instance with a lease that outlasts the test, and the grace of all."""
    roster = new_roster("alive", LONG)
    await roster.renew(1)
    return roster


@pytest.fixture
async def mortal(new_roster: NewRoster) -> Roster:
    """An instance with a short lease, which it has taken once."""
    roster = new_roster("mortal", LEASE)
    await roster.renew(10)
    return roster


async def dead(roster: Roster, instance: str = "mortal") -> None:
    """Return when the lease of `instance` has run out."""

    async def ended() -> bool:
        return instance in (await roster.due(1)).instances

    await eventually(ended)


async def purge_all(roster: Roster, instance: str = "mortal", limit: int = 100) -> list[int]:
    """Purge in chunks to the end; what each chunk left."""
    left = [await roster.purge(instance, limit)]
    while left[-1] > 0:
        left.append(await roster.purge(instance, limit))
    return left


async def offline(roster: Roster) -> list[str]:
    """Claim whoever is offline; one sweep."""
    return await roster.claim((await roster.due(10_000)).users)


# --- renewing -----------------------------------------------------------------------------


async def test_renewing_tells_whether_the_lease_was_kept(
    alive: Roster, new_roster: NewRoster
) -> None:
    roster, short = new_roster("mortal", LONG), new_roster("mortal", 1)
    assert not (await roster.renew(1)).kept
    assert (await roster.renew(1)).kept
    assert (await short.renew(1)).kept
    await dead(alive)
    assert not (await roster.renew(1)).kept
    assert (await short.renew(1)).kept
    await dead(alive)
    assert await alive.purge("mortal", 10) == 0
    assert not (await roster.renew(1)).kept
    assert (await roster.renew(1)).kept
    await roster.resign()
    assert not (await roster.renew(1)).kept


async def test_renewing_tells_who_is_alive(alive: Roster, mortal: Roster) -> None:
    assert (await mortal.renew(1)).alive == {"alive", "mortal"}
    await dead(alive)
    assert (await alive.renew(1)).alive == {"alive"}
    assert (await mortal.renew(1)).alive == {"alive", "mortal"}


async def test_an_instance_that_renews_is_never_due(alive: Roster, new_roster: NewRoster) -> None:
    mortal = new_roster("mortal", 1_000)
    await mortal.renew(1)
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        assert (await mortal.renew(1)).kept
        assert (await alive.due(1)).instances == []
        assert await alive.purge("mortal", 10) == -1
        await asyncio.sleep(0.1)


# --- an ended lease -----------------------------------------------------------------------


async def test_entries_of_an_ended_lease_are_no_devices_but_the_user_stays_present(
    alive: Roster, mortal: Roster
) -> None:
    await mortal.join("both", "s", "phone", 0)
    await alive.join("both", "s", "tablet", 0)
    await mortal.join("only", "s", "phone", 0)
    await dead(alive)
    expected = {"both": Attendance(1, present=True), "only": Attendance(0, present=True)}
    assert await alive.attendance(["both", "only"]) == expected
    assert await alive.claim(["both", "only"]) == []
    assert await alive.counts() == (1, 2)


async def test_who_was_only_on_a_dead_instance_comes_back_without_an_edge(
    alive: Roster, mortal: Roster
) -> None:
    for user in ("before the purge", "after it"):
        await mortal.join(user, "s", "phone", 0)
    await dead(alive)
    assert await alive.join("before the purge", "s", "phone", 0) == (True, False, 1)
    await purge_all(alive)
    assert await alive.join("after it", "s", "phone", 0) == (True, False, 1)
    await asyncio.sleep(2 * GRACE / 1000)
    assert await offline(alive) == []


async def test_the_connections_of_a_dead_instance_do_not_use_up_the_limit(
    alive: Roster, mortal: Roster
) -> None:
    for n in range(3):
        await mortal.join("u", f"s{n}", f"d{n}", 3)
    await dead(alive)
    assert (await alive.join("u", "again", "d0", 3)).accepted


async def test_purged_users_are_offline_when_their_grace_is_over(
    new_roster: NewRoster, mortal: Roster
) -> None:
    sweeper = new_roster("sweeper", LEASE, grace=LEASE + 1_000)
    await mortal.join("only", "s", "", 0)
    await mortal.join("both", "s", "", 0)
    await sweeper.join("both", "s", "", 0)
    await dead(sweeper)
    assert await sweeper.purge("mortal", 100) == 0
    assert await offline(sweeper) == []
    assert (await sweeper.attendance(["only"]))["only"] == Attendance(0, present=True)
    assert await eventually(lambda: offline(sweeper)) == ["only"]
    assert await mortal.held() == set()
    assert await sweeper.held() == {"both"}


async def test_purged_users_were_last_seen_at_the_last_renewal(
    mortal: Roster, new_roster: NewRoster
) -> None:
    """Also when nobody was there to purge for a while."""
    sweeper = new_roster("sweeper", LEASE)
    await mortal.join("u", "s", "", 0)
    renewed = await now(mortal)
    await mortal.renew(1)
    await dead(sweeper)
    await asyncio.sleep(0.7)
    await purge_all(sweeper)
    await asyncio.sleep(0.01)
    last_seen = (await sweeper.due(10)).users["u"]
    assert abs(last_seen - renewed) < 100


async def now(roster: Roster) -> float:
    """Redis' clock, in milliseconds."""
    seconds, micros = await roster._link.command("TIME")
    return int(seconds) * 1000 + int(micros) / 1000


async def test_a_purge_in_chunks_takes_out_everybody_once(alive: Roster, mortal: Roster) -> None:
    users = {f"u{n}" for n in range(1_000)}
    await asyncio.gather(*(mortal.join(user, "s", "", 0) for user in users))
    await asyncio.gather(*(mortal.join(user, "s2", "", 0) for user in users))
    await mortal.renew(10)
    await alive.join("u1", "s", "", 0)
    await dead(alive)
    assert await purge_all(alive, limit=300) == [700, 400, 100, 0]
    assert await alive.purge("mortal", 300) == -1
    assert (await alive.due(1)).instances == []

    claimed: set[str] = set()

    async def everybody_claimed() -> bool:
        claimed.update(await offline(alive))
        return len(claimed) >= len(users) - 1

    await eventually(everybody_claimed)
    assert claimed == users - {"u1"}
    assert await alive.counts() == (1, 1)


async def test_several_purgers_of_one_instance_do_not_disturb_each_other(
    new_roster: NewRoster, mortal: Roster
) -> None:
    purgers = [new_roster(f"p{n}", LEASE) for n in range(5)]
    users = {f"u{n}" for n in range(200)}
    await asyncio.gather(*(mortal.join(user, "s", "", 0) for user in users))
    await mortal.renew(10)
    await dead(purgers[0])
    await asyncio.gather(*(purge_all(purger, limit=7) for purger in purgers))
    claimed: list[str] = []

    async def all_claimed() -> bool:
        for some in await asyncio.gather(*(offline(purger) for purger in purgers)):
            claimed.extend(some)
        return len(claimed) >= len(users)

    await eventually(all_claimed)
    assert sorted(claimed) == sorted(users)


async def test_a_purge_stops_when_the_instance_renews(alive: Roster, mortal: Roster) -> None:
    users = [f"u{n}" for n in range(50)]
    await asyncio.gather(*(mortal.join(user, "s", "", 0) for user in users))
    await dead(alive)
    assert await alive.purge("mortal", 20) == 30

    renewal = await Roster(mortal._link, "mortal", LONG, GRACE, VISIT).renew(50)

    assert not renewal.kept
    assert await alive.purge("mortal", 20) == -1
    assert len(await mortal.held()) == 30
    for user in users:  # what an instance does that was told so
        await mortal.sync(user, {"s": ""})
    assert await alive.attendance(users) == {user: Attendance(1, present=True) for user in users}
    await asyncio.sleep(1.5 * GRACE / 1000)
    assert await offline(alive) == []


@pytest.mark.parametrize("entered_by", ["join", "sync"])
async def test_nobody_stays_present_who_entered_by_an_instance_without_a_lease(
    alive: Roster, mortal: Roster, entered_by: str
) -> None:
    """It was purged, or Redis has lost everything; then it dies before it has renewed."""
    await dead(alive)
    await purge_all(alive)
    if entered_by == "join":
        await mortal.join("u", "s", "", 0)
    else:
        await mortal.sync("u", {"s": ""})

    async def gone() -> bool:
        for instance in (await alive.due(10)).instances:
            await purge_all(alive, instance)
        await offline(alive)
        return (await alive.attendance(["u"]))["u"] == ABSENT

    await eventually(gone, 3 * (LEASE + GRACE) / 1000)


async def test_who_joined_an_instance_without_a_lease_is_present_until_it_has_renewed(
    new_roster: NewRoster,
) -> None:
    """Whatever others purge until then: it is alive, and renews within a third of a lease."""
    late, sweeper = new_roster("late", LONG, LONG), new_roster("sweeper", LONG, LONG)
    joined = await late.join("u", "s", "", 0)
    assert joined == (True, True, 1)
    await asyncio.sleep(0.01)
    await purge_all(sweeper, "late")
    assert await offline(sweeper) == []

    assert not (await late.renew(1)).kept
    await late.sync("u", {"s": ""})
    assert (await sweeper.attendance(["u"]))["u"] == Attendance(1, present=True)
