"""Several instances write the same users' stats: nothing is lost, nothing applied twice."""

import asyncio
import random
from collections.abc import Sequence

import pytest

from domain import patch
from domain.oplog import op_of
from domain.patch import Outcome, Patch
from domain.stats import Stats, StatsSchema
from storage.stats import NOBODY, Missed, StatsRepository
from tests.storage.conftest import NewMongo

TIMEOUT = 30.0
NOW = 1_700_000_000_000


@pytest.fixture
async def instances(
    new_mongo: NewMongo, mongodb_uri: str, schema: StatsSchema
) -> list[StatsRepository]:
    """Four repositories, each with a client of its own."""
    return [StatsRepository(new_mongo(mongodb_uri), schema) for _ in range(4)]


def adding(xp: int, seconds: float = 0.0) -> Patch:
    """Add xp; `seconds` marks this very patch in timePerQuestion."""
    return Patch({"xp": xp}, {}, [seconds] if seconds else [])


async def attempt(
    stats: StatsRepository, schema: StatsSchema, olds: Sequence[Stats], change: Patch
) -> Missed:
    """Fold `change` into what was read and write it."""
    writes = [(old, patch.apply(schema, old, change, NOW)[0]) for old in olds]
    return await stats.write(writes, TIMEOUT)


async def commit(
    stats: StatsRepository, schema: StatsSchema, users: Sequence[str], change: Patch
) -> dict[str, Outcome]:
    """Fold and write until it is done for all; each user's last outcome."""
    waiting = set(users)
    outcomes: dict[str, Outcome] = {}
    while waiting:
        read = await stats.read(waiting, TIMEOUT)
        folds = {user: patch.apply(schema, old, change, NOW) for user, old in read.items()}
        outcomes |= {user: outcome for user, (_, outcome) in folds.items()}
        writes = [(read[user], new) for user, (new, _) in folds.items() if new is not read[user]]
        missed = await stats.write(writes, TIMEOUT) if writes else NOBODY
        assert missed.unknown == set()
        waiting = missed.overtaken
        if waiting:
            await asyncio.sleep(random.uniform(0, 0.005))
    return outcomes


async def test_of_fifty_first_writes_of_a_user_exactly_one_wins(
    instances: list[StatsRepository], schema: StatsSchema
) -> None:
    fresh = schema.fresh("u")
    told = await asyncio.gather(
        *(attempt(instances[n % 4], schema, [fresh], adding(2**n)) for n in range(50))
    )
    winners = [n for n, missed in enumerate(told) if missed == NOBODY]
    assert len(winners) == 1
    assert [missed for missed in told if missed != NOBODY] == [Missed({"u"}, set())] * 49

    rest = [n for n in range(50) if n not in winners]
    await asyncio.gather(*(commit(instances[n % 4], schema, ["u"], adding(2**n)) for n in rest))
    read = (await instances[0].read(["u"], TIMEOUT))["u"]
    assert (read.values["xp"], read.rev) == (2**50 - 1, 50)


async def test_each_of_many_users_first_written_in_concurrent_batches_has_one_winner(
    instances: list[StatsRepository], schema: StatsSchema
) -> None:
    users = [f"u{n}" for n in range(20)]
    told = await asyncio.gather(
        *(
            attempt(
                instances[n % 4],
                schema,
                [schema.fresh(user) for user in random.sample(users, len(users))],
                adding(n + 1),
            )
            for n in range(20)
        )
    )
    assert {user for missed in told for user in missed.unknown} == set()
    read = await instances[0].read(users, TIMEOUT)
    for user in users:
        winners = [n + 1 for n, missed in enumerate(told) if user not in missed.overtaken]
        assert winners == [read[user].values["xp"]]


async def test_concurrent_commits_with_op_ids_give_the_exact_sum(
    instances: list[StatsRepository], schema: StatsSchema
) -> None:
    users = [f"u{n}" for n in range(5)]
    sent = dict.fromkeys(users, 0)

    async def device(n: int) -> None:
        for turn in range(30):
            op = op_of(f"device {n}", f"op {turn}", b"")
            some = random.sample(users, random.randint(1, len(users)))
            for user in some:
                sent[user] += 1
            await commit(instances[n % 4], schema, some, Patch({"xp": 1}, {}, [], op))

    await asyncio.gather(*(device(n) for n in range(12)))
    read = await instances[0].read(users, TIMEOUT)
    assert {user: stats.values["xp"] for user, stats in read.items()} == sent
    assert {user: stats.rev for user, stats in read.items()} == sent


async def test_an_op_sent_once_is_never_answered_as_a_duplicate(
    instances: list[StatsRepository], schema: StatsSchema
) -> None:
    users = [f"u{n}" for n in range(5)]

    async def device(n: int) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for turn in range(30):
            op = op_of(f"device {n}", f"op {turn}", b"")
            found = await commit(instances[n % 4], schema, users, Patch({"xp": 1}, {}, [], op))
            outcomes.extend(found.values())
        return outcomes

    outcomes = await asyncio.gather(*(device(n) for n in range(12)))
    assert sum(one.duplicate for some in outcomes for one in some) == 0


async def test_concurrent_commits_without_op_ids_apply_each_change_once(
    instances: list[StatsRepository], schema: StatsSchema
) -> None:
    users = [f"u{n}" for n in range(5)]

    async def writer(n: int) -> None:
        for turn in range(20):
            await commit(instances[n % 4], schema, users, adding(1, n + turn / 100))

    await asyncio.gather(*(writer(n) for n in range(1, 13)))
    sent = sorted(n + turn / 100 for n in range(1, 13) for turn in range(20))
    for stats in (await instances[0].read(users, TIMEOUT)).values():
        assert sorted(stats.values["timePerQuestion"]) == sent
        assert stats.values["xp"] == len(sent)


@pytest.mark.parametrize(("later", "known"), [(1, True), (10, True), (30, False)])
async def test_who_was_written_is_not_told_overtaken_because_of_later_writes(
    instances: list[StatsRepository], schema: StatsSchema, later: int, known: bool
) -> None:
    """Others change the first user of a batch while the rest of it is still being written."""
    one, *others = instances
    await commit(one, schema, ["stale"], adding(1))
    users = ["quick", *(f"crowd{n}" for n in range(100 + 100 * later)), "stale"]

    async def follow() -> None:
        while not (await others[0].revs(["quick"], TIMEOUT)):
            await asyncio.sleep(0)
        for n in range(later):
            await commit(others[n % 3], schema, ["quick"], adding(10))

    missed, _ = await asyncio.gather(
        attempt(one, schema, [schema.fresh(user) for user in users], adding(1)), follow()
    )
    assert missed.overtaken == {"stale"}
    assert missed.unknown <= (set() if known else {"quick"})
    assert (await one.read(["quick"], TIMEOUT))["quick"].values["xp"] == 1 + 10 * later


async def test_who_was_overtaken_long_ago_is_told_so_or_unknown(
    stats: StatsRepository, schema: StatsSchema
) -> None:
    fresh = schema.fresh("u")
    for n in range(1, 40):
        await commit(stats, schema, ["u"], adding(1))
        missed = await attempt(stats, schema, [fresh], adding(100))
        assert missed.overtaken | missed.unknown == {"u"}
        if n <= 16:
            assert missed == Missed({"u"}, set())
    assert (await stats.read(["u"], TIMEOUT))["u"].values["xp"] == 39
