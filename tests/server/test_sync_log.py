"""`GET /api/sync/log`: one's own recent operations, in pages, for as long as they are kept."""

from typing import Any

import aiohttp
import pytest
from pymongo import MongoClient

from tests.rest import ISO, Api
from tests.server.test_openapi import conforms
from tests.serving import Served, serving
from tests.syncing import (
    LOG,
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
def phone(api: Api) -> Device:
    return Device(api)


@pytest.fixture
def laptop(api: Api) -> Device:
    return Device(api, "laptop")


async def page(api: Api, **params: str) -> Any:
    answer = (await api.get(LOG, params=params)).ok()
    assert answer.keys() == {"success", "data"}
    assert answer["success"] is True
    assert answer["data"].keys() == {"operations", "cursor"}
    return answer["data"]


async def test_it_has_what_was_carried_out_or_lost_newest_first_and_nothing_refused(
    phone: Device, laptop: Device
) -> None:
    made = create("a", 10, title="x")
    await phone.done(made)
    late = update("a", 5, title="y")
    await laptop.send(late, create("b", poster="x"), update("missing"), made | {"id": None})
    await phone.send(made)
    first, second = (await page(phone.api))["operations"]
    shown = {
        "operationId": late["operationId"],
        "deviceId": "laptop",
        "entityType": "item",
        "entityId": "a",
        "operation": "update",
        "timestamp": at(5),
        "appliedTimestamp": at(5),
        "conflict": True,
    }
    assert ISO.fullmatch(first.pop("syncTimestamp"))
    assert first == shown
    assert second["operationId"] == made["operationId"]
    assert second["conflict"] is False


async def test_a_time_ahead_is_shown_beside_the_one_that_counts(
    served: Served, phone: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_still(served, monkeypatch, when=100)
    await phone.done(create("a", 500))
    (one,) = (await page(phone.api))["operations"]
    assert (one["timestamp"], one["appliedTimestamp"]) == (at(500), at(100))


async def test_its_pages_have_together_everything_once_while_others_write(
    phone: Device, api: Api
) -> None:
    for n in range(3):
        await phone.done(*(create(f"{n}-{k}") for k in range(5)))
    spec = (await api.get("/openapi.json")).ok()
    got: list[str] = []
    params = {"limit": "4"}
    while True:
        answer = await api.get(LOG, params=params)
        conforms(spec, "GET", LOG, answer)
        data = answer.ok()["data"]
        assert len(data["operations"]) <= 4
        got += [one["entityId"] for one in data["operations"]]
        await phone.done(create(f"later{len(got)}"))
        if data["cursor"] is None:
            break
        params["cursor"] = data["cursor"]
    assert len(got) == 15
    assert sorted(got) == sorted(f"{n}-{k}" for n in range(3) for k in range(5))
    assert [entity[0] for entity in got] == ["2"] * 5 + ["1"] * 5 + ["0"] * 5


async def test_who_has_pushed_nothing_has_an_empty_log(api: Api) -> None:
    assert await page(api) == {"operations": [], "cursor": None}


async def test_garbage_as_cursor_is_refused_and_anothers_shows_nothing_of_theirs(
    http: aiohttp.ClientSession, phone: Device
) -> None:
    await phone.done(*(create(f"i{n}") for n in range(3)))
    cursor = (await page(phone.api, limit="1"))["cursor"]
    bob = Device(Api(http, "bob"))
    await bob.done(create("b"))
    mine = await page(bob.api, cursor=cursor)
    assert {one["entityId"] for one in mine["operations"]} <= {"b"}
    for garbage in ("", "x", "1", "1.x", ".", "-1.00", f"{10**20}.00", "é.00", "1.0", "$gt"):
        answer = await phone.api.get(LOG, params={"cursor": garbage})
        if answer.status != 200:
            answer.refused_name(400, "invalid_value", "cursor")
    for name, value in {"limit": "0", "page": "2", "userId": "bob"}.items():
        answer = await phone.api.get(LOG, params={name: value})
        assert answer.status == 400
        assert name in answer.raw.decode()
    assert (await phone.api.get(LOG, params={"limit": "201"})).status == 400


async def test_it_is_kept_90_days_by_default_or_as_configured_by_a_ttl_index(
    served: Served, phone: Device, stores: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = stand_still(served, monkeypatch)
    await phone.done(create("a"))
    assert [int(op["goesAt"].timestamp() * 1000) for op in stored(stores, "sync_log")] == [
        now[0] + 90 * DAY
    ]
    with MongoClient[dict[str, Any]](stores["mongodb_uri"]) as client:
        indexes = client[stores["mongodb_db"]]["sync_log"].index_information().values()
    assert [
        (index["key"], index["expireAfterSeconds"])
        for index in indexes
        if "expireAfterSeconds" in index
    ] == [([("goesAt", 1)], 0)]
    async with serving(**stores, sync_log_kept="7d") as server, Instances() as made:
        now = stand_still(server, monkeypatch)
        device = await made.device(server.url, "bob")
        await device.done(create("a"))
    (op,) = [op for op in stored(stores, "sync_log") if op["user"] == "bob"]
    assert int(op["goesAt"].timestamp() * 1000) == now[0] + 7 * DAY


async def test_a_repeat_of_what_has_left_the_log_is_applied_to_itself_or_has_lost(
    phone: Device, laptop: Device, stores: dict[str, Any]
) -> None:
    mine, gone = create("a", 5, title="x"), create("b", 5, title="x")
    await phone.done(mine, gone)
    await laptop.done(delete("b", 6))
    with MongoClient[dict[str, Any]](stores["mongodb_uri"]) as client:
        client[stores["mongodb_db"]]["sync_log"].delete_many({})
    before = await Device(phone.api).pull()
    acks = (await phone.send(mine, gone))["acknowledged"]
    assert [(ack["success"], ack.get("conflict")) for ack in acks] == [(True, None), (True, True)]
    assert await Device(phone.api).pull() == before
