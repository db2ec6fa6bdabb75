"""After a restored backup no client has to accept a lower `rev`."""

import asyncio
import sys
from typing import Any

import aiohttp
from pymongo import MongoClient

from tests.clients_py import joined
from tests.serving import ROOT, serving
from tests.tokens import bearer


async def restored(stores: dict[str, Any]) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "server", "restored"),
        cwd=ROOT,
        env={name.upper(): str(value) for name, value in stores.items()},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


async def test_a_restored_document_reaches_who_had_a_newer_one(stores: dict[str, Any]) -> None:
    with MongoClient[dict[str, Any]](stores["mongodb_uri"]) as client:
        collection = client[stores["mongodb_db"]]["stats"]
        async with serving(**stores) as server, joined(server.url) as phone:
            await phone.call("user:clientUpdate", {"xp": 1})
            backup = collection.find_one({"_id": "ada"})
            assert backup is not None
            await phone.call("user:clientUpdate", {"xp": 1})
            collection.replace_one({"_id": "ada"}, backup)
            assert "1 users" in await restored(stores)
            document = await phone.next("user:data:updated")
            assert document["rev"] > 2
            assert document["xp"] == 1
            async with (
                aiohttp.ClientSession(server.url, headers=bearer()) as http,
                http.post("/api/users/data/patch", json={"xp": 1}) as answer,
            ):
                assert (await answer.json())["rev"] == document["rev"] + 1
