"""A connection that breaks under a write: it counts once, and its writer learns that it did."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pymongo.common
import pytest

from domain.errors import AppError, Code
from domain.stats import Stats, StatsSchema
from realtime.tasks import Tasks
from storage.stats import NOBODY, WRITES_PER_COMMAND, Missed, StatsRepository
from tests.storage.conftest import NewMongo
from tests.storage.test_stats_memory import TIMEOUT, add, plus

COMMAND = b"updates\x00"
LOST = ("request", "answer", "late")


@dataclass
class Line:
    """A line to MongoDB that breaks under the update commands named in `breaks`, in turn.

    `request`: the command is lost. `answer`: it is carried out, and its answer lost. `late`: it
    is carried out when `deliver` is called. Empty: all is well.
    """

    mongod: tuple[str, int]
    port: int = 0
    breaks: list[str] = field(default_factory=list)
    commands: int = 0
    tasks: Tasks = field(default_factory=Tasks)
    _held: list[tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]] = field(
        default_factory=list
    )

    def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection's messages."""
        self.tasks.spawn(self._carry(reader, writer), "line")

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(*self.mongod)
        held = False
        try:
            while True:
                request = await _message(reader)
                broken = self._broken() if COMMAND in request else ""
                if broken == "late":
                    self._held.append((up_reader, up_writer, request))
                    held = True
                if broken in ("request", "late"):
                    break
                up_writer.write(request)
                answer = await _message(up_reader)
                if broken:
                    break
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            if not held:
                up_writer.close()

    def _broken(self) -> str:
        self.commands += 1
        return self.breaks.pop(0) if self.breaks else ""

    async def deliver(self) -> None:
        """Let the late ones be carried out."""
        for reader, writer, request in self._held:
            writer.write(request)
            await _message(reader)
            writer.close()
        self._held.clear()


async def _message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(4)
    return head + await reader.readexactly(int.from_bytes(head, "little") - 4)


@pytest.fixture
async def line(mongodb_uri: str) -> AsyncIterator[Line]:
    address = urlsplit(mongodb_uri)
    assert address.hostname is not None
    assert address.port is not None
    line = Line((address.hostname, address.port))
    server = await asyncio.start_server(line.serve, "127.0.0.1", 0)
    line.port = server.sockets[0].getsockname()[1]
    yield line
    server.close()
    await line.tasks.close()


@pytest.fixture
async def shaky(
    line: Line, new_mongo: NewMongo, schema: StatsSchema, monkeypatch: pytest.MonkeyPatch
) -> StatsRepository:
    """A repository at the end of that line, quick to look for its server again."""
    monkeypatch.setattr(pymongo.common, "MIN_HEARTBEAT_INTERVAL", 0.02)
    options = "directConnection=true&serverMonitoringMode=poll"  # one answer for each message
    return StatsRepository(new_mongo(f"mongodb://127.0.0.1:{line.port}/?{options}"), schema)


async def xp_of(stats: StatsRepository, *users: str) -> dict[str, int]:
    read = await stats.read(users, TIMEOUT)
    return {user: s.values["xp"] for user, s in read.items()}


@pytest.mark.parametrize("broken", LOST)
@pytest.mark.parametrize("written", [False, True], ids=["first write", "later write"])
async def test_a_write_under_which_the_line_broke_once_is_done_once_and_told_as_done(
    shaky: StatsRepository, stats: StatsRepository, line: Line, broken: str, written: bool
) -> None:
    if written:
        await add(stats, "u")
    old = (await shaky.read(["u"], TIMEOUT))["u"]
    line.breaks = [broken]
    assert await shaky.write([(old, plus(old))], TIMEOUT) == NOBODY
    await line.deliver()
    there = (await stats.read(["u"], TIMEOUT))["u"]
    assert (there.values["xp"], there.rev, there.version) == (1 + written,) * 3
    assert shaky.recall(["u"]) == {"u": there}
    assert line.commands == 2


@pytest.mark.parametrize("broken", LOST)
async def test_who_was_overtaken_is_told_so_also_when_the_line_broke(
    shaky: StatsRepository, stats: StatsRepository, line: Line, broken: str
) -> None:
    olds = await shaky.read(["stale", "fine"], TIMEOUT)
    await add(stats, "stale")
    line.breaks = [broken]
    missed = await shaky.write([(old, plus(old, 10)) for old in olds.values()], TIMEOUT)
    await line.deliver()
    assert missed == Missed({"stale"}, set())
    assert await xp_of(stats, "stale", "fine") == {"stale": 1, "fine": 10}


@pytest.mark.parametrize("broken", LOST)
async def test_a_line_that_broke_between_two_commands_of_a_write_costs_and_doubles_nothing(
    shaky: StatsRepository, stats: StatsRepository, line: Line, broken: str
) -> None:
    users = [f"u{n}" for n in range(2 * WRITES_PER_COMMAND)]
    olds = await shaky.read(users, TIMEOUT)
    line.breaks = ["", broken]
    assert await shaky.write([(old, plus(old)) for old in olds.values()], TIMEOUT) == NOBODY
    await line.deliver()
    assert set((await xp_of(stats, *users)).values()) == {1}


@pytest.mark.parametrize("broken", LOST)
async def test_a_line_that_breaks_twice_is_unavailable_and_what_was_written_is_not_believed(
    shaky: StatsRepository, stats: StatsRepository, line: Line, broken: str
) -> None:
    old = (await shaky.read(["u"], TIMEOUT))["u"]
    line.breaks = [broken, broken]
    with pytest.raises(AppError) as caught:
        await shaky.write([(old, plus(old))], TIMEOUT)
    assert caught.value.code is Code.UNAVAILABLE
    assert shaky.recall(["u"]) == {}
    await line.deliver()
    assert await xp_of(stats, "u") == {"u": 0 if broken == "request" else 1}


async def test_a_write_counts_though_others_came_after_it_and_its_answer_was_lost(
    shaky: StatsRepository,
    stats: StatsRepository,
    line: Line,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = (await shaky.read(["u"], TIMEOUT))["u"]
    line.breaks = ["answer"]
    look = shaky._missed

    async def after_others(mark: bytes, writes: list[tuple[Stats, Stats]]) -> Missed:
        for _ in range(3):
            await add(stats, "u")
        return await look(mark, writes)

    monkeypatch.setattr(shaky, "_missed", after_others)
    assert await shaky.write([(old, plus(old))], TIMEOUT) == NOBODY
    assert await xp_of(stats, "u") == {"u": 4}
