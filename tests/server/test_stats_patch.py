"""POST /api/users/data/patch: the same service as over sockets, the same answers."""

import asyncio

import pytest

from tests.clients_py import joined
from tests.rest import DEFAULTS, Api
from tests.serving import Served

pytestmark = pytest.mark.usefixtures("quiet")

PATCH = "/api/users/data/patch"


async def test_numbers_are_added_then_values_set_then_times_appended(api: Api) -> None:
    await api.patch(xp=150, diamonds=25, timePerQuestion=[2.5])
    answer = await api.patch(
        xp=100, diamonds=10, timePerQuestion=[3.1, 2.8], __set={"hearts": 5, "level": 2, "xp": 7}
    )
    wanted = {"xp": 7, "diamonds": 35, "level": 2, "timePerQuestion": [2.5, 3.1, 2.8]}
    assert {name: answer[name] for name in wanted} == wanted
    assert answer.keys() == {"userId", "rev", "updatedAt", "duplicate", *DEFAULTS}


async def test_counters_stop_at_zero_and_at_the_largest_safe_integer(api: Api) -> None:
    assert (await api.patch(hearts=-6))["hearts"] == 0
    await api.patch(__set={"xp": 2**53 - 2})
    assert (await api.patch(xp=1_000_000_000_000))["xp"] == 2**53 - 1


async def test_a_patch_that_changes_nothing_answers_the_document_as_it_is(api: Api) -> None:
    before = await api.patch(xp=1)
    for patch in ({}, {"xp": 0}, {"__set": {}}, {"__set": {"xp": 1}}, {"timePerQuestion": []}):
        assert (await api.post(PATCH, patch)).ok() == before


async def test_the_reserved_updated_at_is_tolerated_and_not_used(api: Api) -> None:
    answer = await api.patch(xp=1, updatedAt="2001-01-01T00:00:00Z")
    assert not answer["updatedAt"].startswith("2001")
    assert (await api.patch(xp=1, updatedAt=1_705_856_400_000))["xp"] == 2


async def test_a_repeated_op_id_answers_duplicate_with_the_current_document(api: Api) -> None:
    first = await api.patch(xp=10, opId="one", deviceId="phone")
    assert first["duplicate"] is False
    later = await api.patch(xp=1)
    again = await api.patch(xp=10, opId="one", deviceId="phone")
    assert again == {**later, "duplicate": True}
    other_device = await api.patch(xp=10, opId="one", deviceId="tablet")
    assert (other_device["duplicate"], other_device["xp"]) == (False, 21)


async def test_an_op_id_with_other_content_is_refused(api: Api) -> None:
    await api.patch(xp=10, opId="one")
    (await api.post(PATCH, {"xp": 11, "opId": "one"})).problem(409, "op_id_reused")
    assert (await api.stats())["xp"] == 10


async def test_an_op_is_once_over_both_doors(served: Served, api: Api) -> None:
    async with joined(served.url) as phone:
        first = await phone.call("user:clientUpdate", {"xp": 5, "opId": "one", "deviceId": "d"})
        assert (await api.patch(xp=5, opId="one", deviceId="d"))["duplicate"] is True
        await api.patch(xp=5, opId="two", deviceId="d")
        again = await phone.call("user:clientUpdate", {"xp": 5, "opId": "two", "deviceId": "d"})
        assert (first["duplicate"], again["duplicate"]) == (False, True)
        assert again["stats"]["xp"] == 10


async def test_a_change_over_rest_reaches_all_sockets_of_the_user(served: Served, api: Api) -> None:
    async with joined(served.url) as phone, joined(served.url) as tablet:
        patched = await api.patch(xp=5)
        del patched["duplicate"]
        assert await phone.next("user:data:updated") == patched
        assert await tablet.next("user:data:updated") == patched
        updated = await api.update({"xp": 6})
        assert await phone.next("user:data:updated") == updated["stats"]


async def test_concurrent_patches_all_count(api: Api) -> None:
    answers = await asyncio.gather(*(api.patch(xp=1, diamonds=2) for _ in range(60)))
    assert max(answer["xp"] for answer in answers) == 60
    assert (await api.stats())["diamonds"] == 120


@pytest.mark.parametrize(
    ("patch", "code", "pointer"),
    [
        ({"gold": 1}, "unknown_field", "/gold"),
        ({"a/b~c": 1}, "unknown_field", "/a~1b~0c"),
        ({"xp": "10"}, "invalid_type", "/xp"),
        ({"xp": True}, "invalid_type", "/xp"),
        ({"xp": None}, "invalid_type", "/xp"),
        ({"xp": 1.5}, "invalid_type", "/xp"),
        ({"xp": 1e13}, "invalid_value", "/xp"),
        ({"accuracy": -1e13}, "invalid_value", "/accuracy"),
        ({"rev": 1}, "unknown_field", "/rev"),
        ({"lastGameResults": {}}, "invalid_type", "/lastGameResults"),
        ({"timePerQuestion": 3}, "invalid_type", "/timePerQuestion"),
        ({"timePerQuestion": [-1]}, "invalid_value", "/timePerQuestion"),
        ({"opId": ""}, "invalid_value", "/opId"),
        ({"opId": "x" * 65}, "invalid_value", "/opId"),
        ({"opId": 7}, "invalid_type", "/opId"),
        ({"deviceId": "$"}, "invalid_id", "/deviceId"),
        ({"userId": "$"}, "invalid_id", "/userId"),
        ({"__set": []}, "invalid_type", "/__set"),
        ({"__proto__": 1}, "unknown_field", "/__proto__"),
        ({"$inc": 1}, "unknown_field", "/$inc"),
    ],
)
async def test_a_faulty_patch_is_refused_naming_the_field(
    api: Api, patch: dict[str, object], code: str, pointer: str
) -> None:
    (await api.post(PATCH, {"xp": 1, **patch})).refused_field(400, code, pointer)
    assert (await api.stats())["rev"] == 0


@pytest.mark.parametrize(
    ("sets", "code", "field"),
    [
        ({"hearts": -1}, "invalid_value", "hearts"),
        ({"accuracy": 100.5}, "invalid_value", "accuracy"),
        ({"xp": 2**53}, "invalid_value", "xp"),
        ({"gold": 1}, "unknown_field", "gold"),
        ({"userId": "bob"}, "unknown_field", "userId"),
        ({"lastGameResults": {"a.b": 1}}, "invalid_value", "lastGameResults"),
    ],
)
async def test_a_value_to_set_out_of_range_is_refused_not_clamped(
    api: Api, sets: dict[str, object], code: str, field: str
) -> None:
    answer = await api.post(PATCH, {"xp": 1, "__set": sets})
    assert (await api.stats())["rev"] == 0
    answer.refused_name(400, code, field)
