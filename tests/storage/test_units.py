"""Units of work: all or nothing, one after the other, none after an erasure."""

import asyncio

import pytest
from pymongo.read_concern import ReadConcern

from domain.errors import AppError, Code
from server.embedded import PrivateServer
from storage.mongo import RESTING, Collection, Mongo
from storage.units import Unit, Units
from tests.storage.conftest import NewMongo, suspended, unavailable

TIMEOUT = 10.0


@pytest.fixture
async def notes(mongo: Mongo) -> Collection:
    """Somewhere to write to."""
    found = mongo.collection("notes")
    await found.insert_one({"_id": "first"})  # so that the collection is there
    return found


@pytest.fixture
def units(mongo: Mongo) -> Units:
    return Units(mongo)


@pytest.fixture
def others(new_mongo: NewMongo, mongodb_uri: str) -> Units:
    """Another instance's."""
    return Units(new_mongo(mongodb_uri))


async def number(unit: Unit) -> int:
    return unit.number


async def test_the_numbers_of_a_user_grow_by_one_and_are_each_users_own(
    units: Units, others: Units
) -> None:
    mine = [await which.run("ada", number, TIMEOUT) for which in (units, others, units)]
    assert mine == [1, 2, 3]
    assert await units.run("bob", number, TIMEOUT) == 1


async def test_first_units_at_once_on_several_instances_all_happen(
    units: Units, others: Units
) -> None:
    runs = [which.run("ada", number, TIMEOUT) for which in (units, others) for _ in range(10)]
    assert sorted(await asyncio.gather(*runs)) == list(range(1, 21))


async def test_what_overlaps_on_two_instances_happens_one_after_the_other(
    units: Units, others: Units, notes: Collection
) -> None:
    async def count(unit: Unit) -> None:
        found = await notes.find_one({"_id": "count"}, session=unit.session)
        value = 0 if found is None else found["value"]
        new = {"$set": {"value": value + 1}}
        await notes.update_one({"_id": "count"}, new, upsert=True, session=unit.session)

    # A session belongs to its client: each instance counts by way of its own.
    other_notes = others._mongo.collection("notes")

    async def count_there(unit: Unit) -> None:
        found = await other_notes.find_one({"_id": "count"}, session=unit.session)
        value = 0 if found is None else found["value"]
        new = {"$set": {"value": value + 1}}
        await other_notes.update_one({"_id": "count"}, new, upsert=True, session=unit.session)

    here = [units.run("ada", count, TIMEOUT) for _ in range(15)]
    there = [others.run("ada", count_there, TIMEOUT) for _ in range(15)]
    await asyncio.gather(*here, *there)
    assert await notes.find_one({"_id": "count"}) == {"_id": "count", "value": 30}


@pytest.mark.parametrize("error", [AppError(Code.INVALID_VALUE, "no"), ValueError("no")])
async def test_what_the_work_raises_undoes_it_and_comes_through(
    units: Units, notes: Collection, error: Exception
) -> None:
    async def work(unit: Unit) -> None:
        await notes.insert_one({"_id": "gone"}, session=unit.session)
        raise error

    with pytest.raises(type(error)) as caught:
        await units.run("ada", work, TIMEOUT)
    assert caught.value is error
    assert await notes.count_documents({}) == 1
    assert await units.run("ada", number, TIMEOUT) == 1


async def test_work_that_is_cancelled_is_undone_and_the_next_one_need_not_wait(
    units: Units, others: Units, notes: Collection
) -> None:
    written = asyncio.Event()

    async def work(unit: Unit) -> None:
        await notes.insert_one({"_id": "gone"}, session=unit.session)
        written.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(units.run("ada", work, TIMEOUT))
    await written.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await others.run("ada", number, 3.0) == 1
    assert await units.run("ada", number, 3.0) == 2
    assert await notes.count_documents({}) == 1


async def test_one_users_unit_does_not_hold_up_another_users(units: Units) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def long(unit: Unit) -> int:
        begun.set()
        await go_on.wait()
        return unit.number

    running = asyncio.create_task(units.run("ada", long, TIMEOUT))
    await begun.wait()
    assert await units.run("bob", number, TIMEOUT) == 1
    go_on.set()
    assert await running == 1


async def test_who_waits_too_long_for_the_same_user_is_told_that_it_is_too_much(
    units: Units,
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def long(_: Unit) -> None:
        begun.set()
        await go_on.wait()

    running = asyncio.create_task(units.run("ada", long, TIMEOUT))
    await begun.wait()
    with pytest.raises(AppError) as caught:
        await units.run("ada", number, 0.05)
    assert caught.value.code is Code.OVERLOADED
    go_on.set()
    await running


async def test_of_an_erased_user_no_unit_happens_and_the_tombstone_waits_for_one_that_has_begun(
    units: Units, others: Units, notes: Collection
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def work(unit: Unit) -> None:
        await notes.insert_one({"_id": f"note {unit.number}"}, session=unit.session)
        begun.set()
        await go_on.wait()

    running = asyncio.create_task(units.run("ada", work, TIMEOUT))
    await begun.wait()
    erasing = asyncio.create_task(others.erase("ada", TIMEOUT))
    _, still = await asyncio.wait({erasing}, timeout=0.2)
    assert still  # so that whoever deletes what there is afterwards sees it
    go_on.set()
    await asyncio.gather(running, erasing)
    for which in (units, others):
        with pytest.raises(AppError) as caught:
            await which.run("ada", work, TIMEOUT)
        assert caught.value.code is Code.ERASED
    assert await notes.count_documents({}) == 2


async def test_somebody_who_never_had_a_unit_can_be_erased_too(units: Units) -> None:
    assert not await units.holds("ada", TIMEOUT)
    await units.erase("ada", TIMEOUT)
    assert await units.holds("ada", TIMEOUT)
    with pytest.raises(AppError) as caught:
        await units.run("ada", number, TIMEOUT)
    assert caught.value.code is Code.ERASED


async def test_while_the_store_is_away_it_says_so_in_time_and_goes_on_afterwards(
    new_mongo: NewMongo, own_mongod: PrivateServer
) -> None:
    units = Units(new_mongo(own_mongod.url))
    assert await units.run("ada", number, TIMEOUT) == 1
    async with suspended(own_mongod):
        assert await unavailable(lambda: units.run("ada", number, 0.5)) < 4.0
    assert await units.run("ada", number, TIMEOUT) >= 2


async def test_a_unit_whose_process_died_is_ended_so_that_its_user_can_go_on(
    units: Units, others: Units, notes: Collection
) -> None:
    session = others._mongo._client.start_session()
    await units.run("ada", number, TIMEOUT)
    await session.start_transaction(read_concern=ReadConcern(RESTING))
    heads = others._heads
    await heads.update_one({"_id": "ada"}, {"$inc": {"number": 1}}, session=session)
    # From here on nobody cares for this transaction.
    assert await unavailable(lambda: units.run("ada", number, 1.5)) < 5.0
    units._mongo._longest_rest = 0.5
    assert await units.run("ada", number, TIMEOUT) == 2
    await session.end_session()


async def test_units_of_another_database_are_never_ended(
    units: Units, mongodb_uri: str, mongodb_name: str
) -> None:
    other = Mongo(mongodb_uri, f"{mongodb_name}_other")
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def long(unit: Unit) -> int:
        begun.set()
        await go_on.wait()
        return unit.number

    running = asyncio.create_task(Units(other).run("ada", long, TIMEOUT, rests=True))
    await begun.wait()
    begun.clear()
    units._mongo._longest_rest = 0.0
    await units._mongo._end_abandoned()
    go_on.set()
    assert await running == 1
    assert not begun.is_set()  # nor repeated
    await other._client.drop_database(f"{mongodb_name}_other")
    await other.close()
