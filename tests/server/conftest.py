"""What the tests of the REST door share."""

import logging
from collections.abc import Callable, Iterator

import aiohttp
import pytest
from argon2 import PasswordHasher

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
        return [f"{r.name}: {r.getMessage()}" for r in records if r.levelno >= logging.ERROR]

    return read


@pytest.fixture
def quiet(errors_logged: Callable[[], list[str]]) -> Iterator[None]:
    """Nothing that clients do may be logged at ERROR."""
    yield
    assert errors_logged() == []
