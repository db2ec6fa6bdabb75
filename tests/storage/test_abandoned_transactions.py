"""A process that dies inside a transaction does not keep others from what it had written to."""

import asyncio
import sys
import time
from typing import Any

from pymongo.asynchronous.client_session import AsyncClientSession

from storage.mongo import available
from tests.storage.conftest import NewMongo

DIES = """
import os, sys
from pymongo import MongoClient
from pymongo.read_concern import ReadConcern

client = MongoClient(sys.argv[1], appname="livetally " + sys.argv[2])
session = client.start_session()
session.start_transaction(read_concern=ReadConcern("snapshot"))
client[sys.argv[2]].things.update_one({"_id": 1}, {"$set": {"n": 100}}, session=session)
os.kill(os.getpid(), 9)
"""


async def test_its_transaction_is_ended_long_before_mongodb_would(
    new_mongo: NewMongo, mongodb_uri: str, mongodb_name: str
) -> None:
    mongo = new_mongo(mongodb_uri)
    things = mongo.collection("things")
    await things.insert_one({"_id": 1, "n": 0})
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DIES, mongodb_uri, mongodb_name
    )
    assert await process.wait() == -9

    async def add(session: AsyncClientSession) -> Any:
        return await things.update_one({"_id": 1}, {"$inc": {"n": 1}}, session=session)

    started = time.monotonic()
    with available(20.0):
        await mongo.transaction(add)
    assert time.monotonic() - started < 8
    assert await things.find_one({"_id": 1}) == {"_id": 1, "n": 1}
