"""Stats over sockets: durable, once, in order, to every device."""

import asyncio

import aiohttp

from tests.clients_py import connected, joined
from tests.serving import Served
from tests.tokens import bearer


async def test_a_change_reaches_the_users_other_device_and_not_the_acked_sender(
    served: Served,
) -> None:
    async with joined(served.url) as phone, joined(served.url) as tablet:
        answer = await phone.call("user:clientUpdate", {"xp": 10, "opId": "one"})
        assert answer["ok"]
        assert answer["rev"] == 1
        assert answer["duplicate"] is False
        assert answer["stats"]["xp"] == 10
        assert await tablet.next("user:data:updated") == answer["stats"]
        assert phone.pending("user:data:updated") == 0


async def test_a_sender_that_asks_for_no_ack_gets_the_document_as_an_event(served: Served) -> None:
    async with joined(served.url) as phone:
        await phone.emit("user:clientUpdate", {"xp": 10})
        assert (await phone.next("user:data:updated"))["xp"] == 10


async def test_updates_sent_before_the_join_is_answered_are_not_lost(served: Served) -> None:
    async with connected(served.url) as phone:
        await phone.emit("presence:join")
        answers = await asyncio.gather(
            *(phone.call("user:clientUpdate", {"xp": 1, "opId": str(n)}) for n in range(20))
        )
        assert [answer["ok"] for answer in answers] == [True] * 20
        assert max(answer["stats"]["xp"] for answer in answers) == 20


async def test_two_devices_that_change_at_once_both_end_with_the_newest_document(
    served: Served,
) -> None:
    async with joined(served.url) as phone, joined(served.url) as tablet:
        answers = await asyncio.gather(
            phone.call("user:clientUpdate", {"xp": 1}), tablet.call("user:clientUpdate", {"xp": 1})
        )
        for device, answer in zip((phone, tablet), answers, strict=True):
            if answer["rev"] < 2:
                assert (await device.next("user:data:updated"))["xp"] == 2


async def test_a_change_by_rest_reaches_the_users_sockets(served: Served) -> None:
    async with joined(served.url) as phone, aiohttp.ClientSession(served.url) as http:
        body = {"xp": 4, "opId": "one"}
        async with http.post("/api/users/data/patch", json=body, headers=bearer()) as answer:
            sent = await answer.json()
        assert sent.pop("duplicate") is False
        assert await phone.next("user:data:updated") == sent
        assert (await phone.call("user:clientUpdate", body))["duplicate"] is True


async def test_repeats_and_changes_of_nothing_are_answered_and_not_told_to_others(
    served: Served,
) -> None:
    async with joined(served.url) as phone, joined(served.url) as tablet:
        patch = {"xp": 1, "opId": "one"}
        first = await phone.call("user:clientUpdate", patch)
        for nothing in (patch, {}, {"xp": 0}, {"__set": {"xp": 1}}, {"opId": "two", "hearts": 0}):
            answer = await phone.call("user:clientUpdate", nothing)
            assert (answer["ok"], answer["rev"]) == (True, 1)
            assert answer["stats"]["xp"] == first["stats"]["xp"]
        await phone.call("user:clientUpdate", {"xp": 1})
        assert [(await tablet.next("user:data:updated"))["rev"] for _ in range(2)] == [1, 2]
        assert tablet.pending("user:data:updated") == phone.pending("user:data:updated") == 0


async def test_a_refused_change_without_an_ack_comes_back_as_event_error(served: Served) -> None:
    async with joined(served.url) as phone:
        await phone.emit("user:clientUpdate", {"xp": "1"})
        told = await phone.next("error")
        assert (told["ok"], told["error"]["code"]) == (False, "invalid_type")
        assert told["error"]["fields"][0]["pointer"] == "/xp"


async def test_users_do_not_hear_of_each_other(served: Served) -> None:
    async with joined(served.url) as ada, joined(served.url, "bob") as bob:
        await ada.call("user:clientUpdate", {"xp": 1})
        await bob.call("user:clientUpdate", {"xp": 1})
        await bob.call("presence:ping")
        assert bob.pending("user:data:updated") == ada.pending("user:data:updated") == 0
