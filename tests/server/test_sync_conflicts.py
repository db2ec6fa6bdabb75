"""Conflicts, deletions, parents: what stands when several devices have changed the same."""

import asyncio
import itertools
from typing import Any

import aiohttp
import pytest

from tests.rest import Api
from tests.serving import Served
from tests.syncing import (
    Device,
    applied,
    at,
    by_id,
    change,
    create,
    delete,
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


async def lost(device: Device, one: Any) -> Any:
    """Push a change that loses; answers the row that stands."""
    row = (await Device(device.api, "observer").pull())[one["id"]]
    data = await device.send(one)
    (ack,) = data["acknowledged"]
    assert ack == {
        "operationId": one["operationId"],
        "id": one["id"],
        "success": True,
        "conflict": True,
        "appliedTimestamp": one["timestamp"],
        "server": row,
    }
    assert by_id(data)[one["id"]] == row
    assert (await Device(device.api, "observer").pull())[one["id"]] == row
    return row


# --- last write wins ------------------------------------------------------------------------


async def test_the_later_change_wins_whichever_comes_first(phone: Device, laptop: Device) -> None:
    await phone.done(create("a"), create("b"))
    await phone.done(update("a", 20, title="later"))
    await lost(laptop, update("a", 10, title="earlier"))
    await laptop.done(update("b", 10, title="earlier"))
    await phone.done(update("b", 20, title="later"))
    assert titles(await Device(phone.api, "tablet").send()) == {"a": "later", "b": "later"}


async def test_the_loser_gets_the_servers_row_also_if_its_cursor_is_past_it(
    phone: Device, laptop: Device
) -> None:
    await phone.done(create("a", 20, title="stands"))
    await laptop.pull()
    assert (await lost(laptop, update("a", 10, title="late")))["title"] == "stands"


async def test_at_the_same_time_what_arrives_later_wins(phone: Device, laptop: Device) -> None:
    await phone.done(create("a", 10, title="first"))
    await laptop.done(update("a", 10, title="second"))
    assert titles(await phone.send()) == {"a": "second"}


async def test_a_millisecond_is_later(phone: Device, laptop: Device) -> None:
    await phone.done(create("a", 10.001, title="stands"))
    await lost(laptop, update("a", 10, title="late"))


async def test_fields_that_are_not_sent_stay_and_null_empties_one(phone: Device) -> None:
    await phone.done(create("a", title="t", notes="n", tags=["x"], order=1))
    await phone.done(update("a", 1, notes=None, tags=[]))
    row = (await phone.initial())["a"]
    shown = {name: row[name] for name in ("title", "notes", "tags", "order")}
    assert shown == {"title": "t", "notes": None, "tags": [], "order": 1}


async def test_a_create_of_what_is_there_is_an_update(phone: Device, laptop: Device) -> None:
    await phone.done(create("a", 0, title="first", notes="n"))
    await laptop.done(create("a", 5, title="second"))
    row = (await phone.initial())["a"]
    assert (row["title"], row["notes"]) == ("second", "n")
    assert (row["createdAt"], row["updatedAt"]) == (at(), at(5))
    await lost(phone, create("a", 3, title="third"))


async def test_a_repeat_of_what_had_lost_is_a_duplicate_with_the_servers_row(
    phone: Device, laptop: Device
) -> None:
    await phone.done(create("a", 10, title="stands"))
    late = update("a", 5, title="late")
    await laptop.send(late)
    await phone.done(update("a", 20, title="newer"))
    data = await laptop.send(late)
    row = (await phone.initial())["a"]
    assert data["acknowledged"] == [
        {**applied(late, 5), "duplicate": True, "conflict": True, "server": row}
    ]
    assert by_id(data)["a"] == row
    assert row["title"] == "newer"


async def test_a_pulled_row_may_be_sent_back_whole(phone: Device, laptop: Device) -> None:
    await phone.done(create("s", kind="space"), create("a", title="x", spaceId="s"))
    row = (await laptop.pull())["a"]
    await laptop.done(change("update", "a", {**row, "title": "y", "userId": "bob", "__v": 0}, 5))
    assert (await phone.pull())["a"] == {
        **row,
        "title": "y",
        "updatedAt": at(5),
        "deviceId": "laptop",
    }


async def test_devices_with_skewed_clocks_agree_in_the_end_whatever_the_order(
    http: aiohttp.ClientSession,
) -> None:
    changes = [
        create("a", 0, title="0"),
        update("a", 30, title="30"),
        delete("a", 20),
        update("a", 10, notes="10"),
    ]
    for n, order in enumerate(itertools.permutations(changes[1:])):
        device = Device(Api(http, f"user{n}"))
        await device.done(changes[0])
        for one in order:
            await device.send(one)
        assert titles(await device.send(lastSyncTimestamp=None)) == {"a": "30"}
        row = (await device.initial())["a"]
        assert (row["updatedAt"], row["deletedAt"]) == (at(30), None)


# --- times ahead ----------------------------------------------------------------------------


async def test_a_time_ahead_of_the_servers_counts_as_now_and_wins_no_later_conflict(
    served: Served, phone: Device, laptop: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = stand_still(served, monkeypatch, when=100)
    year_ahead = create("a", 3e7, title="wrong year")
    assert await phone.ack(year_ahead) == applied(year_ahead, 100)
    now[0] += 1000
    await laptop.done(update("a", 101, title="right"))
    row = (await phone.initial())["a"]
    assert (row["title"], row["updatedAt"]) == ("right", at(101))


async def test_deletions_ahead_count_as_now_too(
    served: Served, phone: Device, laptop: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = stand_still(served, monkeypatch, when=100)
    await phone.done(create("a"))
    gone = delete("a", 3e7)
    assert await phone.ack(gone) == applied(gone, 100)
    now[0] += 1000
    await laptop.done(update("a", 101, title="back"))
    assert titles(await phone.send()) == {"a": "back"}


async def test_a_repeat_of_a_time_ahead_says_with_which_it_counted(
    served: Served, phone: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = stand_still(served, monkeypatch, when=100)
    ahead = create("a", 5000)
    await phone.done(ahead)
    now[0] += 50_000
    assert await phone.ack(ahead) == {**applied(ahead, 100), "duplicate": True}


# --- deletions ------------------------------------------------------------------------------


async def test_an_older_change_does_not_revive_and_a_newer_one_does(
    phone: Device, laptop: Device
) -> None:
    await phone.done(create("a", 0, title="x"), delete("a", 10))
    assert (await lost(laptop, update("a", 5, title="y")))["deletedAt"] == at(10)
    await lost(laptop, create("a", 5, title="y"))
    assert await phone.initial() == {}
    await laptop.done(update("a", 15, notes="back"))
    row = (await phone.initial())["a"]
    assert (row["deletedAt"], row["title"], row["notes"]) == (None, "x", "back")


async def test_an_older_deletion_does_not_delete_what_is_newer(
    phone: Device, laptop: Device
) -> None:
    await phone.done(create("a", 10, title="x"))
    assert (await lost(laptop, delete("a", 5)))["deletedAt"] is None


async def test_a_deletion_of_what_has_not_arrived_leaves_its_tombstone(
    phone: Device, laptop: Device
) -> None:
    await phone.done(delete("a", 10))
    await lost(laptop, create("a", 5, title="x"))
    assert (await laptop.pull(lastSyncTimestamp=None))["a"]["deletedAt"] == at(10)
    await laptop.done(create("a", 15, title="x"))
    assert titles(await phone.send()) == {"a": "x"}


async def test_deleting_twice_is_no_error(phone: Device, laptop: Device) -> None:
    await phone.done(create("a"), delete("a", 1))
    await laptop.done(delete("a", 2))
    assert (await phone.pull())["a"]["deletedAt"] == at(2)


# --- what has not arrived yet ---------------------------------------------------------------


async def test_an_update_before_its_create_is_retryable_and_then_applied(
    phone: Device, laptop: Device
) -> None:
    early = update("a", 5, title="updated")
    await phone.refused(early, "entity_missing", retryable=True)
    assert await phone.initial() == {}
    await laptop.done(create("a", 0, title="created", notes="n"))
    assert await phone.ack(early) == applied(early, 5)
    row = (await phone.initial())["a"]
    assert (row["title"], row["notes"]) == ("updated", "n")


async def test_an_update_before_its_create_in_one_push_is_never_dropped(phone: Device) -> None:
    early, made = update("a", 5, title="updated"), create("a", 0, title="created")
    acks = (await phone.send(early, made))["acknowledged"]
    left = [one for one, ack in zip([early, made], acks, strict=True) if not ack["success"]]
    if left:
        await phone.done(*left)
    assert (await phone.initial())["a"]["title"] == "updated"


# --- parents --------------------------------------------------------------------------------


async def test_parents_must_be_ones_own_and_there(http: aiohttp.ClientSession) -> None:
    ada, bob = Device(Api(http, "ada")), Device(Api(http, "bob"))
    await bob.done(create("s", kind="space"))
    await bob.done(create("c", kind="category", spaceId="s"))
    for child in (
        create("i", spaceId="s"),
        create("i", categoryId="c"),
        create("c2", kind="category", spaceId="s"),
        create("i", spaceId="nowhere"),
    ):
        await ada.refused(child, "parent_missing", retryable=True)
    assert await ada.initial() == {}
    assert (await bob.initial()).keys() == {"s", "c"}


async def test_a_child_waits_for_its_parent_and_is_applied_then(phone: Device) -> None:
    child = create("i", 5, title="x", spaceId="s", categoryId="c")
    await phone.refused(child, "parent_missing", retryable=True)
    await phone.done(create("s", kind="space"))
    await phone.refused(child, "parent_missing", retryable=True)
    await phone.done(create("c", kind="category"))
    assert await phone.ack(child) == applied(child, 5)


async def test_parents_made_in_the_same_push_count_if_they_come_first(phone: Device) -> None:
    family = [
        create("s", kind="space"),
        create("c", kind="category", spaceId="s"),
        create("i", categoryId="c", spaceId="s"),
    ]
    acks = (await phone.send(*reversed(family)))["acknowledged"]
    assert [ack.get("code") for ack in acks] == ["parent_missing", "parent_missing", None]
    await phone.done(*family[1:])
    other = [{**one, "id": one["id"] + "2", "operationId": one["id"]} for one in family]
    other[1]["data"] = {"spaceId": "s2"}
    other[2]["data"] = {"spaceId": "s2", "categoryId": "c2"}
    await phone.done(*other)
    assert (await phone.initial()).keys() == {"s", "c", "i", "s2", "c2", "i2"}


async def test_a_parent_of_another_type_is_none(phone: Device) -> None:
    await phone.done(create("x", kind="category"))
    await phone.refused(create("i", spaceId="x"), "parent_missing", retryable=True)


async def test_what_was_put_into_a_space_while_another_device_deleted_it_is_not_lost(
    phone: Device, laptop: Device
) -> None:
    await phone.done(create("s", kind="space"))
    await laptop.pull()
    await phone.done(delete("s", 10, kind="space"))
    await laptop.done(create("i", 20, title="kept", spaceId="s"))
    assert (await phone.pull())["i"]["title"] == "kept"


async def test_a_parent_may_be_taken_away_and_an_update_need_not_name_it(phone: Device) -> None:
    await phone.done(create("s", kind="space"), create("i", spaceId="s"))
    await phone.done(delete("s", 1, kind="space"))
    await phone.done(update("i", 2, title="x"))
    await phone.done(update("i", 3, spaceId=None))
    assert (await phone.initial())["i"]["spaceId"] is None


async def test_a_refusal_of_a_parent_names_it(phone: Device) -> None:
    ack = await phone.refused(create("i", spaceId="s9"), "parent_missing", retryable=True)
    assert "s9" in ack["message"]
    assert "space" in ack["message"]


# --- at once --------------------------------------------------------------------------------


async def test_pushes_at_once_are_all_carried_out_and_the_latest_stands(api: Api) -> None:
    devices = [Device(api, f"d{n}") for n in range(8)]
    await devices[0].done(create("a"))
    answers = await asyncio.gather(
        *(
            device.send(update("a", n, title=str(n)), create(f"own{n}"))
            for n, device in enumerate(devices)
        )
    )
    assert all(ack["success"] for data in answers for ack in data["acknowledged"])
    assert len({data["syncTimestamp"] for data in answers}) > 1
    found = await devices[0].initial()
    assert found.keys() == {"a", *(f"own{n}" for n in range(8))}
    assert found["a"]["title"] == "7"
