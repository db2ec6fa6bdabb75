"""What the tests of the REST door share."""

import logging
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from argon2 import PasswordHasher
from pymongo import MongoClient
from pymongo.database import Database

from server import app
from server.queue.worker import Worker
from tests.queues import Clock, Queue
from tests.rest import Api


@pytest.fixture
def api(http: aiohttp.ClientSession) -> Api:
    """The user ada."""
    return Api(http)


@pytest.fixture
def service(http: aiohttp.ClientSession) -> Api:
    """An app's backend, which may act for anyone."""
    return Api(http, "backend", role="service")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers of this test learn sooner of ended sessions, refuse logins sooner, hash cheaply."""
    monkeypatch.setattr("server.accounts.sessions.WATCH_EVERY", 0.1)
    monkeypatch.setattr("server.accounts.throttle.FAILURE_STEP", 0.02)
    cheap = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    monkeypatch.setattr("server.accounts.passwords.PasswordHasher", lambda **_: cheap)


@pytest.fixture
def errors_logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What was logged at ERROR or above so far."""

    def read() -> list[str]:
        records = [*caplog.get_records("setup"), *caplog.get_records("call")]
        return [
            f"{r.name}: {r.getMessage()}"
            for r in records
            # On a machine with too much to do the stores answer the health's looks too late.
            if r.levelno >= logging.ERROR and r.name != "server.health"
        ]

    return read


@pytest.fixture
def quiet(errors_logged: Callable[[], list[str]]) -> Iterator[None]:
    """Nothing that clients do may be logged at ERROR."""
    yield
    assert errors_logged() == []


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of servers that are made from here on."""
    clock = Clock()
    monkeypatch.setattr(app, "now_ms", clock)
    return clock


@pytest.fixture
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers made from here on process the queue only when they are asked to."""
    monkeypatch.setattr(Worker, "start", lambda self: None)


@pytest.fixture
def database(mongodb_uri: str, mongodb_name: str) -> Iterator[Database[dict[str, Any]]]:
    """What the server keeps, to look into."""
    with MongoClient[dict[str, Any]](mongodb_uri) as client:
        yield client[mongodb_name]


@pytest.fixture
def queue(api: Api) -> Queue:
    """The queue of the user ada."""
    return Queue(api)


@pytest.fixture
def others_queue(http: aiohttp.ClientSession) -> Queue:
    """The queue of another user, bob."""
    return Queue(Api(http, "bob"))


@pytest.fixture
def shared_database() -> None:
    """Tests that ask for it share one database, emptied after each: indexes take a while."""


@pytest.fixture(scope="session")
def _shared_name(_mongodb: MongoClient[dict[str, Any]]) -> Iterator[str]:
    name = f"test_{uuid4().hex}"
    yield name
    _mongodb.drop_database(name)


@pytest.fixture
def mongodb_name(
    request: pytest.FixtureRequest,
    mongodb_name: str,
    _mongodb: MongoClient[dict[str, Any]],
    _shared_name: str,
) -> Iterator[str]:
    """A database that no other test has now; see `shared_database`."""
    if "shared_database" not in request.fixturenames:
        yield mongodb_name
        return
    yield _shared_name
    database = _mongodb[_shared_name]
    for name in database.list_collection_names():
        database[name].delete_many({})
