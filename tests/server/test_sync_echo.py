"""What a device has just pushed does not come back to it, unless it cannot know how it stands."""

import time
from typing import Any

import pytest

from domain.times import iso
from server.keys import SYNC
from tests.devices import Device, alive, rows_of
from tests.rest import Api
from tests.serving import Served

X, Y = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"


def now() -> int:
    return time.time_ns() // 1_000_000


async def exchange(api: Api, device: Device, **more: Any) -> Any:
    """The device syncs; answers what has come."""
    data = (await api.post("/api/sync", device.body(**more))).ok()["data"]
    device.take(data)
    return rows_of(data["serverUpdates"])


async def lose_the_answer(api: Api, device: Device) -> None:
    (await api.post("/api/sync", device.body())).ok()


async def initial(api: Api) -> Any:
    return rows_of((await api.get("/api/sync/initial")).ok()["data"]["serverUpdates"])


@pytest.fixture
def phone() -> Device:
    return Device("ada", "phone")


@pytest.fixture
def tablet() -> Device:
    return Device("ada", "tablet")


async def test_neither_a_create_nor_an_update_of_what_it_has_comes_back(
    api: Api, phone: Device, tablet: Device
) -> None:
    phone.write("item", X, "create", {"title": "a"}, now())
    assert await exchange(api, phone) == {}
    await exchange(api, tablet)
    tablet.write("item", X, "update", {"notes": "b"}, now())
    assert await exchange(api, tablet) == {}
    assert tablet.rows == await initial(api)


async def test_a_repeat_after_a_lost_answer_brings_what_others_had_written_before_it(
    api: Api, phone: Device, tablet: Device
) -> None:
    phone.write("item", X, "create", {"title": "a"}, now())
    await exchange(api, phone)
    await exchange(api, tablet)
    tablet.write("item", X, "update", {"notes": "by the tablet"}, now())
    await exchange(api, tablet)
    phone.write("item", X, "update", {"title": "b"}, now())
    await lose_the_answer(api, phone)
    await exchange(api, phone)
    assert phone.rows == await initial(api)


async def test_a_repeat_of_what_only_this_device_has_written_does_not_come_back(
    api: Api, phone: Device
) -> None:
    phone.write("item", X, "create", {"title": "a"}, now())
    await lose_the_answer(api, phone)
    assert await exchange(api, phone) == {}
    assert phone.rows == await initial(api)


async def test_a_cursor_to_come_brings_all_rows_whole_also_those_just_pushed(
    api: Api, phone: Device, tablet: Device
) -> None:
    tablet.write("item", X, "create", {"title": "a", "notes": "by the tablet"}, now())
    await exchange(api, tablet)
    for more in ({}, {"limit": 10}):
        phone.wipe()
        phone.cursor = iso(now() + 3_600_000)
        phone.write("item", X, "update", {"title": "b"}, now())
        await exchange(api, phone, **more)
        assert phone.rows == await initial(api)


async def test_pages_know_by_the_cursor_that_they_began_with_what_the_device_has(
    api: Api, phone: Device, tablet: Device
) -> None:
    for row_id in (X, Y):
        tablet.write("item", row_id, "create", {"title": "a", "notes": "by the tablet"}, now())
        await exchange(api, tablet)
    phone.cursor = iso(now() + 3_600_000)
    for row_id in (X, Y):
        phone.write("item", row_id, "update", {"title": "b"}, now())
    first = (await api.post("/api/sync", phone.body(limit=1))).ok()["data"]
    phone.take(first)
    assert first["hasMore"]
    await exchange(api, phone, limit=1, pageToken=first["pageToken"])
    assert phone.rows == await initial(api)


async def test_a_repeat_that_stores_nothing_hides_no_push_that_comes_right_after_it(
    served: Served, api: Api, phone: Device, tablet: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stamp was never issued: the other push gets the same one."""
    service = served.app[SYNC]
    repository = service._repository
    changed, moment = repository.changed, now() + 1_000
    monkeypatch.setattr(service, "_clock", lambda: moment)
    phone.write("item", X, "create", {"title": "a"}, now())
    await exchange(api, phone)

    async def overtaken(*args: Any) -> int:
        monkeypatch.setattr(repository, "changed", changed)
        tablet.write("item", Y, "create", {"title": "b"}, now())
        await exchange(api, tablet)
        return await changed(*args)

    phone.queue.append({**_last_change(phone), "id": X})
    monkeypatch.setattr(repository, "changed", overtaken)
    await exchange(api, phone)
    assert alive(phone.rows) == await initial(api)


def _last_change(device: Device) -> dict[str, Any]:
    row = device.rows["item", X]
    return {
        "operationId": f"op-{device.written}",
        "entityType": "item",
        "operation": "create",
        "data": {"title": row["title"]},
        "timestamp": row["createdAt"],
        "deviceId": device.name,
    }
