"""What somebody who knew a device, looks like another, or was erased, does not get."""

import asyncio
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from tests.clients_py import connected, joined
from tests.people import PASSWORD, guest, is_over, register
from tests.rest import Api, http_request
from tests.serving import Served
from tests.tokens import token
from tests.waiting import soon

pytestmark = pytest.mark.usefixtures("quick")

DEVICE = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"


def wish(name: str, **more: Any) -> dict[str, Any]:
    return {"username": name, "email": f"{name}@example.com", "password": PASSWORD, **more}


async def test_who_knew_the_device_is_out_when_its_guest_registers(
    http: aiohttp.ClientSession,
) -> None:
    owner, thief = await guest(http, DEVICE), await guest(http, DEVICE)
    assert (await owner.api.post("/auth/register", wish("ada"))).status == 201
    await soon(lambda: is_over(thief))
    assert (await owner.api.get("/api/auth/me")).status == 200  # the owner goes on


@pytest.mark.parametrize(
    ("name", "imitation"), [("mallory", "maIIory"), ("paul", "pauI"), ("pauI", "paul")]
)
async def test_a_capital_i_is_a_small_l(
    http: aiohttp.ClientSession, name: str, imitation: str
) -> None:
    anybody = Api(http, None)
    assert (await anybody.post("/auth/register", wish(name))).status == 201
    other = {**wish(imitation), "email": "other@example.com"}
    (await anybody.post("/auth/register", other)).refused_field(409, "username_taken", "/username")
    bob = await register(http, "bob")
    answer = await bob.api.send("PUT", f"/users/{bob.id}", json={"username": imitation})
    answer.refused_field(409, "username_taken", "/username")


async def test_a_small_i_is_no_l(http: aiohttp.ClientSession) -> None:
    for name in ("pauli", "paull", "ian", "lan"):
        assert (await Api(http, None).post("/auth/register", wish(name))).status == 201


async def test_an_id_in_the_other_case_is_the_same_id(http: aiohttp.ClientSession) -> None:
    anybody, user_id = Api(http, None), str(uuid4())
    assert (await anybody.post("/auth/register", wish("ada", id=user_id))).status == 201
    other = wish("bob", id=user_id.upper())
    (await anybody.post("/auth/register", other)).refused_field(409, "id_taken", "/id")


async def test_an_erased_person_is_not_seen_coming_back(
    served: Served, http: aiohttp.ClientSession
) -> None:
    own = token("ada")  # of the app's backend: it has no session that could end
    async with joined(served.url, "bob") as watcher:
        await watcher.call("presence:watch", {"userIds": ["ada"]})
        async with joined(served.url, "ada"):
            await watcher.until("presence:update", lambda entry: entry["online"])
            erased = await Api(http, "ada").send("DELETE", "/api/auth/me")
            assert erased.status == 200
            gone = await watcher.next("presence:update")
            assert not gone["online"]
            answer = await watcher.call("presence:watch", {"userIds": ["ada"]})
            assert not answer["users"][0]["online"]
        async with connected(served.url, auth={"token": own}) as ada:
            refused = await ada.call("presence:join", {"status": "busy"})
            assert refused["error"]["code"] == "erased"
        answer = await watcher.call("presence:watch", {"userIds": ["ada"]})
        assert not answer["users"][0]["online"]
        while watcher.pending("presence:update"):  # that she has gone may be said twice
            assert not (await watcher.next("presence:update"))["online"]


async def test_a_body_that_never_comes_is_given_up(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.problems.BODY_TIMEOUT", 0.2)
    address = served.url.removeprefix("http://").split(":")
    head = http_request(
        "POST /auth/login", "Content-Type: application/json", "Content-Length: 1000"
    )
    reader, writer = await asyncio.open_connection(address[0], int(address[1]))
    try:
        writer.write(head + b"{")
        answer = await asyncio.wait_for(reader.readline(), 5)
    finally:
        writer.close()
    assert b" 408 " in answer
