"""The stats service: the one place that both doors lead to, with its group commit.

What arrives while commits are under way becomes the next one: one read of the users
concerned, each user's changes folded by the rules of `domain`, one bulk write guarded by
version. Whoever was overtaken by another instance is in the next commit too. Two commits may
be under way, so that one is folded while the other waits for the database; they never share
a user or a connection, so that changes are applied in the order of their arrival.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from domain import patch
from domain.errors import AppError, Code, erased
from domain.patch import Change, Outcome
from domain.stats import Stats, StatsSchema
from realtime.connection import Connection
from realtime.limits import LiveLimits
from realtime.metrics import Metrics
from realtime.reads import GroupRead
from realtime.tasks import Loop, Tasks
from storage.stats import StatsRepository

log = logging.getLogger(__name__)

SHORTEST_TRY = 0.5  # seconds; a change with less left to live is answered `unavailable`
COMMITS_AT_ONCE = 2
MAX_HELD = 1000  # changes that the search for the next batch passes over


class Committed(NamedTuple):
    """A change's result: the stored document, also encoded, and what became of the change."""

    stats: Stats
    body: bytes
    outcome: Outcome


Verdict = Committed | AppError
Settle = Callable[[Verdict], None]


@dataclass(slots=True)
class Submission:
    """A change under way, from a connection or (None) over REST.

    `answered`: the connection needs no broadcast of it, being answered itself.
    """

    user: str
    change: Change
    settle: Settle
    connection: Connection | None
    answered: bool
    arrived: float


class Advance(NamedTuple):
    """A user's document has moved on: what to tell, and who knows already."""

    user: str
    rev: int
    body: bytes
    informed: Connection | None


@dataclass(slots=True)
class _Fold:
    """One user's share of a commit."""

    old: Stats
    new: Stats
    outcomes: list[Outcome | AppError] = field(default_factory=list)
    applied_by: set[Connection | None] = field(default_factory=set)


class StatsService:
    """Applies changes exactly once, and reads. `announce` is told of every advance."""

    def __init__(
        self,
        repository: StatsRepository,
        schema: StatsSchema,
        limits: LiveLimits,
        metrics: Metrics,
        clock: Callable[[], int],
        announce: Callable[[Advance], None],
    ) -> None:
        self.schema = schema
        self._repository = repository
        self._limits = limits
        self._metrics = metrics
        self._clock = clock
        self._announce = announce
        self._reads = GroupRead(repository.read, limits.read_timeout, limits.max_waiting)
        self._queue: deque[Submission] = deque()
        self._busy: set[object] = set()  # users and connections of the commits under way
        self._commits = Tasks()
        self._under_way = 0
        self._woken = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._loop = Loop("group commit", self._step, 0.0)

    def start(self) -> None:
        """Begin to commit."""
        self._loop.start()

    async def stop(self) -> None:
        """Commit what has arrived, then end."""
        try:
            async with asyncio.timeout(self._limits.write_timeout + SHORTEST_TRY):
                await self._idle.wait()
        except TimeoutError:
            log.warning("stopping with %d changes uncommitted", len(self._queue))
        await self._loop.stop()
        await self._commits.close()
        await self._reads.close()

    # --- reading ------------------------------------------------------------------------

    async def read(self, user: str) -> Stats:
        """A user's stats; raises AppError `unavailable` or `erased`."""
        stats = await self._reads.read(user)
        if stats.erased:
            raise erased()
        return stats

    def waiting_reads(self) -> int:
        """Users that wait to be read."""
        return self._reads.waiting()

    async def read_many(self, users: list[str]) -> dict[str, Stats]:
        """Several users' stats in one read; of the erased there are the defaults, marked."""
        return await self._repository.read(users, self._limits.read_timeout)

    async def revs(self, users: list[str]) -> dict[str, int]:
        """The stored revs of those users that have any."""
        return await self._repository.revs(users, self._limits.read_timeout)

    def committing(self, user: str) -> bool:
        """Whether a commit of the user's is under way here: it will be announced."""
        return user in self._busy

    async def count(self) -> int:
        """About how many users have stats."""
        return await self._repository.count(self._limits.read_timeout)

    def encode(self, stats: Stats) -> bytes:
        """The stats document as JSON."""
        return orjson.dumps(self.schema.document(stats))

    # --- changing -----------------------------------------------------------------------

    async def apply(self, user: str, change: Change) -> Committed:
        """Apply a change durably; raises AppError."""
        verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()

        def settle(result: Verdict) -> None:
            if not verdict.done():
                verdict.set_result(result)

        self.submit(user, change, settle)
        result = await verdict
        if isinstance(result, AppError):
            raise result
        return result

    def submit(
        self,
        user: str,
        change: Change,
        settle: Settle,
        connection: Connection | None = None,
        *,
        answered: bool = True,
    ) -> None:
        """Queue a change; `settle` is called with its verdict.

        Changes of one user, and those of one connection, are applied in order of submission.
        Raises AppError `overloaded` when too many wait.
        """
        if len(self._queue) >= self._limits.max_waiting:
            raise AppError(Code.OVERLOADED, "Too many changes wait; try again", retry_after=1.0)
        now = asyncio.get_running_loop().time()
        self._queue.append(Submission(user, change, settle, connection, answered, now))
        self._woken.set()
        self._idle.clear()

    async def _step(self) -> None:
        await self._woken.wait()
        self._woken.clear()
        while self._under_way < COMMITS_AT_ONCE and (batch := self._take()):
            self._under_way += 1
            self._commits.spawn(self._commit(batch), "group commit")
        self._metrics.waiting.set(len(self._queue))
        self._note_idle()

    def _note_idle(self) -> None:
        if not self._queue and not self._under_way:
            self._idle.set()

    def _take(self) -> list[Submission]:
        """The next batch, without those whose time is over.

        Who is in a commit under way has to wait, and whoever comes behind such a one.
        """
        now = asyncio.get_running_loop().time()
        batch: list[Submission] = []
        held: list[Submission] = []
        busy = set(self._busy)
        while self._queue and len(batch) < self._limits.max_batch and len(held) < MAX_HELD:
            submission = self._queue.popleft()
            if now - submission.arrived > self._limits.write_timeout - SHORTEST_TRY:
                submission.settle(_unavailable())
            elif not busy.isdisjoint(_parties(submission)):
                busy.update(_parties(submission))
                held.append(submission)
            else:
                batch.append(submission)
        self._queue.extendleft(reversed(held))
        self._busy.update(*map(_parties, batch))
        return batch

    async def _commit(self, batch: list[Submission]) -> None:
        try:
            again = await self._try(batch)
            self._queue.extendleft(reversed(again))
        finally:
            self._under_way -= 1
            self._busy.difference_update(*map(_parties, batch))
            self._woken.set()
            self._note_idle()

    async def _try(self, batch: list[Submission]) -> list[Submission]:
        """Carry out what can be; answers what has to be tried again."""
        by_user: dict[str, list[Submission]] = {}
        for submission in batch:
            by_user.setdefault(submission.user, []).append(submission)
        try:
            folds, again = await self._write(by_user, batch[0].arrived + self._limits.write_timeout)
        except AppError as error:
            self._fail(batch, error)
            return []
        except Exception:
            log.exception("a group commit failed")
            self._fail(batch, AppError(Code.INTERNAL, "Something went wrong on the server"))
            return []
        self._settle([one for one in batch if one.user not in again], folds)
        return [one for one in batch if one.user in again]

    async def _write(
        self, by_user: dict[str, list[Submission]], deadline: float
    ) -> tuple[dict[str, _Fold], set[str]]:
        """Fold and store; answers the users for whom it has to be done again, too.

        Raises AppError `unavailable`.
        """
        loop = asyncio.get_running_loop()
        users = set(by_user)
        stored = recalled = self._repository.recall(users)
        if unread := users - recalled.keys():
            self._metrics.commit_reads.inc(len(unread))
            left = _left(deadline, loop.time())
            stored = recalled | await self._repository.read(unread, left)
        folds = {user: self._fold(stored[user], by_user[user]) for user in users}
        # What was recalled may be old, and what changes nothing proves nothing.
        again = {user for user in recalled if folds[user].new is stored[user]}
        writes = [(f.old, f.new) for f in folds.values() if f.new is not f.old]
        if writes:
            missed = await self._repository.write(writes, _left(deadline, loop.time()))
            self._metrics.overtaken.inc(len(missed.overtaken))
            again |= missed.overtaken
            for user in missed.unknown:
                folds[user] = _Fold(
                    stored[user], stored[user], [_unavailable()] * len(by_user[user])
                )
        return {user: fold for user, fold in folds.items() if user not in again}, again

    def forget(self, user: str, rev: int) -> None:
        """Another instance has brought this user's stats to `rev`."""
        self._repository.forget(user, rev)

    def _fold(self, stored: Stats, submissions: Iterable[Submission]) -> _Fold:
        fold = _Fold(stored, stored)
        now = self._clock()
        for submission in submissions:
            before = fold.new
            try:
                fold.new, outcome = patch.apply(self.schema, before, submission.change, now)
            except AppError as error:
                fold.outcomes.append(error)
                continue
            fold.outcomes.append(outcome)
            if fold.new.rev != before.rev:
                fold.applied_by.add(submission.connection if submission.answered else None)
        return fold

    def _settle(self, batch: list[Submission], folds: dict[str, _Fold]) -> None:
        now = asyncio.get_running_loop().time()
        self._metrics.batch_size.observe(len(batch))
        bodies = {user: self.encode(fold.new) for user, fold in folds.items()}
        outcomes = {user: iter(fold.outcomes) for user, fold in folds.items()}
        for submission in batch:
            user = submission.user
            outcome = next(outcomes[user])
            self._metrics.commit_seconds.observe(now - submission.arrived)
            if isinstance(outcome, AppError):
                submission.settle(outcome)
            else:
                submission.settle(Committed(folds[user].new, bodies[user], outcome))
        for user, fold in folds.items():
            if fold.new.rev != fold.old.rev:
                only = next(iter(fold.applied_by)) if len(fold.applied_by) == 1 else None
                self._announce(Advance(user, fold.new.rev, bodies[user], only))

    def _fail(self, batch: list[Submission], error: AppError) -> None:
        for submission in batch:
            submission.settle(error)


def _parties(submission: Submission) -> tuple[object, ...]:
    if submission.connection is None:
        return (submission.user,)
    return submission.user, submission.connection


def _left(deadline: float, now: float) -> float:
    return max(SHORTEST_TRY / 2, deadline - now)


def _unavailable() -> AppError:
    return AppError(
        Code.UNAVAILABLE,
        "The database does not answer; send the same opId again",
        retry_after=1.0,
    )
