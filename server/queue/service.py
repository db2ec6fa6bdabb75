"""The sync queue: items are added, claimed one by one, carried out in one step each."""

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from uuid import uuid4

import orjson

from domain.errors import AppError, Code, refuse_field
from domain.queue import AddBody, Item, Method, Status, retry_delay
from domain.stats import canonical
from realtime.live import Live
from server.queue.handlers import Handlers
from server.queue.metrics import QueueMetrics
from server.resources.service import Stale
from server.settings import Settings
from storage.queue import LeaseLost, QueueRepository
from storage.units import Unit, Units

log = logging.getLogger(__name__)

TIMEOUT = 6.0  # seconds for the store
AT_ONCE = 50  # items of one `/process`
MAX_ITEMS = 5_000  # of one user, not completed
MAX_DATA = 256 * 1024  # bytes of an item's data, as of any other REST body
NUMBERS = 1_000  # numbers of a unit: more than a bulk has items
FOR_THE_HANDLER = 0.9  # of the lease; the rest is for noting how it went


@dataclass(frozen=True, slots=True)
class _Place:
    """Of an item in its request: with which Idempotency-Key, which one of how many."""

    key: str | None
    at: int = 0
    of: int = 1


class QueueService:
    """Adds, carries out, and lets users look after what failed."""

    def __init__(
        self,
        repository: QueueRepository,
        units: Units,
        handlers: Handlers,
        live: Live,
        settings: Settings,
        metrics: QueueMetrics,
        clock: Callable[[], int],
    ) -> None:
        self._repository = repository
        self._units = units
        self._handlers = handlers
        self._live = live
        self._lease = round(settings.queue_lease * 1000)
        self._patience = round(settings.queue_first_attempt_after * 1000)
        self._metrics = metrics
        self._clock = clock

    # --- adding ---------------------------------------------------------------------------

    async def add(self, user_id: str, body: AddBody, key: str | None = None) -> Item:
        """Add an item, unless it was added before under its operation id or `key`.

        Raises AppError `operation_id_reused`, `queue_full`, or what is wrong with it.
        """
        (item,) = await self._add(user_id, [self._item(user_id, body, _Place(key))])
        return item

    async def add_all(
        self, user_id: str, bodies: Sequence[AddBody], key: str | None = None
    ) -> list[Item]:
        """Likewise of several, all or none; `key` is for all of them."""
        wished: list[Item] = []
        for at, body in enumerate(bodies):
            try:
                wished.append(self._item(user_id, body, _Place(key, at, len(bodies))))
            except AppError as error:
                raise error.inside("items", str(at)) from None
        return await self._add(user_id, wished)

    async def _add(self, user_id: str, wished: Sequence[Item]) -> list[Item]:
        await self._repository.ready(TIMEOUT)
        return await self._units.run(user_id, lambda unit: self._insert(unit, wished), TIMEOUT)

    def _item(self, user_id: str, body: AddBody, place: "_Place") -> Item:
        item_id, now = str(uuid4()), self._clock()
        if len(orjson.dumps(body.data)) > MAX_DATA:
            raise refuse_field(Code.INVALID_VALUE, "data", f"must be at most {MAX_DATA} bytes")
        path, method, target_id = self._handlers.endpoints.target(body, item_id, user_id)
        given_id = None if target_id == item_id else target_id
        content = [path, method, given_id, body.data, body.base_version]
        operation = None
        if body.operation_id is not None:
            operation = f"op {body.device_id or ''} {body.operation_id}"
        elif place.key is not None:
            operation = f"key {place.at} {place.key}"
            content.append(place.of)
        return Item(
            id=item_id,
            user_id=user_id,
            number=0,
            endpoint=body.endpoint,
            path=path,
            method=method,
            target_id=target_id,
            data=body.data,
            created_at=now,
            updated_at=now,
            worker_at=now + self._patience,
            max_attempts=body.max_attempts,
            priority=body.priority,
            device_id=body.device_id,
            base_version=None if method is Method.POST else body.base_version,
            operation=operation,
            content=hashlib.sha256(canonical(content).encode()).digest()[:16],
        )

    async def _insert(self, unit: Unit, wished: Sequence[Item]) -> list[Item]:
        operations = [item.operation for item in wished if item.operation is not None]
        known = await self._repository.by_operation(unit, operations)
        ends = await self._repository.chain_ends(unit, [item.chain for item in wished])
        added: dict[str, Item] = {}
        answer: list[Item] = []
        followed: set[str] = set()
        for item in wished:
            before = known.get(item.operation or "")
            if before is not None:
                _check_same(before, item)
                answer.append(before)
                continue
            number = unit.number * NUMBERS + len(added)
            item = replace(item, number=number, after=ends.get(item.chain))
            if item.after is not None:
                followed.add(item.after)
            ends[item.chain] = item.id
            if item.operation is not None:
                known[item.operation] = item
            added[item.id] = item
            answer.append(item)
        if added:
            await self._check_room(unit, len(added))
            await self._repository.insert(
                unit, [replace(item, followed=item.id in followed) for item in added.values()]
            )
        if before_these := followed - added.keys():
            await self._repository.follow(unit, before_these)
        return answer

    async def _check_room(self, unit: Unit, more: int) -> None:
        if await self._repository.count(unit, MAX_ITEMS) + more > MAX_ITEMS:
            raise AppError(
                Code.QUEUE_FULL,
                f"At most {MAX_ITEMS} items wait: process them, or discard what failed",
            )

    # --- carrying out ---------------------------------------------------------------------

    async def process(self, user_id: str) -> dict[Status, int]:
        """Carry out what is due of one user, at most 50 items; answers how they ended.

        What will be tried again counts as failed here.
        """
        await self.release_expired(user_id)
        counts = dict.fromkeys(Status, 0)
        for _ in range(AT_ONCE):
            status = await self.step(user_id)
            if status is None:
                break
            if status is not Status.PROCESSING:
                counts[status] += 1
        return counts

    async def release_expired(self, user_id: str | None) -> None:
        """Give back what dead workers hold, of one user or of anyone."""
        expired = await self._repository.expired(user_id, self._clock(), TIMEOUT)
        for item in expired:
            ended = await self._failed(item, "The worker ended while it processed this", 0)
            if ended is not Status.PROCESSING:
                self._metrics.expired.inc()

    async def due_user(self, after: str, but: Set[str]) -> str | None:
        """The first user behind `after` who has something for a background worker."""
        return await self._repository.due_user(after, but, self._clock(), TIMEOUT)

    async def in_hand(self, user_id: str) -> bool:
        """Whether somebody is carrying out an item of the user."""
        return await self._repository.in_hand(user_id, TIMEOUT)

    async def step(self, user_id: str, *, worker: bool = False) -> Status | None:
        """Claim one item of a user and carry it out; None when none is due.

        Answers `pending` when it failed and will be tried again, `processing` when it took too
        long and somebody else has it. A background `worker` leaves first attempts alone at first.
        """
        now = self._clock()
        item = await self._repository.claim(
            user_id, now, secrets.token_hex(8), now + self._lease, TIMEOUT, worker=worker
        )
        return None if item is None else await self._carry_out(item)

    async def _carry_out(self, item: Item) -> Status:
        seconds = FOR_THE_HANDLER * self._lease / 1000
        try:
            async with asyncio.timeout(seconds):
                response = await self._units.run(
                    item.user_id, lambda unit: self._effect(unit, item), seconds, rests=True
                )
        except LeaseLost:
            return Status.PROCESSING
        except Stale as error:
            return await self._conflicted(item, error)
        except AppError as error:
            return await self._failed(item, error.message, retry_delay(item.attempts))
        except TimeoutError:
            return await self._failed(item, "It took too long", retry_delay(item.attempts))
        except Exception:
            log.exception("the handler of %s %s failed", item.method, item.path)
            return await self._failed(
                item, "Something went wrong on the server", retry_delay(item.attempts)
            )
        ended = replace(item, status=Status.COMPLETED, response=response, error=None)
        self._metrics.seconds.observe((self._clock() - item.created_at) / 1000)
        self._tell(ended)
        return Status.COMPLETED

    async def _effect(self, unit: Unit, item: Item) -> Mapping[str, Any]:
        """What the item does and that it is done: one step."""
        handler = self._handlers.find(item)
        result = await handler.run(unit, item, handler.parse(item))
        response: Mapping[str, Any] = orjson.loads(orjson.dumps(result))  # what is no JSON fails
        await self._repository.complete(unit, item, response, self._clock())
        return response

    async def _conflicted(self, item: Item, error: Stale) -> Status:
        now, server = self._clock(), error.server.shown() if error.server else None
        kept = await self._repository.put_back(
            item, Status.CONFLICT, error.message, now, 0, TIMEOUT, server
        )
        if not kept:
            return Status.PROCESSING
        self._tell(replace(item, status=Status.CONFLICT, error=error.message, server=server))
        return Status.CONFLICT

    async def _failed(self, item: Item, message: str, delay: int) -> Status:
        now = self._clock()
        over = item.attempts >= item.max_attempts
        status = Status.FAILED if over else Status.PENDING
        retry_at = 0 if over else now + delay
        if not await self._repository.put_back(item, status, message, now, retry_at, TIMEOUT):
            return Status.PROCESSING
        if over:
            self._tell(replace(item, status=status, error=message))
        return status

    def _tell(self, item: Item) -> None:
        """The item has ended: count it and tell its user."""
        self._metrics.attempts.labels(item.status.value).observe(item.attempts)
        shown = replace(item, updated_at=self._clock(), retry_at=0).document()
        self._live.tell_item(item.user_id, orjson.dumps(shown))

    # --- what users look after ------------------------------------------------------------

    async def page(
        self, user_id: str, statuses: Sequence[Status], after: int, limit: int
    ) -> tuple[int, list[Item], bool]:
        """How many items of these statuses there are, a page of them, and whether more follow."""
        return await self._repository.page(user_id, statuses, after, limit, TIMEOUT)

    async def clear(self, user_id: str) -> int:
        """Remove what is pending; answers how many items that were."""
        return await self._units.run(user_id, self._repository.clear, TIMEOUT)

    async def retry(self, user_id: str, item_id: str) -> None:
        """Try a failed item again, as if it were new."""

        async def work(unit: Unit) -> None:
            item = await self._repository.read_in(unit, item_id)
            _check_status(item, Status.FAILED)
            await self._repository.again(unit, item, self._clock(), base=item.base_version)

        await self._units.run(user_id, work, TIMEOUT)

    async def discard_outdated(self) -> None:
        """Discard what failed or conflicted so long ago that it is not kept any longer."""
        for old in await self._repository.outdated(self._clock(), TIMEOUT):
            try:
                await self._units.run(old.user_id, partial(self._discard_same, old), TIMEOUT)
            except AppError as error:
                if error.code not in (Code.NOT_FOUND, Code.ERASED):
                    raise

    async def _discard_same(self, old: Item, unit: Unit) -> None:
        item = await self._repository.read_in(unit, old.id)
        if (item.status, item.updated_at) == (old.status, old.updated_at):
            await self._repository.discard(unit, item)

    async def discard(self, user_id: str, item_id: str) -> None:
        """Remove an item that is not being processed."""

        async def work(unit: Unit) -> None:
            item = await self._repository.read_in(unit, item_id)
            if item.status is Status.PROCESSING:
                raise AppError(Code.ITEM_BUSY, "It is being processed: try again in a moment")
            if item.status is Status.COMPLETED:
                raise AppError(Code.ITEM_BUSY, "It is completed, and leaves by itself")
            await self._repository.discard(unit, item)

        await self._units.run(user_id, work, TIMEOUT)

    async def resolve(self, user_id: str, item_id: str, *, keep_mine: bool) -> None:
        """End a conflict: the item is tried again whatever stands, or the server's copy stays."""

        async def work(unit: Unit) -> Item:
            item = await self._repository.read_in(unit, item_id)
            _check_status(item, Status.CONFLICT)
            if keep_mine:
                await self._repository.again(unit, item, self._clock(), base=None)
            else:
                await self._repository.settle(unit, item, self._clock())
            return item

        item = await self._units.run(user_id, work, TIMEOUT)
        if not keep_mine:
            ended = replace(item, status=Status.COMPLETED, response=item.server, error=None)
            self._tell(ended)


def _check_same(before: Item, item: Item) -> None:
    if before.content != item.content:
        raise AppError(
            Code.OPERATION_ID_REUSED, "This operationId or Idempotency-Key was used for another one"
        )


def _check_status(item: Item, wanted: Status) -> None:
    if item.status is not wanted:
        raise AppError(
            Code.ITEM_BUSY, f"The item is {item.status.value}, and this is for {wanted.value} ones"
        )
