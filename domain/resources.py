"""Resources that users keep over REST and through the queue: a path, a model, its documents."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

from pydantic import Field, WithJsonSchema

from domain.errors import Code, refuse_field
from domain.ids import parse_id
from domain.money import number, parse_amount
from domain.parsing import Payload, checked, parse
from domain.times import iso, parse_time

Amount = Annotated[Decimal, checked(parse_amount), WithJsonSchema({"type": "number"})]
Moment = Annotated[
    int,
    checked(lambda value: parse_time(value, "date")),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string", "format": "date-time"}]}),
]
Word = Annotated[str, Field(max_length=200)]
Text = Annotated[str, Field(max_length=5_000)]


@dataclass(frozen=True, slots=True)
class Document:
    """One stored document of one user; times in milliseconds.

    `version` grows by one with every change.
    """

    id: str
    fields: Mapping[str, Any]
    created_at: int
    updated_at: int
    version: int = 1

    def shown(self) -> dict[str, Any]:
        """As clients get it."""
        return {
            "_id": self.id,
            "id": self.id,
            **{name: _shown(value) for name, value in self.fields.items()},
            "version": self.version,
            "createdAt": iso(self.created_at),
            "updatedAt": iso(self.updated_at),
        }


def _shown(value: Any) -> Any:
    if isinstance(value, Decimal):
        return number(value)
    if isinstance(value, list):
        return [_shown(inner) for inner in value]
    if isinstance(value, Mapping):
        return {name: _shown(inner) for name, inner in value.items()}
    return value


class Expense(Payload):
    """Fields of `/api/expenses`; `amount` and `category` are needed at first."""

    amount: Amount = Field(default_factory=Decimal)  # a default would show in the schema
    category: Word = ""
    date: Moment = Field(default_factory=int)
    description: Text = ""


class OrderLine(Payload):
    """One line of an order."""

    description: Word
    quantity: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    price: Amount = Field(default_factory=Decimal)


class Order(Payload):
    """Fields of `/api/orders`; `patientName` and `totalAmount` are needed at first."""

    patient_name: Word = ""
    total_amount: Amount = Field(default_factory=Decimal)
    lines: Annotated[list[OrderLine], Field(max_length=200)] = Field(default_factory=list)
    status: Word = ""
    date: Moment = Field(default_factory=int)
    description: Text = ""


BOOKKEEPING = frozenset({"_id", "id", "version", "createdAt", "updatedAt", "userId", "__v"})
"""Fields of a pulled document that may come back; the server's own, and ignored."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of document: `name` is its path under `/api/`, too.

    `needed` are the fields that a new document must have, `amount` is the one that is summed up.
    """

    name: str
    model: type[Payload]
    needed: tuple[str, ...]
    amount: str

    def parse(self, data: Mapping[str, Any]) -> Payload:
        """What a client sends, without the server's own fields; raises AppError."""
        return parse(self.model, without_bookkeeping(data))

    def new(self, body: Payload, now: int) -> dict[str, Any]:
        """The fields of a new document; raises AppError naming a field that is missing."""
        fields = self.changed(body)
        for name in self.needed:
            if name not in fields:
                raise refuse_field(Code.MISSING_FIELD, name, "is missing")
        fields.setdefault("date", iso(now))
        return fields

    def changed(self, body: Payload) -> dict[str, Any]:
        """The fields that a partial change replaces."""
        fields = body.model_dump(by_alias=True, exclude_unset=True)
        if "date" in fields:
            fields["date"] = iso(fields["date"])
        return fields


def without_bookkeeping(data: Mapping[str, Any]) -> dict[str, Any]:
    """`data` without the fields of a pulled document that are the server's own."""
    return {name: value for name, value in data.items() if name not in BOOKKEEPING}


BUILT_IN = (
    Resource("expenses", Expense, ("amount", "category"), "amount"),
    Resource("orders", Order, ("patientName", "totalAmount"), "totalAmount"),
)


def given_id(data: Mapping[str, Any]) -> str | None:
    """The id that a body brings as `_id` or `id`; raises AppError."""
    ids = {parse_id(data[name], name) for name in ("_id", "id") if data.get(name) is not None}
    if len(ids) > 1:
        raise refuse_field(Code.INVALID_ID, "id", "must be the same as _id")
    return next(iter(ids), None)
