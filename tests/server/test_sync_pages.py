"""Pages: complete, without repeats, and as of one moment, whatever is written meanwhile."""

import base64
import json
from typing import Any

import aiohttp
import pytest

from tests.rest import Answer, Api
from tests.server.test_openapi import conforms
from tests.serving import Served
from tests.syncing import (
    INITIAL,
    SYNC_PATH,
    Device,
    by_id,
    create,
    delete,
    rows,
    stand_still,
    update,
)

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture
def phone(api: Api) -> Device:
    return Device(api)


@pytest.fixture
def laptop(api: Api) -> Device:
    return Device(api, "laptop")


async def pages(device: Device, limit: int, **first: Any) -> list[Any]:
    """All pages of a pull, as docs/sync.md tells to get them."""
    cursor = device.cursor
    got = [await device.send(limit=limit, **first)]
    while got[-1]["hasMore"]:
        assert got[-1]["syncTimestamp"] == cursor
        device.cursor = cursor
        got.append(await device.send(limit=limit, pageToken=got[-1]["pageToken"]))
    assert got[-1]["pageToken"] is None
    return got


def folded(got: list[Any]) -> dict[str, Any]:
    """The rows of all pages, none of which comes twice."""
    ids = [row["id"] for data in got for row in rows(data)]
    assert len(ids) == len(set(ids))
    return {row["id"]: row for data in got for row in rows(data)}


async def test_pages_of_any_size_have_together_what_the_whole_answer_has(
    phone: Device, laptop: Device
) -> None:
    await phone.done(*(create(f"i{n}", kind=("item", "space")[n % 2]) for n in range(13)))
    await phone.done(delete("i4", 1), update("i6", 1, title="x"))
    whole = await laptop.send()
    assert whole.keys() == {"acknowledged", "serverUpdates", "syncTimestamp", "epoch"}
    for limit in (1, 2, 5, 12, 13, 14, 1000):
        tablet = Device(phone.api, "tablet")
        got = await pages(tablet, limit)
        assert folded(got) == by_id(whole)
        assert all(len(rows(data)) <= limit for data in got)
        assert tablet.cursor == whole["syncTimestamp"]
    assert await laptop.pull(limit=3) == {}


async def test_without_a_limit_the_answer_is_whole(phone: Device, laptop: Device) -> None:
    for part in range(3):
        await phone.done(*(create(f"{part}-{n}") for n in range(500)))
    assert len(await laptop.pull()) == 1500


async def test_the_cursor_stays_the_old_one_until_the_last_page(
    phone: Device, laptop: Device
) -> None:
    await phone.done(create("old"))
    await laptop.pull()
    old = laptop.cursor
    await phone.done(*(create(f"i{n}") for n in range(4)))
    first = await laptop.send(limit=3)
    assert (first["syncTimestamp"], first["hasMore"]) == (old, True)
    laptop.cursor = None  # with the token alone, too
    last = await laptop.send(limit=1, pageToken=first["pageToken"])
    assert (last["hasMore"], last["syncTimestamp"]) == (False, phone.cursor)
    assert folded([first, last]).keys() == {f"i{n}" for n in range(4)}


async def test_the_token_alone_keeps_the_cursor_and_hides_own_rows(
    phone: Device, laptop: Device
) -> None:
    await phone.done(*(create(f"i{n}") for n in range(6)))
    await laptop.pull()
    old = laptop.cursor
    await phone.done(*(update(f"i{n}", 1, title="x") for n in range(3)))
    first = await laptop.send(update("i5", 1, notes="own"), limit=1)
    assert first["hasMore"]
    found = folded([first])
    token = first["pageToken"]
    while token is not None:
        laptop.cursor = None
        data = await laptop.send(limit=1, pageToken=token)
        assert data["syncTimestamp"] == (old if data["hasMore"] else laptop.cursor)
        found.update(by_id(data))
        token = data["pageToken"]
    assert found.keys() == {"i0", "i1", "i2"}


async def test_pages_are_stable_while_others_write(phone: Device, laptop: Device) -> None:
    await phone.done(*(create(f"i{n}", title="0") for n in range(10)))
    local: dict[str, Any] = {}
    first = data = await laptop.send(limit=2)
    step = 0
    while True:
        fresh = by_id(data)
        assert not fresh.keys() & local.keys()
        local.update(fresh)
        if not data["hasMore"]:
            break
        step += 1
        await phone.done(
            update(f"i{step}", step, title="1"), create(f"new{step}"), delete(f"i{9 - step}", step)
        )
        laptop.cursor = None
        data = await laptop.send(limit=2, pageToken=data["pageToken"])
    assert all(row["title"] == "0" for row in local.values())
    assert data["syncTimestamp"] > (first["syncTimestamp"] or "")
    local.update(await laptop.pull())
    assert {k: row for k, row in local.items() if row["deletedAt"] is None} == await phone.initial()


async def test_many_rows_of_one_push_are_paged_too(phone: Device, laptop: Device) -> None:
    await phone.done(*(create(f"i{n:03}") for n in range(300)))
    assert len(folded(await pages(laptop, 70))) == 300


async def test_own_rows_are_on_no_page(phone: Device, laptop: Device) -> None:
    await phone.done(*(create(f"p{n}") for n in range(5)))
    mine = [create(f"l{n}") for n in range(5)]
    assert folded(await pages(laptop, 2, changes=mine)).keys() == {f"p{n}" for n in range(5)}


async def test_pages_of_initial_are_complete_and_without_deleted_rows(
    phone: Device, laptop: Device, api: Api
) -> None:
    await phone.done(*(create(f"i{n}") for n in range(9)))
    await phone.done(*(delete(f"i{n}", 1) for n in (0, 3, 4, 8)))
    spec = (await api.get("/openapi.json")).ok()
    got, params = [], {"limit": "2"}
    while True:
        answer = await api.get(INITIAL, params=params)
        conforms(spec, "GET", INITIAL, answer)
        got.append(answer.ok()["data"])
        if not got[-1]["hasMore"]:
            break
        assert got[-1]["syncTimestamp"] is None
        await phone.done(create(f"later{len(got)}"))
        params["pageToken"] = got[-1]["pageToken"]
    assert folded(got).keys() == {"i1", "i2", "i5", "i6", "i7"}
    laptop.cursor = got[-1]["syncTimestamp"]
    assert (await laptop.pull()).keys() == {f"later{n}" for n in range(1, len(got))}


async def test_the_last_page_is_the_last_also_when_it_is_exactly_full(
    phone: Device, laptop: Device
) -> None:
    await phone.done(*(create(f"i{n}") for n in range(4)))
    assert [data["hasMore"] for data in await pages(laptop, 2)] == [True, False]


def tampered(token: str) -> list[str]:
    """Garbage that looks like a token more and more."""
    parts = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))

    def packed(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    changed = []
    for n in range(len(parts)):
        for other in (None, -1, 10**20, 1.5, True, [], {}, {"$gt": ""}, "x\0"):
            changed.append(packed([*parts[:n], other, *parts[n + 1 :]]))
    return [
        *("", "x", "....", "é", "x" * 1024, token[:-3], token + "AAAA", token.swapcase()),
        *(packed(value) for value in (None, 1, {}, [], parts[:-1], [*parts, 1], [None] * 7)),
        *changed,
    ]


async def test_garbage_as_token_is_refused_or_harmless(phone: Device, laptop: Device) -> None:
    await phone.done(*(create(f"i{n}") for n in range(3)))
    token = (await laptop.send(limit=1))["pageToken"]
    for garbage in tampered(token):
        body = {"deviceId": "laptop", "limit": 2, "pageToken": garbage}
        for answer in (
            await phone.api.post(SYNC_PATH, body),
            await phone.api.get(INITIAL, params={"pageToken": garbage}),
        ):
            if answer.status != 200:
                answer.refused_name(400, "invalid_value", "pageToken")
            else:
                assert by_id(answer.json["data"]).keys() <= {"i0", "i1", "i2"}
    laptop.cursor = None
    assert len(await laptop.pull()) == 3


async def test_the_token_of_another_user_shows_nothing_of_theirs_and_makes_nothing_be_missed(
    served: Served, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = stand_still(served, monkeypatch)
    ada, bob = Device(Api(http, "ada")), Device(Api(http, "bob"))
    await bob.done(create("b0"), create("b1"))
    now[0] += 1000
    await ada.done(*(create(f"a{n}") for n in range(5)))
    token = (await Device(ada.api, "x").send(limit=4))["pageToken"]
    body = {"deviceId": "laptop", "lastSyncTimestamp": None, "pageToken": token}
    answer: Answer = await bob.api.post(SYNC_PATH, body)
    laptop = Device(bob.api, "laptop")
    local: dict[str, Any] = {}
    if answer.status == 200:
        local = by_id(answer.json["data"])
        laptop.cursor = answer.json["data"]["syncTimestamp"]
    else:
        answer.refused_field(400, "invalid_value", "/pageToken")
    now[0] += 1000
    await bob.done(create("b2"))
    local.update(await laptop.pull())
    assert local.keys() == {"b0", "b1", "b2"}


async def test_a_token_comes_without_changes(phone: Device, laptop: Device) -> None:
    await phone.done(*(create(f"i{n}") for n in range(3)))
    token = (await laptop.send(limit=1))["pageToken"]
    body = {"deviceId": "laptop", "limit": 1, "pageToken": token, "changes": [create("a")]}
    answer = await phone.api.post(SYNC_PATH, body)
    answer.refused_field(400, "invalid_value", "/pageToken")
    assert "a" not in await phone.initial()


async def test_a_row_that_a_push_lost_against_comes_with_its_first_page(
    phone: Device, laptop: Device
) -> None:
    await phone.done(*(create(f"i{n}", 10, title="stands") for n in range(4)))
    await laptop.pull()
    data = await laptop.send(update("i3", 5, title="late"), limit=2)
    assert data["acknowledged"][0]["conflict"] is True
    assert by_id(data)["i3"]["title"] == "stands"
