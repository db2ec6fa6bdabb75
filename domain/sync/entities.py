"""Entity types: a registered model, its merge rule and its parents make one.

An app adds its own the same way (docs/sync.md has a worked example).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from pydantic import Field

from domain.errors import Code, refuse_field
from domain.parsing import Id, Payload
from domain.times import iso

BOOKKEEPING = frozenset(
    {"id", "_id", "userId", "createdAt", "updatedAt", "deletedAt", "deviceId", "__v"}
)
"""Fields of a pulled row that may come back with its data; they are the server's, and ignored."""


@dataclass(frozen=True, slots=True)
class Row:
    """A stored entity of one user; times in milliseconds.

    `updated_at` is its clock for last write wins, also that of a deletion. `stamp` is the
    server's time of the push that wrote it, by which devices pull; `base` is the stamp that it
    had before, 0 if it was new, and `exact` says that the writer knows how it stands now.
    """

    type: str
    id: str
    data: dict[str, Any]
    created_at: int
    updated_at: int
    deleted_at: int | None = None
    device_id: str = ""
    stamp: int = 0
    base: int = 0
    exact: bool = True

    @property
    def key(self) -> "Key":
        """What tells it from the user's other entities."""
        return self.type, self.id

    def document(self, user_id: str) -> dict[str, Any]:
        """As clients get it."""
        return {
            "id": self.id,
            "_id": self.id,
            "userId": user_id,
            **self.data,
            "createdAt": iso(self.created_at),
            "updatedAt": iso(self.updated_at),
            "deletedAt": None if self.deleted_at is None else iso(self.deleted_at),
            "deviceId": self.device_id,
        }


Key = tuple[str, str]
"""Entity type and id."""

Merge = Callable[[Row, Row], Row | None]
"""Takes the stored row and the wished one; answers what shall stand, None: the stored one wins."""


def last_write_wins(stored: Row, wished: Row) -> Row | None:
    """The wished fields beside the stored ones, unless the stored row is strictly newer."""
    if stored.updated_at > wished.updated_at:
        return None
    return replace(wished, data={**stored.data, **wished.data}, created_at=stored.created_at)


@dataclass(frozen=True, slots=True)
class EntityType:
    """One kind of entity: `name` in changes, `plural` in answers."""

    name: str
    plural: str
    model: type[Payload]
    parents: Mapping[str, str] = field(default_factory=dict)
    """The entity type that each of these fields names one of."""
    merge: Merge = last_write_wins


class EntityTypes:
    """The registered types, by name."""

    def __init__(self, types: Iterable[EntityType]) -> None:
        self._types: dict[str, EntityType] = {}
        for kind in types:
            if kind.name in self._types or kind.plural in {t.plural for t in self}:
                raise ValueError(f"the entity type {kind.name} is registered twice")
            self._types[kind.name] = kind
        for kind in self:
            for parent in kind.parents.values():
                if parent not in self._types:
                    raise ValueError(f"{kind.name}: there is no entity type {parent}")

    def __iter__(self) -> Iterator[EntityType]:
        return iter(self._types.values())

    def __contains__(self, name: object) -> bool:
        return name in self._types

    def find(self, name: object) -> EntityType:
        """The type of this name; raises AppError `invalid_value` naming those that exist."""
        if isinstance(name, str) and (kind := self._types.get(name)) is not None:
            return kind
        known = ", ".join(self._types)
        raise refuse_field(Code.INVALID_VALUE, "entityType", f"must be one of {known}")

    def parents(self, name: str, data: Mapping[str, Any]) -> list[Key]:
        """The entities that these data name as parents."""
        found = self._types[name].parents.items()
        return [(parent, data[field]) for field, parent in found if data.get(field) is not None]

    def __getitem__(self, name: str) -> EntityType:
        return self._types[name]


Short = Annotated[str, Field(max_length=500)]
Long = Annotated[str, Field(max_length=10_000)]
Word = Annotated[str, Field(max_length=128)]
Place = Annotated[int | float, Field(ge=-1e15, le=1e15)]
Tags = Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=100)]


class SpaceData(Payload):
    """A container, such as "Personal" or "Work"."""

    name: Short | None = None
    title: Short | None = None
    description: Long | None = None
    type: Word | None = None
    icon: Word | None = None
    color: Word | None = None
    order: Place | None = None
    is_default: bool | None = None


class CategoryData(SpaceData):
    """A category within a space, such as "Movies"."""

    space_id: Id | None = None


class ItemData(Payload):
    """An entry of a list: the user's own words, and ids of what others know more about."""

    type: Word | None = None
    title: Short | None = None
    notes: Long | None = None
    description: Long | None = None
    movie_id: Word | None = None
    book_id: Word | None = None
    place_id: Word | None = None
    is_completed: bool | None = None
    status: Word | None = None
    priority: Word | Place | None = None
    order: Place | None = None
    tags: Tags | None = None
    space_id: Id | None = None
    category_id: Id | None = None


BUILT_IN = (
    EntityType("space", "spaces", SpaceData),
    EntityType("category", "categories", CategoryData, {"spaceId": "space"}),
    EntityType("item", "items", ItemData, {"spaceId": "space", "categoryId": "category"}),
)
