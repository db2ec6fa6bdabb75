"""The first requests that a new database ever gets."""

import asyncio
from typing import Any

import aiohttp
import pytest

from tests.devices import Device
from tests.rest import Api
from tests.serving import serving


@pytest.mark.usefixtures("quiet")
async def test_pushes_and_pulls_succeed_while_collections_and_indexes_are_being_made(
    stores: dict[str, Any],
) -> None:
    for database in range(5):
        own = {**stores, "mongodb_db": f"{stores['mongodb_db']}_{database}"}
        async with serving(**own) as served, aiohttp.ClientSession(served.url) as http:

            async def sync(user: str, http: aiohttp.ClientSession = http) -> None:
                api, phone = Api(http, user), Device(user, "phone")
                (await api.get("/api/sync/initial")).ok()
                phone.write("item", f"{user}-1", "create", {"title": "a"}, 1)
                (await api.post("/api/sync", phone.body())).ok()
                (await api.post("/api/sync", phone.body(0))).ok()

            await asyncio.gather(*(sync(f"ada-{n}") for n in range(10)))
