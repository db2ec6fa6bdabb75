"""The background worker: what is due is carried out though its user never asks for it."""

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress

from domain.errors import AppError
from realtime.tasks import Loop, Tasks
from server.queue.metrics import QueueMetrics
from server.queue.service import TIMEOUT, QueueService
from storage.queue import QueueRepository

log = logging.getLogger(__name__)

LOOK_EVERY = 1.0  # seconds between looks that found nothing
MEASURE_EVERY = 15.0
TIDY_EVERY = 60.0
AT_ONCE = 4  # users of this process whose items are under way
IN_A_ROW = 10  # items of one user before it is the next one's turn
FINISH = 2.0  # seconds at the end for what is under way


class Worker:
    """One in every instance; they share the work because claims are atomic.

    Users have their turns one after the other: nobody waits for all of another one's items. The
    items of one user are carried out one at a time anyway, so whose items are in hand already, here
    or elsewhere, is passed over.
    """

    def __init__(
        self,
        service: QueueService,
        repository: QueueRepository,
        metrics: QueueMetrics,
        clock: Callable[[], int],
    ) -> None:
        self._service = service
        self._repository = repository
        self._metrics = metrics
        self._clock = clock
        self._turn = secrets.token_hex(4)  # who had the last one; instances begin apart
        self._busy: set[str] = set()
        self._room = asyncio.Semaphore(AT_ONCE)
        self._tasks = Tasks()
        self._ended = asyncio.Event()
        self._ending = False
        self._loops = [
            Loop("queue worker", self._work, LOOK_EVERY),
            Loop("queue leases", self._release, LOOK_EVERY),
            Loop("queue depth", self._measure, MEASURE_EVERY),
            Loop("queue tidying", self._tidy, TIDY_EVERY),
        ]

    def start(self) -> None:
        """Begin."""
        for loop in self._loops:
            loop.start()

    async def stop(self) -> None:
        """End; what takes too long is undone, and comes back when its lease ends."""
        self._ending = True
        for loop in self._loops:
            await loop.stop()
        await self._tasks.wait(FINISH)
        await self._tasks.close()

    async def _work(self) -> None:
        try:
            while await self._begin_turn() or await self._turn_ends():
                pass
        except AppError as error:
            log.warning("the queue waits: %s", error.message)

    async def _begin_turn(self) -> bool:
        """The next user's turn, when there is room for it; False when nothing is due."""
        self._ended.clear()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._room)
            user = await self._next_user()
            if user is None:
                return False
            self._busy.add(user)
            self._tasks.spawn(self._serve(user, stack.pop_all()), "queue turn")
        return True

    async def _turn_ends(self) -> bool:
        """Wait for the end of a turn, not for long; False when there is none."""
        if self._busy:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), LOOK_EVERY)
        return bool(self._busy) or self._ended.is_set()

    async def _next_user(self) -> str | None:
        for start in (self._turn, ""):
            user = await self._service.due_user(start, self._busy)
            while user is not None:
                if not await self._service.in_hand(user):
                    self._turn = user
                    return user
                user = await self._service.due_user(user, self._busy)
        return None

    async def _serve(self, user_id: str, room: AsyncExitStack) -> None:
        async with room:
            try:
                for _ in range(IN_A_ROW):
                    if self._ending or await self._service.step(user_id, worker=True) is None:
                        return
            except AppError:
                await asyncio.sleep(LOOK_EVERY)  # the store is away, as it has logged
            finally:
                self._busy.discard(user_id)
                self._ended.set()

    async def _release(self) -> None:
        try:
            await self._service.release_expired(None)
        except AppError:
            return  # as above

    async def _tidy(self) -> None:
        try:
            await self._service.discard_outdated()
        except AppError:
            return

    async def _measure(self) -> None:
        try:
            counts, oldest = await self._repository.depths(TIMEOUT)
        except AppError:
            return  # the health says why
        for status, count in counts.items():
            self._metrics.depth.labels(status.value).set(count)
        age = 0.0 if oldest is None else (self._clock() - oldest) / 1000
        self._metrics.oldest.set(max(0.0, age))
