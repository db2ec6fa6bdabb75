"""Scripts called at the same time share a round trip, and nothing else."""

import asyncio

from redis.asyncio import Redis

from domain.presence import Attendance
from server.embedded import PrivateServer
from storage.redis import RedisLink
from storage.roster import Roster
from tests.storage.conftest import NewLink, away


def roster_on(link: RedisLink) -> Roster:
    return Roster(link, "a", 60_000, 60_000, 60_000)


async def test_each_of_many_concurrent_callers_gets_the_answer_to_its_own_question(
    link: RedisLink,
) -> None:
    roster = roster_on(link)
    await roster.renew(1)
    users = [f"u{n}" for n in range(300)]
    joined = await asyncio.gather(
        *(roster.join(user, f"s{n}", "", 0) for user in users for n in range(3))
    )
    assert sorted(one.devices for one in joined) == sorted([1, 2, 3] * 300)
    assert sum(one.first for one in joined) == 300
    await asyncio.gather(*(roster.leave(user, "s0", 0) for user in users[::2]))
    answers = await asyncio.gather(*(roster.attendance([user]) for user in users))
    for n, (user, answer) in enumerate(zip(users, answers, strict=True)):
        assert answer == {user: Attendance(3 if n % 2 else 2, present=True)}


async def test_concurrent_callers_do_not_notice_that_redis_lost_its_scripts(
    new_link: NewLink, own_redis: PrivateServer
) -> None:
    roster = roster_on(new_link(own_redis.url, timeout=5))
    await roster.renew(1)
    async with Redis.from_url(own_redis.url) as admin:
        for turn in range(20):
            await admin.script_flush()
            answers = await asyncio.gather(
                *(roster.join(f"u{n}", f"s{turn}", "", 0) for n in range(20)),
                *(roster.attendance([f"other{n}"]) for n in range(20)),
            )
            assert [one[2] for one in answers[:20]] == [turn + 1] * 20
            assert answers[20:] == [{f"other{n}": Attendance()} for n in range(20)]


async def test_a_script_that_fails_does_not_fail_the_others(link: RedisLink) -> None:
    roster = roster_on(link)
    await roster.renew(1)
    await link.command("SET", f"{link.names.prefix}:roster:broken", "not a hash")
    good, _, better = await asyncio.gather(
        roster.join("u", "s1", "", 0),
        away(lambda: roster.join("broken", "s", "", 0)),
        roster.join("u", "s2", "", 0),
    )
    assert (good.devices, better.devices) == (1, 2)


async def test_a_call_that_cannot_be_sent_is_answered_and_fails_no_others_after_it(
    link: RedisLink,
) -> None:
    roster = roster_on(link)
    async with asyncio.timeout(5):
        await asyncio.gather(
            roster.join("\ud800", "s", "", 0),  # is no UTF-8
            return_exceptions=True,
        )
        assert (await roster.join("u", "s", "", 0)).accepted


async def test_a_caller_that_is_cancelled_takes_no_others_along(link: RedisLink) -> None:
    roster = roster_on(link)
    await roster.renew(1)
    for turn in range(60):
        calls = [asyncio.create_task(roster.join(f"u{turn}", f"s{n}", "", 0)) for n in range(3)]
        for _ in range(turn % 12):
            await asyncio.sleep(0)
        calls[turn // 12 % 2].cancel()
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert [one for one in done if isinstance(one, Exception)] == []


async def test_calls_go_on_after_a_cancelled_one(link: RedisLink) -> None:
    roster = roster_on(link)
    for turn in range(30):
        call = asyncio.create_task(roster.renew(1))
        for _ in range(turn % 10):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        async with asyncio.timeout(5):
            assert (await roster.attendance([f"u{turn}"])) == {f"u{turn}": Attendance()}
