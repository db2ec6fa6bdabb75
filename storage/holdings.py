"""What each feature declares of the data that it holds about a person."""

from collections.abc import AsyncIterator
from typing import Any, Protocol


class Holding(Protocol):
    """One feature's data about a person. Every method raises AppError `unavailable`.

    `erase` may be repeated: it ends what a first attempt has begun. It leaves a tombstone
    wherever a late write could bring the person back, so that such a write is refused.
    """

    name: str
    """What the export calls it."""

    async def holds(self, user_id: str, timeout: float) -> bool:
        """Whether there is anything about this person, a tombstone included."""

    def export(self, user_id: str, timeout: float) -> AsyncIterator[dict[str, Any]]:
        """Everything held about this person, as JSON objects, without secrets and marks."""

    async def erase(self, user_id: str, timeout: float) -> None:
        """Remove all of it."""
