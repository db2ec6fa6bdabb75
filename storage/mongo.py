"""The connection to MongoDB, with one way to fail: AppError `unavailable`."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import Context
from typing import Any, TypeVar

import pymongo
from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo import AsyncMongoClient, ReadPreference
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from domain.errors import AppError, Code

log = logging.getLogger(__name__)

T = TypeVar("T")

END_EVERY = 1.0  # seconds
END_ATTEMPTS = 60  # until MongoDB ends the transaction by itself

Document = dict[str, Any]
Collection = AsyncCollection[Document]


class Mongo:
    """One client for the process. Nothing connects before the first call.

    Reads see only what a majority holds, writes answer when a majority holds them: what a
    client was told is never rolled back.
    """

    def __init__(self, uri: str, database: str) -> None:
        self._client: AsyncMongoClient[Document] = AsyncMongoClient(
            uri,
            appname="livetally",
            connectTimeoutMS=2_000,
            serverSelectionTimeoutMS=2_000,
            tz_aware=True,
        )
        self._ending: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()
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

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncClientSession]:
        """A session whose reads all see the same moment."""
        async with self._client.start_session(snapshot=True) as session:
            yield session

    async def transaction(self, work: Callable[[AsyncClientSession], Awaitable[T]]) -> T:
        """Carry out `work` in one transaction, again from its start when it met another one."""
        async with self._client.start_session() as session:
            try:
                return await session.with_transaction(work)
            except PyMongoError:
                fresh = Context()  # without the deadline that has just passed
                task = asyncio.create_task(self._end(session.session_id), context=fresh)
                self._ending.add(task)
                task.add_done_callback(self._ending.discard)
                raise

    async def _end(self, session_id: Mapping[str, Any]) -> None:
        """End what is left of a session.

        A transaction that was cut off would else keep others from its documents for a minute.
        """
        kills = 2  # a command that was on its way may come behind the first one
        for _ in range(END_ATTEMPTS):
            try:
                with pymongo.timeout(END_EVERY):
                    await self._client.admin.command("killSessions", [session_id])
                kills -= 1
            except PyMongoError as error:
                log.debug("a transaction stays open: %s", _brief(error))
            if not kills or self._closing.is_set():
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), END_EVERY)

    async def close(self) -> None:
        """Close all connections."""
        self._closing.set()  # a cancelled task could leave a connection half open
        await asyncio.gather(*self._ending)
        await self._client.close()


@contextmanager
def available(timeout: float) -> Iterator[None]:
    """Give the operations inside `timeout` seconds; a driver's error becomes `unavailable`."""
    try:
        with pymongo.timeout(timeout):
            yield
    except PyMongoError as error:
        log.warning("MongoDB did not answer: %s", _brief(error))
        raise AppError(
            Code.UNAVAILABLE,
            "The database does not answer; repeat the request, with the same opId if it has one",
            retry_after=1.0,
        ) from error


def _brief(error: PyMongoError) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"
