"""`sync:changed`: who is told of a push, and of what."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.clients_py import Client, joined
from tests.serving import Served, serving
from tests.syncing import Instances, create, update

pytestmark = pytest.mark.usefixtures("quiet")

CHANGED = "sync:changed"


@pytest.fixture
async def pair(stores: dict[str, Any]) -> AsyncIterator[tuple[Served, Served]]:
    """Two instances of one app."""
    async with serving(**stores) as one, serving(**stores) as two:
        yield one, two


@pytest.fixture
async def instances() -> AsyncIterator[Instances]:
    async with Instances() as made:
        yield made


async def heard(client: Client, stamp: str) -> None:
    """The next `sync:changed` is of this stamp, and there is nothing else in it."""
    assert await client.next(CHANGED) == {"syncTimestamp": stamp}


async def test_the_users_other_sockets_on_every_instance_are_told_and_nobody_else(
    pair: tuple[Served, Served], instances: Instances
) -> None:
    one, two = pair
    phone = await instances.device(one.url)
    tablet = await instances.device(two.url, name="tablet")
    bob = await instances.device(one.url, "bob")
    async with (
        joined(one.url, deviceId="phone") as own,
        joined(two.url, deviceId="phone") as own_there,
        joined(one.url, deviceId="laptop") as beside,
        joined(two.url, deviceId="tv") as there,
        joined(two.url, "bob", deviceId="tv") as bobs,
    ):
        first = (await phone.done(create("a", title="secret")))["syncTimestamp"]
        await heard(beside, first)
        await heard(there, first)
        second = (await tablet.done(update("a", 1, title="x")))["syncTimestamp"]
        for client in (own, own_there, beside, there):
            await heard(client, second)
        third = (await bob.done(create("a")))["syncTimestamp"]
        await heard(bobs, third)
        for client in (own, own_there, beside, there, bobs):
            assert client.pending(CHANGED) == 0


async def test_they_are_told_only_when_something_was_written(
    pair: tuple[Served, Served], instances: Instances
) -> None:
    one, two = pair
    phone = await instances.device(one.url)
    async with joined(one.url, deviceId="tv") as here, joined(two.url, deviceId="tv2") as there:
        made = create("a", 10)
        first = (await phone.done(made))["syncTimestamp"]
        for client in (here, there):
            await heard(client, first)
        await phone.send()
        await phone.initial()
        await phone.send(made)  # a duplicate
        await phone.send(update("a", 5))  # lost
        await phone.send(update("b"), create("c", poster="x"), None)  # refused
        last = (await phone.done(create("z")))["syncTimestamp"]
        for client in (here, there):
            await heard(client, last)


async def test_who_pulls_when_told_has_what_was_pushed(
    pair: tuple[Served, Served], instances: Instances
) -> None:
    one, two = pair
    phone = await instances.device(one.url)
    laptop = await instances.device(two.url, name="laptop")
    async with joined(two.url, deviceId="laptop") as socket:
        for n in range(5):
            await phone.done(create(f"i{n}"))
            told = await socket.next(CHANGED)
            assert (await laptop.pull()).keys() == {f"i{n}"}
            assert laptop.cursor >= told["syncTimestamp"]


async def test_sockets_of_long_polling_are_told_too(
    pair: tuple[Served, Served], instances: Instances
) -> None:
    one, two = pair
    phone = await instances.device(one.url)
    async with joined(two.url, transports=["polling"], deviceId="tv") as socket:
        await heard(socket, (await phone.done(create("a")))["syncTimestamp"])


async def test_a_push_without_a_device_tells_all_sockets(
    served: Served, instances: Instances
) -> None:
    phone = await instances.device(served.url)
    async with joined(served.url) as nameless, joined(served.url, deviceId="tv") as named:
        body = {"changes": [{**create("a"), "deviceId": "phone"}]}
        stamp = (await phone.api.post("/api/sync", body)).ok()["data"]["syncTimestamp"]
        await heard(nameless, stamp)
        await heard(named, stamp)
