"""Resources in MongoDB: decimals, one step a unit, each user's own, gone when erased."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from bson.decimal128 import Decimal128
from pymongo import MongoClient

from domain.errors import AppError, Code
from domain.resources import BUILT_IN, Document
from storage.indexes import Indexes
from storage.mongo import Mongo
from storage.resources import ResourceRepository
from storage.units import Unit, Units

EXPENSES, ORDERS = BUILT_IN
NOW = 1_700_000_000_000
TIMEOUT = 10.0


class Kept:
    """A repository and its units."""

    def __init__(self, mongo: Mongo) -> None:
        self.repository = ResourceRepository(mongo, Indexes(mongo))
        self.units = Units(mongo)

    async def insert(self, doc_id: str, amount: str, user: str = "ada", kind: Any = None) -> None:
        fields = {(kind or EXPENSES).amount: Decimal(amount), "category": ""}
        document = Document(doc_id, fields, NOW, NOW)

        async def work(unit: Unit) -> None:
            await self.repository.insert(unit, kind or EXPENSES, document)

        await self.units.run(user, work, TIMEOUT)

    async def read(self, doc_id: str, user: str = "ada", kind: Any = None) -> Document | None:
        return await self.repository.read(user, kind or EXPENSES, doc_id, TIMEOUT)

    async def total(self, user: str = "ada") -> tuple[int, Decimal]:
        return await self.repository.total(user, EXPENSES, TIMEOUT)


@pytest.fixture
def kept(mongo: Mongo) -> Kept:
    return Kept(mongo)


async def test_amounts_are_decimals_in_the_store(
    kept: Kept, mongodb_uri: str, mongodb_name: str
) -> None:
    await kept.insert("x", "0.1")
    with MongoClient[dict[str, Any]](mongodb_uri) as client:
        doc = client[mongodb_name]["resources"].find_one()
    assert doc is not None
    assert doc["fields"]["amount"] == Decimal128("0.1")
    found = await kept.read("x")
    assert found is not None
    assert found == Document("x", {"amount": Decimal("0.1"), "category": ""}, NOW, NOW)


async def test_totals_are_exact_however_many_digits_they_have(kept: Kept) -> None:
    assert await kept.total() == (0, 0)
    for n, amount in enumerate(("0.1", "0.2", "999999999999999", "-0.000001", "1E+2")):
        await kept.insert(f"{n}", amount)
    await kept.insert("others", "7", "bob")
    await kept.insert("order", "7", kind=ORDERS)
    assert await kept.total() == (5, Decimal("1000000000000099.299999"))


async def test_an_id_is_there_once_of_each_user_and_kind(kept: Kept) -> None:
    await kept.insert("x", "1")
    await kept.insert("x", "2", "bob")
    await kept.insert("x", "3", kind=ORDERS)
    with pytest.raises(AppError) as caught:
        await kept.insert("x", "4")
    assert caught.value.code is Code.ID_TAKEN
    mine, bobs = await kept.read("x"), await kept.read("x", "bob")
    assert mine is not None
    assert bobs is not None
    assert (mine.fields["amount"], bobs.fields["amount"]) == (1, 2)
    assert await kept.read("x", "cat") is None


async def test_what_a_unit_raises_undoes_all_of_it(kept: Kept) -> None:
    async def work(unit: Unit) -> None:
        document = Document("x", {"amount": Decimal(1)}, NOW, NOW)
        await kept.repository.insert(unit, EXPENSES, document)
        assert await kept.repository.read_in(unit, EXPENSES, "x") is not None
        raise AppError(Code.INVALID_VALUE, "no")

    with pytest.raises(AppError):
        await kept.units.run("ada", work, TIMEOUT)
    assert await kept.read("x") is None


async def test_units_of_two_instances_do_not_overlap(kept: Kept, mongo: Mongo) -> None:
    await kept.insert("x", "0")
    both = kept, Kept(mongo)
    numbers: list[int] = []

    async def add_one(which: Kept) -> None:
        async def work(unit: Unit) -> int:
            found = await which.repository.read_in(unit, EXPENSES, "x")
            assert found is not None
            fields = {**found.fields, "amount": found.fields["amount"] + 1}
            newer = Document("x", fields, NOW, NOW, found.version + 1)
            await which.repository.replace(unit, EXPENSES, newer)
            return unit.number

        numbers.append(await which.units.run("ada", work, TIMEOUT))

    await asyncio.gather(*(add_one(both[n % 2]) for n in range(10)))
    found = await kept.read("x")
    assert found is not None
    assert (found.fields["amount"], found.version) == (10, 11)
    assert len(set(numbers)) == 10


async def test_pages_go_on_behind_an_id(kept: Kept) -> None:
    for n in range(5):
        await kept.insert(f"e{n}", "1")
    await kept.insert("e9", "1", "bob")

    async def page(after: str | None) -> list[str]:
        found = await kept.repository.page("ada", EXPENSES, after, 2, TIMEOUT)
        return [document.id for document in found]

    assert [await page(at) for at in (None, "e1", "e3", "e4", "zz")] == [
        *(["e0", "e1"], ["e2", "e3"], ["e4"], [], [])
    ]


async def test_an_erased_persons_documents_are_gone_and_units_refused(kept: Kept) -> None:
    await kept.insert("x", "1")
    await kept.insert("x", "1", "bob")
    holdings = (kept.units, kept.repository)
    assert [await one.holds("ada", TIMEOUT) for one in holdings] == [True, True]
    exported = [record async for record in kept.repository.export("ada", TIMEOUT)]
    assert [(record["kind"], record["_id"]) for record in exported] == [("expenses", "x")]
    for _ in range(2):  # it may be repeated
        for holding in holdings:
            await holding.erase("ada", TIMEOUT)
    assert await kept.read("x") is None
    assert [await one.holds("ada", TIMEOUT) for one in holdings] == [True, False]
    with pytest.raises(AppError) as caught:
        await kept.insert("y", "1")
    assert caught.value.code is Code.ERASED
    assert await kept.read("x", "bob") is not None


async def test_somebody_who_never_had_anything_can_be_erased(kept: Kept) -> None:
    assert not await kept.units.holds("new", TIMEOUT)
    await kept.units.erase("new", TIMEOUT)
    with pytest.raises(AppError) as caught:
        await kept.insert("x", "1", "new")
    assert caught.value.code is Code.ERASED


async def test_a_unit_that_took_too_long_holds_back_none_that_come_after(kept: Kept) -> None:
    """What it wrote must not stand in their way until the server gives it up."""
    going_on = asyncio.Event()

    async def slow(unit: Unit) -> None:
        await kept.repository.insert(unit, EXPENSES, Document("x", {}, NOW, NOW))
        await going_on.wait()
        raise AppError(Code.INVALID_VALUE, "somebody else did not answer")

    late = asyncio.ensure_future(kept.units.run("ada", slow, 0.2))
    asyncio.get_running_loop().call_later(0.3, going_on.set)
    with pytest.raises(AppError):
        await late
    async with asyncio.timeout(5):
        await kept.insert("x", "1")
