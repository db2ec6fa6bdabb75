"""Reads in company: one read for many callers, each of whom sees what was there when it asked."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection

import pytest

from domain.errors import AppError, Code
from realtime.reads import MAX_READ, READS_AT_ONCE, SHORTEST_TRY, GroupRead

TIMEOUT = 30.0


class Store:
    """Answers a read when the test lets it, with what is there when the read begins."""

    def __init__(self) -> None:
        self.there: dict[str, int] = {}
        self.reads: list[tuple[list[str], asyncio.Future[None]]] = []
        self.timeouts: list[float] = []
        self._began = asyncio.Condition()

    async def fetch(self, users: Collection[str], timeout: float) -> dict[str, int]:
        found = {user: self.there.get(user, 0) for user in users}
        let = asyncio.get_running_loop().create_future()
        self.timeouts.append(timeout)
        async with self._began:
            self.reads.append((list(users), let))
            self._began.notify_all()
        async with asyncio.timeout(timeout):
            await let
        return found

    async def began(self, count: int) -> None:
        """Wait until that many reads have begun."""
        async with asyncio.timeout(5), self._began:
            await self._began.wait_for(lambda: len(self.reads) >= count)

    def users(self) -> list[list[str]]:
        """Who was read, by read."""
        return [sorted(users) for users, _ in self.reads]

    def let(self, number: int, error: Exception | None = None) -> None:
        """End a read, well or with an error."""
        answer = self.reads[number][1]
        if error is None:
            answer.set_result(None)
        else:
            answer.set_exception(error)


@pytest.fixture
def store() -> Store:
    return Store()


Make = Callable[..., GroupRead[int]]


@pytest.fixture
async def make(store: Store) -> AsyncIterator[Make]:
    """Makes group reads on the store."""
    made: list[GroupRead[int]] = []

    def new(timeout: float = TIMEOUT, most: int = 10_000) -> GroupRead[int]:
        made.append(GroupRead(store.fetch, timeout, most))
        return made[-1]

    yield new
    for reads in made:
        await reads.close()


def ask(reads: GroupRead[int], user: str) -> asyncio.Task[int]:
    caller = asyncio.create_task(reads.read(user))
    caller.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    return caller


async def turns(count: int = 5) -> None:
    """Let everything happen that needs no outside event."""
    for _ in range(count):
        await asyncio.sleep(0)


async def busy(store: Store, reads: GroupRead[int]) -> list[asyncio.Task[int]]:
    """Callers of as many reads as there may be at once, all under way."""
    callers = []
    for n in range(READS_AT_ONCE):
        callers.append(ask(reads, f"busy{n}"))
        await store.began(n + 1)
    return callers


async def code_of(caller: asyncio.Task[int]) -> Code:
    with pytest.raises(AppError) as caught:
        await caller
    return caught.value.code


UNAVAILABLE = AppError(Code.UNAVAILABLE, "The database does not answer")


async def test_callers_of_one_turn_share_a_read(store: Store, make: Make) -> None:
    reads = make()
    store.there = {"a": 1, "b": 2}
    callers = [ask(reads, user) for user in "abab"]
    await store.began(1)
    store.let(0)
    assert await asyncio.gather(*callers) == [1, 2, 1, 2]
    assert store.users() == [["a", "b"]]


async def test_no_more_reads_are_under_way_than_may_be(store: Store, make: Make) -> None:
    reads = make()
    await busy(store, reads)
    ask(reads, "late")
    await turns()
    assert len(store.reads) == READS_AT_ONCE == 2
    assert reads.waiting() == 1


async def test_what_is_asked_for_meanwhile_becomes_one_read(store: Store, make: Make) -> None:
    reads = make()
    await busy(store, reads)
    callers = [ask(reads, f"u{n}") for n in range(20)]
    await turns()
    store.let(0)
    await store.began(3)
    store.let(2)
    await asyncio.gather(*callers)
    assert store.users()[2:] == [sorted(f"u{n}" for n in range(20))]


async def test_a_read_begins_after_it_was_asked_for_though_the_same_user_is_being_read(
    store: Store, make: Make
) -> None:
    reads = make()
    store.there["u"] = 1
    early = ask(reads, "u")
    await store.began(1)
    store.there["u"] = 2  # is acknowledged, and then its writer reads
    late = ask(reads, "u")
    await store.began(2)
    store.let(0)
    store.let(1)
    assert (await early, await late) == (1, 2)


async def test_who_asks_while_all_reads_are_under_way_sees_what_was_written_before(
    store: Store, make: Make
) -> None:
    reads = make()
    await busy(store, reads)
    store.there["busy0"] = 2
    late = ask(reads, "busy0")
    await turns()
    store.let(1)
    await store.began(3)
    store.let(2)
    assert await late == 2


async def test_a_read_takes_a_bounded_number_of_users(store: Store, make: Make) -> None:
    reads = make()
    callers = [ask(reads, f"u{n}") for n in range(MAX_READ + 1)]
    await store.began(1)
    store.let(0)
    await store.began(2)
    store.let(1)
    await asyncio.gather(*callers)
    assert [len(users) for users in store.users()] == [MAX_READ, 1]


async def test_beyond_the_bound_a_user_is_refused_and_who_waits_already_is_not(
    store: Store, make: Make
) -> None:
    reads = make(most=2)
    await busy(store, reads)
    waiting = [ask(reads, user) for user in "abab"]
    await turns()
    refused = ask(reads, "c")
    assert await code_of(refused) is Code.OVERLOADED
    store.let(0)
    await store.began(3)
    store.let(2)
    assert await asyncio.gather(*waiting) == [0, 0, 0, 0]


async def test_a_read_that_fails_fails_its_callers_and_no_others(store: Store, make: Make) -> None:
    reads = make()
    failing, fine = await busy(store, reads)
    later = ask(reads, "later")
    await turns()
    store.let(0, UNAVAILABLE)
    assert await code_of(failing) is Code.UNAVAILABLE
    await store.began(3)
    store.let(1)
    store.let(2)
    assert (await fine, await later) == (0, 0)


async def test_an_unforeseen_fault_fails_its_callers_and_no_others(
    store: Store, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    reads = make()
    callers = await busy(store, reads)
    later = ask(reads, "later")
    await turns()
    for n in range(READS_AT_ONCE):
        store.let(n, KeyError("a document without its rev"))
    for caller in callers:
        assert await code_of(caller) is Code.UNAVAILABLE
    await store.began(3)
    store.let(2)
    assert await later == 0
    assert caplog.text.count("a document without its rev") == READS_AT_ONCE


async def test_a_caller_that_is_cancelled_takes_no_others_along(store: Store, make: Make) -> None:
    reads = make()
    gone, one, other = ask(reads, "u"), ask(reads, "u"), ask(reads, "v")
    await store.began(1)
    gone.cancel()
    await turns()
    store.let(0)
    assert await asyncio.gather(one, other) == [0, 0]
    assert gone.cancelled()


async def test_a_wish_whose_only_caller_was_cancelled_is_in_nobodys_way(
    store: Store, make: Make
) -> None:
    reads = make()
    await busy(store, reads)
    gone = ask(reads, "gone")
    await turns()
    gone.cancel()
    again = ask(reads, "gone")
    await turns()
    store.let(0)
    await store.began(3)
    store.let(2)
    assert await again == 0


async def test_a_store_that_does_not_answer_is_given_up_in_time_for_each_caller(
    store: Store, make: Make
) -> None:
    reads = make(timeout=SHORTEST_TRY + 0.2)
    store_fetch, took = store.fetch, []

    async def fetch(users: Collection[str], timeout: float) -> dict[str, int]:
        try:
            return await store_fetch(users, timeout)
        except TimeoutError:
            raise UNAVAILABLE from None

    reads._fetch = fetch
    loop = asyncio.get_running_loop()

    async def wait(user: str) -> None:
        asked = loop.time()
        assert await code_of(ask(reads, user)) is Code.UNAVAILABLE
        took.append(loop.time() - asked)

    # Two reads hang, others wait behind them; nobody waits for two timeouts.
    waits = [asyncio.create_task(wait("a"))]
    await store.began(1)
    waits.append(asyncio.create_task(wait("b")))
    await store.began(2)
    waits += [asyncio.create_task(wait(user)) for user in "cdc"]
    await asyncio.gather(*waits)
    assert max(took) < SHORTEST_TRY + 0.2 + 0.5
    assert len(store.reads) == 2


async def test_a_read_gets_what_is_left_of_its_oldest_callers_time(
    store: Store, make: Make
) -> None:
    reads = make()
    await busy(store, reads)
    ask(reads, "late")
    await asyncio.sleep(0.05)
    store.let(0)
    await store.began(3)
    assert TIMEOUT - 1 < store.timeouts[2] <= TIMEOUT - 0.04


async def test_when_it_is_closed_whoever_is_read_is_answered_unavailable(
    store: Store, make: Make
) -> None:
    reads = make()
    callers = await busy(store, reads)
    late = ask(reads, "late")
    await turns()
    await reads.close()
    for caller in (*callers, late):
        assert await code_of(caller) is Code.UNAVAILABLE
