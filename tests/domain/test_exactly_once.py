"""Every op counts once, whatever the network does to a client that keeps the rule of 32.

The rule: op n+32 leaves a device only after its op n was acknowledged.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from domain.oplog import OpWindow, op_of
from domain.patch import apply, parse_patch
from tests.domain.strategies import SCHEMA

AHEAD = 32
NOW = 1_700_000_000_000
ENTRY = len(OpWindow().remember(op_of("", "", b""), 0).entries)


def amount(number: int) -> int:
    """What an op adds; every third op changes nothing that can be seen."""
    return number % 3


class Server:
    """The rules of `domain`, optionally with a window of fewer than 64 ops."""

    def __init__(self, window: int = 64) -> None:
        self.stats = SCHEMA.fresh("u")
        self.window = window
        self.applied: list[tuple[str, int]] = []

    def receive(self, device: str, number: int) -> bool:
        """Answers whether the op was taken for a duplicate; checks what every answer owes."""
        payload: dict[str, Any] = {"xp": amount(number), "opId": f"op-{number}"}
        if device:
            payload["deviceId"] = device
        before = self.stats
        after, outcome = apply(SCHEMA, before, parse_patch(SCHEMA, payload), NOW)
        visible = not outcome.duplicate and amount(number) > 0
        assert after.rev == before.rev + visible
        assert after.values["xp"] == before.values["xp"] + amount(number) * visible
        assert (after is before) == outcome.duplicate
        if not outcome.duplicate:
            self.applied.append((device, number))
        devices = {key: self._cut(window) for key, window in after.devices.items()}
        self.stats = replace(after, devices=devices) if after is not before else after
        return outcome.duplicate

    def _cut(self, window: OpWindow) -> OpWindow:
        return replace(window, entries=window.entries[-self.window * ENTRY :])


@dataclass
class Device:
    """A client that keeps the rule. What it has sent may arrive any number of times."""

    name: str
    server: Server
    sent: int = 0
    reached: set[int] = field(default_factory=set)
    acknowledged: set[int] = field(default_factory=set)

    @property
    def may_send(self) -> bool:
        return self.sent < AHEAD or self.sent - AHEAD in self.acknowledged

    @property
    def outstanding(self) -> list[int]:
        oldest = max(0, self.sent - AHEAD)
        return [number for number in range(oldest, self.sent) if number not in self.acknowledged]

    def send(self, most: int) -> None:
        """Hand up to so many new ops to a network that may lose them all."""
        while most and self.may_send:
            self.sent += 1
            most -= 1

    def arrive(self, number: int, *, answered: bool) -> None:
        """A copy of an outstanding op reaches the server; its answer may get lost."""
        assert number in self.outstanding
        duplicate = self.server.receive(self.name, number)
        assert duplicate == (number in self.reached)
        self.reached.add(number)
        if answered:
            self.acknowledged.add(number)

    def hear(self, number: int) -> None:
        """A late answer to an op that the server has seen."""
        if number in self.reached:
            self.acknowledged.add(number)

    def settle(self) -> None:
        """The network is well again: everything is repeated until it is acknowledged."""
        for number in self.outstanding:
            self.arrive(number, answered=True)


# A step: the device, what happens, to which of its 32 outstanding ops, and in which order.
ALL = 2**32 - 1
masks = st.sampled_from([ALL, ALL - 1, 1, 2**31, ALL >> 1]) | st.integers(0, ALL)
steps = st.tuples(
    st.integers(0, 2),
    st.sampled_from(["send", "answered", "unanswered", "mixed", "hear"]),
    masks,
    st.sampled_from([1, -1]),
)


def play(devices: list[Device], step: tuple[int, str, int, int]) -> None:
    which, what, mask, order = step
    device = devices[which]
    chosen = [number for bit, number in enumerate(device.outstanding) if mask >> bit & 1]
    if what == "send":
        device.send(mask % 33)
    for number in chosen[::order]:
        if what == "hear":
            device.hear(number)
        elif what != "send":
            answered = what == "answered" or (what == "mixed" and (mask >> number % 32) % 3 == 0)
            device.arrive(number, answered=answered)


def worst_case() -> list[tuple[int, str, int, int]]:
    """Op 31 is applied first and stays unanswered; 31 older and 31 newer ops follow it."""
    return [
        (0, "send", 32, 1),
        (0, "unanswered", 1 << 31, 1),
        (0, "answered", ALL >> 1, 1),
        (0, "send", 32, 1),
        (0, "answered", ALL - 1, 1),
        (0, "unanswered", 1, 1),
    ]


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, max_size=60))
@example(worst_case())
def test_every_op_of_every_device_counts_exactly_once(
    trace: list[tuple[int, str, int, int]],
) -> None:
    server = Server()
    devices = [Device(name, server) for name in ("", "phone", "tablet")]
    for step in trace:
        play(devices, step)
    for device in devices:
        device.settle()

    owed = [(device.name, number) for device in devices for number in range(device.sent)]
    assert sorted(server.applied) == sorted(owed)
    assert server.stats.values["xp"] == sum(amount(number) for _, number in owed)
    assert server.stats.rev == sum(amount(number) > 0 for _, number in owed)


def unanswered_op_among_62_others() -> Iterator[tuple[int, bool]]:
    """What reaches the server in the worst case, each with whether the answer arrives."""
    yield 31, False  # sent last of 32, applied first
    for older in range(31):  # they were under way when op 31 was sent
        yield older, True
    for newer in range(32, 63):  # op 63 has to wait for the answer to op 31
        yield newer, True
    yield 31, True


@pytest.mark.parametrize(("window", "times"), [(64, 1), (63, 1), (62, 2), (32, 2)])
def test_a_window_of_32_would_count_an_op_twice_and_63_is_the_least_that_never_does(
    window: int, times: int
) -> None:
    server = Server(window)
    device = Device("phone", server)
    for number, answered in unanswered_op_among_62_others():
        while device.sent <= number:
            assert device.may_send
            device.send(1)
        assert number in device.outstanding
        server.receive("phone", number)
        if answered:
            device.acknowledged.add(number)
        elif device.sent == 63:
            assert not device.may_send
    assert server.applied.count(("phone", 31)) == times


def test_a_device_that_keeps_the_rule_waits_for_its_oldest_answer() -> None:
    device = Device("phone", Server())
    device.send(1000)
    assert device.sent == AHEAD
    for number in range(1, AHEAD):
        device.arrive(number, answered=True)
    device.send(1000)
    assert device.sent == AHEAD
    device.arrive(0, answered=True)
    device.send(1000)
    assert device.sent == 2 * AHEAD


@given(st.integers(0, 63))
def test_a_late_copy_is_recognised_until_64_newer_ops_were_applied(newer: int) -> None:
    """Copies that outlive their answer, say in a proxy, are outside the rule of 32."""
    server = Server()
    assert not server.receive("phone", 1)
    for number in range(newer):
        assert not server.receive("phone", 2 + number)
    assert server.receive("phone", 1)


def test_the_limit_a_copy_older_than_64_newer_ops_counts_again() -> None:
    """What no window can rule out: the promise ends here, and this says where."""
    server = Server()
    for number in [1, *range(2, 66), 1]:
        assert not server.receive("phone", number)
    assert server.applied.count(("phone", 1)) == 2


def test_a_device_away_for_years_finds_its_ops_remembered() -> None:
    server = Server()
    away, busy = Device("phone", server), Device("tablet", server)
    away.send(32)
    for number in range(32):
        away.arrive(number, answered=False)
    for _ in range(50):
        busy.send(32)
        busy.settle()
    away.settle()
    assert len(server.applied) == len(set(server.applied)) == 32 + 50 * 32
