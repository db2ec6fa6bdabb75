"""The first requests that a new database ever gets."""

import asyncio
from typing import Any

import aiohttp

from tests.devices import Device
from tests.rest import Api
from tests.serving import serving


async def test_pulls_succeed_while_the_first_push_makes_collections_and_indexes(
    stores: dict[str, Any],
) -> None:
    async def pull(api: Api, pushed: asyncio.Event) -> None:
        while not pushed.is_set():
            (await api.get("/api/sync/initial")).ok()

    for database in range(5):
        own = {**stores, "mongodb_db": f"{stores['mongodb_db']}_{database}"}
        async with serving(**own) as served, aiohttp.ClientSession(served.url) as http:
            pushed = asyncio.Event()
            pulling = [asyncio.create_task(pull(Api(http, f"bob-{n}"), pushed)) for n in range(8)]
            phone = Device("ada", "phone")
            phone.write("item", "i1", "create", {"title": "a"}, 1)
            (await Api(http).post("/api/sync", phone.body())).ok()
            await asyncio.sleep(0.05)
            pushed.set()
            await asyncio.gather(*pulling)
