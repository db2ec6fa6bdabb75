"""One connection's changes: applied and answered in the order sent, and nothing waits for them."""

import asyncio
import json
from typing import Any

from server.embedded import PrivateServer
from tests.clients_py import joined
from tests.outages import frozen
from tests.serving import Served, serving
from tests.wires import Wire, frame, wire


def update(ack: int, payload: Any) -> bytes:
    return frame(f"42{ack}" + json.dumps(["user:clientUpdate", payload]))


async def acks(socket: Wire, count: int) -> list[tuple[int, Any]]:
    """The next acks in the order they come: number and content."""
    found: list[tuple[int, Any]] = []
    while len(found) < count:
        text = await socket.receive()
        assert text is not None
        if text.startswith("43"):
            number, _, body = text[2:].partition("[")
            found.append((int(number), json.loads("[" + body)[0]))
    return found


WRONG: list[Any] = [{"xp": "1"}, {"nope": 1}, 7, {"userId": "bob"}, {"__set": {"xp": -1}}]


async def test_a_hundred_pipelined_updates_are_acked_and_applied_in_order_bad_ones_included(
    served: Served,
) -> None:
    async with wire(served.url) as socket, joined(served.url) as tablet:
        await socket.join()
        patches = [
            WRONG[n % len(WRONG)] if n % 7 == 3 else {"__set": {"xp": n}, "timePerQuestion": [n]}
            for n in range(1, 101)
        ]
        stream = b"".join(update(n, patch) for n, patch in enumerate(patches, start=1))
        await socket.send(stream)
        found = await acks(socket, 100)
        assert [number for number, _ in found] == list(range(1, 101))
        assert [number for number, answer in found if not answer["ok"]] == list(range(3, 101, 7))
        revs = [answer["rev"] for _, answer in found if answer["ok"]]
        assert revs == sorted(revs)
        good = [n for n in range(1, 101) if n % 7 != 3]
        assert found[-1][1]["stats"]["xp"] == 100
        assert found[-1][1]["stats"]["timePerQuestion"] == good
        assert found[-1][1]["rev"] == len(good)
        last = await tablet.until("user:data:updated", lambda doc: doc["rev"] == len(good))
        assert last == found[-1][1]["stats"]


async def test_refusals_wait_for_the_acks_of_what_was_sent_before(
    mortal_mongo: tuple[Served, PrivateServer],
) -> None:
    served, mongod = mortal_mongo
    async with wire(served.url) as socket:
        await socket.join()
        with frozen(mongod):
            await socket.send(update(1, {"xp": 1}) + update(2, {"xp": "1"}) + update(3, {"xp": 1}))
            await socket.event("presence:ping", {"t": 1}, 4)
            await socket.event("presence:watch", {"userIds": "no"}, 5)
            assert [number for number, _ in await acks(socket, 2)] == [4, 5]
        assert [number for number, _ in await acks(socket, 3)] == [1, 2, 3]


async def test_pings_are_answered_while_a_commit_hangs_and_while_a_read_hangs(
    mortal_mongo: tuple[Served, PrivateServer],
) -> None:
    served, mongod = mortal_mongo
    async with wire(served.url) as writer, wire(served.url) as newcomer:
        await writer.join()
        await newcomer.connect("bob")
        with frozen(mongod):
            await writer.event("user:clientUpdate", {"xp": 1, "opId": "one"}, 1)
            await newcomer.event("presence:join", None, 1)
            for n in range(2, 12):
                for socket in (writer, newcomer):
                    async with asyncio.timeout(1):
                        assert (await socket.call(n, "presence:ping", {"t": n}))["t"] == n
        assert (await writer.answer(1))["stats"]["xp"] == 1
        assert (await newcomer.answer(1))["ok"]


async def test_a_change_whose_outcome_is_unknown_says_so_in_time_and_counts_once_when_repeated(
    own_mongod: PrivateServer, redis_url: str, redis_prefix: str
) -> None:
    stores = {"mongodb_uri": own_mongod.url, "redis_url": redis_url, "redis_prefix": redis_prefix}
    async with serving(**stores, write_timeout=1.0) as served, wire(served.url) as socket:
        await socket.join()
        patch = {"xp": 1, "opId": "one"}
        with frozen(own_mongod):
            async with asyncio.timeout(3):
                error = (await socket.call(1, "user:clientUpdate", patch))["error"]
        assert (error["code"], error["retryable"]) == ("unavailable", True)
        assert "mongo" not in json.dumps(error).lower()
        again = await socket.call(2, "user:clientUpdate", patch)
        assert (again["ok"], again["stats"]["xp"], again["rev"]) == (True, 1, 1)


async def test_a_slow_join_holds_back_what_comes_behind_it_and_loses_nothing(
    mortal_mongo: tuple[Served, PrivateServer],
) -> None:
    served, mongod = mortal_mongo
    async with wire(served.url) as socket:
        await socket.connect()
        with frozen(mongod):
            await socket.event("presence:join", None, 0)
            await socket.send(b"".join(update(n, {"xp": n}) for n in range(1, 31)))
            await socket.event("presence:leave", None, 31)
            await socket.send(update(32, {"xp": 1}))
        found = await acks(socket, 33)
        order = [number for number, _ in found]
        assert order[0] == 0
        assert [n for n in order if n not in (0, 31)] == [*range(1, 31), 32]
        answers = dict(found)
        assert all(answers[n]["ok"] for n in range(32))
        assert answers[32]["error"]["code"] == "not_joined"
    assert (await served.live.stats.read("ada")).values["xp"] == sum(range(1, 31))
