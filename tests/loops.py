"""An event loop of its own for synchronous code, such as hypothesis' state machines."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")

PATIENCE = 60.0  # seconds


class LoopThread:
    """A loop that runs all the time, in a thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for `work`."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)


@contextmanager
def loop_thread() -> Iterator[LoopThread]:
    """Such a loop for the `with` block."""
    loop = uvloop.new_event_loop()
    thread = Thread(target=loop.run_forever, name="loop of a test")
    thread.start()
    try:
        yield LoopThread(loop)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        loop.close()
