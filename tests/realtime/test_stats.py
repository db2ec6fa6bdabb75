"""Stats over sockets: durable, once, in order, to every device."""

import asyncio

from tests.clients_py import connected, joined
from tests.serving import Served


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
