"""Pushing: what the source document sends works, and each change gets its acknowledgement."""

import asyncio
import gzip
import io
import json
from typing import Any

import aiohttp
import pytest

from tests.rest import ISO, Api
from tests.server.test_bodies import gzip_of_spaces
from tests.server.test_openapi import conforms
from tests.syncing import (
    INITIAL,
    NOTHING,
    SYNC_PATH,
    Device,
    applied,
    at,
    by_id,
    change,
    create,
    delete,
    rows,
    stored,
    titles,
    update,
)

pytestmark = pytest.mark.usefixtures("quiet")

ITEM_ID = "550e8400-e29b-41d4-a716-446655440000"
MAX_PUSH = 1024 * 1024


@pytest.fixture
def phone(api: Api) -> Device:
    return Device(api)


@pytest.fixture
def laptop(api: Api) -> Device:
    return Device(api, "laptop")


# --- the source document, word by word ------------------------------------------------------

QUEUED = {
    "operationId": "op-1767018600000-0.4327",
    "id": ITEM_ID,
    "entityType": "item",
    "operation": "create",
    "data": {
        "title": "Watch Inception",
        "type": "movie",
        "movieId": "27205",
        "isCompleted": False,
    },
    "timestamp": "2025-12-29T14:30:00.000Z",
    "deviceId": "device-001",
}


async def test_its_curl_works(api: Api) -> None:
    body = b"""{
    "deviceId": "test-device",
    "lastSyncTimestamp": "2025-01-01T00:00:00.000Z",
    "changes": []
  }"""
    answer = (await api.post_raw(SYNC_PATH, body)).ok()
    data = answer.pop("data")
    assert answer == {"success": True}
    assert ISO.fullmatch(data.pop("syncTimestamp"))
    assert isinstance(data.pop("epoch"), str)
    assert data == {"acknowledged": [], "serverUpdates": NOTHING}


async def test_its_clients_loop_empties_the_queue_and_fills_the_other_device(api: Api) -> None:
    queues: dict[str, list[Any]] = {"device-001": [QUEUED], "device-002": []}
    local: dict[str, dict[str, Any]] = {"device-001": {}, "device-002": {}}
    storage: dict[str, Any] = {}
    for _ in range(2):
        for device, queue in queues.items():
            body = {
                "deviceId": device,
                "lastSyncTimestamp": storage.get(device),
                "changes": queue,
            }
            result = (await api.post(SYNC_PATH, body)).ok()
            for item in result["data"]["serverUpdates"]["items"]:
                local[device][item["id"]] = item
            acked = {a["operationId"] for a in result["data"]["acknowledged"] if a["success"]}
            queues[device] = [one for one in queue if one["operationId"] not in acked]
            storage[device] = result["data"]["syncTimestamp"]
    assert queues == {"device-001": [], "device-002": []}
    assert local == {
        "device-001": {},
        "device-002": {
            ITEM_ID: {
                "id": ITEM_ID,
                "_id": ITEM_ID,
                "userId": "ada",
                "title": "Watch Inception",
                "type": "movie",
                "movieId": "27205",
                "isCompleted": False,
                "createdAt": "2025-12-29T14:30:00.000Z",
                "updatedAt": "2025-12-29T14:30:00.000Z",
                "deletedAt": None,
                "deviceId": "device-001",
            }
        },
    }


TIMES: dict[Any, str] = {
    "2025-12-29T14:30:00.123Z": "2025-12-29T14:30:00.123Z",  # JavaScript
    "2025-12-29T14:30:00.123456": "2025-12-29T14:30:00.123Z",  # Dart, local time
    "2025-12-29T14:30:00.123456Z": "2025-12-29T14:30:00.123Z",  # Dart, UTC
    "2025-12-29T14:30:00.000": "2025-12-29T14:30:00.000Z",
    "2025-12-29T15:30:00+01:00": "2025-12-29T14:30:00.000Z",
    1767018600123: "2025-12-29T14:30:00.123Z",
}


async def test_the_times_of_its_clients_are_understood(phone: Device, laptop: Device) -> None:
    for n, (sent, counts) in enumerate(TIMES.items()):
        one = {**create(f"i{n}", title="Watch Inception", movieId="27205"), "timestamp": sent}
        assert (await phone.ack(one))["appliedTimestamp"] == counts
        row = (await laptop.pull())[f"i{n}"]
        assert (row["createdAt"], row["updatedAt"]) == (counts, counts)


async def test_its_update_sends_only_what_has_changed(phone: Device, laptop: Device) -> None:
    await phone.done(QUEUED)
    await phone.done(update(ITEM_ID, 60, isCompleted=True))
    row = (await laptop.pull())[ITEM_ID]
    assert (row["isCompleted"], row["title"]) == (True, "Watch Inception")
    assert (row["createdAt"], row["updatedAt"]) == (at(), at(60))


async def test_its_test_flow(phone: Device, laptop: Device, api: Api) -> None:
    assert by_id((await api.get(INITIAL)).ok()["data"]) == {}
    await phone.done(create("s", kind="space", name="Personal", icon="home", color="#fff"))
    await phone.done(create("c", kind="category", name="Movies", spaceId="s", order=1))
    await phone.done(create("i", title="Watch", categoryId="c", spaceId="s", tags=["a", "b"]))
    await phone.done(update("i", 1, status="done", priority="high", notes="n", order=1.5))
    seen = await laptop.send()
    plurals = {plural: [r["id"] for r in of] for plural, of in seen["serverUpdates"].items()}
    assert plurals == {"spaces": ["s"], "categories": ["c"], "items": ["i"]}
    await phone.done(delete("i", 2))
    gone = (await laptop.pull())["i"]
    assert (gone["deletedAt"], gone["updatedAt"]) == (at(2), at(2))
    assert (await phone.initial()).keys() == {"s", "c"}


# --- acknowledgements -----------------------------------------------------------------------


async def test_acknowledgements_have_exactly_their_fields(phone: Device) -> None:
    first = create("a", 10, title="one")
    data = await phone.send(first)
    assert data.keys() == {"acknowledged", "serverUpdates", "syncTimestamp", "epoch"}
    assert data["acknowledged"] == [applied(first, 10)]
    assert data["serverUpdates"] == NOTHING
    again = await phone.send(first)
    assert again["acknowledged"] == [{**applied(first, 10), "duplicate": True}]
    late = update("a", 5, title="late")
    row = (await phone.initial())["a"]
    lost = await phone.send(late)
    assert lost["acknowledged"] == [{**applied(late, 5), "conflict": True, "server": row}]
    assert lost["serverUpdates"]["items"] == [row]
    bad = create("b", rating=8.8)
    ack = await phone.ack(bad)
    assert ack.pop("message")
    assert [fault["pointer"] for fault in ack.pop("errors")] == ["/data/rating"]
    assert ack == {
        "operationId": bad["operationId"],
        "id": "b",
        "success": False,
        "code": "unknown_field",
        "retryable": False,
    }


async def test_the_documents_own_example_is_answered_as_it_shows(api: Api) -> None:
    body = {
        "deviceId": "phone-1",
        "lastSyncTimestamp": None,
        "changes": [
            {
                "operationId": "op-1",
                "id": ITEM_ID,
                "entityType": "item",
                "operation": "create",
                "data": {"title": "Watch Inception", "type": "movie", "movieId": "27205"},
                "timestamp": "2026-01-15T10:30:00.000Z",
            }
        ],
    }
    data = (await api.post(SYNC_PATH, body)).ok()["data"]
    assert data["acknowledged"] == [
        {
            "operationId": "op-1",
            "id": ITEM_ID,
            "success": True,
            "appliedTimestamp": "2026-01-15T10:30:00.000Z",
        }
    ]
    assert data["serverUpdates"] == NOTHING


async def test_changes_are_applied_in_the_order_of_the_array(phone: Device, laptop: Device) -> None:
    changes = [
        create("a", 0, title="0"),
        *(update("a", 0, title=str(n)) for n in range(1, 20)),
        delete("b", 1),
        create("b", 2, title="again"),
        create("c", 1),
        delete("c", 2),
    ]
    data = await phone.send(*changes)
    acked = [ack["operationId"] for ack in data["acknowledged"]]
    assert acked == [one["operationId"] for one in changes]
    found = await laptop.pull()
    assert found["a"]["title"] == "19"
    assert found["b"]["deletedAt"] is None
    assert found["c"]["deletedAt"] == at(2)


BAD: list[Any] = [
    None,
    1,
    "create",
    [],
    [[]],
    {},
    {"operationId": "x"},
    {"id": "x"},
    {"operationId": 1, "id": {}, "entityType": [], "operation": {}, "timestamp": [], "data": 0},
    change("create", "x", {"poster": "/inception.jpg"}),
    change("create", "x", {"title": 1}),
    change("create", "x", {"tags": "a"}),
    change("create", "x", []),
    change("create", "x", None),
    change("create", "x", {"id": "y"}),
    change("create", "x", {"_id": {"$ne": 1}}),
    change("create", "x", {str(n): n for n in range(300)}),
    change("create", "x", {"order": 10**300}),
    change("create", "x", {"order": 2**64}),
    change("upsert", "x", {}),
    change("create", "x", {}, entityType="movie"),
    change("create", "x", {}, entityType="spaces"),
    change("create", "x", {}, entityType="__proto__"),
    change("create", "$x", {}),
    change("create", "x y", {}),
    change("create", "", {}),
    change("create", "x" * 129, {}),
    change("create", "x", {}, operationId=""),
    change("create", "x", {}, operationId="o" * 129),
    change("create", "x", {}, operationId=None),
    change("create", "x", {}, timestamp=None),
    change("create", "x", {}, timestamp="yesterday"),
    change("create", "x", {}, timestamp=-1),
    change("create", "x", {}, timestamp=True),
    change("create", "x", {}, timestamp="1969-12-31T23:59:59Z"),
    change("create", "x", {}, timestamp=1e300),
    change("create", "x", {}, deviceId="a b"),
    change("create", "x", {}, deviceId=5),
    change("create", "x", {}, userId="bob"),
    change("create", "x", {}, extra=1),
]


async def test_one_bad_change_never_stops_the_others(phone: Device, laptop: Device) -> None:
    changes: list[Any] = []
    for n, bad in enumerate(BAD):
        changes += [bad, create(f"good{n}", title="good")]
    acks = (await phone.send(*changes))["acknowledged"]
    assert len(acks) == len(changes)
    for sent, ack in zip(changes[::2], acks[::2], strict=True):
        assert ack["success"] is False, sent
        assert ack["retryable"] is False, sent
        assert ack["code"].startswith(("invalid_", "unknown_", "missing_")), sent
        given = sent if isinstance(sent, dict) else {}
        for name in ("operationId", "id"):
            text = given.get(name)
            assert ack[name] == (text[:128] if isinstance(text, str) else None)
    assert all(ack["success"] for ack in acks[1::2])
    assert (await laptop.pull()).keys() == {f"good{n}" for n in range(len(BAD))}


REFUSED: list[tuple[Any, str, str]] = [
    (change("create", "x", {"poster": "/a.jpg"}), "unknown_field", "/data/poster"),
    (change("create", "x", {"title": "t" * 501}), "invalid_value", "/data/title"),
    (change("create", "x", {}, entityType="movie"), "invalid_value", "/entityType"),
    (change("move", "x", {}), "invalid_value", "/operation"),
    (change("create", "x", {}, timestamp="soon"), "invalid_value", "/timestamp"),
    (change("create", "a b", {}), "invalid_id", "/id"),
    (change("create", "x", {}, deviceId="a b"), "invalid_id", "/deviceId"),
    (change("create", "x", {}, more=1), "unknown_field", "/more"),
    (change("update", "x"), "invalid_type", "/data"),
    ({"id": "x"}, "missing_field", "/operationId"),
]


async def test_a_bad_change_is_refused_naming_the_field(phone: Device) -> None:
    for sent, code, pointer in REFUSED:
        ack = await phone.refused(sent, code)
        assert ack["errors"][0]["pointer"] == pointer
        assert pointer.rpartition("/")[2] in ack["message"]


async def test_a_device_may_be_named_by_each_change_alone(api: Api) -> None:
    one, other = {**create("a"), "deviceId": "tablet"}, create("b")
    data = (await api.post(SYNC_PATH, {"changes": [one, other]})).ok()["data"]
    assert data["acknowledged"][0] == applied(one)
    assert data["acknowledged"][1]["code"] == "missing_field"
    assert "deviceId" in data["acknowledged"][1]["message"]


# --- limits ---------------------------------------------------------------------------------


async def test_of_700_changes_the_first_500_are_processed_and_the_rest_comes_next(
    phone: Device, laptop: Device
) -> None:
    queue = [create(f"i{n:03}", n) for n in range(700)]
    acks = (await phone.done(*queue))["acknowledged"]
    assert [ack["operationId"] for ack in acks] == [one["operationId"] for one in queue[:500]]
    assert len(await laptop.pull()) == 500
    assert len((await phone.done(*queue[500:]))["acknowledged"]) == 200
    assert len(await laptop.initial()) == 700


async def test_bad_changes_are_among_the_500(phone: Device) -> None:
    acks = (await phone.send(*[None] * 499, create("a"), create("b")))["acknowledged"]
    assert [ack["success"] for ack in acks] == [False] * 499 + [True]


def sized(size: int) -> bytes:
    body = json.dumps({"deviceId": "phone", "changes": [create("a", title="x")]}).encode()
    return body.ljust(size)


async def test_a_push_of_1_mib_is_read_and_one_byte_more_is_a_413_naming_the_limit(
    api: Api,
) -> None:
    spec = (await api.get("/openapi.json")).ok()
    assert (await api.post_raw(SYNC_PATH, sized(MAX_PUSH))).status == 200
    answer = await api.send("POST", SYNC_PATH, data=io.BytesIO(sized(MAX_PUSH + 1)))
    assert str(MAX_PUSH) in answer.problem(413, "payload_too_large")["detail"]
    conforms(spec, "POST", SYNC_PATH, answer)


async def test_a_push_compressed_is_read(api: Api, laptop: Device) -> None:
    body = gzip.compress(sized(MAX_PUSH))
    answer = await api.post_raw(SYNC_PATH, body, headers={"Content-Encoding": "gzip"})
    assert answer.ok()["data"]["acknowledged"][0]["success"] is True
    assert titles(await laptop.send()) == {"a": "x"}


async def test_a_push_that_inflates_beyond_the_limit_is_a_413_naming_it(api: Api) -> None:
    for bomb in (gzip_of_spaces(100), gzip.compress(sized(MAX_PUSH + 1))):
        assert len(bomb) < MAX_PUSH
        answer = await api.post_raw(SYNC_PATH, bomb, headers={"Content-Encoding": "gzip"})
        assert str(MAX_PUSH) in answer.problem(413, "payload_too_large")["detail"]
    assert by_id((await api.get(INITIAL)).ok()["data"]) == {}


async def test_a_large_answer_is_compressed_for_who_takes_it(api: Api, phone: Device) -> None:
    for part in range(3):  # more than a body may have
        await phone.done(*(create(f"{part}-{n}", notes="n" * 9000) for n in range(50)))
    headers = {"Accept-Encoding": "gzip"}
    packed = await api.get(INITIAL, headers=headers)
    assert packed.headers["Content-Encoding"] == "gzip"
    assert len(packed.raw) > MAX_PUSH  # inflated by the client
    assert int(packed.headers["Content-Length"]) < MAX_PUSH / 10
    plain = await api.get(INITIAL, headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    assert plain.raw == packed.raw
    body = {"deviceId": "laptop", "changes": []}
    pulled = await api.post(SYNC_PATH, body, headers=headers)
    assert pulled.headers["Content-Encoding"] == "gzip"
    assert len(rows(pulled.ok()["data"])) == 150


BODIES: list[tuple[Any, str, str]] = [
    ({"changes": {}}, "invalid_type", "changes"),
    ({"changes": None}, "invalid_type", "changes"),
    ({"deviceId": "a b"}, "invalid_id", "deviceId"),
    ({"deviceId": 5}, "invalid_type", "deviceId"),
    ({"limit": 0}, "invalid_value", "limit"),
    ({"limit": 1001}, "invalid_value", "limit"),
    ({"limit": "10"}, "invalid_type", "limit"),
    ({"epoch": 5}, "invalid_type", "epoch"),
    ({"userId": "bob"}, "unknown_field", "userId"),
    ({"pageToken": 5}, "invalid_type", "pageToken"),
]


async def test_a_body_that_is_wrong_as_a_whole_is_refused_naming_the_field(api: Api) -> None:
    for body, code, name in BODIES:
        (await api.post(SYNC_PATH, body)).refused_name(400, code, name)


async def test_a_token_is_needed(http: aiohttp.ClientSession) -> None:
    nobody = Api(http, None)
    (await nobody.post(SYNC_PATH, {})).problem(401, "missing_token")
    (await nobody.get(INITIAL)).problem(401, "missing_token")
    (await nobody.get("/api/sync/log")).problem(401, "missing_token")


# --- exactly once ---------------------------------------------------------------------------


async def test_the_same_change_twice_in_one_push_counts_once(phone: Device) -> None:
    one = create("a", title="x")
    acks = (await phone.send(one, one))["acknowledged"]
    assert acks == [applied(one), {**applied(one), "duplicate": True}]


async def test_the_same_push_sent_at_once_many_times_counts_once(
    phone: Device, laptop: Device, stores: dict[str, Any]
) -> None:
    push = [create("a", 0, title="x"), update("a", 1, title="y"), delete("b", 1)]
    answers = await asyncio.gather(*(Device(phone.api).send(*push) for _ in range(8)))
    fresh = [[not ack.get("duplicate") for ack in data["acknowledged"]] for data in answers]
    assert sorted(fresh) == [[False] * 3] * 7 + [[True] * 3]
    assert len(stored(stores, "sync_log")) == 3
    assert titles(await laptop.send()) == {"a": "y", "b": None}


async def test_a_repeat_is_a_duplicate_also_when_others_have_written_since(
    phone: Device, laptop: Device
) -> None:
    mine = create("a", 0, title="mine", notes="n")
    await phone.done(mine)
    await laptop.done(update("a", 9, title="theirs"))
    assert await phone.ack(mine) == {**applied(mine), "duplicate": True}
    assert titles(await Device(phone.api).send()) == {"a": "theirs"}


async def test_what_means_the_same_is_the_same_change(phone: Device) -> None:
    one = create("a", 0, title="x", order=2)
    await phone.done(one)
    same = {**one, "data": {"order": 2.0, "title": "x"}, "timestamp": "2025-12-29T15:30:00+01:00"}
    assert (await phone.ack(same))["duplicate"] is True


async def test_the_same_operation_id_with_other_content_is_refused_and_changes_nothing(
    phone: Device,
) -> None:
    one = create("a", 0, title="x")
    await phone.done(one)
    before = await phone.initial()
    others: list[dict[str, Any]] = [
        {"data": {"title": "y"}},
        {"data": {"title": "x", "notes": "n"}},
        {"timestamp": at(1)},
        {"operation": "update"},
        {"operation": "delete"},
    ]
    for other in others:
        await phone.refused({**one, **other}, "operation_id_reused")
    assert await phone.initial() == before


async def test_one_operation_id_for_two_entities_types_or_devices_is_several_operations(
    phone: Device, laptop: Device
) -> None:
    one = {**create("a", title="x"), "operationId": "op"}
    two = {**one, "id": "b"}
    three = {**one, "entityType": "space"}
    four = {**one, "deviceId": "tablet", "data": {"title": "z"}}
    acks = (await phone.send(one, two, three, four))["acknowledged"]
    assert acks == [applied(sent) for sent in (one, two, three, four)]
    data = await laptop.send()
    assert {row["title"] for row in data["serverUpdates"]["items"]} == {"z", "x"}
    assert [row["id"] for row in data["serverUpdates"]["spaces"]] == ["a"]


async def test_operation_ids_that_run_together_are_kept_apart(phone: Device) -> None:
    some = [
        {**create("a"), "operationId": "x", "deviceId": "d:1"},
        {**create("a"), "operationId": "1:x", "deviceId": "d"},
        {**create("a"), "operationId": "x\0 é", "deviceId": "d"},
    ]
    acks = (await phone.send(*some))["acknowledged"]
    assert acks == [applied(one) for one in some]


async def test_a_refused_change_may_come_again_mended_under_the_same_id(phone: Device) -> None:
    one = create("a", poster="/a.jpg")
    await phone.refused(one, "unknown_field")
    mended = {**one, "data": {"title": "a"}}
    assert await phone.ack(mended) == applied(mended)


async def test_users_do_not_share_operation_ids(http: aiohttp.ClientSession) -> None:
    one = create("a", title="x")
    for user in ("ada", "bob"):
        assert await Device(Api(http, user)).ack(one) == applied(one)


# --- the rest -------------------------------------------------------------------------------


async def test_live_answers_are_as_the_openapi_document_says(api: Api, phone: Device) -> None:
    spec = (await api.get("/openapi.json")).ok()
    one = create("a", 5, title="x")
    some = [one, one, update("a", 1), update("z"), create("b", poster=1), {}, None]
    answer = await api.post(SYNC_PATH, {"deviceId": "phone", "changes": some, "limit": 1})
    assert len(answer.ok()["data"]["acknowledged"]) == len(some)
    conforms(spec, "POST", SYNC_PATH, answer)
    for body in ({}, {"lastSyncTimestamp": at(), "limit": 1}, {"lastSyncTimestamp": 5}):
        answer = await api.post(SYNC_PATH, body)
        assert answer.status == 200
        conforms(spec, "POST", SYNC_PATH, answer)
    for body in (
        {"changes": 1},
        {"lastSyncTimestamp": "x"},
        {"epoch": "other", "lastSyncTimestamp": 1},
    ):
        answer = await api.post(SYNC_PATH, body)
        assert answer.status in (400, 410)
        conforms(spec, "POST", SYNC_PATH, answer)
    for path in (INITIAL, "/api/sync/log"):
        answer = await api.get(path, params={"limit": 1})
        assert answer.status == 200
        conforms(spec, "GET", path, answer)
        answer = await api.get(path, params={"limit": 0})
        assert answer.status == 400
        conforms(spec, "GET", path, answer)
