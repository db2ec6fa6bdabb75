"""Group commits: two at once that have nobody in common, in order, and nothing left behind."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from domain.errors import AppError, Code
from domain.patch import Patch
from domain.stats import Stats, StatsSchema
from realtime.limits import LiveLimits
from realtime.metrics import Metrics
from realtime.stats import COMMITS_AT_ONCE, MAX_HELD, Committed, StatsService, Verdict
from storage.stats import NOBODY, Missed

SCHEMA = StatsSchema()
UNAVAILABLE = AppError(Code.UNAVAILABLE, "The database does not answer")


class Store:
    """Stats in memory, whose writes end when the test lets them, unless `freely`."""

    def __init__(self) -> None:
        self.there: dict[str, Stats] = {}
        self.freely = False
        self.begun: list[list[str]] = []
        self._lets: list[asyncio.Future[None]] = []
        self._begin = asyncio.Condition()

    def recall(self, users: Iterable[str]) -> dict[str, Stats]:
        return {}

    async def read(self, users: Iterable[str], timeout: float) -> dict[str, Stats]:
        return {user: self.there.get(user) or SCHEMA.fresh(user) for user in users}

    async def write(self, writes: Sequence[tuple[Stats, Stats]], timeout: float) -> Missed:
        let = asyncio.get_running_loop().create_future()
        async with self._begin:
            self._lets.append(let)
            self.begun.append([old.user_id for old, _ in writes])
            self._begin.notify_all()
        if self.freely:
            for _ in range(random.randrange(4)):
                await asyncio.sleep(0)
        else:
            await let
        for old, new in writes:
            assert self.there.get(old.user_id, old).version == old.version, "overtaken by itself"
            self.there[old.user_id] = replace(new, version=old.version + 1)
        return NOBODY

    async def began(self, count: int) -> None:
        """Wait until that many writes have begun."""
        async with asyncio.timeout(5), self._begin:
            await self._begin.wait_for(lambda: len(self.begun) >= count)

    def let(self, number: int, error: Exception | None = None) -> None:
        """End a write, well or with an error."""
        if error is None:
            self._lets[number].set_result(None)
        else:
            self._lets[number].set_exception(error)

    def let_all(self) -> None:
        """End all writes, also those to come."""
        self.freely = True
        for let in self._lets:
            if not let.done():
                let.set_result(None)


Make = Callable[..., StatsService]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
async def make(store: Store) -> AsyncIterator[Make]:
    made: list[StatsService] = []

    def new(**limits: Any) -> StatsService:
        repository: Any = store
        service = StatsService(
            repository,
            SCHEMA,
            LiveLimits(**limits),
            Metrics(CollectorRegistry()),
            lambda: 1_700_000_000_000,
            lambda _: None,
        )
        service.start()
        made.append(service)
        return service

    yield new
    store.let_all()
    for service in made:
        await service.stop()


class Sender:
    """Sends marked patches and keeps their verdicts, in the order in which these came."""

    def __init__(self, service: StatsService) -> None:
        self.service = service
        self.told: list[tuple[str, Verdict]] = []
        self._open = 0
        self._closed = asyncio.Event()

    def send(self, user: str, mark: float, connection: Any = None) -> None:
        def settle(verdict: Verdict) -> None:
            self.told.append((user, verdict))
            self._open -= 1
            if not self._open:
                self._closed.set()

        self._open += 1
        self._closed.clear()
        self.service.submit(user, Patch({"xp": 1}, {}, [mark]), settle, connection)

    async def all_told(self) -> list[tuple[str, Verdict]]:
        """The verdicts, once all are there."""
        async with asyncio.timeout(5):
            await self._closed.wait()
        return self.told

    def codes(self) -> list[str]:
        return [v.code if isinstance(v, AppError) else "ok" for _, v in self.told]


def marks(store: Store, user: str) -> list[float]:
    """What was applied, in order."""
    return list(store.there[user].values["timePerQuestion"])


async def turns(count: int = 8) -> None:
    """Let everything happen that needs no outside event."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_two_commits_are_under_way_at_once_and_no_third(store: Store, make: Make) -> None:
    sender = Sender(make())
    for n in range(COMMITS_AT_ONCE):
        sender.send(f"u{n}", 1)
        await store.began(n + 1)
    sender.send("late", 1)
    await turns()
    assert store.begun == [["u0"], ["u1"]]
    store.let(0)
    await store.began(3)
    assert store.begun[2] == ["late"]


async def test_who_is_in_a_commit_under_way_waits_for_its_end(store: Store, make: Make) -> None:
    sender = Sender(make())
    sender.send("u", 1)
    await store.began(1)
    sender.send("u", 2)
    sender.send("other", 1)
    await store.began(2)
    await turns()
    assert store.begun == [["u"], ["other"]]
    store.let(0)
    await store.began(3)
    assert store.begun[2] == ["u"]
    store.let_all()
    await sender.all_told()
    assert marks(store, "u") == [1, 2]


async def test_a_connection_in_a_commit_under_way_waits_with_all_its_users(
    store: Store, make: Make
) -> None:
    sender, job = Sender(make()), object()
    sender.send("a", 1, job)
    await store.began(1)
    sender.send("b", 1, job)
    await turns()
    assert store.begun == [["a"]]
    store.let(0)
    await store.began(2)
    assert store.begun[1] == ["b"]


async def test_who_comes_behind_one_that_waits_waits_too(store: Store, make: Make) -> None:
    """a is under way; job's b waits behind job's a, so another's b must not overtake it."""
    sender, job, other = Sender(make()), object(), object()
    sender.send("a", 1, job)
    await store.began(1)
    sender.send("b", 1, job)
    sender.send("b", 2, other)
    sender.send("c", 3, other)
    await turns()
    assert store.begun == [["a"]]
    store.let_all()
    await sender.all_told()
    assert marks(store, "b") == [1, 2]
    assert [user for user, _ in sender.told] == ["a", "b", "b", "c"]


async def test_changes_over_rest_of_different_users_do_not_wait_for_each_other(
    store: Store, make: Make
) -> None:
    sender = Sender(make())
    sender.send("a", 1, None)
    await store.began(1)
    sender.send("b", 1, None)
    await store.began(2)
    assert store.begun == [["a"], ["b"]]


async def test_a_commit_that_fails_fails_its_own_and_lets_who_waited_for_it_go_on(
    store: Store, make: Make
) -> None:
    sender = Sender(make())
    sender.send("u", 1)
    await store.began(1)
    sender.send("u", 2)
    store.let(0, UNAVAILABLE)
    await store.began(2)
    store.let(1)
    await sender.all_told()
    assert sender.codes() == ["unavailable", "ok"]
    assert marks(store, "u") == [2]


async def test_a_commit_that_fails_in_an_unforeseen_way_is_internal_and_blocks_nobody(
    store: Store, make: Make
) -> None:
    sender = Sender(make())
    sender.send("u", 1)
    await store.began(1)
    sender.send("u", 2)
    store.let(0, ValueError("unforeseen"))
    await store.began(2)
    store.let(1)
    await sender.all_told()
    assert sender.codes() == ["internal", "ok"]


async def test_the_last_changes_are_committed_though_nothing_comes_after_them(
    store: Store, make: Make
) -> None:
    """Held back behind commits under way, they wait for the end of these and for no new change."""
    sender = Sender(make(max_batch=1))
    for n in range(20):
        sender.send(f"u{n % 3}", n)
    store.freely = True
    store.let_all()
    await sender.all_told()
    assert sender.codes() == ["ok"] * 20
    assert [marks(store, f"u{n}") for n in range(3)] == [list(range(n, 20, 3)) for n in range(3)]


async def test_more_than_the_search_passes_over_are_committed_in_the_end(
    store: Store, make: Make
) -> None:
    sender = Sender(make())
    sender.send("u", 0)
    await store.began(1)
    for n in range(1, 2 * MAX_HELD + 10):
        sender.send("u", n)
    sender.send("other", 0)
    await turns()
    store.let_all()
    await sender.all_told()
    assert sender.codes() == ["ok"] * (2 * MAX_HELD + 11)
    assert marks(store, "u") == list(range(1 + MAX_HELD + 9, 2 * MAX_HELD + 10))[-1000:]


@pytest.mark.parametrize("seed", range(20))
async def test_in_any_mix_each_user_and_each_connection_keeps_its_order(
    store: Store, make: Make, seed: int
) -> None:
    random.seed(seed)
    store.freely = True
    service = make(max_batch=random.choice([1, 2, 5, 500]))
    sender = Sender(service)
    people = [f"u{n}" for n in range(6)]
    connections: list[Any] = [object(), object(), None]
    order: dict[int, list[int]] = {0: [], 1: [], 2: []}
    sent: dict[str, list[int]] = {user: [] for user in people}
    finished: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for n in range(150):
        at, user = random.randrange(3), random.choice(people)
        order[at].append(n)
        sent[user].append(n)

        def settle(verdict: Verdict, at: int = at, n: int = n) -> None:
            assert isinstance(verdict, Committed)
            finished[at].append(n)

        service.submit(user, Patch({"xp": 1}, {}, [n]), settle, connections[at])
        sender.send("end", n)
        for _ in range(random.choice([0, 0, 1, 3])):
            await asyncio.sleep(0)
    await sender.all_told()
    await service.stop()
    assert {user: marks(store, user) for user in people} == sent
    assert finished[0] == order[0]
    assert finished[1] == order[1]
    assert sorted(finished[2]) == order[2]


async def test_stop_commits_what_waits(store: Store, make: Make) -> None:
    service = make(max_batch=2)
    sender, job = Sender(service), object()
    for n in range(12):
        sender.send(f"u{n % 4}", n, job)
    stopping = asyncio.create_task(service.stop())
    await store.began(1)
    await turns()
    assert not stopping.done()
    store.let_all()
    async with asyncio.timeout(5):
        await stopping
    assert sender.codes() == ["ok"] * 12
    assert [marks(store, f"u{n}") for n in range(4)] == [[n, n + 4, n + 8] for n in range(4)]


async def test_stop_returns_at_once_when_nothing_waits(store: Store, make: Make) -> None:
    service = make()
    store.freely = True
    sender = Sender(service)
    sender.send("u", 1)
    await sender.all_told()
    async with asyncio.timeout(1):
        await service.stop()


async def test_stop_ends_though_the_store_never_answers(store: Store, make: Make) -> None:
    service = make(write_timeout=0.6)
    Sender(service).send("u", 1)
    await store.began(1)
    async with asyncio.timeout(3):
        await service.stop()


async def test_who_waits_for_a_commit_longer_than_a_change_may_is_told_unavailable(
    store: Store, make: Make
) -> None:
    sender = Sender(make(write_timeout=0.55))
    sender.send("u", 1)
    await store.began(1)
    sender.send("u", 2)
    await asyncio.sleep(0.06)
    store.let(0)
    await sender.all_told()
    assert sender.codes() == ["ok", "unavailable"]
    assert marks(store, "u") == [1]


async def test_beyond_the_bound_a_change_is_refused(store: Store, make: Make) -> None:
    sender = Sender(make(max_waiting=2))
    sender.send("u", 1)
    await store.began(1)
    sender.send("u", 2)
    sender.send("u", 3)
    with pytest.raises(AppError) as caught:
        sender.send("u", 4)
    assert caught.value.code is Code.OVERLOADED
