"""News of a profile: the whole to the user's devices, the public part to watchers, everywhere."""

import json
from contextlib import AsyncExitStack
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.fanout import Note
from realtime.profiles import pack, unpack
from realtime.transport.wire import CONGESTED_BYTES
from tests.clients_py import Client, connected, joined
from tests.polling import poller
from tests.serving import Served
from tests.tokens import token
from tests.traces import eventually, outcry
from tests.watchers import watching

PROFILE = "user:profile:updated"
Pair = tuple[Served, Served]


def own(version: int, **more: object) -> dict[str, object]:
    return {"userId": "ada", "version": version, "email": "ada@example.org", **more}


def public(version: int, **more: object) -> dict[str, object]:
    return {"userId": "ada", "version": version, **more}


def tell(served: Served, version: int, **more: object) -> None:
    """Somebody has changed ada's profile on this instance."""
    bodies = orjson.dumps(own(version, **more)), orjson.dumps(public(version, **more))
    served.live.tell_profile("ada", version, *bodies)


async def untold(client: Client, pending: int = 0) -> None:
    """Nothing more has come by now: an answer comes behind what was sent before."""
    assert (await client.call("presence:ping"))["serverTime"]
    assert client.pending(PROFILE) == pending


async def test_devices_get_the_whole_and_watchers_the_public_part_on_both_instances(
    pair: Pair,
) -> None:
    for served, other in (pair, pair[::-1]):
        async with (
            joined(served.url) as phone,
            joined(other.url) as pc,
            watching(served, "ada") as eve,
            watching(other, "ada", name="mia") as mia,
            joined(other.url, "bob") as bob,
            connected(other.url) as not_joined,
        ):
            tell(served, 2, name="Ada 🎲 \\ \" 'x' 1 2")
            for device in (phone, pc):
                assert await device.next(PROFILE) == own(2, name="Ada 🎲 \\ \" 'x' 1 2")
            for watcher in (eve, mia):
                assert await watcher.next(PROFILE) == public(2, name="Ada 🎲 \\ \" 'x' 1 2")
            for client in (phone, pc, eve, mia, bob, not_joined):
                await untold(client)


async def test_who_watches_oneself_is_told_once_and_the_whole(pair: Pair) -> None:
    one, two = pair
    async with joined(one.url) as here, joined(two.url) as there, watching(two, "ada") as eve:
        for device in (here, there):
            assert (await device.call("presence:watch", {"userIds": ["ada"]}))["ok"]
        tell(one, 1)
        for device in (here, there):
            assert await device.next(PROFILE) == own(1)
        assert await eve.next(PROFILE) == public(1)
        for client in (here, there, eve):
            await untold(client)


async def test_a_service_that_joined_as_the_user_gets_the_whole(served: Served) -> None:
    async with connected(served.url, auth={"token": token("job", role="service")}) as service:
        await service.join(userId="ada")
        tell(served, 1)
        assert await service.next(PROFILE) == own(1)


async def test_who_has_left_or_watches_no_more_is_not_told(pair: Pair) -> None:
    async with AsyncExitStack() as stack:
        devices = [await stack.enter_async_context(joined(served.url)) for served in pair]
        watchers = [
            await stack.enter_async_context(watching(served, "ada", name="eve")) for served in pair
        ]
        for device in devices:
            await device.call("presence:leave")
        for watcher in watchers:
            await watcher.call("presence:unwatch", {"userIds": ["ada"]})
        marker = await stack.enter_async_context(joined(pair[1].url))
        tell(pair[0], 1)
        await marker.next(PROFILE)
        assert devices[0].pending(PROFILE) == devices[1].pending(PROFILE) == 0
        for watcher in watchers:
            await untold(watcher)


async def test_changes_in_a_row_come_in_their_order(pair: Pair) -> None:
    async with joined(pair[1].url) as pc, watching(pair[1], "ada") as eve:
        for version in range(1, 30):
            tell(pair[0], version)
        for client in (pc, eve):
            got = [(await client.next(PROFILE))["version"] for _ in range(1, 30)]
            assert got == list(range(1, 30))


async def test_a_reader_that_is_behind_gets_the_newest_version_only_and_never_an_older_one_last(
    served: Served,
) -> None:
    """Version 6 arrives after version 9, say from another instance."""
    async with poller(served.url) as slow, joined(served.url, "bob") as bob:
        await slow.join()
        assert (await bob.call("presence:watch", {"userIds": ["ada"]}))["ok"]
        tell(served, 1, large="x" * CONGESTED_BYTES)
        assert (await bob.next(PROFILE))["version"] == 1
        before = served.metric("livetally_coalesced_frames_total")
        for version in (2, 3, 9, 6):
            tell(served, version)
        assert served.metric("livetally_coalesced_frames_total") == before + 3
        versions: list[int] = []
        while not versions or versions[-1] < 9:
            packet = await slow.receive()
            assert packet is not None
            name, body = json.loads(packet[2:])
            assert name == PROFILE
            versions.append(body["version"])
        assert versions == [1, 9]
        got = [(await bob.next(PROFILE))["version"] for _ in range(4)]
        assert got == [2, 3, 9, 6], "who keeps up gets what comes"


async def test_stats_and_profile_of_one_user_do_not_replace_each_other(served: Served) -> None:
    async with poller(served.url) as slow, joined(served.url) as phone:
        await slow.join()
        tell(served, 1, large="x" * CONGESTED_BYTES)
        for n in range(3):
            tell(served, 2 + n)
            assert (await phone.call("user:clientUpdate", {"xp": 1}))["ok"]
        found: dict[str, Any] = {}
        while len(found) < 2 or found[PROFILE]["version"] < 4:
            packet = await slow.receive()
            assert packet is not None
            name, body = json.loads(packet[2:])
            found[name] = body
        assert found["user:data:updated"]["rev"] == 3


async def test_without_anybody_interested_nothing_happens(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    tell(pair[0], 1)
    async with joined(pair[1].url) as pc:
        tell(pair[0], 2)
        assert (await pc.next(PROFILE))["version"] == 2
    assert outcry(caplog) == []


async def test_a_kind_of_note_that_is_not_known_here_is_passed_over(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    """As from a newer version of the server, during a rolling upgrade."""
    async with joined(pair[1].url) as pc, watching(pair[1], "ada") as eve:
        pair[0].live.fanout.publish("ada", b"?", 1, b"not even JSON")
        tell(pair[0], 1)
        assert (await pc.next(PROFILE))["version"] == 1
        assert (await eve.next(PROFILE))["version"] == 1
        pair[1].live._heard(Note("ada", b"?", 1, b""))
    assert outcry(caplog) == []
    await eventually(lambda: not pair[1].live.fanout.deaf)


@given(st.binary(), st.binary())
def test_two_bodies_in_one_message_come_out_as_they_went_in(one: bytes, two: bytes) -> None:
    assert unpack(pack(one, two)) == (one, two)
