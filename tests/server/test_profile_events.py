"""`user:profile:updated`: what a PUT says to the own sockets, to watchers, to nobody else."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from tests.clients_py import Client, RawSocket, connected, joined, raw_socket
from tests.profiles import PUBLIC, SECRETS, WHOLE, Person, put, registered
from tests.rest import Api
from tests.serving import Served, serving
from tests.tokens import token
from tests.watchers import watching

pytestmark = pytest.mark.usefixtures("quiet")

UPDATED = "user:profile:updated"
PRESENCE = {"isOnline", "status", "lastSeen"}  # told by presence:update


@pytest.fixture
async def other(stores: dict[str, Any]) -> AsyncIterator[Served]:
    """A second instance of the app."""
    async with serving(**stores) as server:
        yield server


@pytest.fixture
async def ada(http: aiohttp.ClientSession) -> Person:
    return await registered(http)


async def frames(raw: RawSocket, ack: int) -> list[str]:
    """All frames that came until now, as they came over the wire."""
    await raw.send(f'42{ack}["presence:ping",{{}}]')
    found = []
    while (text := await raw.receive()) is not None and not text.startswith(f"43{ack}["):
        found.append(text)
    assert text is not None
    return found


def events(found: list[str]) -> list[Any]:
    """The payloads of profile events among frames."""
    packets = [json.loads(text[2:]) for text in found if text.startswith("42[")]
    return [payload for name, payload in packets if name == UPDATED]


async def untold(client: Client) -> None:
    """No profile event has come by now: an answer comes behind what was sent before."""
    await client.call("presence:ping")
    assert client.pending(UPDATED) == 0


async def test_a_change_reaches_all_of_the_users_sockets_on_both_instances_whole(
    served: Served, other: Served, http: aiohttp.ClientSession, ada: Person
) -> None:
    async with (
        connected(served.url, auth={"token": ada.token}) as phone,
        connected(other.url, auth={"token": ada.token}) as pc,
    ):
        for device in (phone, pc):
            await device.join()
        answered = await ada.put(bio="Hello!", avatar="cat_7")
        for device in (phone, pc):
            told = await device.next(UPDATED)
            assert told == {name: answered[name] for name in WHOLE - PRESENCE}
            assert (told["email"], told["custom"]) == ("ada@example.com", {"secret": "hush"})


async def test_watchers_on_both_instances_get_the_public_part_and_no_secret_in_any_frame(
    served: Served, other: Served, ada: Person
) -> None:
    async with raw_socket(served.url) as eve, raw_socket(other.url) as mia:
        for number, raw in enumerate((eve, mia)):
            await raw.connect(f"watcher{number}")
            assert (await raw.call(1, "presence:join", {}))["ok"]
            assert (await raw.call(2, "presence:watch", {"userIds": [ada.id]}))["ok"]
        async with joined(other.url, "marker") as marker:
            answered = await ada.put(name="Ada L.", custom={"secret": "hush", "b": 2})
            for raw in (eve, mia):
                text: str | None = ""
                while not (text or "").startswith(f'42["{UPDATED}"'):
                    text = await raw.receive()
                    assert text is not None
                (told,) = events([text])
                assert told == {name: answered[name] for name in PUBLIC - PRESENCE}
                more = await frames(raw, 3)
                assert events(more) == []
                assert not [secret for secret in SECRETS if secret in text + "".join(more)]
            await untold(marker)


async def test_nobody_else_is_told(
    served: Served, other: Served, http: aiohttp.ClientSession, ada: Person
) -> None:
    async with AsyncExitStack() as stack:
        strangers = [
            await stack.enter_async_context(joined(server.url, "bob")) for server in (served, other)
        ]
        watcher_of_others = await stack.enter_async_context(watching(other, "bob", name="mia"))
        not_joined = await stack.enter_async_context(
            connected(other.url, auth={"token": ada.token})
        )
        device = await stack.enter_async_context(connected(other.url, auth={"token": ada.token}))
        await device.join()
        await ada.put(bio="x")
        await device.next(UPDATED)
        for client in (*strangers, watcher_of_others, not_joined):
            await untold(client)


async def test_what_changes_nothing_is_told_to_nobody(
    served: Served, http: aiohttp.ClientSession, ada: Person
) -> None:
    (await put(Api(http, "bob"), "bob", username="bob")).ok()
    first = await ada.put(bio="first")
    async with (
        connected(served.url, auth={"token": ada.token}) as phone,
        watching(served, ada.id) as eve,
    ):
        await phone.join()
        await ada.put(bio="old", updatedAt=first["updatedAt"] - 1)
        await ada.put(bio="first")
        await put(ada, ada.id, username="BOB", bio="half")
        await put(ada, ada.id, role="admin")
        await put(ada, ada.id, headers={"If-Match": '"x"'}, bio="x")
        await put(Api(http, "eve"), ada.id, bio="x")
        await ada.put(bio="last")
        for client in (phone, eve):
            assert (await client.next(UPDATED))["bio"] == "last"
            await untold(client)


async def test_a_change_by_the_apps_backend_and_a_first_put_are_told_too(
    served: Served, service: Api, api: Api
) -> None:
    async with joined(served.url) as phone, watching(served, "ada") as eve:
        (await put(api, "ada", name="Ada")).ok()
        assert (await phone.next(UPDATED))["name"] == (await eve.next(UPDATED))["name"] == "Ada"
        (await put(service, "ada", bio="from the backend")).ok()
        assert (await phone.next(UPDATED))["bio"] == "from the backend"
        assert "email" not in await eve.next(UPDATED)


async def test_a_guest_who_registers_is_told_as_a_change_of_the_profile(
    served: Served, http: aiohttp.ClientSession
) -> None:
    guest = (await Api(http, None).post("/api/auth/guest", {"deviceId": "d" * 20})).json["data"]
    user = guest["user"]["id"]
    async with (
        connected(served.url, auth={"token": guest["token"]}) as phone,
        watching(served, user) as eve,
    ):
        await phone.join()
        wish = {"username": "ada", "email": "ada@example.com", "password": "secure123"}
        headers = {"Authorization": f"Bearer {guest['token']}"}
        made = await Api(http, None).post("/auth/register", wish, headers=headers)
        assert made.json["id"] == user
        told = await phone.next(UPDATED)
        assert (told["username"], told["email"], told["guest"]) == ("ada", "ada@example.com", False)
        seen = await eve.next(UPDATED)
        assert seen["username"] == "ada"
        assert seen.keys() == PUBLIC - PRESENCE


async def test_who_watches_is_told_the_public_part_also_as_a_service(
    served: Served, ada: Person
) -> None:
    """Whole is for those who joined as the user."""
    async with connected(served.url, auth={"token": token("job", role="service")}) as job:
        await job.join()
        await job.call("presence:watch", {"userIds": [ada.id]})
        await ada.put(bio="x")
        assert (await job.next(UPDATED)).keys() == PUBLIC - PRESENCE


async def test_20_changes_at_once_end_with_the_stored_profile_for_every_device(
    served: Served, other: Served, http: aiohttp.ClientSession
) -> None:
    """Events may overtake one another; the newest, by updatedAt, is what is stored."""
    async with joined(served.url) as phone, joined(other.url) as pc:
        api = Api(http)
        base = (await put(api, "ada", bio="0", updatedAt=1_000)).ok()["updatedAt"]
        wishes = [put(api, "ada", bio=f"b{n}", updatedAt=base + n) for n in range(1, 21)]
        applied = [answer.ok()["bio"] for answer in await asyncio.gather(*wishes)]
        stored = (await api.get("/users/ada")).ok()
        assert stored["bio"] == "b20"
        assert "b20" in applied
        for device in (phone, pc):
            told = await device.until(UPDATED, lambda one: one["bio"] == "b20")
            assert told["updatedAt"] == stored["updatedAt"]
