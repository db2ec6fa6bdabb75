"""The connection to MongoDB, with one way to fail: AppError `unavailable`."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from typing import Any, TypeVar

import pymongo
from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo import AsyncMongoClient, ReadPreference
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from domain.errors import AppError, Code

log = logging.getLogger(__name__)

T = TypeVar("T")

Document = dict[str, Any]
Collection = AsyncCollection[Document]

ENDING_TIMEOUT = 2.0  # seconds
# Read concerns, the only marks by which MongoDB shows of what kind a transaction is; with majority
# writes both read a snapshot.
BRISK = "snapshot"
RESTING = "majority"
ABANDONED = 1.0  # seconds in which nothing came for a brisk one
LONGEST_REST = 30.0

PATIENCE = 0.5  # seconds, for a transaction that others keep from what it writes

_SNAPSHOT_UNAVAILABLE = 246
_MOMENT = 0.01  # seconds


class Mongo:
    """One client for the process. Nothing connects before the first call.

    Reads see only what a majority holds, writes answer when a majority holds them: what a
    client was told is never rolled back.
    """

    def __init__(self, uri: str, database: str, longest_rest: float = LONGEST_REST) -> None:
        """`longest_rest`: seconds that a transaction which rests may do nothing."""
        self._longest_rest = longest_rest
        self._name = f"livetally {database}"
        self._client: AsyncMongoClient[Document] = AsyncMongoClient(
            uri,
            appname=self._name,
            connectTimeoutMS=2_000,
            serverSelectionTimeoutMS=2_000,
            tz_aware=True,
        )
        self._ended = -PATIENCE  # when abandoned transactions were last looked for
        self._database = self._client.get_database(
            database,
            codec_options=CodecOptions(
                tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_MS
            ),
            read_preference=ReadPreference.PRIMARY,
            read_concern=ReadConcern("majority"),
            write_concern=WriteConcern("majority"),
        )

    def collection(self, name: str) -> Collection:
        """The collection `name`, majority-read and majority-written."""
        return self._database[name]

    async def ping(self, timeout: float) -> None:
        """Raise AppError `unavailable` unless a primary answers within `timeout` seconds."""
        with available(timeout):
            hello = await self._client.admin.command("hello")
            if not hello.get("isWritablePrimary"):
                raise AppError(Code.UNAVAILABLE, "The database has no primary right now")

    async def snapshot(self, work: Callable[[AsyncClientSession], Awaitable[T]]) -> T:
        """Carry out `work`, whose reads all see the same moment.

        Again, if its first read of a collection meets one that has just been made.
        """
        while True:
            async with self._client.start_session(snapshot=True) as session:
                try:
                    return await work(session)
                except OperationFailure as error:
                    if error.code != _SNAPSHOT_UNAVAILABLE:
                        raise
            await asyncio.sleep(_MOMENT)

    async def transaction(
        self, work: Callable[[AsyncClientSession], Awaitable[T]], *, rests: bool = False
    ) -> T:
        """Carry out `work` in one transaction, again from its start when it met another one.

        `work` does nothing but talk to MongoDB, unless it `rests`. One that it meets and that has
        not moved for too long is ended: its process was killed, or its connection lost.
        """
        level = RESTING if rests else BRISK
        began = time.monotonic()

        async def attempt(session: AsyncClientSession) -> T:
            if time.monotonic() - began > PATIENCE:
                # In time of its own: what it does helps the next call, if not this one.
                await asyncio.create_task(self._end_abandoned(), context=Context())
            return await work(session)

        async with self._client.start_session() as session:
            return await session.with_transaction(attempt, read_concern=ReadConcern(level))

    async def _end_abandoned(self) -> None:
        """End transactions that MongoDB would keep for a minute otherwise.

        Should one only have been slow, it is repeated.
        """
        if time.monotonic() - self._ended < PATIENCE:
            return
        self._ended = time.monotonic()
        abandoned = [
            {
                "transaction.parameters.readConcern.level": level,
                "transaction.timeInactiveMicros": {"$gt": int(seconds * 1e6)},
            }
            for level, seconds in ((BRISK, ABANDONED), (RESTING, self._longest_rest))
        ]
        ours = {"type": "idleSession", "appName": self._name, "$or": abandoned}
        stages: list[Document] = [{"$currentOp": {"idleSessions": True}}, {"$match": ours}]
        try:
            with pymongo.timeout(ENDING_TIMEOUT):
                found = await (await self._client.admin.aggregate(stages)).to_list()
                ids = [{"id": session["lsid"]["id"]} for session in found]
                if ids:
                    await self._client.admin.command("killSessions", ids)
                    log.warning("ended abandoned transactions: %d", len(ids))
        except PyMongoError as error:
            log.warning("abandoned transactions go on: %s", _brief(error))

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()


@contextmanager
def available(timeout: float) -> Iterator[None]:
    """Give the operations inside `timeout` seconds; a driver's error becomes `unavailable`."""
    try:
        with pymongo.timeout(timeout):
            yield
    except PyMongoError as error:
        if not isinstance(error, DuplicateKeyError):  # an answer, with somebody's name in it
            log.warning("MongoDB did not answer: %s", _brief(error))
        raise AppError(
            Code.UNAVAILABLE,
            "The database does not answer; repeat the request, with the same opId if it has one",
            retry_after=1.0,
        ) from error


def _brief(error: PyMongoError) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"
