"""Two instances as one: documents, presence and followers across them."""

import asyncio
import time
from contextlib import AsyncExitStack

from tests.clients_py import Client, connected, joined
from tests.serving import Served
from tests.traces import eventually, nothing_stays
from tests.watchers import told, told_each, watching

Pair = tuple[Served, Served]
UPDATE = "user:clientUpdate"


async def test_a_document_reaches_the_users_sockets_on_every_instance(pair: Pair) -> None:
    async with (
        joined(pair[0].url) as phone,
        joined(pair[0].url) as tablet,
        joined(pair[1].url) as pc,
        joined(pair[1].url, "bob") as bob,
    ):
        sent = (await phone.call(UPDATE, {"xp": 1}))["stats"]
        assert await tablet.next("user:data:updated") == sent
        assert await pc.next("user:data:updated") == sent
        back = (await pc.call(UPDATE, {"xp": 1}))["stats"]
        assert await phone.next("user:data:updated") == back
        await bob.call("presence:ping")
        assert bob.pending("user:data:updated") == phone.pending("user:data:updated") == 0


async def test_documents_of_a_busy_user_arrive_with_rising_revs_and_the_last_one_everywhere(
    pair: Pair,
) -> None:
    async with joined(pair[0].url) as phone, joined(pair[1].url) as pc:

        async def write(client: Client) -> None:
            for _ in range(40):
                assert (await client.call(UPDATE, {"xp": 1}))["ok"]

        async def read(client: Client) -> list[int]:
            revs = [0]
            while revs[-1] < 81:
                revs.append((await client.next("user:data:updated"))["rev"])
            return revs

        async with joined(pair[0].url) as tablet, joined(pair[1].url) as tv:
            await asyncio.gather(write(phone), write(pc))
            await phone.call(UPDATE, {"xp": 1})
            for revs in await asyncio.gather(read(tablet), read(tv)):
                assert revs == sorted(set(revs))


async def test_presence_edges_of_a_user_on_two_instances_are_told_once_to_watchers_on_both(
    pair: Pair,
) -> None:
    one, two = pair
    async with watching(one, "ada") as eve, watching(two, "ada", name="mia") as mia:
        async with joined(one.url):
            async with joined(two.url):
                pass
            await asyncio.sleep(1.0)
            assert await told_each([eve, mia], one) == [[("ada", True, "online")]] * 2
        await eventually(lambda: eve.pending("presence:update") and mia.pending("presence:update"))
        assert await told_each([eve, mia], two) == [[("ada", False, "offline")]] * 2


async def test_twenty_devices_that_come_at_once_through_both_instances_are_told_as_one_arrival(
    pair: Pair,
) -> None:
    async with watching(pair[0], "ada") as eve, AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(connected(s.url)) for s in pair * 10]
        answers = await asyncio.gather(
            *(client.join(deviceId=f"d{n}") for n, client in enumerate(sockets))
        )
        assert max(answer["presence"]["devices"] for answer in answers) == 20
        assert await told(eve, pair[1]) == [("ada", True, "online")]


async def test_after_many_comings_and_goings_what_was_told_last_is_true_and_nothing_twice(
    pair: Pair,
) -> None:
    async with watching(pair[0], "ada") as eve, watching(pair[1], "ada", name="mia") as mia:

        async def come_and_go(served: Served, pause: float) -> None:
            for _ in range(3):
                async with joined(served.url):
                    await asyncio.sleep(pause / 4)
                await asyncio.sleep(pause)

        await asyncio.gather(
            *(come_and_go(pair[n % 2], pause) for n, pause in enumerate((0.1, 0.2, 0.6, 0.4)))
        )
        async with joined(pair[0].url):
            await asyncio.sleep(1.0)
            for news in await told_each([eve, mia], pair[1]):
                assert [online for _, online, _ in news] == [n % 2 == 0 for n in range(len(news))]
                assert news[-1] == ("ada", True, "online")


async def test_moving_from_one_instance_to_the_other_is_not_told(pair: Pair) -> None:
    one, two = pair
    async with watching(two, "ada") as eve:
        async with joined(one.url):
            assert await told(eve, two) == [("ada", True, "online")]
        async with joined(two.url):
            pass
        async with joined(one.url):
            await asyncio.sleep(1.0)
            assert await told(eve, two) == []


async def test_devices_are_counted_over_both_instances(pair: Pair) -> None:
    one, two = pair
    async with joined(one.url, deviceId="phone"), joined(two.url, deviceId="tablet") as tablet:
        assert (await tablet.join(deviceId="tablet"))["presence"]["devices"] == 2
        async with connected(two.url) as same:
            assert (await same.join(deviceId="phone"))["presence"]["devices"] == 2
        await asyncio.sleep(0.6)  # the count of clients travels with the lease
        assert await one.live.presence.counts() == await two.live.presence.counts() == (2, 1)


async def test_a_status_is_told_to_watchers_on_both_instances(pair: Pair) -> None:
    one, two = pair
    async with (
        watching(one, "ada") as eve,
        watching(two, "ada", name="mia") as mia,
        joined(two.url) as ada,
    ):
        await ada.call("presence:status", {"status": "busy", "note": "exam"})
        for watcher in (eve, mia):
            news = await watcher.until("presence:update", lambda n: n["status"] == "busy")
            assert (news["note"], news["devices"]) == ("exam", 1)


async def test_followers_on_the_other_instance_get_coalesced_updates_and_the_last_one(
    pair: Pair,
) -> None:
    one, two = pair
    async with joined(one.url) as ada, joined(two.url, "eve") as eve:
        assert (await eve.call("presence:watch", {"userIds": ["ada"]}))["ok"]
        began = time.monotonic()
        for _ in range(60):
            rev = (await ada.call(UPDATE, {"xp": 1}))["rev"]
        count, last = 0, 0
        while last < rev:
            last = (await eve.next("user:update", timeout=2))["rev"]
            count += 1
        assert count <= 2 * (time.monotonic() - began) + 2


async def test_a_subscription_is_held_only_while_somebody_is_interested(pair: Pair) -> None:
    one, two = pair

    def held() -> tuple[float, float]:
        return tuple(s.metric("livetally_redis_subscriptions") for s in pair)  # type: ignore[return-value]

    async with joined(one.url) as ada, joined(two.url, "eve") as eve:
        await eventually(lambda: held() == (1, 1))
        await eve.call("presence:watch", {"userIds": ["ada", "bob"]})
        await eventually(lambda: held() == (1, 3))
        await eve.call("presence:unwatch", {"userIds": ["bob"]})
        await eventually(lambda: held() == (1, 2))
        await ada.call("presence:leave")
        await eventually(lambda: held() == (0, 2))
        await ada.join()
        sent = await ada.call(UPDATE, {"xp": 1})
        assert (await eve.next("user:update"))["rev"] == sent["rev"]
    await eventually(lambda: held() == (0, 0))
    await nothing_stays(one)
    await nothing_stays(two)


async def test_joining_and_leaving_in_quick_turns_ends_subscribed_or_not_as_it_should(
    pair: Pair,
) -> None:
    one, two = pair
    async with joined(one.url) as ada, connected(two.url) as other:
        for _ in range(30):
            await other.emit("presence:join")
            await other.emit("presence:leave")
        await other.join()
        sent = await ada.call(UPDATE, {"xp": 1})
        assert await other.next("user:data:updated") == sent["stats"]
        await other.call("presence:leave")
        await eventually(lambda: two.metric("livetally_redis_subscriptions") == 0)
