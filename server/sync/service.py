"""Push and pull: a device's changes in, what is new to it out."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import orjson

from domain.errors import AppError, Code, refuse_field
from domain.sync.changes import MAX_CHANGES, Change, parse_change, shown_ids
from domain.sync.entities import EntityTypes, Key, Row
from domain.sync.fold import Ack, Fold, Logged
from domain.times import iso, parse_time
from realtime.live import Live
from realtime.tasks import Loop
from server.settings import Settings
from server.sync.metrics import SyncMetrics
from server.sync.models import Push
from server.sync.tokens import PageToken, read_page_token
from storage.sync import Found, Result, SyncRepository

log = logging.getLogger(__name__)

PUSH_TIMEOUT = 8.0  # seconds
PULL_TIMEOUT = 20.0
MAX_UNDER_WAY = 200  # pushes and pulls of this process at once
PRUNE_EVERY = 60.0  # seconds
PRUNE_MARGIN = 3_600_000  # ms by which clocks may differ


@dataclass(slots=True)
class Answer:
    """What goes back to the device; rows are encoded already, by plural."""

    acks: list[Ack]
    rows: dict[str, list[bytes]]
    stamp: int | None = None
    """The device's next cursor; None while there are more pages."""
    cursor: str | None = None
    """The cursor that it came with."""
    more: PageToken | None = None
    paged: bool = False


@dataclass(slots=True)
class _Pushed:
    """What a push has stored, and which rows its device need not get back."""

    acks: list[Ack]
    stamp: int = 0
    """Of what it has stored; 0 when that is nothing: the stamp was never issued."""
    before: int | None = None
    """The user's newest stamp until then."""
    known: dict[Key, int] = field(default_factory=dict)
    """The stamps of rows that stand as the device has sent them."""
    lost: set[Key] = field(default_factory=set)
    rows: dict[Key, Row] = field(default_factory=dict)


class SyncService:
    """The sync engine; entity types are what `types` has."""

    def __init__(
        self,
        types: EntityTypes,
        repository: SyncRepository,
        live: Live,
        settings: Settings,
        metrics: SyncMetrics,
        clock: Callable[[], int],
    ) -> None:
        self.types = types
        self._repository = repository
        self._live = live
        self._kept = round(settings.sync_tombstones_kept * 1000)
        self._most = settings.sync_max_entities
        self._metrics = metrics
        self._clock = clock
        self._under_way = 0
        self._loop = Loop("tombstones", self._prune, PRUNE_EVERY)
        metrics.under_way.set_function(lambda: self._under_way)

    def start(self) -> None:
        """Begin to prune, where tombstones are not kept for ever."""
        if self._kept:
            self._loop.start()

    async def stop(self) -> None:
        """End."""
        await self._loop.stop()

    # --- the two calls --------------------------------------------------------------------

    async def sync(self, user_id: str, body: Push) -> Answer:
        """Push, then pull; raises AppError `full_sync_required`, `erased`, `overloaded`."""
        with self._counted():
            token = _token(user_id, body)
            cursor = await self._cursor(user_id, body, token)
            pushed = await self._push(user_id, body)
            if pushed.stamp:
                self._live.tell_sync(user_id, pushed.stamp, body.device_id or "")
            if pushed.before is not None and cursor > pushed.before:
                cursor = 0  # it was above the newest stamp when it came
            return await self._pull(user_id, body, cursor, pushed, token)

    async def initial(self, user_id: str, limit: int | None, page_token: str | None) -> Answer:
        """All rows that are not deleted."""
        body = Push(limit=limit, pageToken=page_token)
        with self._counted():
            token = _token(user_id, body)
            return await self._pull(user_id, body, 0, _Pushed([]), token, deleted=False)

    async def operations(
        self, user_id: str, before: tuple[int, bytes] | None, limit: int
    ) -> list[tuple[bytes, Logged]]:
        """A page of the log."""
        return await self._repository.operations(user_id, before, limit, PULL_TIMEOUT)

    async def epoch(self) -> str:
        """What tells this database from others."""
        return await self._repository.epoch(PUSH_TIMEOUT)

    # --- pushing --------------------------------------------------------------------------

    async def _cursor(self, user_id: str, body: Push, token: PageToken | None) -> int:
        """The stamp to pull behind."""
        given = body.last_sync_timestamp
        cursor = None if given is None else parse_time(given, "lastSyncTimestamp")
        if token is not None:
            cursor = token.cursor or None
        if cursor and body.epoch is not None and body.epoch != await self.epoch():
            raise _full_sync("The database is another one")
        if (
            cursor  # none, and 0, get everything
            and self._kept
            and cursor < self._clock() - self._kept
            and cursor != await self._repository.stamp(user_id, PULL_TIMEOUT)  # it missed nothing
        ):
            raise _full_sync("lastSyncTimestamp is older than what is remembered of deletions")
        return cursor or 0

    async def _push(self, user_id: str, body: Push) -> _Pushed:
        parsed = [self._parse(change, body.device_id) for change in body.changes[:MAX_CHANGES]]
        changes = [one for one in parsed if isinstance(one, Change)]
        pushed = _Pushed([one for one in parsed if isinstance(one, Ack)])
        if changes:
            pushed = await self._store(user_id, parsed, changes)
        for outcome, count in Counter(map(_outcome, pushed.acks)).items():
            self._metrics.changes.labels(outcome).inc(count)
        return pushed

    def _parse(self, payload: object, device_id: str | None) -> Change | Ack:
        try:
            change = parse_change(self.types, payload, device_id or "")
            if not change.device_id:
                raise refuse_field(Code.MISSING_FIELD, "deviceId", "is missing")
        except AppError as error:
            ids = shown_ids(payload)
            return Ack(ids["operationId"], ids["id"], success=False, error=error)
        return change

    async def _store(
        self, user_id: str, parsed: Sequence[Change | Ack], changes: Sequence[Change]
    ) -> _Pushed:
        now = self._clock()
        keys = {change.key for change in changes}
        for change in changes:
            keys.update(self.types.parents(change.type, change.data))
        pushed = _Pushed([])

        def decide(found: Found) -> Result:
            nonlocal pushed
            room = self._most - found.count if self._most else MAX_CHANGES
            fold = Fold(self.types, found.rows, found.ops, found.stamp, now, room)
            before = room
            acks = fold.run(parsed)
            pushed = _Pushed(
                acks,
                stamp=found.stamp if fold.written else 0,
                before=found.before,
                known=_known(acks, parsed, fold),
                lost=fold.lost,
                rows=fold.rows,
            )
            count = found.count + before - fold.room
            return Result(list(fold.written.values()), fold.logged, count)

        await self._repository.push(user_id, changes, keys, now, decide, PUSH_TIMEOUT)
        return pushed

    # --- pulling --------------------------------------------------------------------------

    async def _pull(
        self,
        user_id: str,
        body: Push,
        cursor: int,
        pushed: _Pushed,
        token: PageToken | None,
        *,
        deleted: bool = True,
    ) -> Answer:
        """What is new behind `cursor`, and whatever the device has wrong by this push."""
        answer = Answer(pushed.acks, {kind.plural: [] for kind in self.types})
        answer.cursor = _shown_cursor(body, token)
        given: set[Key] = set()

        def take(rows: Sequence[Row], since: int) -> None:
            for row in rows:
                if row.type not in self.types or (row.deleted_at is not None and not deleted):
                    continue  # of a type that is registered no more, say
                if row.key in pushed.lost or not _is_known(row, since, pushed):
                    given.add(row.key)
                    self._add(answer, user_id, row)

        if body.limit is None and token is None:
            answer.stamp = await self._repository.changed(
                user_id, cursor, pushed.stamp, take, PULL_TIMEOUT
            )
        else:
            await self._page(user_id, body, cursor, pushed, token, answer, take)
        for key in pushed.lost - given:
            self._add(answer, user_id, pushed.rows[key])
        return answer

    async def _page(
        self,
        user_id: str,
        body: Push,
        cursor: int,
        pushed: _Pushed,
        token: PageToken | None,
        answer: Answer,
        take: Callable[[Sequence[Row], int], None],
    ) -> None:
        answer.paged = True
        limit = body.limit or MAX_CHANGES
        if token is not None:
            pushed.stamp = token.pushed
            rows = await self._repository.page(
                user_id, token.after, token.until, token.last, limit + 1, PULL_TIMEOUT
            )
        else:
            until = await self._repository.stamp(user_id, PULL_TIMEOUT)
            since = cursor if cursor <= until else 0
            token = PageToken(user_id, since, until, pushed.stamp, since, ("", ""))
            rows = await self._repository.page(user_id, since, until, None, limit + 1, PULL_TIMEOUT)
        take(rows[:limit], token.cursor)
        if len(rows) > limit:
            answer.more = token.behind(rows[limit - 1])
        else:
            answer.stamp = token.until

    def _add(self, answer: Answer, user_id: str, row: Row) -> None:
        plural = self.types[row.type].plural
        answer.rows[plural].append(orjson.dumps(row.document(user_id)))
        self._metrics.pulled.inc()

    # --- the rest -------------------------------------------------------------------------

    @contextmanager
    def _counted(self) -> Iterator[None]:
        if self._under_way >= MAX_UNDER_WAY:
            raise AppError(Code.OVERLOADED, "Too many syncs at once: try again", retry_after=1.0)
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    async def _prune(self) -> None:
        horizon = self._clock() - self._kept - PRUNE_MARGIN
        try:
            while await self._repository.prune(horizon, PUSH_TIMEOUT):
                pass
        except AppError as error:
            log.warning("tombstones wait: %s", error.message)


def _is_known(row: Row, since: int, pushed: _Pushed) -> bool:
    """Whether the device has just said exactly this, and had by `since` what it was based on."""
    sent = row.stamp == pushed.stamp or row.stamp == pushed.known.get(row.key)
    return sent and row.exact and row.base <= since


def _known(acks: Sequence[Ack], parsed: Sequence[Change | Ack], fold: Fold) -> dict[Key, int]:
    """Rows that stand as repeated changes of this push had left them, with their stamps."""
    known = {}
    for ack, change in zip(acks, parsed, strict=True):
        if isinstance(change, Change) and ack.duplicate and not ack.conflict:
            row, done = fold.rows.get(change.key), fold.ops[change.op_key]
            if row is not None and row.stamp == done.stamp:
                known[change.key] = row.stamp
    return known


def _outcome(ack: Ack) -> str:
    if ack.error is not None:
        return ack.error.code.value
    if ack.conflict:
        return "conflict"
    return "duplicate" if ack.duplicate else "applied"


def _token(user_id: str, body: Push) -> PageToken | None:
    if body.page_token is None:
        return None
    if body.changes:
        raise refuse_field(Code.INVALID_VALUE, "pageToken", "comes without changes")
    return read_page_token(body.page_token, user_id)


def _shown_cursor(body: Push, token: PageToken | None) -> str | None:
    given = body.last_sync_timestamp
    if given is not None:
        return iso(parse_time(given, "lastSyncTimestamp"))
    return iso(token.cursor) if token is not None and token.cursor else None


def _full_sync(reason: str) -> AppError:
    return AppError(Code.FULL_SYNC_REQUIRED, f"{reason}: pull again with lastSyncTimestamp null")
