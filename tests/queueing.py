"""The queue for tests: instances without the web, a clock that can be set, handlers of our own."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from prometheus_client import CollectorRegistry

from domain.errors import AppError, Code
from domain.parsing import Payload
from domain.queue import AddBody, Item, Method, Status
from server.app import now_ms
from server.queue.handlers import Handlers, QueueHandler, built_in
from server.queue.metrics import QueueMetrics
from server.queue.service import QueueService
from server.queue.worker import Worker
from server.resources.service import ResourceService
from server.settings import Settings
from storage.indexes import Indexes
from storage.mongo import Mongo
from storage.queue import QueueRepository
from storage.resources import ResourceRepository
from storage.units import Unit, Units
from tests.serving import QUICK

MARKS = "marks"
TIMEOUT = 10.0
DAY = 86_400_000

FAILING: set[str] = set()
"""Texts of marks that are refused."""


class Mark(Payload):
    """Leaves `text` in the collection `marks` of a database."""

    into: str
    text: str
    gate: int | None = None


async def mark(unit: Unit, item: Item, body: Mark) -> Mapping[str, Any]:
    """Write the mark, then wait at the gate: what is written is not committed yet."""
    entry = {
        "user": unit.user_id,
        "unit": unit.number,
        "item": item.id,
        "target": item.target_id,
        "text": body.text,
    }
    marks = unit.session.client[body.into][MARKS]
    await marks.insert_one(entry, session=unit.session)
    if body.gate is not None:
        await _pass(body.gate)
    if body.text in FAILING:
        raise AppError(Code.INVALID_VALUE, "text: it is to fail")
    return {"text": body.text}


async def _pass(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        await reader.read()
    finally:
        writer.close()


HANDLERS = [QueueHandler("/api/marks", method, Mark, mark) for method in (Method.POST, Method.PUT)]


class Gate:
    """Where handlers wait until it opens, in whichever process they run."""

    def __init__(self) -> None:
        self.port = 0
        self.came = 0
        self._change = asyncio.Condition()
        self._open = asyncio.Event()

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One of those who come."""
        async with self._change:
            self.came += 1
            self._change.notify_all()
        opened = asyncio.create_task(self._open.wait())
        left = asyncio.create_task(reader.read())
        await asyncio.wait({opened, left}, return_when=asyncio.FIRST_COMPLETED)
        for task in (opened, left):
            task.cancel()
        writer.close()

    async def waited_for(self, many: int = 1) -> None:
        """Return when so many have come since the beginning."""
        async with asyncio.timeout(TIMEOUT), self._change:
            await self._change.wait_for(lambda: self.came >= many)

    def open(self) -> None:
        """From now on everyone passes."""
        self._open.set()


@asynccontextmanager
async def gate() -> AsyncIterator[Gate]:
    """A closed gate."""
    made = Gate()
    server = await asyncio.start_server(made.meet, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        made.open()
        server.close()
        await server.wait_closed()


class Clock:
    """The wall clock, which can be put forward."""

    def __init__(self) -> None:
        self.ahead = 0

    def __call__(self) -> int:
        return now_ms() + self.ahead


@dataclass
class Told:
    """Stands for the live part: what users' sockets are told."""

    items: list[Any] = field(default_factory=list)

    def tell_item(self, user: str, body: bytes) -> None:
        """An item has ended."""
        self.items.append((user, orjson.loads(body)))


@dataclass
class Instance:
    """The queue of one instance, with connections of its own."""

    mongo: Mongo
    units: Units
    repository: QueueRepository
    resources: ResourceRepository
    service: QueueService
    metrics: QueueMetrics
    registry: CollectorRegistry
    told: Told
    clock: Clock

    def worker(self) -> Worker:
        """A worker, which is to be started and stopped."""
        return Worker(self.service, self.repository, self.metrics, self.clock)

    async def add(self, user: str, *bodies: AddBody) -> list[Item]:
        """Add items."""
        return await self.service.add_all(user, bodies)

    async def items(self, user: str, statuses: Collection[Status] = tuple(Status)) -> list[Item]:
        """A user's items, in the order added."""
        return (await self.repository.page(user, list(statuses), 0, 10_000, TIMEOUT))[1]

    async def marks(self) -> list[Any]:
        """All marks of the database, in the order of the units that made them."""
        return await self.mongo.collection(MARKS).find().sort([("unit", 1)]).to_list()

    async def texts(self) -> list[str]:
        """What they say."""
        return [found["text"] for found in await self.marks()]

    def metric(self, name: str, **labels: str) -> float:
        """One of its metrics."""
        return self.registry.get_sample_value(name, labels) or 0.0


def an_instance(stores: Mapping[str, Any], clock: Clock, **settings: Any) -> Instance:
    """An instance of the queue; its `mongo` is to be closed."""
    wanted = Settings(**{**QUICK, **stores, **settings})
    mongo = Mongo(stores["mongodb_uri"], stores["mongodb_db"])
    indexes, units, registry = Indexes(mongo), Units(mongo), CollectorRegistry()
    resources = ResourceRepository(mongo, indexes)
    repository = QueueRepository(
        mongo,
        indexes,
        round(wanted.queue_completed_kept * 1000),
        round(wanted.queue_failed_kept * 1000),
    )
    told, metrics = Told(), QueueMetrics(registry)
    no_profiles: Any = None
    handlers = Handlers(
        [*built_in(ResourceService(resources, units, clock), no_profiles), *HANDLERS]
    )
    live: Any = told
    service = QueueService(repository, units, handlers, live, wanted, metrics, clock)
    return Instance(mongo, units, repository, resources, service, metrics, registry, told, clock)


@asynccontextmanager
async def instances(
    stores: Mapping[str, Any], many: int = 2, **settings: Any
) -> AsyncIterator[Sequence[Instance]]:
    """Instances on the same database, with one clock."""
    clock = Clock()
    async with AsyncExitStack() as stack:
        made = [an_instance(stores, clock, **settings) for _ in range(many)]
        for instance in made:
            stack.push_async_callback(instance.mongo.close)
        await made[0].repository.ready(30.0)
        yield made


@asynccontextmanager
async def working(*running: Instance) -> AsyncIterator[None]:
    """Each with its background worker."""
    workers = [instance.worker() for instance in running]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        await asyncio.gather(*(worker.stop() for worker in workers))


def expense(amount: int = 1, **rest: Any) -> AddBody:
    """An item that makes an expense."""
    data = {"amount": amount, "category": "Test", **rest.pop("data", {})}
    return AddBody.model_validate(
        {"endpoint": "/api/expenses", "method": "POST", "data": data, **rest}
    )


def a_mark(stores: Mapping[str, Any], text: str, gate: Gate | None = None, **rest: Any) -> AddBody:
    """An item that leaves a mark; with `on`, one about that document."""
    data: dict[str, Any] = {"into": stores["mongodb_db"], "text": text}
    if gate is not None:
        data["gate"] = gate.port
    method = "POST"
    if (on := rest.pop("on", None)) is not None:
        data["_id"], method = on, "PUT"
    return AddBody.model_validate(
        {"endpoint": "/api/marks", "method": method, "data": data, **rest}
    )
