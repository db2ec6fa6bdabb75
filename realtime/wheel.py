"""One timer for all connections: coarse deadlines in a wheel of buckets."""

import asyncio
from collections.abc import Callable
from typing import Final

TICK: Final = 0.05  # seconds; a deadline is met at most one tick late


class Timer:
    """A scheduled call; `cancel` makes it a no-op."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None] | None) -> None:
        self.call = call

    def cancel(self) -> None:
        """Forget the call. Harmless when it has run already."""
        self.call = None


class Wheel:
    """Deadlines of thousands of connections on one event-loop timer.

    A `loop.call_later` per connection costs a heap entry and a handle each; here a deadline
    is one entry in the bucket of its tick, and the loop holds a single timer.
    """

    def __init__(self, on_error: Callable[[], None]) -> None:
        self._on_error = on_error
        self._buckets: dict[int, list[Timer]] = {}
        self._handle: asyncio.TimerHandle | None = None
        self.loop: asyncio.AbstractEventLoop
        self._tick = 0
        self.now = 0.0
        """Loop time of the last tick, in seconds: good enough for signs of life."""

    def start(self) -> None:
        """Begin ticking on the running loop."""
        if self._handle is None:
            self.loop = asyncio.get_running_loop()
            self._advance_to(self.loop.time())
            self._arm()

    def stop(self) -> None:
        """Stop ticking and forget all deadlines."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._buckets.clear()

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call `call` once, `seconds` from now, rounded up to the next tick."""
        due = int((self.loop.time() + seconds) / TICK) + 1
        timer = Timer(call)
        self._buckets.setdefault(max(due, self._tick + 1), []).append(timer)
        return timer

    def _arm(self) -> None:
        # A millisecond behind the boundary, so that no rounding finds the tick before it.
        self._handle = self.loop.call_at((self._tick + 1) * TICK + 0.001, self._on_tick)

    def _advance_to(self, now: float) -> None:
        self.now = now
        self._tick = int(now / TICK)

    def _on_tick(self) -> None:
        before = self._tick
        self._advance_to(self.loop.time())
        self._arm()
        for tick in range(before + 1, self._tick + 1):
            for timer in self._buckets.pop(tick, ()):
                if timer.call is not None:
                    self._run(timer)

    def _run(self, timer: Timer) -> None:
        call, timer.call = timer.call, None
        try:
            assert call is not None
            call()
        except Exception:  # one connection's fault must not stop the others' timers
            self._on_error()
