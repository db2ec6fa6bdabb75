"""Two things at once, in every order: one stops at each of its steps while the other happens."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from inspect import iscoroutinefunction
from typing import Any

import pytest

MOST = 60  # steps of anything

Work = Callable[[], Awaitable[Any]]

_mine: ContextVar[bool] = ContextVar("mine", default=False)


class Steps:
    """Stops a task before and after each call that it makes to the methods of some classes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *classes: type) -> None:
        self._at = -1
        self._count = 0
        self._meanwhile: Work | None = None
        for kind in classes:
            for name, method in list(vars(kind).items()):
                if not name.startswith("_") and iscoroutinefunction(method):
                    monkeypatch.setattr(kind, name, self._stepping(method))

    def _stepping(self, method: Any) -> Any:
        async def stepping(*args: Any, **options: Any) -> Any:
            await self._step()
            answer = await method(*args, **options)
            await self._step()
            return answer

        return stepping

    async def _step(self) -> None:
        if not _mine.get():
            return
        self._count += 1
        if self._count - 1 == self._at and self._meanwhile is not None:
            _mine.set(False)
            try:
                await self._meanwhile()
            finally:
                _mine.set(True)

    async def interrupted(self, at: int, work: Work, meanwhile: Work) -> tuple[Any, bool]:
        """Do `work`, and `meanwhile` at its step number `at`.

        Answers what it answered or raised, and whether it has such a step.
        """
        self._at, self._count, self._meanwhile = at, 0, meanwhile
        mark = _mine.set(True)
        try:
            outcome = await work()
        except Exception as error:
            outcome = error
        finally:
            _mine.reset(mark)
        return outcome, self._count > at


async def every_order(
    steps: Steps, prepare: Callable[[], Awaitable[tuple[Work, Work]]]
) -> AsyncIterator[Any]:
    """What the first of two things answers or raises, the second at each of its steps, and after.

    `prepare` makes both, for somebody new each time.
    """
    for at in range(MOST):
        work, meanwhile = await prepare()
        outcome, there = await steps.interrupted(at, work, meanwhile)
        if not there:
            await meanwhile()
        yield outcome
        if not there:
            assert at > 1, "it has made no steps"
            return
    raise AssertionError(f"more than {MOST} steps")
