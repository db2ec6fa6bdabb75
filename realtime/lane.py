"""One connection's work in the order it came, one thing at a time."""

from collections.abc import Awaitable, Callable
from typing import Any

from realtime.frames import ProtocolError
from realtime.tasks import Tasks


class Lane:
    """Runs what must wait, and holds what came behind it; at most `limit` items.

    `handle` takes an item and answers None when it is done, or work to wait for. A
    ProtocolError from it ends the lane and is told to `on_error`.
    """

    __slots__ = ("_handle", "_items", "_limit", "_on_error", "_tasks", "busy")

    def __init__(
        self,
        tasks: Tasks,
        handle: Callable[[Any], Awaitable[None] | None],
        on_error: Callable[[], None],
        limit: int,
    ) -> None:
        self.busy = False
        self._tasks = tasks
        self._handle = handle
        self._on_error = on_error
        self._limit = limit
        self._items: list[Any] = []  # short; an empty deque would cost 600 bytes

    def push(self, item: Any) -> None:
        """Handle `item` when everything before it is done; raises ProtocolError when full."""
        if len(self._items) >= self._limit:
            raise ProtocolError("more than one connection may have under way")
        self._items.append(item)
        if not self.busy:
            self.run(None)

    def run(self, work: Awaitable[None] | None) -> None:
        """Let what is pushed from now on wait for `work`."""
        self.busy = True
        self._tasks.spawn(self._drain(work), "lane")

    def clear(self) -> None:
        """Forget what waits; what runs is not interrupted."""
        self._items.clear()

    def close(self) -> None:
        """Likewise, for good: `handle` and `on_error`, which know the owner, are forgotten too."""
        self.clear()
        self._handle = self._on_error = _forget

    async def _drain(self, work: Awaitable[None] | None) -> None:
        try:
            if work is not None:
                await work
            while self._items:
                work = self._handle(self._items.pop(0))
                if work is not None:
                    await work
        except ProtocolError:
            self.clear()
            self._on_error()
        finally:
            self.busy = False


def _forget(*_: Any) -> None:
    """Nothing is done with what comes after the end."""
