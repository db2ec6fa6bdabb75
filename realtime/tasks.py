"""Owners of tasks: whoever starts one also stops it."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Set
from typing import Any

log = logging.getLogger(__name__)

CANCEL_AGAIN_AFTER = 0.5  # seconds
TURN = 0.001  # seconds of each turn of the loop that a Trickle takes


class Tasks:
    """A set of running tasks with one end: `close` cancels and awaits them all."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run `work` until it ends or `close`; an exception in it is logged, once."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task %s failed", task.get_name(), exc_info=error)

    async def wait(self, timeout: float) -> None:
        """Wait until all have ended, at most `timeout` seconds."""
        if self._running:
            await asyncio.wait(self._running, timeout=timeout)

    async def close(self) -> None:
        """Cancel what still runs and wait for it. May be called again."""
        await end(self._running)


class Trickle:
    """Calls that may come by the thousand at once, made in order, a few in each turn of the loop.

    The calls are those of connections that were lost: their number is the queue's bound.
    """

    def __init__(self) -> None:
        self._calls: deque[Callable[[], None]] = deque()

    def add(self, call: Callable[[], None]) -> None:
        """Make `call` soon; an exception in it is logged."""
        if not self._calls:
            asyncio.get_running_loop().call_soon(self._run)
        self._calls.append(call)

    def _run(self) -> None:
        until = time.perf_counter() + TURN
        while self._calls and time.perf_counter() < until:
            try:
                self._calls[0]()
            except Exception:
                log.exception("a deferred call failed")
            self._calls.popleft()  # not earlier: `add` tells by it whether a turn is due
        if self._calls:
            asyncio.get_running_loop().call_soon(self._run)


class Loop:
    """A named loop: `step` again and again, `pause` seconds apart, until stopped.

    A step that fails is logged and tried again after the same pause.
    """

    def __init__(self, name: str, step: Callable[[], Awaitable[None]], pause: float) -> None:
        self.name = name
        self._step = step
        self._pause = pause
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; a loop that runs already goes on."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name=self.name)

    async def stop(self) -> None:
        """End the loop and wait for it. May be called again."""
        if self._task is not None:
            await end({self._task})
            self._task = None

    async def _run(self) -> None:
        while True:
            try:
                await self._step()
            except Exception:
                log.exception("loop %s: a step failed, it will be tried again", self.name)
            await asyncio.sleep(self._pause)


async def end(tasks: Set[asyncio.Future[None]]) -> None:
    """Cancel until they are done: a library in between may swallow the first time."""
    while pending := {task for task in tasks if not task.done()}:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=CANCEL_AGAIN_AFTER)
