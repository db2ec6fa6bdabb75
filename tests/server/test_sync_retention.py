"""Tombstones: kept for ever, or as long as configured; who was away longer starts anew."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from server.keys import SYNC
from tests.server.test_openapi import conforms
from tests.serving import Served, serving
from tests.syncing import (
    SYNC_PATH,
    Device,
    Instances,
    at,
    create,
    delete,
    stand_still,
    stored,
    update,
)

pytestmark = pytest.mark.usefixtures("quiet")

DAY = 86_400_000


@pytest.fixture
async def short(stores: dict[str, Any]) -> AsyncIterator[Served]:
    """A server that keeps tombstones for ten days."""
    async with serving(**stores, sync_tombstones_kept="10d") as server:
        yield server


@pytest.fixture
def now(short: Served, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Its clock, standing."""
    return stand_still(short, monkeypatch)


@pytest.fixture
async def instances() -> AsyncIterator[Instances]:
    async with Instances() as made:
        yield made


@pytest.fixture
async def phone(short: Served, instances: Instances) -> Device:
    return await instances.device(short.url)


@pytest.fixture
async def laptop(short: Served, instances: Instances) -> Device:
    return await instances.device(short.url, name="laptop")


async def prune(server: Served) -> None:
    await server.app[SYNC]._prune()


def ids(stores: dict[str, Any]) -> set[str]:
    return {doc["id"] for doc in stored(stores, "sync_entities")}


async def refused(device: Device, *changes: Any) -> Any:
    body = {"deviceId": device.name, "lastSyncTimestamp": device.cursor, "changes": [*changes]}
    answer = await device.api.post(SYNC_PATH, body)
    assert "null" in answer.problem(410, "full_sync_required")["detail"]
    return answer


async def test_by_default_tombstones_are_kept_for_ever_and_no_cursor_is_too_old(
    served: Served, stores: dict[str, Any], instances: Instances, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = stand_still(served, monkeypatch)
    phone = await instances.device(served.url)
    laptop = await instances.device(served.url, name="laptop")
    await phone.done(create("a"), create("b"))
    await laptop.pull()
    await phone.done(delete("a", 1))
    now[0] += 3650 * DAY
    await phone.done(update("b", 2, title="x"))
    assert (await laptop.pull())["a"]["deletedAt"] == at(1)
    assert ids(stores) == {"a", "b"}


async def test_old_tombstones_go_and_nothing_else(
    short: Served, now: list[int], phone: Device, stores: dict[str, Any]
) -> None:
    await phone.done(*(create(row_id) for row_id in ("gone", "later", "alive", "back")))
    await phone.done(delete("gone", 1), delete("back", 1))
    now[0] += 5 * DAY
    await phone.done(delete("later", 1), create("back", 2))
    now[0] += 5 * DAY
    await prune(short)  # the first ones are just as old as they may get
    assert ids(stores) == {"gone", "later", "alive", "back"}
    now[0] += DAY
    await prune(short)
    assert ids(stores) == {"later", "alive", "back"}
    assert (await phone.initial()).keys() == {"alive", "back"}


async def test_many_old_tombstones_go_at_once(
    short: Served, now: list[int], phone: Device, laptop: Device, stores: dict[str, Any]
) -> None:
    for part in range(3):
        await phone.done(*(delete(f"{part}-{n}") for n in range(400)))
    now[0] += 11 * DAY
    await prune(short)
    assert ids(stores) == set()


async def test_a_cursor_older_than_the_horizon_is_a_410_and_nothing_is_pushed(
    now: list[int], phone: Device, laptop: Device, stores: dict[str, Any]
) -> None:
    await phone.done(create("a"))
    await laptop.pull()
    await phone.done(delete("a", 1), create("b"))
    now[0] += 11 * DAY
    answer = await refused(laptop, create("c"))
    conforms((await laptop.api.get("/openapi.json")).ok(), "POST", SYNC_PATH, answer)
    assert ids(stores) == {"a", "b"}


async def test_a_cursor_within_the_horizon_misses_no_deletion(
    short: Served, now: list[int], phone: Device, laptop: Device
) -> None:
    await phone.done(create("a"), create("b"))
    await laptop.pull()
    now[0] += DAY
    await phone.done(delete("a", 1))
    now[0] += 9 * DAY
    await prune(short)
    assert (await laptop.pull())["a"]["deletedAt"] == at(1)


async def test_who_starts_anew_with_null_has_what_stands_and_goes_on_from_there(
    short: Served, now: list[int], phone: Device, laptop: Device
) -> None:
    await phone.done(create("a"), create("b"))
    await laptop.pull()
    await phone.done(delete("a", 1))
    now[0] += 30 * DAY
    await prune(short)
    await refused(laptop)
    laptop.cursor = None
    assert (await laptop.pull()).keys() == {"b"}
    assert await laptop.pull() == {}  # though nothing was pushed for longer than the horizon
    now[0] += 30 * DAY
    assert await laptop.pull() == {}
    await laptop.done(create("c"))
    await refused(phone)


async def test_who_has_nothing_yet_may_stay_so_for_long(
    now: list[int], phone: Device, laptop: Device
) -> None:
    assert await laptop.pull() == {}
    now[0] += 30 * DAY
    assert await laptop.pull() == {}
    await phone.done(create("a"))
    laptop.cursor = None
    assert (await laptop.pull()).keys() == {"a"}


async def test_a_token_of_a_page_ages_as_its_cursor_does(
    now: list[int], phone: Device, laptop: Device
) -> None:
    await phone.done(create("a"))
    await laptop.pull()
    now[0] += DAY
    await phone.done(create("b"), create("c"))
    token = (await laptop.send(limit=1))["pageToken"]
    now[0] += 10 * DAY
    body = {"deviceId": "laptop", "limit": 1, "pageToken": token}
    (await laptop.api.post(SYNC_PATH, body)).problem(410, "full_sync_required")


async def test_pruned_entities_make_room(
    stores: dict[str, Any], instances: Instances, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(**stores, sync_tombstones_kept="10d", sync_max_entities=3) as server:
        now = stand_still(server, monkeypatch)
        device = await instances.device(server.url)
        await device.done(create("a"), create("b"), delete("a", 1), delete("b", 1), create("c"))
        await device.refused(create("d"), "entity_limit")
        now[0] += 11 * DAY
        await prune(server)
        device.cursor = None
        await device.done(create("d"), create("e"))
        await device.refused(create("f"), "entity_limit")
