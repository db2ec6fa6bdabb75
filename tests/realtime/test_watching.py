"""Following other users: what one sees, at most how often, and when it ends."""

import asyncio
import time
from typing import Any

from tests.clients_py import Client, connected, joined
from tests.serving import Served
from tests.traces import eventually, in_process

PUBLIC = {"userId", "xp", "level", "streak", "maxStreak", "rev", "updatedAt"}


async def watch(client: Client, *users: str) -> Any:
    answer = await client.call("presence:watch", {"userIds": list(users)})
    assert answer["ok"], answer
    return answer["users"]


async def drained(client: Client, marker: Client, user: str) -> list[Any]:
    """All `user:update` that came before one that `marker`'s user, watched too, now causes."""
    await marker.call("user:clientUpdate", {"xp": 1})
    found = []
    while (news := await client.next("user:update"))["userId"] == user:
        found.append(news)
    return found


async def test_the_answer_shows_each_user_with_presence_and_public_stats(served: Served) -> None:
    async with joined(served.url) as ada, joined(served.url, "eve") as eve:
        await ada.call("user:clientUpdate", {"xp": 3, "diamonds": 9})
        found = await watch(eve, "ada", "nobody", "ada", "eve")
        assert [entry["userId"] for entry in found] == ["ada", "nobody", "eve"]
        assert [entry["online"] for entry in found] == [True, False, True]
        assert found[0]["stats"] == {"xp": 3, "level": 1, "streak": 0, "maxStreak": 0}
        assert found[1]["stats"] == {"xp": 0, "level": 1, "streak": 0, "maxStreak": 0}
        assert found[1]["devices"] == 0


async def test_followers_are_told_public_stats_only_and_no_documents(served: Served) -> None:
    async with joined(served.url) as ada, joined(served.url, "eve") as eve:
        await watch(eve, "ada")
        await ada.call("user:clientUpdate", {"xp": 1, "diamonds": 5, "__set": {"accuracy": 50}})
        news = await eve.next("user:update")
        assert news.keys() == PUBLIC
        assert (news["userId"], news["xp"], news["rev"]) == ("ada", 1, 1)
        await eve.call("presence:ping")
        assert eve.pending("user:data:updated") == 0


async def test_at_most_two_updates_a_second_and_the_last_one_always(served: Served) -> None:
    async with joined(served.url) as ada, joined(served.url, "eve") as eve:
        await watch(eve, "ada")
        seconds, rev, times = 1.2, 0, []
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            answer = await ada.call("user:clientUpdate", {"xp": 1})
            rev = answer["rev"]
        last = None
        while last is None or last["rev"] < rev:
            last = await eve.next("user:update", timeout=2)
            times.append(time.monotonic())
        assert last["xp"] == rev > 20
        assert len(times) <= 2 * seconds + 2
        await asyncio.sleep(0.6)
        assert eve.pending("user:update") == 0


async def test_updates_of_one_user_do_not_hold_back_anothers(served: Served) -> None:
    async with (
        joined(served.url) as ada,
        joined(served.url, "bob") as bob,
        joined(served.url, "eve") as eve,
    ):
        await watch(eve, "ada", "bob")
        for _ in range(3):
            await ada.call("user:clientUpdate", {"xp": 1})
        await bob.call("user:clientUpdate", {"xp": 1})
        await eve.until("user:update", lambda news: news["userId"] == "bob", timeout=0.4)
        await eve.until("user:update", lambda news: news["rev"] == 3)


async def test_updates_arrive_with_rising_revs(served: Served) -> None:
    async with joined(served.url) as ada, joined(served.url, "eve") as eve:
        await watch(eve, "ada")
        revs = []
        for burst in (5, 10, 15):
            await asyncio.gather(
                *(ada.call("user:clientUpdate", {"__set": {"xp": burst + n}}) for n in range(5))
            )
            newest = (await served.live.stats.read("ada")).rev
            while not revs or revs[-1] < newest:
                revs.append((await eve.next("user:update"))["rev"])
        assert revs == sorted(set(revs))


async def test_unwatch_ends_both_kinds_of_news_of_that_user_only(served: Served) -> None:
    async with (
        joined(served.url) as ada,
        joined(served.url, "bob") as bob,
        joined(served.url, "eve") as eve,
    ):
        await watch(eve, "ada", "bob")
        assert await eve.call("presence:unwatch", {"userIds": ["ada", "never-watched"]}) == {
            "ok": True
        }
        await ada.call("user:clientUpdate", {"xp": 1})
        await ada.call("presence:status", {"status": "away"})
        assert await drained(eve, bob, "ada") == []
        await bob.call("presence:status", {"status": "away"})
        assert (await eve.next("presence:update"))["userId"] == "bob"
        assert eve.pending("presence:update") == 0


async def test_unwatch_before_a_held_back_update_is_due_leaves_nothing_to_come(
    served: Served,
) -> None:
    async with joined(served.url) as ada, joined(served.url, "eve") as eve:
        await watch(eve, "ada")
        for _ in range(3):
            await ada.call("user:clientUpdate", {"xp": 1})
        assert (await eve.next("user:update"))["rev"] < 3
        await eve.call("presence:unwatch", {"userIds": ["ada"]})
        await asyncio.sleep(0.7)
        assert eve.pending("user:update") == 0


async def test_watching_again_answers_again_and_tells_once(served: Served) -> None:
    async with joined(served.url) as ada, joined(served.url, "eve") as eve:
        for _ in range(3):
            await watch(eve, "ada")
        await ada.call("presence:status", {"status": "away"})
        assert (await eve.next("presence:update"))["status"] == "away"
        assert (await watch(eve, "ada"))[0]["status"] == "away"
        assert eve.pending("presence:update") == 0


async def test_five_hundred_users_may_be_watched_by_one_socket_counted_over_all_calls(
    served: Served,
) -> None:
    async with joined(served.url, "eve") as eve, joined(served.url, "mia") as mia:
        for part in (range(250), range(250, 499)):
            await watch(eve, *(f"user-{n}" for n in part))
        answer = await eve.call("presence:watch", {"userIds": ["user-1", "a", "b"]})
        assert answer["error"]["code"] == "watch_limit"
        assert len(await watch(eve, "user-1", "a")) == 2
        assert (await eve.call("presence:watch", {"userIds": ["b"]}))["error"]["code"]
        await eve.call("presence:unwatch", {"userIds": ["a"]})
        await watch(eve, "b")
        await watch(mia, "a", "b")
        assert len(served.live.rooms.watched()) == 501


async def test_watches_end_with_leave_and_with_the_socket(served: Served) -> None:
    async with joined(served.url, "eve") as eve, joined(served.url) as ada:
        await watch(eve, "ada", "bob")
        async with joined(served.url, "mia") as mia:
            await watch(mia, "bob")
        await eventually(lambda: sorted(served.live.rooms.watched()) == ["ada", "bob"])
        await eve.call("presence:leave")
        assert served.live.rooms.watched() == []
        await ada.call("presence:status", {"status": "away"})
        assert (await eve.call("presence:ping"))["serverTime"]
        assert eve.pending("presence:update") == 0
    await eventually(lambda: in_process(served) == {})


async def test_one_may_watch_oneself(served: Served) -> None:
    async with joined(served.url) as ada, connected(served.url) as other:
        await watch(ada, "ada")
        await other.join()
        await other.call("user:clientUpdate", {"xp": 1})
        assert (await ada.next("user:data:updated"))["rev"] == 1
        assert (await ada.next("user:update"))["rev"] == 1
