"""A client that stops reading costs little, disturbs nobody, and is dropped in the end."""

import asyncio
import json
from typing import Any

import pytest

from realtime.transport.wire import CONGESTED_BYTES, MAX_PENDING_BYTES
from tests.clients_py import Client, joined
from tests.polling import poller
from tests.serving import Served, serving
from tests.traces import eventually, nothing_stays
from tests.wires import PING, Wire, frame, wire

SLOW = {"reason": "slow reader"}
TIMES = [n + 1 / 3 for n in range(1000)]
KERNEL = 32 * 1024 * 1024
"""More than the kernel takes on both ends of a connection, in bytes."""


def waiting(served: Served, user: str) -> int:
    """Bytes that wait in this process for the slowest connection of `user`."""
    return max(
        (
            c.socket.wire.transport.get_write_buffer_size()
            for c in served.live.gateway.connections.values()
            if c.identity.user_id == user and c.socket.wire is not None
        ),
        default=0,
    )


async def big(client: Client) -> int:
    """Give the user a large document; answers its size in bytes."""
    answer = await client.call("user:clientUpdate", {"timePerQuestion": TIMES})
    await client.call("user:clientUpdate", {"__set": {"lastGameResults": {"a": "x" * 8000}}})
    return len(json.dumps(answer["stats"])) + 8000


async def pour(served: Served, client: Client, size: int) -> int:
    """Change the large document until fifty were held back; the highest backlog in bytes."""
    most = 0
    for n in range(KERNEL // size):
        answer = await client.call("user:clientUpdate", {"xp": 1, "opId": str(n)})
        assert answer["ok"]
        most = max(most, waiting(served, "ada"))
        if served.metric("livetally_coalesced_frames_total") >= 50:
            return most
    raise AssertionError("the kernel took it all")


async def test_a_reader_that_stops_is_bounded_in_memory_and_dropped_and_others_are_served(
    stores: dict[str, Any],
) -> None:
    async with serving(**stores, ping_interval=20.0) as served:
        async with (
            wire(served.url, receive_buffer=4096) as stuck,
            joined(served.url) as tablet,
            joined(served.url) as phone,
        ):
            await stuck.join()
            size = await big(phone)
            most = await pour(served, phone, size)
            assert most <= CONGESTED_BYTES + 2 * size
            newest = (await phone.call("user:clientUpdate", {"xp": 1}))["stats"]
            await tablet.until("user:data:updated", lambda doc: doc == newest)
            # It reads again: the newest is what it gets last, those in between are gone.
            while (text := await stuck.receive()) is not None:
                if f'"rev":{newest["rev"]},' in text:
                    break
            assert text is not None
            assert json.loads(text[2:])[1] == newest
        await nothing_stays(served)


async def test_a_reader_that_stays_stuck_is_closed_as_slow_reader_though_it_sends_pongs(
    stores: dict[str, Any],
) -> None:
    async with serving(**stores, ping_interval=1.5, ping_timeout=1.5) as served:
        async with wire(served.url, receive_buffer=4096) as stuck, joined(served.url) as phone:
            await stuck.join()

            async def feign() -> None:
                while True:
                    await stuck.send("3")
                    await asyncio.sleep(0.3)

            feigning = asyncio.create_task(feign())
            try:
                await pour(served, phone, await big(phone))
                await eventually(
                    lambda: served.metric("livetally_sockets_closed_total", **SLOW) == 1
                )
            finally:
                feigning.cancel()
                await asyncio.gather(feigning, return_exceptions=True)
            assert (await phone.call("user:clientUpdate", {"xp": 1}))["ok"]
            await eventually(lambda: len(served.live.gateway.connections) == 1)
        await nothing_stays(served)


async def test_acks_that_nobody_reads_end_the_connection_before_they_fill_the_memory(
    served: Served,
) -> None:
    async with wire(served.url, receive_buffer=4096) as stuck, joined(served.url, "bob") as bob:
        await stuck.join()
        name = "x" * 60
        burst = b"".join(frame(f'421["{name}",1]') for _ in range(500))
        most = await flood(served, stuck, burst)
        assert most <= MAX_PENDING_BYTES + 256 * 1024
        assert served.metric("livetally_sockets_closed_total", **SLOW) == 1
        assert (await bob.call("presence:ping"))["serverTime"]


async def test_pongs_that_nobody_reads_end_the_connection_before_they_fill_the_memory(
    served: Served,
) -> None:
    async with wire(served.url, receive_buffer=4096) as stuck, joined(served.url, "bob") as bob:
        await stuck.join()
        burst = b"".join(frame("x" * 120, PING) for _ in range(500))
        most = await flood(served, stuck, burst)
        assert most <= MAX_PENDING_BYTES + 256 * 1024
        assert served.metric("livetally_sockets_closed_total", **SLOW) == 1
        assert (await bob.call("presence:ping"))["serverTime"]


async def flood(served: Served, stuck: Wire, burst: bytes) -> int:
    """Send without reading until the server ends it or has had enough; the highest backlog."""
    most = sent = 0
    try:
        while sent < 2 * KERNEL and waiting(served, "ada") <= 4 * MAX_PENDING_BYTES:
            async with asyncio.timeout(5):
                await stuck.send(burst)
            sent += len(burst)
            most = max(most, waiting(served, "ada"))
            if not any(
                c.identity.user_id == "ada" for c in served.live.gateway.connections.values()
            ):
                break
    except (ConnectionError, TimeoutError):
        pass
    return most


async def test_a_poller_that_does_not_poll_is_bounded_too(served: Served) -> None:
    async with poller(served.url) as stuck, joined(served.url) as phone:
        await stuck.join()
        size = await big(phone)
        for n in range(200):
            assert (await phone.call("user:clientUpdate", {"xp": 1, "opId": str(n)}))["ok"]
            queued = [s._queued_bytes for s in served.live.gateway.io.sockets if s.wire is None]
            assert max(queued, default=0) <= CONGESTED_BYTES + 2 * size
        newest = (await phone.call("user:clientUpdate", {"xp": 1}))["stats"]
        revs = []
        while not revs or revs[-1] < newest["rev"]:
            packet = await stuck.receive()
            assert packet is not None
            revs.append(json.loads(packet[2:])[1]["rev"])
        assert revs == sorted(revs)
        assert len(revs) < 20


async def test_a_poller_with_too_many_answers_to_fetch_is_closed(served: Served) -> None:
    async with poller(served.url) as stuck:
        await stuck.join()
        name = "x" * 60
        for _ in range(20):
            if await stuck.post(*(f'42{n}["{name}",1]' for n in range(300))) != 200:
                break
        assert served.metric("livetally_sockets_closed_total", **SLOW) == 1
    await nothing_stays(served)


@pytest.mark.parametrize("receive_buffer", [None, 16_384])
async def test_who_reads_gets_every_answer_however_many_and_large_they_are_at_once(
    served: Served, receive_buffer: int | None
) -> None:
    async with wire(served.url, receive_buffer=receive_buffer) as device:
        await device.join()
        results = {"a": "x" * 8000}
        await device.call(
            1,
            "user:clientUpdate",
            {"timePerQuestion": TIMES, "__set": {"lastGameResults": results}},
        )
        sent = range(100, 228)
        for ack in sent:
            await device.event("user:clientUpdate", {"xp": 1, "opId": str(ack)}, ack)
        heard: list[int] = []
        while len(heard) < len(sent):
            text = await device.receive()
            assert text is not None, f"disconnected after {len(heard)} answers"
            assert '"ok":true' in text[:20]
            heard.append(int(text[2 : text.index("[")]))
        assert heard == list(sent)
        assert served.metric("livetally_sockets_closed_total", **SLOW) == 0


async def test_answers_that_wait_for_a_slow_reader_do_not_wait_as_bytes(served: Served) -> None:
    async with wire(served.url, receive_buffer=4096) as stuck:
        await stuck.join()
        await stuck.call(1, "user:clientUpdate", {"timePerQuestion": TIMES})
        for ack in range(100, 228):
            await stuck.event("user:clientUpdate", {"xp": 1, "opId": str(ack)}, ack)
        await eventually(lambda: served.metric("livetally_commit_queue") == 0)
        assert waiting(served, "ada") <= MAX_PENDING_BYTES
        assert (await stuck.answer(227))["stats"]["xp"] == 128
