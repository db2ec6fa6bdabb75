"""An app's own entity types, as docs/sync.md shows them."""

import re
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from server.app import create_app
from server.settings import Settings, SettingsError
from tests.commands import command
from tests.serving import ROOT, Served, serving
from tests.syncing import INITIAL, NOTHING, Instances, at, create, delete, stored, update
from tests.tokens import SECRET

pytestmark = pytest.mark.usefixtures("quiet")

EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)
NOWHERE = {"mongodb_uri": "mongodb://127.0.0.1:1/", "redis_url": "redis://127.0.0.1:1/0"}


@pytest.fixture
def app_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with `myapp/entities.py` as the document has it."""
    text = (ROOT / "docs/sync.md").read_text()
    (source,) = EXAMPLE.findall(text)
    assert "`myapp/entities.py`" in text
    assert "`SYNC_TYPES=myapp.entities:TYPES`" in text
    (tmp_path / "myapp").mkdir()
    (tmp_path / "myapp/entities.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "myapp"]:
        del sys.modules[name]


@pytest.fixture
async def decks(stores: dict[str, Any], app_folder: Path) -> AsyncIterator[Served]:
    async with serving(**stores, sync_types="myapp.entities:TYPES") as server:
        yield server


@pytest.fixture
async def instances() -> AsyncIterator[Instances]:
    async with Instances() as made:
        yield made


async def test_the_worked_example_works(decks: Served, instances: Instances) -> None:
    phone = await instances.device(decks.url)
    laptop = await instances.device(decks.url, name="laptop")
    made = [create("s", kind="space"), create("d", kind="deck", title="French", spaceId="s")]
    assert (await phone.done(*made))["serverUpdates"] == {**NOTHING, "decks": []}
    row = (await laptop.send())["serverUpdates"]["decks"][0]
    assert (row["id"], row["title"], row["spaceId"]) == ("d", "French", "s")
    initial = (await phone.api.get(INITIAL)).ok()["data"]["serverUpdates"]
    assert [row["id"] for row in initial["decks"]] == ["d"]
    await phone.done(delete("d", 1, kind="deck"))
    assert (await laptop.pull())["d"]["deletedAt"] == at(1)


async def test_its_merge_rule_decides_and_the_pusher_gets_what_it_has_made(
    decks: Served, instances: Instances
) -> None:
    phone = await instances.device(decks.url)
    laptop = await instances.device(decks.url, name="laptop")
    await phone.done(create("d", kind="deck", title="French", cardCount=10))
    await laptop.pull()
    row = (await laptop.pull(changes=[update("d", 5, kind="deck", title="F", cardCount=7)]))["d"]
    assert (row["title"], row["cardCount"], row["updatedAt"]) == ("F", 10, at(5))
    assert (await phone.pull())["d"] == row
    await phone.done(update("d", 6, kind="deck", cardCount=12))
    assert (await laptop.pull())["d"]["cardCount"] == 12
    late = await laptop.ack(update("d", 1, kind="deck", cardCount=99))
    assert (late["conflict"], late["server"]["cardCount"]) == (True, 12)


async def test_its_parents_and_fields_are_checked(decks: Served, instances: Instances) -> None:
    phone = await instances.device(decks.url)
    await phone.refused(create("d", kind="deck", spaceId="s"), "parent_missing", retryable=True)
    await phone.refused(create("d", kind="deck", poster="x"), "unknown_field")
    await phone.refused(create("d", kind="deck", cardCount="7"), "invalid_type")
    await phone.refused(create("d", kind="decks"), "invalid_value")


async def test_a_number_that_no_store_holds_is_refused_and_stops_no_other_change(
    decks: Served, instances: Instances
) -> None:
    phone = await instances.device(decks.url)
    for n, huge in enumerate((2**63, 2**64 - 1, -(2**63), 2**64, 10**300)):
        bad, good = create("bad", kind="deck", cardCount=huge), create(f"i{n}")
        acks = (await phone.send(bad, good))["acknowledged"]
        assert [ack["success"] for ack in acks] == [False, True], huge
        assert acks[0]["code"] in ("invalid_value", "invalid_type")


async def test_export_and_erasure_cover_it(
    decks: Served, instances: Instances, stores: dict[str, Any]
) -> None:
    phone = await instances.device(decks.url)
    await phone.done(create("d", kind="deck", title="French"))
    exported = (await phone.api.get("/api/auth/me/export")).raw
    assert b'"French"' in exported
    assert b'"deck"' in exported
    (await phone.api.send("DELETE", "/api/auth/me")).ok()
    assert stored(stores, "sync_entities") == []


async def test_a_type_that_is_registered_no_more_does_not_stop_the_others(
    decks: Served, stores: dict[str, Any], instances: Instances
) -> None:
    phone = await instances.device(decks.url)
    await phone.done(create("d", kind="deck"), create("i"), create("d2", kind="deck"))
    async with serving(**stores) as plain, Instances() as others:
        laptop = await others.device(plain.url, name="laptop")
        assert (await laptop.pull()).keys() == {"i"}
        assert (await laptop.pull(lastSyncTimestamp=None, limit=10)).keys() == {"i"}
        assert (await laptop.initial()).keys() == {"i"}
        await laptop.refused(update("d", 5, kind="deck", title="x"), "invalid_value")
    assert len((await phone.initial()).keys()) == 3


OWN_RULES = '''
from dataclasses import replace
from domain.parsing import Payload
from domain.sync.entities import EntityType

class TallyData(Payload):
    count: int | None = None
    extra: dict | None = None

def largest_stays(stored, wished):
    """Keeps the stored row as it is but for the larger count, whatever the times."""
    counts = (stored.data.get("count") or 0, wished.data.get("count") or 0)
    return replace(stored, data={**stored.data, "count": max(counts)})

TYPES = [EntityType("tally", "tallies", TallyData, merge=largest_stays)]
TWICE = [EntityType("item", "things", TallyData)]
SAME_PLURAL = [EntityType("thing", "items", TallyData)]
NO_PARENT = [EntityType("thing", "things", TallyData, {"boxId": "box"})]
NO_TYPES = ["thing"]
NO_LIST = 7
'''


async def test_a_rule_that_goes_on_with_the_stored_row_is_heard_by_all_devices(
    app_folder: Path, stores: dict[str, Any], instances: Instances
) -> None:
    (app_folder / "myapp/rules.py").write_text(OWN_RULES)
    async with serving(**stores, sync_types="myapp.rules:TYPES") as server:
        phone = await instances.device(server.url)
        laptop = await instances.device(server.url, name="laptop")
        await phone.done(create("t", 9, kind="tally", count=5))
        await laptop.pull()
        await phone.done(update("t", 3, kind="tally", count=8))
        assert (await laptop.pull())["t"]["count"] == 8
        row = (await laptop.pull(changes=[update("t", 20, kind="tally", count=2)]))["t"]
        assert (row["count"], row["updatedAt"]) == (8, at(9))


async def test_open_objects_of_an_own_type_never_hold_operators(
    app_folder: Path, stores: dict[str, Any], instances: Instances
) -> None:
    (app_folder / "myapp/rules.py").write_text(OWN_RULES)
    async with serving(**stores, sync_types="myapp.rules:TYPES") as server:
        phone = await instances.device(server.url)
        deep: Any = 1
        for _ in range(150):
            deep = {"a": deep}
        for extra in ({"$set": 1}, {"a.b": 1}, {"a": {"__proto__": 1}}, {"\0": 1}, deep):
            bad, good = create("t", kind="tally", extra=extra), create("i", title="x")
            acks = (await phone.send(bad, good))["acknowledged"]
            assert [ack["success"] for ack in acks] == [False, True], extra
        await phone.done(create("t", kind="tally", extra={"a": [{"b": 1}]}))
    assert len(stored(stores, "sync_entities")) == 2


async def test_types_that_cannot_be_loaded_are_an_error_at_start_that_names_the_setting(
    app_folder: Path,
) -> None:
    (app_folder / "myapp/rules.py").write_text(OWN_RULES)
    (app_folder / "myapp/broken.py").write_text("1 / 0")
    for given, hint in {
        "nowhere.entities:TYPES": "nowhere",
        "myapp.entities:NOTHING": "NOTHING",
        "myapp.entities": "myapp.entities",
        "myapp.broken:TYPES": "division",
        "myapp.rules:TWICE": "item",
        "myapp.rules:SAME_PLURAL": "twice",
        "myapp.rules:NO_PARENT": "box",
        "myapp.rules:NO_TYPES": "EntityType",
        "myapp.rules:NO_LIST": "",
        ":TYPES": "",
    }.items():
        with pytest.raises(SettingsError, match="SYNC_TYPES") as caught:
            create_app(Settings(**NOWHERE, jwt_secret=SECRET, sync_types=given))
        assert hint in str(caught.value), given


async def test_at_start_that_is_a_message_and_no_traceback() -> None:
    result = await command(**NOWHERE, jwt_secret=SECRET, sync_types="nowhere.entities:TYPES")
    assert result.code == 1
    assert "SYNC_TYPES" in result.err
    assert "nowhere" in result.err
    assert "Traceback" not in result.err
    assert result.out == ""
