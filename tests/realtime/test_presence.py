"""Who is there: edges exactly once, grace, devices, status."""

import asyncio
import time

from tests.clients_py import connected, joined
from tests.serving import Served
from tests.traces import eventually, in_redis
from tests.watchers import GRACE, edges, seen, shown, told, watching

SOON = 3 * GRACE + 1.2  # seconds until an absence is told at the latest, also just after the start


async def test_the_first_device_in_and_the_last_one_out_are_told_once(brief: Served) -> None:
    async with watching(brief, "ada") as eve:
        async with joined(brief.url, deviceId="phone") as phone:
            assert (await eve.next("presence:update"))["online"] is True
            async with joined(brief.url, deviceId="tablet"), joined(brief.url, deviceId="pc"):
                await phone.call("presence:leave")
                await phone.join(deviceId="phone")
            await asyncio.sleep(2 * GRACE)
            assert await told(eve, brief) == []
            left_at = time.time()
        news = await eve.next("presence:update", timeout=SOON)
        assert (news["online"], news["status"], news["devices"]) == (False, "offline", 0)
        assert abs(seen(news) - left_at) < 0.4
        assert time.time() - left_at >= GRACE - 0.1
        assert await told(eve, brief) == []


async def test_who_comes_back_within_the_grace_was_never_away(brief: Served) -> None:
    async with watching(brief, "ada") as eve:
        for _ in range(4):
            async with joined(brief.url):
                pass
        async with joined(brief.url):
            await asyncio.sleep(2 * GRACE)
            assert await told(eve, brief) == [("ada", True, "online")]
            entry = await shown(eve, "ada")
            assert (entry["online"], entry["devices"]) == (True, 1)
        await eve.next("presence:update", timeout=SOON)


async def test_in_the_grace_a_user_is_shown_as_present_without_devices(brief: Served) -> None:
    async with watching(brief, "ada") as eve:
        async with joined(brief.url):
            pass
        await eventually(lambda: "ada" not in brief.live.rooms.joined())
        entry = await shown(eve, "ada")
        assert (entry["online"], entry["devices"]) == (True, 0)


async def test_leave_counts_like_going_away_and_other_devices_stay(brief: Served) -> None:
    async with (
        watching(brief, "ada") as eve,
        joined(brief.url) as phone,
        joined(brief.url) as tablet,
    ):
        assert await phone.call("presence:leave") == {"ok": True}
        refused = await phone.call("user:clientUpdate", {"xp": 1})
        assert refused["error"]["code"] == "not_joined"
        assert (await phone.call("presence:leave"))["error"]["code"] == "not_joined"
        assert (await tablet.call("user:clientUpdate", {"xp": 1}))["ok"]
        assert phone.pending("user:data:updated") == 0
        assert await told(eve, brief) == [("ada", True, "online")]
        await tablet.call("presence:leave")
        assert (await eve.next("presence:update", timeout=SOON))["online"] is False
        assert (await phone.join())["stats"]["xp"] == 1
        assert (await eve.next("presence:update"))["online"] is True


async def test_devices_are_counted_by_device_id_and_sockets_without_one_each(
    brief: Served,
) -> None:
    async with joined(brief.url, deviceId="phone"), connected(brief.url) as same:
        assert (await same.join(deviceId="phone"))["presence"]["devices"] == 1
        async with connected(brief.url) as bare, connected(brief.url) as other:
            assert (await bare.join())["presence"]["devices"] == 2
            assert (await other.join())["presence"]["devices"] == 3
            assert (await other.join(deviceId="tablet"))["presence"]["devices"] == 3
        await eventually(lambda: len(brief.live.gateway.connections) == 2)
        assert (await same.join(deviceId="pc"))["presence"]["devices"] == 2


async def test_a_status_is_the_users_and_told_once_with_its_note(brief: Served) -> None:
    async with (
        watching(brief, "ada") as eve,
        joined(brief.url) as phone,
        joined(brief.url) as tablet,
    ):
        await eve.next("presence:update")
        answer = await phone.call("presence:status", {"status": "busy", "note": "in a duel ⚔"})
        assert (answer["ok"], answer["presence"]["note"]) == (True, "in a duel ⚔")
        news = await eve.next("presence:update")
        assert (news["status"], news["note"], news["devices"]) == ("busy", "in a duel ⚔", 2)
        await tablet.call("presence:status", {"status": "busy", "note": "in a duel ⚔"})
        assert await told(eve, brief) == []
        await tablet.call("presence:status", {"status": "busy"})
        news = await eve.next("presence:update")
        assert (news["status"], "note" in news) == ("busy", False)
        async with connected(brief.url) as later:
            assert (await later.join())["presence"]["status"] == "busy"
        assert await told(eve, brief) == []


async def test_a_join_may_bring_a_status_and_is_told_once(brief: Served) -> None:
    async with watching(brief, "ada") as eve, connected(brief.url) as phone:
        answer = await phone.join(status="away")
        assert answer["presence"]["status"] == "away"
        assert await told(eve, brief) == [("ada", True, "away")]
        await phone.join(status="away")
        assert await told(eve, brief) == []
        await phone.join(status="online")
        assert await told(eve, brief) == [("ada", True, "online")]


async def test_a_join_with_a_status_keeps_the_note(brief: Served) -> None:
    async with joined(brief.url) as phone:
        await phone.call("presence:status", {"status": "busy", "note": "exam"})
        assert (await phone.join(status="away"))["presence"]["note"] == "exam"


async def test_nothing_of_a_user_stays_in_the_roster_when_all_have_left(brief: Served) -> None:
    async with joined(brief.url), joined(brief.url, "bob", deviceId="phone"):
        assert (await in_redis(brief))["online"] == {"ada", "bob"}
    await eventually(lambda: edges(brief, "off") == 2, timeout=SOON)
    assert await in_redis(brief) == {}
