"""A person is erased while devices are at work: what they did before is gone, the rest refused."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from domain.errors import AppError, Code
from domain.oplog import op_of
from domain.patch import Change, Patch, Replacement
from domain.stats import StatsSchema
from realtime.limits import LiveLimits
from realtime.metrics import Metrics
from realtime.stats import Advance, Committed, StatsService
from storage.mongo import Mongo
from storage.stats import StatsRepository
from tests.clients_py import Client, connected, joined
from tests.rest import PUBLIC_DEFAULTS, Api
from tests.serving import Served
from tests.traces import outcry
from tests.watchers import watching

TIMEOUT = 10.0
SCHEMA = StatsSchema()
UPDATE = "user:clientUpdate"
Services = tuple[StatsService, StatsService]


@pytest.fixture
async def mongo(mongodb_uri: str, mongodb_name: str) -> AsyncIterator[Mongo]:
    made = Mongo(mongodb_uri, mongodb_name)
    yield made
    await made.close()


@pytest.fixture
def eraser(mongo: Mongo) -> StatsRepository:
    """The repository of an instance that erases."""
    return StatsRepository(mongo, SCHEMA)


@pytest.fixture
def announced() -> list[Advance]:
    """What both services announce."""
    return []


@pytest.fixture
async def services(mongo: Mongo, announced: list[Advance]) -> AsyncIterator[Services]:
    """Two instances' services on one database."""
    clock = itertools.count(1_700_000_000_000)

    def made() -> StatsService:
        return StatsService(
            StatsRepository(mongo, SCHEMA),
            SCHEMA,
            LiveLimits(),
            Metrics(CollectorRegistry()),
            lambda: next(clock),
            announced.append,
        )

    both = made(), made()
    for service in both:
        service.start()
    yield both
    for service in both:
        await service.stop()


def patches(count: int) -> Iterator[Patch]:
    """Patches of two devices, every third without an opId."""
    for n in range(count):
        op = op_of(f"device {n % 2}", f"op {n}", b"%d" % n) if n % 3 else None
        yield Patch({"xp": 1}, {}, [n], op)


async def refused(work: asyncio.Future[Committed] | asyncio.Task[Committed]) -> None:
    with pytest.raises(AppError) as caught:
        await work
    assert (caught.value.code, caught.value.retryable) == (Code.ERASED, False)


@pytest.mark.parametrize("acks", [0, 1, 60])
async def test_every_patch_is_acked_before_the_erasure_or_refused_as_erased(
    services: Services, eraser: StatsRepository, announced: list[Advance], acks: int
) -> None:
    """Two hundred patches through two instances, and the erasure after so many acks."""
    enough, erased = asyncio.Event(), asyncio.Event()
    acked: list[Committed] = []
    refusals: list[Code] = []

    async def send(n: int, change: Patch) -> None:
        try:
            acked.append(await services[n % 2].apply("u", change))
        except AppError as error:
            refusals.append(error.code)
        if len(acked) >= acks:
            enough.set()

    async def devices() -> None:
        """In waves, so that some are acked before others are sent, and the last one too late."""
        sent = list(enumerate(patches(200)))
        for at in range(0, 200, 20):
            if at == 180:
                await erased.wait()
            await asyncio.gather(*(send(n, change) for n, change in sent[at : at + 20]))

    async def erase() -> None:
        if acks:
            await enough.wait()
        await eraser.erase("u", TIMEOUT)
        erased.set()

    await asyncio.gather(devices(), erase())

    assert len(acked) >= acks
    assert set(refusals) == {Code.ERASED}
    assert len(acked) + len(refusals) == 200
    [left] = await eraser._stats.find({}).to_list()
    assert left.keys() == {"_id", "erased", "rev", "updatedAt", "_v", "_by"}
    assert left["erased"] is True
    revs = [one.stats.rev for one in acked]
    assert all(rev < left["rev"] for rev in revs)
    assert max((advance.rev for advance in announced), default=0) < left["rev"]


async def test_a_patch_that_waits_in_the_same_commits_for_another_user_is_not_concerned(
    services: Services, eraser: StatsRepository
) -> None:
    await services[0].apply("gone", Patch({"xp": 1}, {}, []))
    await eraser.erase("gone", TIMEOUT)
    gone = [asyncio.ensure_future(services[0].apply("gone", p)) for p in patches(5)]
    there = [asyncio.ensure_future(services[0].apply("there", p)) for p in patches(5)]
    for work in gone:
        await refused(work)
    assert [(await work).outcome.applied for work in there] == [True] * 5
    assert (await services[1].read("there")).values["xp"] == 5


async def test_a_repeat_of_what_was_acked_before_the_erasure_is_refused_and_no_duplicate(
    services: Services, eraser: StatsRepository
) -> None:
    sent = [change for change in patches(6) if change.op is not None]
    for change in sent:
        await services[0].apply("u", change)
    await eraser.erase("u", TIMEOUT)
    for service, change in itertools.product(services, sent):
        await refused(asyncio.ensure_future(service.apply("u", change)))


@pytest.mark.parametrize(
    "change", [Patch({}, {}, []), Replacement({"xp": 5}, None), Replacement({"xp": 5}, 1)]
)
async def test_what_would_change_nothing_is_refused_also_upon_a_memory(
    services: Services, eraser: StatsRepository, change: Change
) -> None:
    """The first service remembers the user as they were before."""
    await services[0].apply("u", Patch({"xp": 1}, {}, []))
    await eraser.erase("u", TIMEOUT)
    for service in services:
        await refused(asyncio.ensure_future(service.apply("u", change)))


async def test_an_op_id_that_was_reused_is_refused_as_erased(
    services: Services, eraser: StatsRepository
) -> None:
    await services[0].apply("u", Patch({"xp": 1}, {}, [], op_of("d", "op", b"one")))
    await eraser.erase("u", TIMEOUT)
    reused = Patch({"xp": 1}, {}, [], op_of("d", "op", b"another"))
    await refused(asyncio.ensure_future(services[0].apply("u", reused)))


async def test_who_was_never_written_is_refused_by_a_service_that_has_read_before(
    services: Services, eraser: StatsRepository
) -> None:
    """Its first write runs into the tombstone: E11000."""
    reading, going_on = asyncio.Event(), asyncio.Event()
    repository = services[0]._repository
    read = repository.read

    async def read_slowly(*args: object) -> object:
        found = await read(*args)  # type: ignore[arg-type]
        reading.set()
        await going_on.wait()
        return found

    repository.read = read_slowly  # type: ignore[method-assign,assignment]
    work = asyncio.ensure_future(services[0].apply("u", Patch({"xp": 1}, {}, [])))
    await reading.wait()
    await eraser.erase("u", TIMEOUT)
    going_on.set()
    await refused(work)
    assert (await services[1].revs(["u"])) == {"u": 1}


# --- over the wire ------------------------------------------------------------------------


async def test_over_rest_an_erased_person_is_gone_and_the_public_batch_shows_defaults(
    served: Served, http: aiohttp.ClientSession, eraser: StatsRepository
) -> None:
    api = Api(http)
    await api.patch(xp=3, opId="one", deviceId="phone")
    await eraser.erase("ada", TIMEOUT)
    for path, body in (
        ("/api/users/data/patch", {"xp": 3, "opId": "one", "deviceId": "phone"}),
        ("/api/users/data/patch", {"xp": 1}),
        ("/api/users/updateStats", {"stats": {"xp": 1}}),
    ):
        (await api.post(path, body)).problem(410, "erased")
    (await api.get("/api/users/ada/stats")).problem(410, "erased")
    found = await api.post("/api/users/stats/batch", {"userIds": ["ada", "never"]})
    assert found.ok() == {"ada": PUBLIC_DEFAULTS, "never": PUBLIC_DEFAULTS}


async def test_an_erased_person_is_refused_at_the_join_and_leaves_nothing(
    served: Served, eraser: StatsRepository
) -> None:
    await eraser.erase("ada", TIMEOUT)
    async with connected(served.url) as phone:
        answer = await phone.call("presence:join")
        assert (answer["ok"], answer["error"]["code"]) == (False, "erased")
        answer = await phone.call(UPDATE, {"xp": 1})
        assert answer["error"]["code"] == "not_joined"
        assert served.live.rooms.joined() == []


async def test_a_joined_device_of_an_erased_person_is_refused_and_told_no_defaults(
    served: Served, eraser: StatsRepository, caplog: pytest.LogCaptureFixture
) -> None:
    async with joined(served.url) as phone, joined(served.url) as tablet:
        assert (await phone.call(UPDATE, {"xp": 1}))["ok"]
        assert (await tablet.next("user:data:updated"))["rev"] == 1
        await eraser.erase("ada", TIMEOUT)
        for _ in range(2):
            await served.live._delivery._compare()
        answer = await phone.call(UPDATE, {"xp": 1})
        assert (answer["ok"], answer["error"]["code"]) == (False, "erased")
        answer = await phone.call("presence:join", {"rev": 1})
        assert answer["error"]["code"] == "erased"
        await tablet.call("presence:ping")
        assert phone.pending("user:data:updated") == tablet.pending("user:data:updated") == 0
        assert served.metric("livetally_reconciled_total") == 1, "behind no more"
    assert outcry(caplog) == []


async def public_of(watcher: Client, user: str) -> dict[str, object]:
    """What the answer to `presence:watch` shows."""
    answer = await watcher.call("presence:watch", {"userIds": [user]})
    assert answer["ok"], answer
    return dict(answer["users"][0]["stats"])


async def test_who_watches_an_erased_person_sees_the_defaults(
    served: Served, eraser: StatsRepository
) -> None:
    """Whoever begins to at once, who did before by the next comparison."""
    async with joined(served.url) as ada, watching(served, "ada") as eve:
        await ada.call(UPDATE, {"xp": 7})
        assert (await eve.next("user:update"))["xp"] == 7
        await eraser.erase("ada", TIMEOUT)
        news = await eve.next("user:update")
        assert {name: news[name] for name in PUBLIC_DEFAULTS} == PUBLIC_DEFAULTS
        assert news["rev"] == 2
        assert await public_of(eve, "ada") == PUBLIC_DEFAULTS
        await served.live._delivery._compare()
        await eve.call("presence:ping")
        assert eve.pending("user:update") == 0


async def test_devices_on_two_instances_and_rest_are_refused_alike(
    pair: tuple[Served, Served], eraser: StatsRepository
) -> None:
    one, two = pair
    async with joined(one.url) as phone, joined(two.url) as pc:
        for n in range(4):
            device = (phone, pc)[n % 2]
            assert (await device.call(UPDATE, {"xp": 1, "opId": f"{n}"}))["ok"]
        await eraser.erase("ada", TIMEOUT)
        for n in range(4):
            for device in (phone, pc):
                answer = await device.call(UPDATE, {"xp": 1, "opId": f"{n}"})
                assert answer["error"]["code"] == "erased"
    assert (await eraser.read(["ada"], TIMEOUT))["ada"].erased
