"""Deadlines on the wheel, with a clock that the test moves."""

import asyncio
from collections.abc import Callable

import pytest

from realtime.wheel import TICK, Wheel

ROUNDING = 0.002  # seconds; a tick aims behind its boundary, and loops count in milliseconds


class Clock:
    """As much of an event loop as a wheel uses; its calls come `late` by so many seconds."""

    def __init__(self, now: float, late: float) -> None:
        self.now = now
        self.late = late
        self._call: Callable[[], None]
        self._when = now

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[[], None]) -> None:
        self._when, self._call = when, call

    def step(self) -> None:
        self.now = self._when + self.late
        self._call()


@pytest.mark.parametrize("late", [0.0, 0.0004, 0.007])
@pytest.mark.parametrize("start", [100.0, 100.049, 12_345.15])
def test_a_deadline_is_met_at_most_one_tick_late(
    start: float, late: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(start, late)
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: clock)
    wheel = Wheel(lambda: pytest.fail("a timer failed"))
    wheel.start()
    lateness: list[float] = []
    for n in range(200):
        clock.now += 0.0007
        due = clock.now + n * 0.013
        wheel.after(n * 0.013, lambda due=due: lateness.append(clock.now - due))  # type: ignore[misc]
        clock.step()
    for _ in range(100):
        clock.step()
    assert len(lateness) == 200
    assert min(lateness) >= 0
    assert max(lateness) <= TICK + late + ROUNDING
