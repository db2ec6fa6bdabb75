"""STATS_SCHEMA: an app's own fields, from the file to every door."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.clients_py import joined
from tests.rest import DEFAULTS, PUBLIC_DEFAULTS, Api
from tests.serving import Served, serving

pytestmark = pytest.mark.usefixtures("quiet")

FIELDS = {
    "gold": {"kind": "counter", "public": True},
    "energy": {"kind": "counter", "min": -5, "max": 10, "default": 10},
    "mood": {"kind": "gauge", "min": -1, "max": 1, "default": 0.5, "public": True},
}
OWN_DEFAULTS = {"gold": 0, "energy": 10, "mood": 0.5}


@pytest.fixture
async def game(stores: dict[str, Any], tmp_path: Path) -> AsyncIterator[Served]:
    file = tmp_path / "stats.json"
    file.write_text(json.dumps({"fields": FIELDS}))
    async with serving(**stores, stats_schema=file) as server:
        yield server


@pytest.fixture
async def own(game: Served) -> AsyncIterator[Api]:
    async with aiohttp.ClientSession(game.url) as http:
        yield Api(http)


async def test_own_fields_have_their_defaults_in_the_document(own: Api) -> None:
    document = await own.stats()
    assert document.keys() == {"userId", "rev", "updatedAt", *DEFAULTS, *OWN_DEFAULTS}
    assert {name: document[name] for name in OWN_DEFAULTS} == OWN_DEFAULTS


async def test_own_fields_are_patched_and_stop_at_their_range(own: Api) -> None:
    answer = await own.patch(gold=3, energy=-2, mood=0.25)
    assert [answer[name] for name in OWN_DEFAULTS] == [3, 8, 0.75]
    answer = await own.patch(gold=-100, energy=-100, mood=9.5)
    assert [answer[name] for name in OWN_DEFAULTS] == [0, -5, 1]
    assert (await own.patch(energy=100))["energy"] == 10


async def test_own_fields_are_set_and_updated_within_their_range(own: Api) -> None:
    assert (await own.patch(__set={"energy": -5, "mood": -1}))["energy"] == -5
    assert (await own.update({"gold": 7, "mood": 0.125}))["stats"]["mood"] == 0.125
    for bad in ({"energy": 11}, {"energy": -6}, {"mood": 1.01}, {"gold": -1}):
        for path, body in (("data/patch", {"__set": bad}), ("updateStats", {"stats": bad})):
            (await own.post(f"/api/users/{path}", body)).problem(400, "invalid_value")
    (await own.post("/api/users/data/patch", {"gold": 0.5})).problem(400, "invalid_type")
    assert (await own.stats())["gold"] == 7


async def test_only_own_fields_marked_public_are_shown_to_others(game: Served, own: Api) -> None:
    await own.patch(gold=3, energy=-1)
    body = (await own.post("/api/users/stats/batch", {"userIds": ["ada"]})).ok()
    assert body == {"ada": {**PUBLIC_DEFAULTS, "gold": 3, "mood": 0.5}}
    async with joined(game.url, "bob") as watcher:
        seen = await watcher.call("presence:watch", {"userIds": ["ada"]})
        assert seen["users"][0]["stats"] == body["ada"]
        changed = await own.patch(gold=1)
        told = await watcher.next("user:update")
        known = {"userId": "ada", "rev": changed["rev"], "updatedAt": changed["updatedAt"]}
        assert told == {**body["ada"], **known, "gold": 4}


async def test_own_fields_go_to_the_users_other_devices(game: Served) -> None:
    async with joined(game.url) as phone, joined(game.url) as tablet:
        answer = await phone.call("user:clientUpdate", {"gold": 5})
        assert answer["stats"]["gold"] == 5
        assert await tablet.next("user:data:updated") == answer["stats"]


async def test_a_pulled_document_with_own_fields_can_be_posted_back(own: Api) -> None:
    await own.patch(gold=1)
    pulled = await own.stats()
    assert await own.update(pulled) == {"applied": True, "stats": pulled}


async def test_a_field_that_was_taken_out_of_the_file_is_no_longer_shown(
    game: Served, own: Api, stores: dict[str, Any]
) -> None:
    await own.patch(gold=1, xp=2)
    async with serving(**stores) as plain, aiohttp.ClientSession(plain.url) as http:
        api = Api(http)
        assert (await api.stats()).keys() == {"userId", "rev", "updatedAt", *DEFAULTS}
        assert (await api.patch(xp=1))["xp"] == 3
    assert (await own.stats())["gold"] == 1  # and nothing was lost meanwhile
