"""Everything that is held about a person: streamed to them, or erased for good.

Both walk one registry, in which each feature declares what it holds (storage/holdings.py).
"""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any

from domain.errors import AppError
from realtime.tasks import Loop
from storage.accounts import AccountRepository
from storage.holdings import Holding

log = logging.getLogger(__name__)

TIMEOUT = 4.0  # seconds for each feature
RESUMED_AT_ONCE = 100


class People:
    """Walks the registry. An erasure that was cut off is resumed by any instance.

    `on_erased` is awaited when nothing is kept any more, to end what is still shown.
    """

    def __init__(
        self,
        accounts: AccountRepository,
        others: Sequence[Holding],
        on_erased: Callable[[str], Awaitable[None]],
        resume_every: float,
    ) -> None:
        self._accounts = accounts
        self._holdings: tuple[Holding, ...] = (accounts, *others)
        self._on_erased = on_erased
        self._loop = Loop("unfinished erasures", self._resume, resume_every)

    def start(self) -> None:
        """Begin to resume what was cut off."""
        self._loop.start()

    async def stop(self) -> None:
        """End."""
        await self._loop.stop()

    async def known(self, user_id: str) -> bool:
        """Whether anything is held about this id."""
        for holding in self._holdings:
            if await holding.holds(user_id, TIMEOUT):
                return True
        return False

    async def export(self, user_id: str) -> AsyncGenerator[dict[str, Any], None]:
        """All that is held, feature by feature, each record with its feature's name."""
        for holding in self._holdings:
            async for record in holding.export(user_id, TIMEOUT):
                yield {"feature": holding.name, **record}

    async def erase(self, user_id: str) -> None:
        """Erase a person everywhere; raises AppError `unavailable`, and is resumed then.

        The account goes first, and its tombstone says until the end that there is more to do.
        """
        for holding in self._holdings:
            await holding.erase(user_id, TIMEOUT)
        await self._on_erased(user_id)
        await self._accounts.erased_everywhere(user_id, TIMEOUT)
        log.info("a person was erased")

    async def _resume(self) -> None:
        try:
            cut_off = await self._accounts.erasing(RESUMED_AT_ONCE, TIMEOUT)
        except AppError as error:
            log.warning("cannot learn which erasures were cut off: %s", error.message)
            return
        for user_id in cut_off:
            try:
                await self.erase(user_id)
            except AppError as error:  # the others need not wait for this one
                log.warning("an erasure was cut off again: %s", error.message)
