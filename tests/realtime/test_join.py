"""What `presence:join` answers, in each of its forms."""

from datetime import datetime
from typing import Any

from tests.clients_py import connected, joined
from tests.outages import unheard
from tests.serving import Served, serving
from tests.tokens import token

FRESH = {
    "userId": "ada",
    "rev": 0,
    "updatedAt": "1970-01-01T00:00:00.000Z",
    "xp": 0,
    "hearts": 5,
    "diamonds": 0,
    "level": 1,
    "streak": 0,
    "accuracy": 0,
    "maxStreak": 0,
    "completedQuestions": 0,
    "correctAnswers": 0,
    "wrongAnswers": 0,
    "totalQuestions": 0,
    "totalTimeSpent": 0,
    "timePerQuestion": [],
    "lastGameResults": {},
}


async def test_the_answer_has_the_document_the_presence_the_time_and_the_limits(
    served: Served,
) -> None:
    async with connected(served.url) as client:
        answer = await client.join(deviceId="phone")
        assert answer.keys() == {
            "ok",
            "userId",
            "sessionId",
            "stats",
            "presence",
            "serverTime",
            "limits",
        }
        assert answer["userId"] == "ada"
        assert answer["sessionId"] == client.sio.get_sid("/")
        assert answer["stats"] == FRESH
        presence = {**answer["presence"]}
        assert datetime.fromisoformat(presence.pop("lastSeen"))
        assert presence == {"userId": "ada", "online": True, "status": "online", "devices": 1}
        assert answer["serverTime"].endswith("Z")
        assert answer["limits"] == {
            "pingInterval": 25_000,
            "eventsPerSecond": 0,
            "maxPayload": 131_072,
            "maxInFlight": 128,
            "watchMax": 500,
        }


async def test_the_bare_user_id_and_nothing_at_all_join_too(served: Served) -> None:
    for payload in ("ada", None, {}, {"userId": "ada"}):
        async with connected(served.url) as client:
            answer = await client.call("presence:join", payload)
            assert answer["ok"], answer
            assert answer["userId"] == "ada"


async def test_a_service_joins_as_another_by_the_bare_user_id(served: Served) -> None:
    auth = {"token": token("job", role="service")}
    async with connected(served.url, auth=auth) as job, joined(served.url, "bob") as bob:
        answer = await job.call("presence:join", "bob")
        assert answer["ok"], answer
        sent = await bob.call("user:clientUpdate", {"xp": 1})
        assert await job.next("user:data:updated") == sent["stats"]


async def test_who_has_the_newest_rev_is_not_sent_the_document_again(served: Served) -> None:
    async with connected(served.url) as client:
        answer = await client.join(rev=0)
        assert (answer["stats"], answer["current"]) == (None, True)
        await client.call("user:clientUpdate", {"xp": 1})
        for rev in (0, 2, 10**15):
            answer = await client.join(rev=rev)
            assert (answer["stats"]["rev"], "current" in answer) == (1, False)
        answer = await client.join(rev=1)
        assert (answer["stats"], answer["current"]) == (None, True)


async def test_joining_twice_is_joining_once(served: Served) -> None:
    async with connected(served.url) as phone, joined(served.url) as tablet:
        await phone.join(deviceId="phone")
        assert (await phone.join(deviceId="phone"))["presence"]["devices"] == 2
        await tablet.call("user:clientUpdate", {"xp": 1})
        await phone.next("user:data:updated")
        await tablet.call("user:clientUpdate", {"xp": 1})
        assert (await phone.next("user:data:updated"))["rev"] == 2
        assert phone.pending("user:data:updated") == 0
        assert (await phone.call("presence:leave"))["ok"]
        assert (await tablet.join())["presence"]["devices"] == 1


async def test_a_service_that_joins_as_another_leaves_whom_it_was(served: Served) -> None:
    auth = {"token": token("job", role="service")}
    async with connected(served.url, auth=auth) as job, joined(served.url, "bob") as bob:
        await job.join(userId="bob")
        await job.join(userId="eve")
        assert sorted(served.live.rooms.joined()) == ["bob", "eve"]
        assert (await bob.join())["presence"]["devices"] == 1
        await bob.call("user:clientUpdate", {"xp": 1})
        await job.call("presence:ping")
        assert job.pending("user:data:updated") == 0
        assert (await job.call("user:clientUpdate", {"xp": 1}))["stats"]["userId"] == "eve"


async def test_a_document_that_was_news_to_the_joining_one_reaches_the_other_devices(
    stores: dict[str, Any],
) -> None:
    async with serving(**stores, reconcile_interval=60.0) as served, joined(served.url) as phone:
        async with unheard(served) as other, joined(other.url) as client:
            await client.call("user:clientUpdate", {"xp": 7})
        async with joined(served.url):
            assert (await phone.next("user:data:updated"))["xp"] == 7
