"""Users' resources in MongoDB: documents of all kinds in one collection, amounts as decimals."""

from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from typing import Any

from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from pymongo.errors import DuplicateKeyError

from domain.errors import AppError, Code
from domain.resources import Document as Stored
from domain.resources import Resource
from storage.indexes import Indexes
from storage.mongo import Collection, Document, Mongo, available
from storage.names import RESOURCES
from storage.units import Unit


class ResourceRepository:
    """Documents by (user, kind, id); whatever talks to MongoDB raises AppError `unavailable`.

    A write is made in a `Unit`, which refuses those of erased users.
    """

    name = "resources"

    def __init__(self, mongo: Mongo, indexes: Indexes) -> None:
        self._documents: Collection = mongo.collection(RESOURCES)
        self._indexes = indexes

    async def read(
        self, user_id: str, kind: Resource, doc_id: str, timeout: float
    ) -> Stored | None:
        """One document."""
        with available(timeout):
            doc = await self._documents.find_one({"_id": _key(user_id, kind, doc_id)})
        return None if doc is None else _decode(doc)

    async def read_in(self, unit: Unit, kind: Resource, doc_id: str) -> Stored | None:
        """One document of the unit's user, as the unit sees it."""
        key = _key(unit.user_id, kind, doc_id)
        doc = await self._documents.find_one({"_id": key}, session=unit.session)
        return None if doc is None else _decode(doc)

    async def page(
        self, user_id: str, kind: Resource, after: str | None, limit: int, timeout: float
    ) -> list[Stored]:
        """Documents in the order of their ids, those behind `after`."""
        where: Document = {"user": user_id, "kind": kind.name}
        if after is not None:
            where["id"] = {"$gt": after}
        await self._indexes.made(RESOURCES, timeout=timeout)
        with available(timeout):
            found = await self._documents.find(where).sort("id", 1).limit(limit).to_list()
        return [_decode(doc) for doc in found]

    async def total(self, user_id: str, kind: Resource, timeout: float) -> tuple[int, Decimal]:
        """How many documents there are, and the exact sum of their amounts."""
        group = {
            "_id": None,
            "count": {"$sum": 1},
            "sum": {"$sum": f"$fields.{kind.amount}"},
        }
        stages: list[Document] = [
            {"$match": {"user": user_id, "kind": kind.name}},
            {"$group": group},
        ]
        with available(timeout):
            found = await (await self._documents.aggregate(stages)).to_list()
        if not found:
            return 0, Decimal(0)
        return found[0]["count"], found[0]["sum"].to_decimal()

    async def insert(self, unit: Unit, kind: Resource, document: Stored) -> None:
        """Add a document; raises AppError `id_taken`."""
        try:
            await self._documents.insert_one(
                _encode(unit.user_id, kind, document), session=unit.session
            )
        except DuplicateKeyError:
            raise AppError(Code.ID_TAKEN, "There is a document of this id already") from None

    async def replace(self, unit: Unit, kind: Resource, document: Stored) -> None:
        """Put `document` in the place of the one with its id."""
        encoded = _encode(unit.user_id, kind, document)
        await self._documents.replace_one({"_id": encoded["_id"]}, encoded, session=unit.session)

    async def delete(self, unit: Unit, kind: Resource, doc_id: str) -> None:
        """Remove a document."""
        await self._documents.delete_one(
            {"_id": _key(unit.user_id, kind, doc_id)}, session=unit.session
        )

    # --- a person's, see storage/holdings.py ----------------------------------------------

    async def holds(self, user_id: str, timeout: float) -> bool:
        """Whether the user has a document."""
        with available(timeout):
            return await self._documents.find_one({"user": user_id}) is not None

    async def export(self, user_id: str, timeout: float) -> AsyncIterator[dict[str, Any]]:
        """All documents."""
        with available(timeout):
            async for doc in self._documents.find({"user": user_id}):
                yield {"kind": doc["kind"], **_decode(doc).shown()}

    async def erase(self, user_id: str, timeout: float) -> None:
        """Delete all. That none comes later is for the units to refuse."""
        with available(timeout):
            await self._documents.delete_many({"user": user_id})


def _key(user_id: str, kind: Resource, doc_id: str) -> str:
    return f"{user_id} {kind.name} {doc_id}"  # none of them has a space


def _encode(user_id: str, kind: Resource, document: Stored) -> Document:
    return {
        "_id": _key(user_id, kind, document.id),
        "user": user_id,
        "kind": kind.name,
        "id": document.id,
        "fields": _to_bson(document.fields),
        "createdAt": DatetimeMS(document.created_at),
        "updatedAt": DatetimeMS(document.updated_at),
        "version": document.version,
    }


def _decode(doc: Document) -> Stored:
    return Stored(
        id=doc["id"],
        fields=_from_bson(doc["fields"]),
        created_at=int(doc["createdAt"]),
        updated_at=int(doc["updatedAt"]),
        version=doc["version"],
    )


def _to_bson(value: Any) -> Any:
    if isinstance(value, Decimal):
        return Decimal128(value)
    if isinstance(value, list):
        return [_to_bson(inner) for inner in value]
    if isinstance(value, Mapping):
        return {name: _to_bson(inner) for name, inner in value.items()}
    return value


def _from_bson(value: Any) -> Any:
    if isinstance(value, Decimal128):
        return value.to_decimal()
    if isinstance(value, list):
        return [_from_bson(inner) for inner in value]
    if isinstance(value, Mapping):
        return {name: _from_bson(inner) for name, inner in value.items()}
    return value
