"""The load client of the benchmark counts what it should, and notices what is lost or doubled."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from benchmarks.load.figures import Figures, Meter
from benchmarks.load.updates import Player, User, judged
from tests.serving import ROOT, Served, serving
from tests.tokens import SECRET


@pytest.fixture
async def served(stores: dict[str, Any], tmp_path: Path) -> Any:
    async with serving(**stores) as server:
        yield server


async def load(scenario: str, url: str, *options: str) -> dict[str, Any]:
    """The figures of a short load."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.load",
        scenario,
        url,
        "--seconds",
        "0.5",
        *options,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "JWT_SECRET": SECRET},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    figures: dict[str, Any] = orjson.loads(out.splitlines()[-1])
    return figures


async def test_against_a_sound_server_it_finds_no_fault(served: Served) -> None:
    every = await asyncio.gather(
        load("updates", served.url, "--users", "3", "--in-flight", "2", "--deflate"),
        load("pings", served.url, "--users", "3"),
        load("connects", served.url, "--users", "3", "--in-flight", "2"),
        load("patches", served.url, "--in-flight", "2"),
        load("pulls", served.url, "--in-flight", "2"),
        load("sync-push", served.url, "--users", "2"),
    )
    for figures in every:
        assert figures["done"] > 0
        assert figures["p99_ms"] >= figures["p50_ms"] > 0
        assert (figures["lost"], figures["doubled"], figures["wrong"]) == (0, 0, 0)


class World:
    """A user with two devices that have sent and seen the same."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("JWT_SECRET", SECRET)
        self.user = User("u", sent=3, acked=3)
        self.one, self.two = (Player(self.user, device, Meter()) for device in ("a", "b"))
        for player in self.user.devices:
            player.newest = {"rev": 3, "xp": 3}

    def faults(self) -> tuple[int, int, int]:
        found = judged(Figures(), [self.user], self.user.devices)
        return found.lost, found.doubled, found.wrong


async def test_a_sound_outcome_has_no_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    assert World(monkeypatch).faults() == (0, 0, 0)


async def test_an_update_without_its_ack_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.user.acked = 2
    assert world.faults() == (1, 0, 0)


async def test_an_acked_update_that_does_not_count_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.one.newest = world.two.newest = {"rev": 2, "xp": 2}
    assert world.faults() == (1, 0, 0)


async def test_a_device_without_the_newest_document_has_lost_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch)
    world.two.newest = {"rev": 2, "xp": 2}
    assert world.faults() == (1, 0, 0)


async def test_an_update_that_counts_twice_is_doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.one.newest = world.two.newest = {"rev": 4, "xp": 4}
    assert world.faults() == (0, 1, 0)


async def test_a_broadcast_that_comes_twice_is_doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    for _ in range(2):
        world.one.on_event(b'["user:data:updated",{"rev":3,"xp":3}]')
    assert world.faults() == (0, 1, 0)


async def test_a_refused_update_and_an_unknown_ack_are_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch)
    world.one.in_flight = {7: 0.0}
    world.one.on_answer(7, b'[{"ok":false}]')
    world.one.on_answer(8, b'[{"ok":true}]')
    assert world.faults() == (0, 0, 2)
