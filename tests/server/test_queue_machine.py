"""Whatever happens to a user's queue: each item once, in its document's order, nothing stuck."""

import asyncio
import itertools
from collections import Counter, defaultdict
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
import uvloop
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from domain.errors import AppError, Code
from domain.queue import AddBody, Item, Status
from domain.resources import BUILT_IN
from storage.queue import LeaseLost
from tests.queueing import FAILING, MARKS, TIMEOUT, Clock, a_mark, an_instance

T = TypeVar("T")

EXPENSES = BUILT_IN[0]
LEASE = 30_000
NEVER = 99  # a version that no document has
PRIORITIES = st.integers(-2, 2)
OPEN = {Status.PENDING, Status.PROCESSING, Status.FAILED, Status.CONFLICT}
SMALL = settings(max_examples=15, stateful_step_count=25, deadline=None)
names = itertools.count()


class World:
    """Two instances and the loop that they run on, for all runs of the machine."""

    def __init__(self, stores: dict[str, Any], runner: asyncio.Runner) -> None:
        self.stores = stores
        self._runner = runner
        self.clock = Clock()
        self.two = [an_instance(stores, self.clock, queue_lease=LEASE / 1000) for _ in "ab"]
        self.run(self.two[0].repository.ready(30.0))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` answers."""
        return self._runner.run(work)

    def close(self) -> None:
        """Close the instances' connections."""
        for instance in self.two:
            self.run(instance.mongo.close())


class Queue(RuleBasedStateMachine):
    """One user's queue, and a bystander's."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.one, self.other = world.two
        self.user, self.bystander = f"user{next(names)}", f"bystander{next(names)}"
        self.order: list[str] = []
        self.servers: set[str] = set()
        self.items: list[Item] = []
        FAILING.clear()
        world.run(self.one.add(self.bystander, a_mark(world.stores, "untouched")))
        created = {"amount": 1, "category": "Test", "_id": "money"}
        self.add({"endpoint": "/api/expenses", "method": "POST", "data": created})
        world.run(self.one.service.process(self.user))
        self.look()

    def add(self, *bodies: dict[str, Any]) -> None:
        wished = [AddBody.model_validate(body) for body in bodies]
        self.order += [item.id for item in self.world.run(self.one.add(self.user, *wished))]

    def look(self) -> None:
        self.items = self.world.run(self.one.items(self.user))

    def of(self, *statuses: Status) -> list[Item]:
        return [item for item in self.items if item.status in statuses]

    # --- what may happen ------------------------------------------------------------------

    @rule(
        docs=st.lists(st.sampled_from(["x", "y", "x", None]), min_size=1, max_size=6),
        priority=PRIORITIES,
        fails=st.integers(0, 63),
        attempts=st.integers(1, 3),
    )
    def add_marks(self, docs: list[str | None], priority: int, fails: int, attempts: int) -> None:
        bodies = []
        for at, doc in enumerate(docs):
            text = f"{self.user} {next(names)}"
            if fails >> at & 1:
                FAILING.add(text)
            options = {} if doc is None else {"on": doc}
            bodies.append(
                a_mark(
                    self.world.stores,
                    text,
                    priority=priority + at % 2,
                    maxAttempts=attempts,
                    **options,
                ).model_dump(by_alias=True, exclude_unset=True)
            )
        self.add(*bodies)

    @rule(stale=st.booleans(), priority=PRIORITIES)
    def add_change(self, stale: bool, priority: int) -> None:
        body: dict[str, Any] = {"endpoint": "/api/expenses/money", "method": "PUT"}
        if stale:
            body["baseVersion"] = NEVER
        self.add({**body, "data": {"amount": 2}, "priority": priority})

    @rule(calls=st.integers(1, 4))
    def process(self, calls: int) -> None:
        async def all_at_once() -> None:
            workers = itertools.cycle(self.world.two)
            await asyncio.gather(*(next(workers).service.process(self.user) for _ in range(calls)))

        self.world.run(all_at_once())

    @rule()
    def workers_step(self) -> None:
        async def both() -> None:
            steps = [i.service.step(self.user, worker=True) for i in self.world.two]
            await asyncio.gather(*steps)

        self.world.run(both())

    @rule(seconds=st.sampled_from([4, 31, 100]))
    def time_passes(self, seconds: int) -> None:
        self.world.clock.ahead += seconds * 1000

    @rule()
    def a_worker_dies(self) -> None:
        self.world.run(self.claimed())

    async def claimed(self) -> Item | None:
        now = self.world.clock()
        return await self.one.repository.claim(
            self.user, now, f"lease {next(names)}", now + LEASE, TIMEOUT, worker=False
        )

    @rule()
    def a_worker_is_too_slow(self) -> None:
        async def overtaken() -> None:
            item = await self.claimed()
            if item is None:
                return
            self.world.clock.ahead += LEASE + 1
            await self.other.service.process(self.user)
            try:
                await self.one.units.run(
                    self.user, lambda unit: self.one.service._effect(unit, item), TIMEOUT
                )
            except (LeaseLost, AppError):
                return
            raise AssertionError("it ended what was not its own any more")

        self.world.run(overtaken())

    @precondition(lambda self: FAILING)
    @rule(data=st.data())
    def what_failed_would_work_now(self, data: st.DataObject) -> None:
        FAILING.discard(data.draw(st.sampled_from(sorted(FAILING))))

    @precondition(lambda self: self.of(Status.FAILED))
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self.of(Status.FAILED)))
        self.world.run(self.other.service.retry(self.user, item.id))

    @precondition(lambda self: self.items)
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self.of(*OPEN) or self.items))
        if item.status in (Status.PROCESSING, Status.COMPLETED):
            with pytest.raises(AppError) as caught:
                self.world.run(self.other.service.discard(self.user, item.id))
            assert caught.value.code is Code.ITEM_BUSY
            return
        self.world.run(self.other.service.discard(self.user, item.id))

    @precondition(lambda self: self.of(Status.CONFLICT))
    @rule(data=st.data(), mine=st.booleans())
    def resolve(self, data: st.DataObject, mine: bool) -> None:
        item = data.draw(st.sampled_from(self.of(Status.CONFLICT)))
        self.world.run(self.other.service.resolve(self.user, item.id, keep_mine=mine))
        if not mine:
            self.servers.add(item.id)

    @precondition(lambda self: len(self.of(Status.PENDING)) > 8)
    @rule()
    def clear(self) -> None:
        assert self.world.run(self.one.service.clear(self.user)) == len(self.of(Status.PENDING))

    # --- what always holds ----------------------------------------------------------------

    @invariant()
    def effects_are_those_of_the_completed_items_each_once(self) -> None:
        self.look()
        completed = {item.id for item in self.of(Status.COMPLETED)}
        marks = self.world.run(self.marks())
        effects = Counter(found["item"] for found in marks)
        changes = sum(1 for item_id in completed - self.servers if item_id not in effects)
        assert all(times == 1 for times in effects.values())
        assert effects.keys() <= completed
        document = self.world.run(self.one.resources.read(self.user, EXPENSES, "money", TIMEOUT))
        assert document is not None
        assert document.version == changes  # its creation is one of them
        by_target: dict[str, list[int]] = defaultdict(list)
        for found in marks:
            by_target[found["target"]].append(self.order.index(found["item"]))
        assert all(places == sorted(places) for places in by_target.values())

    async def marks(self) -> list[Any]:
        found = self.one.mongo.collection(MARKS).find({"user": self.user})
        return await found.sort([("unit", 1)]).to_list()

    @invariant()
    def nothing_is_done_before_what_comes_before_it_on_its_document(self) -> None:
        assert [item.id for item in self.items] == [
            item_id for item_id in self.order if item_id in {item.id for item in self.items}
        ]
        waits: set[str] = set()
        for item in self.items:
            if item.chain in waits:
                assert (item.status, item.attempts) == (Status.PENDING, 0)
            elif item.status in OPEN:
                waits.add(item.chain)

    @invariant()
    def nobody_elses_items_are_touched(self) -> None:
        (item,) = self.world.run(self.one.items(self.bystander))
        assert (item.status, item.attempts) == (Status.PENDING, 0)

    def teardown(self) -> None:
        """Once everything works and all failures are seen to, the queue drains."""
        FAILING.clear()
        for at in range(len(self.order) + 2):
            self.look()
            for item in self.of(Status.FAILED):
                if at % 2:
                    self.world.run(self.one.service.retry(self.user, item.id))
                else:
                    self.world.run(self.one.service.discard(self.user, item.id))
            for item in self.of(Status.CONFLICT):
                mine = bool(at % 2)
                self.world.run(self.one.service.resolve(self.user, item.id, keep_mine=mine))
                if not mine:
                    self.servers.add(item.id)
            self.world.clock.ahead += 100_000
            self.process(2)
            self.look()
            if not self.of(*OPEN):
                break
        assert self.of(*OPEN) == []
        self.effects_are_those_of_the_completed_items_each_once()


def test_whatever_happens_each_item_is_done_once_in_its_order_and_nothing_is_stuck(
    stores: dict[str, Any],
) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        world = World(stores, runner)
        try:
            run_state_machine_as_test(lambda: Queue(world), settings=SMALL)
        finally:
            FAILING.clear()
            world.close()
