"""A person's entities and log: exported to them, and gone for good when they are erased."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from server.keys import SYNC
from tests.rest import Api
from tests.server.test_openapi import conforms
from tests.serving import Served, serving
from tests.syncing import INITIAL, LOG, SYNC_PATH, Device, Instances, create, delete, stored, update

pytestmark = pytest.mark.usefixtures("quiet")

ME = "/api/auth/me"
COLLECTIONS = ("sync_entities", "sync_log", "sync_heads")


@pytest.fixture
def phone(api: Api) -> Device:
    return Device(api)


async def exported(api: Api) -> list[dict[str, Any]]:
    """What the export has of sync."""
    answer = await api.get(f"{ME}/export")
    assert answer.status == 200
    records = [json.loads(line) for line in answer.raw.splitlines()]
    return [one for one in records if one["feature"] == "sync"]


async def erase(api: Api) -> None:
    (await api.send("DELETE", ME)).ok()


def held(stores: dict[str, Any], user: str = "ada") -> dict[str, int]:
    """How many documents with anything of the user each collection has."""
    return {
        name: len([doc for doc in stored(stores, name) if doc.get("user") == user])
        for name in ("sync_entities", "sync_log")
    }


async def test_the_export_has_entities_tombstones_and_log(phone: Device) -> None:
    made = create("a", title="x", notes="n")
    await phone.done(made, create("s", kind="space"))
    await phone.done(delete("s", 1, kind="space"))
    records = await exported(phone.api)
    entities = {one["id"]: one for one in records if "id" in one}
    assert entities.keys() == {"a", "s"}
    assert (entities["a"]["entityType"], entities["a"]["title"]) == ("item", "x")
    assert entities["s"]["deletedAt"] is not None
    operations = [one for one in records if "operationId" in one]
    assert made["operationId"] in {one["operationId"] for one in operations}
    assert len(operations) == 3


async def test_the_export_has_nothing_of_others(http: aiohttp.ClientSession) -> None:
    await Device(Api(http, "bob")).done(create("b", title="bob's"))
    await Device(Api(http, "ada")).done(create("a"))
    assert {one.get("id", "a") for one in await exported(Api(http, "ada"))} == {"a"}


async def test_erasure_leaves_nothing_but_a_tombstone_and_nobody_else_loses_anything(
    http: aiohttp.ClientSession, phone: Device, stores: dict[str, Any]
) -> None:
    bob = Device(Api(http, "bob"))
    await bob.done(create("a", title="bob's"))
    await phone.done(*(create(f"i{n}", title="a secret") for n in range(20)), delete("i3", 1))
    await erase(phone.api)
    assert held(stores) == {"sync_entities": 0, "sync_log": 0}
    assert "a secret" not in str([stored(stores, name) for name in COLLECTIONS])
    assert held(stores, "bob") == {"sync_entities": 1, "sync_log": 1}
    assert (await bob.initial())["a"]["title"] == "bob's"


async def test_later_pushes_and_pulls_are_erased_on_every_instance(
    phone: Device, stores: dict[str, Any], served: Served
) -> None:
    await phone.done(create("a"))
    async with serving(**stores) as two, Instances() as made:
        there = await made.device(two.url)
        await there.pull()
        await erase(phone.api)
        spec = (await phone.api.get("/openapi.json")).ok()
        for device in (phone, there):
            body = {"deviceId": "phone", "changes": [create("b")]}
            for method, path, sent in (
                ("POST", SYNC_PATH, body),
                ("POST", SYNC_PATH, {"lastSyncTimestamp": None}),
                ("POST", SYNC_PATH, {"limit": 5}),
                ("GET", INITIAL, None),
            ):
                answer = await device.api.send(method, path, json=sent)
                answer.problem(410, "erased")
                conforms(spec, method, path, answer)
            log = await device.api.get(LOG)
            assert log.status == 410 or log.json["data"]["operations"] == []
    assert held(stores) == {"sync_entities": 0, "sync_log": 0}


async def test_who_never_pushed_and_is_erased_cannot_push_either(
    phone: Device, stores: dict[str, Any]
) -> None:
    await erase(phone.api)
    body = {"deviceId": "phone", "changes": [create("b")]}
    (await phone.api.post(SYNC_PATH, body)).problem(410, "erased")
    assert held(stores) == {"sync_entities": 0, "sync_log": 0}


async def test_a_push_under_way_in_that_moment_leaves_nothing(
    served: Served,
    phone: Device,
    stores: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await phone.done(create("a"))
    repository: Any = served.app[SYNC]._repository
    storing, go_on = asyncio.Event(), asyncio.Event()
    store = repository._store

    async def slow(*args: Any) -> None:
        storing.set()
        await go_on.wait()
        await store(*args)

    monkeypatch.setattr(repository, "_store", slow)
    body = {"deviceId": "phone", "changes": [create("b", title="late")]}
    pushing = asyncio.create_task(phone.api.post(SYNC_PATH, body))
    await storing.wait()
    erasing = asyncio.create_task(phone.api.send("DELETE", ME))
    while not [doc for doc in stored(stores, "users") if doc.get("erased")]:
        await asyncio.sleep(0)  # the account goes first: the erasure is under way
    go_on.set()
    answer = await pushing
    assert (await erasing).status == 200
    if answer.status != 200:
        answer.problem(410, "erased")
    assert held(stores) == {"sync_entities": 0, "sync_log": 0}
    (await phone.api.post(SYNC_PATH, body)).problem(410, "erased")


async def test_pushes_and_pulls_all_around_the_erasure_leave_nothing(
    phone: Device, stores: dict[str, Any]
) -> None:
    first = asyncio.Event()

    async def work(n: int) -> list[int]:
        statuses = []
        for k in range(10):
            body = {"deviceId": f"d{n}", "changes": [create(f"{n}-{k}"), update("a", k, notes="n")]}
            statuses.append((await phone.api.post(SYNC_PATH, body)).status)
            first.set()
        return statuses

    working = [asyncio.create_task(work(n)) for n in range(4)]
    await first.wait()
    await erase(phone.api)
    for statuses in await asyncio.gather(*working):
        assert set(statuses) <= {200, 410}
        assert statuses == sorted(statuses)
    assert held(stores) == {"sync_entities": 0, "sync_log": 0}
