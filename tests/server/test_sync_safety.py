"""Nobody reaches another's entities, and nothing is stored that no entity has."""

from typing import Any

import aiohttp
import pytest

from tests.rest import Api
from tests.serving import serving
from tests.syncing import (
    INITIAL,
    LOG,
    SYNC_PATH,
    Device,
    Instances,
    at,
    change,
    create,
    delete,
    stored,
    titles,
    update,
)

pytestmark = pytest.mark.usefixtures("quiet")

UUID = "550e8400-e29b-41d4-a716-446655440000"
ITEM_FIELDS: dict[str, Any] = {
    "type": "movie",
    "title": "t",
    "notes": "n",
    "description": "d",
    "movieId": "27205",
    "bookId": "OL27479W",
    "placeId": "p",
    "isCompleted": True,
    "status": "s",
    "priority": 1,
    "order": 2,
    "tags": ["a"],
    "spaceId": "s",
    "categoryId": "c",
}
SPACE_FIELDS: dict[str, Any] = {
    "name": "n",
    "title": "t",
    "description": "d",
    "type": "x",
    "icon": "i",
    "color": "#fff",
    "order": 1.5,
    "isDefault": False,
}
BOOKKEEPING: dict[str, Any] = {
    "id": "x",
    "_id": "x",
    "userId": "bob",
    "createdAt": "2001-01-01T00:00:00.000Z",
    "updatedAt": "2999-01-01T00:00:00.000Z",
    "deletedAt": "2001-01-01T00:00:00.000Z",
    "deviceId": "another",
    "__v": 3,
}
NO_FIELDS: dict[str, Any] = {
    "poster": "/inception.jpg",
    "rating": 8.8,
    "year": 2010,
    "cover": "x",
    "metadata": {},
    "user": "bob",
    "stamp": 0,
    "exact": False,
    "$set": {"userId": "bob"},
    "$where": "1",
    "a.b": 1,
    "data.title": "x",
    "__proto__": {"isAdmin": True},
    "constructor": {},
    "movie_id": "1",
    "MovieId": "1",
    "": 1,
    "\0": 1,
}


@pytest.fixture
def ada(http: aiohttp.ClientSession) -> Device:
    return Device(Api(http, "ada"))


@pytest.fixture
def bob(http: aiohttp.ClientSession) -> Device:
    return Device(Api(http, "bob"))


async def test_someone_elses_uuid_is_like_a_free_one(ada: Device, bob: Device) -> None:
    await ada.done(create(UUID, 10, title="ada's"))
    before = await ada.initial()
    early = update(UUID, 20, title="x")
    await bob.refused(early, "entity_missing", retryable=True)
    await bob.done(create(UUID, 5, title="bob's"))
    assert titles(await bob.send(lastSyncTimestamp=None)) == {UUID: "bob's"}
    await bob.done(delete(UUID, 99))
    assert await ada.initial() == before
    assert await ada.pull() == {}


async def test_users_never_see_each_other(ada: Device, bob: Device) -> None:
    await ada.done(create("a"), create("b", kind="space"))
    assert await bob.pull() == {}
    assert await bob.initial() == {}
    assert (await bob.api.get(LOG)).ok()["data"]["operations"] == []


async def test_a_service_token_syncs_for_itself_only(http: aiohttp.ClientSession) -> None:
    await Device(Api(http, "ada")).done(create("a"))
    backend = Device(Api(http, "backend", role="service"))
    assert await backend.pull() == {}
    refused = await backend.api.post(SYNC_PATH, {"userId": "ada"})
    refused.refused_name(400, "unknown_field", "userId")
    refused = await backend.api.get(INITIAL, params={"userId": "ada"})
    refused.refused_name(400, "unknown_field", "userId")


async def test_every_documented_field_is_stored_and_comes_back(ada: Device) -> None:
    await ada.done(
        create("s", kind="space", **SPACE_FIELDS),
        create("c", kind="category", **SPACE_FIELDS, spaceId="s"),
        create("i", **ITEM_FIELDS),
    )
    found = await ada.initial()
    for row_id, fields in {
        "s": SPACE_FIELDS,
        "c": {**SPACE_FIELDS, "spaceId": "s"},
        "i": ITEM_FIELDS,
    }.items():
        row = found[row_id]
        assert {name: row[name] for name in fields} == fields
        assert row.keys() - fields.keys() == BOOKKEEPING.keys() - {"__v"}


async def test_the_bookkeeping_of_a_row_is_ignored_and_never_stored(
    ada: Device, bob: Device, stores: dict[str, Any]
) -> None:
    await ada.done(change("create", "x", {"title": "t", **BOOKKEEPING}))
    await ada.done(change("update", "x", {"notes": "n", **BOOKKEEPING}, 1))
    (doc,) = stored(stores, "sync_entities")
    assert doc["user"] == "ada"
    assert doc["data"] == {"title": "t", "notes": "n"}
    assert doc["deletedAt"] is None
    row = (await ada.initial())["x"]
    assert (row["createdAt"], row["updatedAt"]) == (at(), at(1))
    assert (row["userId"], row["deviceId"]) == ("ada", "phone")
    assert await bob.initial() == {}


async def test_what_is_no_field_is_refused_by_name_and_never_stored(
    ada: Device, stores: dict[str, Any]
) -> None:
    await ada.done(create("i", title="t"))
    for name, value in NO_FIELDS.items():
        for sent in (
            change("create", "new", {name: value, "title": "x"}),
            change("update", "i", {name: value}, 1),
        ):
            ack = await ada.refused(sent, "unknown_field")
            shown = name.replace("~", "~0").replace("/", "~1")
            assert [fault["pointer"] for fault in ack["errors"]] == [f"/data/{shown}"]
            assert name in ack["message"]
    (doc,) = stored(stores, "sync_entities")
    assert doc["data"] == {"title": "t"}
    assert len(stored(stores, "sync_log")) == 1


async def test_operators_as_values_are_refused_where_a_text_is_due(
    ada: Device, stores: dict[str, Any]
) -> None:
    for name in ("title", "movieId", "spaceId", "status", "isCompleted"):
        for value in ({"$ne": None}, {"$gt": ""}, ["a"], [{"$set": 1}]):
            await ada.refused(change("create", "i", {name: value}), "invalid_type")
    await ada.refused(change("create", "i", {"tags": [{"$ne": 1}]}), "invalid_type")
    for ack_of in (
        {**create("i"), "id": {"$ne": 1}},
        {**create("i"), "operationId": {"$gt": ""}},
        {**create("i"), "entityType": {"$in": ["item"]}},
        {**create("i"), "deviceId": {"$ne": 1}},
    ):
        await ada.refused(ack_of, "invalid_type")
    assert stored(stores, "sync_entities") == []


async def test_texts_with_a_meaning_elsewhere_are_only_texts(ada: Device) -> None:
    words = ["$set", "a.b", "__proto__", "\0", "' or 1=1", "<script>", "\U0001f600", "{$ne: 1}"]
    await ada.done(*(create(f"i{n}", title=word) for n, word in enumerate(words)))
    found = await ada.initial()
    assert [found[f"i{n}"]["title"] for n in range(len(words))] == words


async def test_bounds_of_fields_are_kept(ada: Device) -> None:
    largest: dict[str, Any] = {
        "title": "x" * 500,
        "notes": "x" * 10_000,
        "movieId": "x" * 128,
        "tags": ["x" * 64] * 100,
    }
    await ada.done(change("create", "i", largest))
    for name, value in largest.items():
        longer = [*value, "x"] if isinstance(value, list) else value + "x"
        await ada.refused(change("update", "i", {name: longer}, 1), "invalid_value")
    await ada.refused(change("update", "i", {"tags": ["x" * 65]}, 1), "invalid_value")
    await ada.refused(change("update", "i", {"order": 1e300}, 1), "invalid_value")


async def test_a_user_has_as_many_entities_as_allowed_and_no_more(
    stores: dict[str, Any],
) -> None:
    async with serving(**stores, sync_max_entities=5) as server, Instances() as made:
        phone = await made.device(server.url)
        await phone.done(*(create(f"i{n}") for n in range(4)))
        over = create("i5")
        acks = (await phone.send(create("i4"), over, update("i0", 1, title="x")))["acknowledged"]
        assert [ack.get("code") for ack in acks] == [None, "entity_limit", None]
        await phone.refused(over, "entity_limit")
        await phone.done(create("i0", 2, title="y"), delete("i4", 2))
        bob = await made.device(server.url, "bob")
        await bob.done(create("i0"))
        assert len(await phone.initial()) == 4
