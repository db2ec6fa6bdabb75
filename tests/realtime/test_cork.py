"""Frames of one turn of the loop leave together, whole and in order, and none after the close."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import WSMsgType

from realtime.frames import make_frame
from realtime.transport.wire import (
    CONGESTED_BYTES,
    MAX_PENDING_BYTES,
    SLOW_READER,
    TRANSPORT_CLOSE,
    Fittings,
    Wire,
)
from realtime.wheel import Wheel
from tests.wires import frame


class Transport:
    """Keeps what is written; what its reader has not taken is pending."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.pending = 0
        self.reading = True
        self.aborted = False
        self.ended = False
        self.wire: Wire
        self.on_write: Callable[[], None] | None = None

    def set_write_buffer_limits(self, high: int) -> None:
        self.high = high

    def write(self, data: bytes) -> None:
        assert not self.ended, "written after the end"
        self.writes.append(bytes(data))
        call, self.on_write = self.on_write, None
        if call is not None:
            call()
        if not self.reading:
            before, self.pending = self.pending, self.pending + len(data)
            if before <= self.high < self.pending:
                self.wire.pause_writing()

    def read_on(self) -> None:
        """The reader takes all that waits."""
        self.reading, behind, self.pending = True, self.pending > self.high, 0
        if behind:
            self.wire.resume_writing()

    def get_write_buffer_size(self) -> int:
        return self.pending

    def is_closing(self) -> bool:
        return self.ended

    def close(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.ended = self.aborted = True


class Session:
    """What a wire tells of."""

    def __init__(self) -> None:
        self.heard = False
        self.lost: list[str] = []
        self.latest: list[bytes] = []
        self.answers: list[bytes] = []
        self.wire: Wire

    def receive_text(self, data: bytes) -> None:
        if data == b"close":
            self.wire.close(1000)
        else:
            self.wire.send_text(b"got " + data)

    def caught_up(self) -> None:
        for payload in self.latest:
            self.wire.send_text(payload)

    def wire_lost(self, wire: Wire, reason: str) -> None:
        assert wire is self.wire
        self.lost.append(reason)


def make(fittings: Fittings) -> tuple[Wire, Transport, Session]:
    transport, session = Transport(), Session()
    sock: Any = session
    wire = Wire(sock, transport, fittings, probing=False)  # type: ignore[arg-type]
    transport.wire = session.wire = wire
    return wire, transport, session


@pytest.fixture
async def wheel() -> Any:
    wheel = Wheel(lambda: None)
    wheel.start()
    yield wheel
    wheel.stop()


@pytest.fixture
def one(wheel: Wheel) -> tuple[Wire, Transport, Session]:
    """A wire on a cork of its own, with its two ends."""
    return make(Fittings(wheel, 1000))


One = tuple[Wire, Transport, Session]


def text(payload: bytes) -> bytes:
    return make_frame(WSMsgType.TEXT, payload)


CLOSE = make_frame(WSMsgType.CLOSE, (1000).to_bytes(2, "big"))


async def turn() -> None:
    """To the end of this turn and of what it asked for."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_frames_of_one_turn_leave_in_one_write_in_the_order_sent(one: One) -> None:
    wire, transport, _ = one
    wire.send_text(b"1")
    wire.send_binary(b"2")
    wire.send_text(b"3")
    assert transport.writes == []
    await turn()
    assert transport.writes == [text(b"1") + make_frame(WSMsgType.BINARY, b"2") + text(b"3")]


async def test_each_turn_has_a_write_of_its_own(one: One) -> None:
    wire, transport, _ = one
    for n in (b"1", b"2"):
        wire.send_text(n)
        await turn()
    assert transport.writes == [text(b"1"), text(b"2")]


async def test_a_turn_without_frames_writes_nothing(one: One) -> None:
    wire, transport, _ = one
    wire.flush()
    await turn()
    assert transport.writes == []


async def test_answers_to_the_frames_of_one_read_leave_in_one_write(one: One) -> None:
    wire, transport, _ = one
    wire.data_received(frame("41") + frame("42") + frame("x" * 5, 9))
    await turn()
    pong = make_frame(WSMsgType.PONG, b"x" * 5)
    assert transport.writes == [text(b"got 1") + text(b"got 2") + pong]


async def test_wires_of_one_turn_do_not_wait_for_each_other(wheel: Wheel) -> None:
    fittings = Fittings(wheel, 1000)
    some = [make(fittings) for _ in range(5)]
    for n in range(2):
        for wire, _, _ in some:
            wire.send_text(b"%d" % n)
    await turn()
    assert [t.writes for _, t, _ in some] == [[text(b"0") + text(b"1")]] * 5


async def test_what_is_sent_while_the_cork_is_drawn_leaves_in_the_next_turn(
    wheel: Wheel,
) -> None:
    fittings = Fittings(wheel, 1000)
    (one, first, _), (other, second, _) = make(fittings), make(fittings)

    def meanwhile() -> None:
        one.send_text(b"again")
        other.send_text(b"too")

    first.on_write = meanwhile
    one.send_text(b"1")
    await turn()
    await turn()
    assert first.writes[1:] == [text(b"again")]
    assert second.writes == [text(b"too")]


async def test_a_close_writes_what_was_sent_before_it_and_its_own_frame_last(one: One) -> None:
    wire, transport, _ = one
    wire.send_text(b"1")
    wire.send_text(b"2")
    wire.close(1000)
    assert transport.writes == [text(b"1") + text(b"2"), CLOSE]
    assert transport.ended


async def test_nothing_is_written_after_the_close(one: One) -> None:
    wire, transport, _ = one
    wire.send_text(b"before")
    wire.close(1000)
    wire.send_text(b"after")
    wire.close(1000)
    await turn()
    wire.send_text(b"later")
    await turn()
    assert transport.writes == [text(b"before"), CLOSE]


async def test_frames_read_behind_a_close_are_not_answered(one: One) -> None:
    wire, transport, _ = one
    wire.data_received(frame("41") + frame("4close") + frame("42"))
    await turn()
    assert transport.writes == [text(b"got 1"), CLOSE]


async def test_what_was_sent_in_the_turn_in_which_the_transport_was_lost_is_dropped(
    one: One,
) -> None:
    wire, transport, session = one
    wire.send_text(b"1")
    transport.abort()
    wire.connection_lost(None)
    await turn()
    assert transport.writes == []
    assert session.lost == [TRANSPORT_CLOSE]


async def test_a_lost_wire_does_not_keep_the_others_frames_back(wheel: Wheel) -> None:
    fittings = Fittings(wheel, 1000)
    some = [make(fittings) for _ in range(3)]
    for wire, _, _ in some:
        wire.send_text(b"x")
    some[1][1].abort()
    await turn()
    assert [t.writes for _, t, _ in some] == [[text(b"x")], [], [text(b"x")]]


async def test_a_fault_of_one_wire_does_not_keep_the_others_frames_back(
    wheel: Wheel, caplog: pytest.LogCaptureFixture
) -> None:
    fittings = Fittings(wheel, 1000)
    some = [make(fittings) for _ in range(3)]

    def fail() -> None:
        raise RuntimeError("the handle is closed")

    some[1][1].on_write = fail
    for n in (b"1", b"2"):
        for wire, _, _ in some:
            wire.send_text(n)
        await turn()
    assert [t.writes for _, t, _ in some] == [[text(b"1"), text(b"2")]] * 3
    assert "the handle is closed" in caplog.text


async def test_a_reader_that_is_behind_is_congested_until_it_has_caught_up(one: One) -> None:
    wire, transport, session = one
    transport.reading = False
    wire.send_text(b"x" * (CONGESTED_BYTES + 1))
    await turn()
    assert wire.congested_since is not None
    session.latest = [b"newest"]
    transport.read_on()
    await turn()
    assert wire.congested_since is None
    assert wire.behind_for() == 0.0
    assert transport.writes[1:] == [text(b"newest")]


async def test_a_reader_too_far_behind_is_dropped_and_what_waits_is_bounded(one: One) -> None:
    wire, transport, session = one
    transport.reading = False
    size = 10_000
    for _ in range(2 * MAX_PENDING_BYTES // size):
        wire.send_text(b"x" * size)
        await turn()
    assert transport.aborted
    assert session.lost == [SLOW_READER]
    assert transport.pending <= MAX_PENDING_BYTES + size + 10


async def test_a_reader_overrun_within_one_turn_is_dropped_at_its_end(one: One) -> None:
    wire, transport, session = one
    transport.reading = False
    for _ in range(60):
        wire.send_text(b"x" * 10_000)
    await turn()
    assert transport.aborted
    assert session.lost == [SLOW_READER]


async def test_a_wire_closed_with_more_pending_than_may_be_is_aborted_and_written_no_more(
    one: One,
) -> None:
    wire, transport, session = one
    transport.reading = False
    wire.send_text(b"x" * (MAX_PENDING_BYTES + 1))
    wire.close(1000)
    await turn()
    assert transport.aborted
    assert len(transport.writes) == 1
    assert session.lost == [SLOW_READER]
