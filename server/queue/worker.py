"""The background worker: what is due is carried out though its user never asks for it."""

import asyncio
import logging
from collections.abc import Callable

from domain.errors import AppError
from realtime.tasks import Loop
from server.queue.metrics import QueueMetrics
from server.queue.service import TIMEOUT, QueueService
from storage.queue import QueueRepository

log = logging.getLogger(__name__)

LOOK_EVERY = 1.0  # seconds between looks that found nothing
MEASURE_EVERY = 15.0
AT_ONCE = 4  # items of this process under way
IN_A_ROW = 50  # items of one of these before it looks up


class Worker:
    """One in every instance; they share the work because claims are atomic."""

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
        self._loops = [
            Loop("queue worker", self._work, LOOK_EVERY),
            Loop("queue depth", self._measure, MEASURE_EVERY),
        ]

    def start(self) -> None:
        """Begin."""
        for loop in self._loops:
            loop.start()

    async def stop(self) -> None:
        """End; what is under way is undone, and comes back when its lease ends."""
        for loop in self._loops:
            await loop.stop()

    async def _work(self) -> None:
        try:
            await self._service.release_expired()
            await asyncio.gather(*(self._several() for _ in range(AT_ONCE)))
        except AppError as error:
            log.warning("the queue waits: %s", error.message)

    async def _several(self) -> None:
        for _ in range(IN_A_ROW):
            if await self._service.step(None) is None:
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
