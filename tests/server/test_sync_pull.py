"""Pulling: a device that keeps its cursor misses nothing, and gets nothing it already has."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from server.keys import SYNC
from tests.rest import Api
from tests.server.test_openapi import conforms
from tests.serving import Served, serving
from tests.syncing import (
    INITIAL,
    NOTHING,
    SYNC_PATH,
    Device,
    Instances,
    at,
    by_id,
    create,
    delete,
    rows,
    stand_still,
    titles,
    update,
)

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture
def phone(api: Api) -> Device:
    return Device(api)


@pytest.fixture
def laptop(api: Api) -> Device:
    return Device(api, "laptop")


@pytest.fixture
async def instances() -> AsyncIterator[Instances]:
    async with Instances() as made:
        yield made


# --- the cursor -----------------------------------------------------------------------------


async def test_the_cursor_grows_strictly_with_every_push_even_if_the_clock_stands_or_goes_back(
    served: Served, phone: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = stand_still(served, monkeypatch)
    stamps = []
    for n in range(9):
        now[0] -= n
        stamps.append((await phone.done(create(f"i{n}")))["syncTimestamp"])
    assert stamps == sorted(set(stamps))


async def test_the_cursor_stays_when_nothing_was_pushed(phone: Device, laptop: Device) -> None:
    stamp = (await phone.done(create("a")))["syncTimestamp"]
    for device in (phone, laptop, laptop, phone):
        assert (await device.send())["syncTimestamp"] == stamp


async def test_cursors_are_each_users_own(http: aiohttp.ClientSession) -> None:
    ada, bob = Device(Api(http, "ada")), Device(Api(http, "bob"))
    before = (await bob.send())["syncTimestamp"]
    await ada.done(create("a"))
    assert (await bob.send())["syncTimestamp"] == before
    assert await bob.initial() == {}


async def test_null_brings_everything_tombstones_too(phone: Device, laptop: Device) -> None:
    await phone.done(create("a"), create("b"))
    await phone.done(delete("b", 1))
    for _ in range(2):
        laptop.cursor = None
        found = await laptop.pull()
        assert found.keys() == {"a", "b"}
        assert found["b"]["deletedAt"] == at(1)


async def test_a_body_without_a_cursor_brings_everything(phone: Device, api: Api) -> None:
    await phone.done(create("a"))
    answer = await api.post(SYNC_PATH, {"deviceId": "laptop"})
    assert titles(answer.ok()["data"]) == {"a": None}


async def test_a_cursor_above_the_newest_brings_everything(phone: Device, laptop: Device) -> None:
    stamp = (await phone.done(create("a"), create("b"), delete("b", 1)))["syncTimestamp"]
    for cursor in ("2999-01-01T00:00:00.000Z", 32472144000000):
        laptop.cursor = cursor
        data = await laptop.send()
        assert by_id(data).keys() == {"a", "b"}
        assert data["syncTimestamp"] == stamp


async def test_a_cursor_above_the_newest_brings_everything_also_to_who_pushes_with_it(
    served: Served, phone: Device, laptop: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = stand_still(served, monkeypatch)
    await phone.done(create("a"))
    laptop.cursor = now[0] + 500  # as of a database that was restored from a backup since
    now[0] += 1000
    assert (await laptop.pull(changes=[create("b")])).keys() - {"b"} == {"a"}


async def test_a_cursor_may_be_iso_or_epoch_milliseconds(
    served: Served, phone: Device, laptop: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = stand_still(served, monkeypatch)
    stamps = []
    for row_id in "abc":
        now[0] += 1000
        await phone.done(create(row_id))
        stamps.append((now[0], phone.cursor))
    millis, iso = stamps[1]
    for cursor in (millis, iso, iso.replace("Z", "+00:00"), iso.replace("Z", ""), float(millis)):
        laptop.cursor = cursor
        assert (await laptop.pull()).keys() == {"c"}, cursor


async def test_a_cursor_that_is_no_time_is_refused_by_name_and_nothing_is_pushed(
    api: Api, phone: Device
) -> None:
    garbage = ["", "yesterday", "null", "x" * 500, -1, 10**30, True, {}, ["2026-01-01"], "0000-01"]
    for cursor in garbage:
        body = {"deviceId": "phone", "lastSyncTimestamp": cursor, "changes": [create("a")]}
        answer = await api.post(SYNC_PATH, body)
        answer.refused_field(400, "invalid_value", "/lastSyncTimestamp")
    assert await phone.initial() == {}


async def test_a_change_made_long_ago_and_pushed_late_is_not_missed(
    phone: Device, laptop: Device
) -> None:
    await phone.done(create("a", 1000))
    await laptop.pull()
    await phone.done(create("late", -1_000_000), update("a", 2000, title="x"))
    assert (await laptop.pull()).keys() == {"late", "a"}


async def test_only_what_is_new_is_pulled(phone: Device, laptop: Device) -> None:
    await phone.done(*(create(f"i{n}") for n in range(10)))
    await laptop.pull()
    await phone.done(update("i3", 1, title="x"))
    assert (await laptop.pull()).keys() == {"i3"}
    assert await laptop.pull() == {}


async def test_a_puller_beside_writers_on_two_instances_misses_nothing(
    stores: dict[str, Any], instances: Instances
) -> None:
    async with serving(**stores) as one, serving(**stores) as two:
        writers = [
            await instances.device(server.url, name=f"w{n}")
            for n, server in enumerate([one, two, one, two])
        ]
        puller = await instances.device(two.url, name="puller")
        local: dict[str, Any] = {}
        stamps: list[str] = []

        async def write(writer: Device) -> None:
            for n in range(12):
                await writer.done(create(f"{writer.name}-{n}"))
                await writer.send(create("all", n, title=f"{writer.name} {n}"))

        async def pull() -> None:
            local.update(await puller.pull())
            stamps.append(puller.cursor)

        writing = asyncio.gather(*map(write, writers))
        try:
            while not writing.done():
                await pull()
        finally:
            await writing
        await pull()
        assert local == await puller.initial()
        assert len(local) == 4 * 12 + 1
        assert stamps == sorted(stamps)
        assert len({row["id"] for row in local.values()}) == len(local)


# --- what comes back to the pushing device --------------------------------------------------


async def test_own_rows_do_not_come_back(phone: Device) -> None:
    assert await phone.pull(changes=[create("a"), create("b"), update("a", 1, notes="n")]) == {}
    assert await phone.pull(changes=[update("a", 2, title="x"), delete("b", 2)]) == {}
    assert await phone.pull() == {}


async def test_an_own_row_comes_back_with_another_devices_field(
    phone: Device, laptop: Device
) -> None:
    await phone.done(create("a"))
    await laptop.pull()
    await laptop.done(update("a", 1, notes="theirs"))
    row = (await phone.pull(changes=[update("a", 2, title="mine")]))["a"]
    assert (row["title"], row["notes"]) == ("mine", "theirs")


async def test_another_devices_field_comes_also_when_the_first_answer_was_lost(
    phone: Device, laptop: Device
) -> None:
    await phone.done(create("a"))
    await laptop.pull()
    cursor = phone.cursor
    await laptop.done(update("a", 1, notes="theirs"))
    mine = update("a", 2, title="mine")
    await phone.done(mine)
    phone.cursor = cursor  # it never got that answer, and sends again
    data = await phone.send(mine)
    assert data["acknowledged"][0]["duplicate"] is True
    assert by_id(data)["a"]["notes"] == "theirs"


async def test_a_row_that_stands_as_a_repeat_says_does_not_come_back(phone: Device) -> None:
    mine = create("a", title="mine")
    await phone.done(mine)
    phone.cursor = None
    assert await phone.pull(changes=[mine]) == {}


async def test_another_devices_row_with_the_stamp_of_a_repeat_is_not_taken_for_an_own_one(
    served: Served, phone: Device, laptop: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_still(served, monkeypatch)
    mine = create("a")
    await phone.done(mine)
    repository: Any = served.app[SYNC]._repository  # the laptop pushes between push and pull
    changed = repository.changed

    async def pushed_meanwhile(*args: Any) -> int:
        monkeypatch.setattr(repository, "changed", changed)
        await laptop.done(create("b"))
        return int(await changed(*args))

    monkeypatch.setattr(repository, "changed", pushed_meanwhile)
    found = await phone.pull(changes=[mine])
    found.update(await phone.pull())
    assert found.keys() == {"b"}


async def test_a_time_that_was_ahead_comes_back_as_it_counts(
    served: Served, phone: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_still(served, monkeypatch, when=100)
    ahead = create("a", 5000, title="x")
    data = await phone.send(ahead)
    assert data["acknowledged"][0]["appliedTimestamp"] == at(100)
    row = by_id(data)["a"]
    assert (row["createdAt"], row["updatedAt"]) == (at(100), at(100))


async def test_what_two_devices_fold_is_what_initial_has(phone: Device, laptop: Device) -> None:
    """Each of them applies its own changes at once, and what it pulls over them."""
    local: dict[str, dict[str, Any]] = {"phone": {}, "laptop": {}}
    steps = itertools.cycle([(phone, 0, 3), (laptop, 5, 2), (phone, 1, 1), (laptop, 0, 2)])
    for n, (device, skew, count) in zip(range(40), steps, strict=False):
        mine = [
            create(f"i{(n * 7 + k) % 5}", n + skew, **{("title", "notes")[k % 2]: f"{n} {k}"})
            for k in range(count)
        ]
        if n % 9 == 8:
            mine.append(delete(f"i{n % 5}", n + skew))
        data = await device.send(*mine)
        own = local[device.name]
        for one, ack in zip(mine, data["acknowledged"], strict=True):
            assert ack["success"]
            if not ack.get("conflict"):
                old = own.get(one["id"], {"createdAt": one["timestamp"]})
                gone = one["timestamp"] if one["operation"] == "delete" else None
                own[one["id"]] = {
                    **old,
                    **one.get("data", {}),
                    "id": one["id"],
                    "updatedAt": one["timestamp"],
                    "deletedAt": gone,
                    "deviceId": device.name,
                }
        own.update(by_id(data))
    for device in (phone, laptop):
        local[device.name].update(await device.pull())
    stands = await phone.initial()
    for own in local.values():
        shown = {key: row for key, row in own.items() if row["deletedAt"] is None}
        assert shown.keys() == stands.keys()
        for key, row in shown.items():
            assert row == {name: stands[key][name] for name in row}


# --- rows and /initial ----------------------------------------------------------------------


async def test_rows_have_their_ids_twice_and_the_fields_of_the_source_document(
    phone: Device, laptop: Device
) -> None:
    await phone.done(create("a", 3, title="x", spaceId=None))
    assert (await laptop.pull())["a"] == {
        "id": "a",
        "_id": "a",
        "userId": "ada",
        "title": "x",
        "spaceId": None,
        "createdAt": at(3),
        "updatedAt": at(3),
        "deletedAt": None,
        "deviceId": "phone",
    }


async def test_initial_of_nobody_is_empty_and_its_cursor_goes_on(
    phone: Device, laptop: Device, api: Api
) -> None:
    data = (await api.get(INITIAL)).ok()["data"]
    assert data["acknowledged"] == []
    assert data["serverUpdates"] == NOTHING
    laptop.cursor = data["syncTimestamp"]
    await phone.done(create("a"))
    assert (await laptop.pull()).keys() == {"a"}


async def test_initial_is_complete_at_its_stamp_and_without_deleted_rows(
    phone: Device, laptop: Device, api: Api
) -> None:
    await phone.done(*(create(f"i{n}", kind=("item", "space")[n % 2]) for n in range(40)))
    await phone.done(delete("i0", 1), delete("never"), update("i2", 1, title="x"))
    answer = await api.get(INITIAL)
    conforms((await api.get("/openapi.json")).ok(), "GET", INITIAL, answer)
    data = answer.ok()["data"]
    assert data.keys() == {"acknowledged", "serverUpdates", "syncTimestamp", "epoch"}
    assert {row["id"] for row in rows(data)} == {f"i{n}" for n in range(1, 40)}
    laptop.cursor = data["syncTimestamp"]
    assert await laptop.pull() == {}
    await phone.done(delete("i2", 2))
    assert (await laptop.pull())["i2"]["deletedAt"] == at(2)


# --- the epoch ------------------------------------------------------------------------------


async def test_the_epoch_is_the_databases_and_comes_with_every_answer(
    stores: dict[str, Any], instances: Instances
) -> None:
    epochs = set()
    async with serving(**stores) as one, serving(**stores) as two:
        for server in (one, two):
            device = await instances.device(server.url)
            epochs.add((await device.send())["epoch"])
            epochs.add((await device.send(create("a")))["epoch"])
            epochs.add((await device.api.get(INITIAL)).ok()["data"]["epoch"])
    other = {**stores, "mongodb_db": stores["mongodb_db"] + "_"}
    async with serving(**other) as server:
        device = await instances.device(server.url)
        another = (await device.send())["epoch"]
    assert len(epochs) == 1
    assert another not in epochs


async def test_the_epoch_of_another_database_is_a_410_and_nothing_is_pushed(
    api: Api, phone: Device
) -> None:
    epoch = (await phone.done(create("a")))["epoch"]
    assert await phone.pull(epoch=epoch) == {}
    body = {"deviceId": "phone", "lastSyncTimestamp": phone.cursor, "changes": [create("b")]}
    answer = await api.post(SYNC_PATH, {**body, "epoch": "of another database"})
    assert "null" in answer.problem(410, "full_sync_required")["detail"]
    conforms((await api.get("/openapi.json")).ok(), "POST", SYNC_PATH, answer)
    assert (await phone.initial()).keys() == {"a"}


async def test_who_was_refused_with_410_goes_on_with_null_and_the_new_epoch(
    api: Api, phone: Device, laptop: Device
) -> None:
    await phone.done(create("a"))
    body = {"deviceId": "laptop", "lastSyncTimestamp": at(), "changes": [], "epoch": "old"}
    (await api.post(SYNC_PATH, body)).problem(410, "full_sync_required")
    data = await laptop.send(lastSyncTimestamp=None)
    assert by_id(data).keys() == {"a"}
    assert await laptop.pull(epoch=data["epoch"]) == {}
