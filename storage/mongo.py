"""The connection to MongoDB, with one way to fail: AppError `unavailable`."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import pymongo
from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo import AsyncMongoClient, ReadPreference
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from domain.errors import AppError, Code

log = logging.getLogger(__name__)

T = TypeVar("T")

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
        self._unsure: list[AsyncClientSession] = []
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
        await self._end_unsure()
        session = self._client.start_session()
        try:
            result = await session.with_transaction(work)
        except BaseException:
            self._unsure.append(session)
            raise
        await session.end_session()
        return result

    async def _end_unsure(self) -> None:
        """End the failed transactions of which the server may not know.

        The driver tries to, within the time that the failure may have used up. Such a
        transaction would hold what it wrote against all others for a minute or more.
        """
        if not self._unsure:
            return
        sessions, self._unsure = self._unsure, []
        try:
            ids = [session.session_id for session in sessions]
            await self._client.admin.command("killSessions", ids)
        except BaseException as error:
            if not isinstance(error, OperationFailure) or error.timeout:
                self._unsure += sessions
                raise
            log.warning("cannot end transactions: %s", _brief(error))  # they end by themselves
        for session in sessions:
            await session.end_session()

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
        log.warning("MongoDB did not answer: %s", _brief(error))
        raise AppError(
            Code.UNAVAILABLE,
            "The database does not answer; repeat the request, with the same opId if it has one",
            retry_after=1.0,
        ) from error


def _brief(error: PyMongoError) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"
