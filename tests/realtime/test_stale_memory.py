"""Two instances that remember stats and hear nothing of each other: each op counts once.

Memories go stale by themselves here, older ones are put in their place, and write commands get
lost, or are carried out unanswered, or later than anybody waits for them.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from pymongo.errors import AutoReconnect

from domain.errors import AppError, Code
from domain.oplog import op_of
from domain.patch import Change, Patch, Replacement
from domain.stats import Stats, StatsSchema
from realtime.limits import LiveLimits
from realtime.metrics import Metrics
from realtime.stats import Advance, Committed, StatsService, Verdict
from storage.mongo import Document, Mongo
from storage.stats import StatsRepository

USERS = range(3)
FAULTS = ("lost", "unanswered", "late")
SCHEMA = StatsSchema()


class Shaky(StatsRepository):
    """Loses the connection at the next write, when `fault` says how."""

    fault = ""
    late: list[asyncio.Future[int]]

    async def _update(self, operations: Sequence[Document]) -> int:
        fault, self.fault = self.fault, ""
        if fault == "unanswered":
            await super()._update(operations)
        if fault == "late":
            self.late.append(asyncio.ensure_future(self._later(operations)))
        if fault:
            raise AutoReconnect("the connection is lost")
        return await super()._update(operations)

    async def _later(self, operations: Sequence[Document]) -> int:
        await asyncio.sleep(0.003)
        return await super()._update(operations)


@dataclass
class Sent:
    """An operation, and what its sendings were answered."""

    user: str
    patch: Patch
    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def counted(self) -> int:
        """How often it was answered as done anew."""
        return sum(isinstance(v, Committed) and not v.outcome.duplicate for v in self.verdicts)


class Two:
    """Two services on one database, and an account of what they said."""

    def __init__(self, mongo: Mongo, name: str) -> None:
        clock = itertools.count(1_700_000_000_000)
        self.users = [f"{name}.{n}" for n in USERS]
        self.repositories = [Shaky(mongo, SCHEMA) for _ in range(2)]
        for repository in self.repositories:
            repository.late = []
        self.services = [
            StatsService(
                repository,
                SCHEMA,
                LiveLimits(),
                Metrics(CollectorRegistry()),
                lambda: next(clock),
                self._announced,
            )
            for repository in self.repositories
        ]
        self.ops: list[Sent] = []
        self.announced: list[tuple[str, int]] = []
        self._past: dict[str, list[Stats]] = {user: [] for user in self.users}
        self._acked = dict.fromkeys(self.users, 0)
        self._bodies: dict[tuple[str, int], bytes] = {}
        self._pending: list[asyncio.Future[None]] = []
        self._markers = itertools.count(1)

    def _announced(self, advance: Advance) -> None:
        self.announced.append((advance.user, advance.rev))

    async def settle(self) -> None:
        """Wait for the verdicts of all that was sent."""
        pending, self._pending = self._pending, []
        async with asyncio.timeout(20):
            await asyncio.gather(*pending)

    def _send(self, at: int, user: str, change: Change, check: Any) -> None:
        done = asyncio.get_running_loop().create_future()
        newest = self._acked[user]

        def settle(verdict: Verdict) -> None:
            try:
                if isinstance(verdict, Committed):
                    self._note(user, verdict, newest)
                check(verdict)
            except BaseException as error:
                done.set_exception(error)
            else:
                done.set_result(None)

        self.services[at].submit(user, change, settle)
        self._pending.append(done)

    def _note(self, user: str, verdict: Committed, newest: int) -> None:
        rev = verdict.stats.rev
        assert verdict.stats.user_id == user
        assert rev >= newest, "answered from a document older than one acknowledged before"
        assert self._bodies.setdefault((user, rev), verdict.body) == verdict.body
        self._acked[user] = max(self._acked[user], rev)
        self._past[user].append(verdict.stats)

    def op(self, at: int, who: int, device: int) -> None:
        """Send a new operation that leaves a mark of its own in the document."""
        marker = next(self._markers)
        op = op_of(f"device {device}" if device else "", f"op {marker}", b"%d" % marker)
        sent = Sent(self.users[who], Patch({"xp": 1}, {}, [marker], op))
        self.ops.append(sent)
        self._send(at, sent.user, sent.patch, sent.verdicts.append)

    def repeat(self, at: int, which: int) -> None:
        """Send an operation again."""
        if self.ops:
            sent = self.ops[-1 - which % len(self.ops)]
            self._send(at, sent.user, sent.patch, sent.verdicts.append)

    async def reuse(self, at: int, which: int) -> None:
        """Send another operation under an id that has been used."""
        await self.settle()
        if self.ops:
            sent = self.ops[-1 - which % len(self.ops)]
            assert sent.patch.op is not None
            other = op_of("", "", b"another content").content_hash
            op = type(sent.patch.op)(sent.patch.op.device, sent.patch.op.id_hash, other)

            def check(verdict: Verdict) -> None:
                assert isinstance(verdict, AppError)
                assert verdict.code is Code.OP_ID_REUSED

            self._send(at, sent.user, Patch({"xp": 1}, {}, [-1], op), check)

    def nothing(self, at: int, who: int) -> None:
        """Send a patch that changes nothing: it is answered with the newest document."""
        self._send(at, self.users[who], Patch({}, {}, []), lambda _: None)

    def lose(self, at: int, who: int) -> None:
        """Send fields older than those that are there."""

        def check(verdict: Verdict) -> None:
            assert isinstance(verdict, Committed)
            assert not verdict.outcome.applied

        self._send(at, self.users[who], Replacement({"level": 9}, 1), check)

    def forget(self, at: int, who: int) -> None:
        """Tell an instance that it knows nothing."""
        self.services[at].forget(self.users[who], 1_000_000)

    def turn_back(self, at: int, who: int, which: int) -> None:
        """Give an instance an old memory."""
        user = self.users[who]
        if past := self._past[user]:
            self.repositories[at]._latest[user] = past[-1 - which % len(past)]

    async def check(self) -> None:
        """What is stored is what was sent, once, and what was said."""
        await self.settle()
        late = [one for repository in self.repositories for one in repository.late]
        await asyncio.gather(*late)
        stored = await self.services[0].read_many(self.users)
        for user, stats in stored.items():
            sent = [one for one in self.ops if one.user == user]
            assert [one.counted for one in sent] == [1] * len(sent)
            markers = sorted(one.patch.append[0] for one in sent)
            assert sorted(stats.values["timePerQuestion"]) == [0, *markers]
            assert stats.values["xp"] == stats.rev == 1 + len(sent)
            assert self._acked[user] == stats.rev
            assert self._bodies[user, stats.rev] == self.services[0].encode(stats)
        assert len(set(self.announced)) == len(self.announced)
        assert dict(sorted(self.announced)) == self._acked


@asynccontextmanager
async def two(mongo: Mongo, name: str) -> AsyncIterator[Two]:
    """Two instances whose users have been written once."""
    made = Two(mongo, name)
    for service in made.services:
        service.start()
    try:
        for user in made.users:
            made._send(0, user, Patch({"xp": 1}, {}, [0]), lambda _: None)
        await made.settle()
        yield made
    finally:
        for service in made.services:
            await service.stop()


@pytest.fixture
async def mongo(mongodb_uri: str, mongodb_name: str) -> AsyncIterator[Mongo]:
    made = Mongo(mongodb_uri, mongodb_name)
    yield made
    await made.close()


INSTANCE = st.integers(0, 1)
WHO = st.sampled_from(USERS)
WHICH = st.integers(0, 7)
OP = st.tuples(st.just("op"), INSTANCE, WHO, st.integers(0, 2))
STEP = st.one_of(
    OP,
    OP,
    st.tuples(st.just("repeat"), INSTANCE, WHICH),
    st.tuples(st.just("reuse"), INSTANCE, WHICH),
    st.tuples(st.just("nothing"), INSTANCE, WHO),
    st.tuples(st.just("lose"), INSTANCE, WHO),
    st.tuples(st.just("forget"), INSTANCE, WHO),
    st.tuples(st.just("turn_back"), INSTANCE, WHO, WHICH),
    st.tuples(st.just("fault"), INSTANCE, st.sampled_from(FAULTS)),
    st.tuples(st.just("settle")),
)
NAMES = itertools.count()


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(STEP, min_size=5, max_size=40))
async def test_each_op_counts_once_whatever_is_remembered_and_whatever_gets_lost(
    mongo: Mongo, steps: list[tuple[Any, ...]]
) -> None:
    async with two(mongo, f"random{next(NAMES)}") as both:
        for name, *args in steps:
            if name == "fault":
                both.repositories[args[0]].fault = args[1]
            elif (work := getattr(both, name)(*args)) is not None:
                await work
        await both.check()


@pytest.mark.parametrize("fault", FAULTS)
async def test_an_op_whose_write_is_not_answered_is_done_once_and_no_duplicate(
    mongo: Mongo, fault: str
) -> None:
    async with two(mongo, "shaky") as both:
        both.repositories[0].fault = fault
        both.op(0, 0, 0)
        await both.check()


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_patch_without_op_id_sent_once_counts_once_though_its_write_is_not_answered(
    mongo: Mongo, fault: str
) -> None:
    async with two(mongo, "bare") as both:
        both.repositories[0].fault = fault
        done = await both.services[0].apply(both.users[0], Patch({"xp": 1}, {}, []))
        await asyncio.gather(*both.repositories[0].late)
        assert (await both.services[0].read(both.users[0])).values["xp"] == 2
        assert done.stats.rev == 2


async def overtaken(both: Two) -> None:
    """The first instance remembers a document; the second has written since."""
    both.op(0, 0, 0)
    await both.settle()
    both.op(1, 0, 1)
    await both.settle()
    assert both.repositories[0]._latest[both.users[0]].rev == 2


async def test_a_duplicate_is_answered_with_the_newest_document_in_spite_of_a_stale_memory(
    mongo: Mongo,
) -> None:
    async with two(mongo, "duplicate") as both:
        await overtaken(both)
        both.repeat(0, 0)  # known to the second instance only
        await both.settle()
        [_, verdict] = both.ops[-1].verdicts
        assert isinstance(verdict, Committed)
        assert (verdict.outcome.duplicate, verdict.stats.rev) == (True, 3)
        await both.check()


async def test_a_patch_that_changes_nothing_is_answered_with_the_newest_document(
    mongo: Mongo,
) -> None:
    async with two(mongo, "nothing") as both:
        await overtaken(both)
        done = await both.services[0].apply(both.users[0], Patch({}, {}, []))
        assert (done.stats.rev, done.stats.values["xp"]) == (3, 3)


async def test_a_reused_op_id_is_refused_though_only_the_newest_document_knows_it(
    mongo: Mongo,
) -> None:
    async with two(mongo, "reused") as both:
        await overtaken(both)
        await both.reuse(0, 0)
        await both.check()


async def test_an_op_id_that_only_the_memory_takes_for_reused_is_judged_by_what_is_stored(
    mongo: Mongo,
) -> None:
    """As after a restored backup: what this instance remembers never happened."""
    async with two(mongo, "restored") as both:
        user = both.users[0]
        await overtaken(both)
        other = op_of("", "elsewhere", b"1")
        memory = both.repositories[0]._latest[user]
        known = {**memory.devices, "-": memory.devices["-"].remember(other, 1)}
        both.repositories[0]._latest[user] = type(memory)(
            user, memory.values, memory.rev, memory.updated_at, memory.version, known
        )
        change = Patch({"xp": 1}, {}, [], op_of("", "elsewhere", b"2"))
        done = await both.services[0].apply(user, change)
        assert (done.outcome.duplicate, done.stats.rev) == (False, 4)


async def test_who_is_older_than_what_another_instance_wrote_loses_last_write_wins(
    mongo: Mongo,
) -> None:
    async with two(mongo, "lww") as both:
        user, at = both.users[0], 1_800_000_000_000
        for service, day in ((0, 0), (1, 2)):
            change = Replacement({"level": 2 + day}, at + day)
            both.services[service]._clock = lambda: at + 10
            assert (await both.services[service].apply(user, change)).outcome.applied
        lost = await both.services[0].apply(user, Replacement({"level": 99}, at + 1))
        assert not lost.outcome.applied
        assert lost.stats.values["level"] == 4
        assert (await both.services[1].read(user)).values["level"] == 4


async def test_a_stale_memory_costs_one_more_round_and_no_verdict(mongo: Mongo) -> None:
    async with two(mongo, "rounds") as both:
        await overtaken(both)
        both.op(0, 0, 2)
        await both.check()
        metrics = both.services[0]._metrics.registry
        assert metrics.get_sample_value("livetally_commit_overtaken_total") == 1
