"""Creating, changing and removing documents, over REST and through the queue alike."""

from collections.abc import Callable, Collection

from domain.errors import AppError, Code
from domain.parsing import Payload
from domain.resources import Document, Resource
from storage.resources import ResourceRepository
from storage.units import Unit, Units

Versions = Collection[int] | None
"""Those of a document that a change is for; None: any."""


class Stale(AppError):
    """Another version stands than the one that the change is for: `server` is it."""

    def __init__(self, server: Document | None) -> None:
        super().__init__(
            Code.PRECONDITION_FAILED, "Another version stands by now: get the newest first"
        )
        self.server = server


class ResourceService:
    """Creates, changes and removes documents, each in a unit of work."""

    def __init__(
        self, repository: ResourceRepository, units: Units, clock: Callable[[], int]
    ) -> None:
        self.repository = repository
        self.units = units
        self._clock = clock

    async def create(self, unit: Unit, kind: Resource, doc_id: str, body: Payload) -> Document:
        """Add a document; raises AppError `id_taken` or `missing_field`."""
        now = self._clock()
        document = Document(doc_id, kind.new(body, now), now, now)
        await self.repository.insert(unit, kind, document)
        return document

    async def change(
        self, unit: Unit, kind: Resource, doc_id: str, body: Payload, versions: Versions = None
    ) -> Document:
        """Replace some fields; raises AppError `not_found`, or Stale, also when it is gone."""
        try:
            stored = await self._stored(unit, kind, doc_id, versions)
        except AppError as error:
            if error.code is Code.NOT_FOUND and versions is not None:
                raise Stale(None) from None
            raise
        changed = Document(
            doc_id,
            {**stored.fields, **kind.changed(body)},
            stored.created_at,
            max(self._clock(), stored.updated_at),
            stored.version + 1,
        )
        await self.repository.replace(unit, kind, changed)
        return changed

    async def remove(
        self, unit: Unit, kind: Resource, doc_id: str, versions: Versions = None
    ) -> Document:
        """Remove a document; raises AppError `not_found`, or Stale."""
        stored = await self._stored(unit, kind, doc_id, versions)
        await self.repository.delete(unit, kind, doc_id)
        return stored

    async def _stored(
        self, unit: Unit, kind: Resource, doc_id: str, versions: Versions
    ) -> Document:
        stored = await self.repository.read_in(unit, kind, doc_id)
        if stored is None:
            raise AppError(Code.NOT_FOUND, f"There is no {kind.name[:-1]} {doc_id} of yours")
        if versions is not None and stored.version not in versions:
            raise Stale(stored)
        return stored
