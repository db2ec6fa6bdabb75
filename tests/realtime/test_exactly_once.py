"""An operation counts once, whichever doors and instances its repeats come through."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import aiohttp

from tests.clients_py import Client, connected, joined
from tests.serving import Served
from tests.tokens import bearer, token

UPDATE = "user:clientUpdate"


async def post(session: aiohttp.ClientSession, url: str, patch: Any, user: str) -> Any:
    async with session.post(
        f"{url}/api/users/data/patch", json=patch, headers=bearer(user)
    ) as answer:
        return await answer.json()


async def test_fifty_repeats_of_one_operation_over_sockets_and_rest_apply_once(
    pair: tuple[Served, Served],
) -> None:
    patch = {"xp": 10, "timePerQuestion": [2.5], "opId": "the-one", "deviceId": "phone"}
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        clients = [await stack.enter_async_context(joined(pair[n % 2].url)) for n in range(4)]
        answers = await asyncio.gather(
            *(
                clients[n % 4].call(UPDATE, patch)
                if n % 2
                else post(session, pair[n // 2 % 2].url, patch, "ada")
                for n in range(50)
            )
        )
    assert [answer["duplicate"] for answer in answers].count(False) == 1
    documents = [answer.get("stats", answer) for answer in answers]
    assert {(d["xp"], d["rev"], *d["timePerQuestion"]) for d in documents} == {(10, 1, 2.5)}


async def test_the_same_op_id_of_another_device_or_user_is_another_operation(
    served: Served,
) -> None:
    async with joined(served.url) as ada, joined(served.url, "bob") as bob:
        for device in ("", "phone", "tablet"):
            patch = {"xp": 1, "opId": "x", **({"deviceId": device} if device else {})}
            assert (await ada.call(UPDATE, patch))["duplicate"] is False
            assert (await ada.call(UPDATE, patch))["duplicate"] is True
        assert (await bob.call(UPDATE, {"xp": 1, "opId": "x"}))["duplicate"] is False
        assert (await served.live.stats.read("ada")).values["xp"] == 3


async def test_an_op_id_with_another_content_is_refused_and_changes_nothing(
    pair: tuple[Served, Served],
) -> None:
    async with joined(pair[0].url) as here, joined(pair[1].url) as there:
        assert (await here.call(UPDATE, {"xp": 1, "opId": "x"}))["ok"]
        for other in ({"xp": 2}, {"xp": 1, "hearts": 1}, {"__set": {"xp": 1}}, {}):
            error = (await there.call(UPDATE, {**other, "opId": "x"}))["error"]
            assert (error["code"], error["retryable"]) == ("op_id_reused", False)
        assert (await there.call(UPDATE, {"xp": 1.0, "opId": "x"}))["duplicate"] is True
        assert (await pair[0].live.stats.read("ada")).values["xp"] == 1


async def test_a_repeat_is_known_after_62_newer_operations(served: Served) -> None:
    async with joined(served.url) as client:
        first = {"xp": 1, "opId": "first"}
        await client.call(UPDATE, first)
        for n in range(62):
            await client.call(UPDATE, {"xp": 1, "opId": str(n)})
        assert (await client.call(UPDATE, first))["duplicate"] is True


async def test_first_writes_of_new_users_from_two_instances_are_all_counted(
    pair: tuple[Served, Served],
) -> None:
    users = [f"new-{n}" for n in range(40)]
    service = {"token": token("job", role="service")}
    async with (
        connected(pair[0].url, auth=service) as one,
        connected(pair[1].url, auth=service) as two,
    ):
        await one.join()
        await two.join()

        async def write(client: Client, name: str, user: str) -> None:
            answer = await client.call(UPDATE, {"userId": user, "xp": 1, "opId": name})
            assert (answer["ok"], answer["duplicate"]) == (True, False), answer

        await asyncio.gather(
            *(
                write(c, f"{n}-{i}", u)
                for u in users
                for i in (0, 1)
                for n, c in ((1, one), (2, two))
            )
        )
    found = await pair[0].live.stats.read_many(users)
    assert {user: (s.values["xp"], s.rev) for user, s in found.items()} == dict.fromkeys(
        users, (4, 4)
    )


async def test_two_instances_writing_one_user_lose_nothing(pair: tuple[Served, Served]) -> None:
    async with joined(pair[0].url) as here, joined(pair[1].url) as there:

        async def write(client: Client) -> int:
            answers = await asyncio.gather(
                *(client.call(UPDATE, {"xp": 1, "timePerQuestion": [1]}) for _ in range(60))
            )
            assert [answer["error"] for answer in answers if not answer["ok"]] == []
            return max(answer["rev"] for answer in answers)

        newest = await asyncio.gather(write(here), write(there))
        assert max(newest) == 120
        stored = await pair[0].live.stats.read("ada")
        assert (stored.values["xp"], len(stored.values["timePerQuestion"])) == (120, 120)
        for client, rev in zip((here, there), newest, strict=True):
            if rev < 120:  # who was not answered with the last one is sent it
                await client.until("user:data:updated", lambda doc: doc["rev"] == 120)


async def test_a_service_acts_for_others_and_their_devices_learn_of_it(
    pair: tuple[Served, Served],
) -> None:
    service = {"token": token("job", role="service")}
    async with joined(pair[1].url, "bob") as bob, connected(pair[0].url, auth=service) as job:
        await job.join()
        answer = await job.call(UPDATE, {"userId": "bob", "xp": 3, "opId": "gift"})
        assert answer["stats"]["userId"] == "bob"
        assert await bob.next("user:data:updated") == answer["stats"]
        again = await job.call(UPDATE, {"userId": "bob", "xp": 3, "opId": "gift"})
        assert again["duplicate"] is True
        own = await job.call(UPDATE, {"xp": 1})
        assert own["stats"]["userId"] == "job"
        assert (await bob.call(UPDATE, {"userId": "job", "xp": 1}))["error"]["code"] == "forbidden"


async def test_a_service_may_join_as_another_user(served: Served) -> None:
    service = {"token": token("job", role="admin")}
    async with connected(served.url, auth=service) as job, joined(served.url, "bob") as bob:
        assert (await job.join(userId="bob"))["userId"] == "bob"
        sent = await bob.call(UPDATE, {"xp": 1})
        assert await job.next("user:data:updated") == sent["stats"]
        assert (await job.call(UPDATE, {"xp": 1}))["stats"]["xp"] == 2
