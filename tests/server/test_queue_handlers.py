"""Own handlers, as docs/queue.md shows them; those that cannot be loaded are a clear error."""

import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from server.app import create_app
from server.settings import Settings, SettingsError
from tests.commands import command
from tests.queues import EXPENSES, SALARY, Queue, one
from tests.rest import Api
from tests.serving import QUICK, ROOT, serving
from tests.tokens import SECRET

pytestmark = pytest.mark.usefixtures("no_worker", "shared_database")

GREETINGS = "/api/greetings"
FAULTY = """
from datetime import UTC, datetime
from domain.queue import Method
from domain.parsing import Payload
from domain.resources import BUILT_IN
from server.queue.handlers import QueueHandler

class Any_(Payload):
    how: str = ""

async def fail(unit, item, body):
    raise RuntimeError("a secret of the server")

async def odd(unit, item, body):
    return {"$set": {"a.b": 1}, "big": 2**80, "": {1}}

async def raw(unit, item, body):
    return {"raw": b"x"}

async def dated(unit, item, body):
    return {"at": datetime(2026, 1, 1, tzinfo=UTC), "$set": {"a.b": None}}

async def fine(unit, item, body):
    return {"how": body.how, "id": item.id, "target": item.target_id}

HANDLERS = (
    QueueHandler("/api/fail", Method.POST, Any_, fail),
    QueueHandler("/api/odd", Method.POST, Any_, odd),
    QueueHandler("/api/raw", Method.POST, Any_, raw),
    QueueHandler("/api/dated", Method.POST, Any_, dated),
    QueueHandler("/api/fine", Method.PUT, Any_, fine),
)
"""


def worked_example() -> str:
    """The Python of docs/queue.md."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/queue.md").read_text(), re.DOTALL)
    return str(code)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Makes `myapp.handlers` of some code."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(code: str) -> None:
        (tmp_path / "myapp").mkdir(exist_ok=True)
        (tmp_path / "myapp" / "handlers.py").write_text(code)

    yield write
    for name in ("myapp.handlers", "myapp"):
        sys.modules.pop(name, None)


@pytest.fixture
async def greeting(stores: dict[str, Any], module: Callable[[str], None]) -> AsyncIterator[Queue]:
    """A queue of a server with the document's handlers."""
    module(worked_example())
    async with (
        serving(**stores, queue_handlers="myapp.handlers:HANDLERS") as server,
        aiohttp.ClientSession(server.url) as session,
    ):
        yield Queue(Api(session))


@pytest.mark.usefixtures("quiet")
async def test_the_documents_worked_example_works(greeting: Queue) -> None:
    hello = await greeting.add(GREETINGS, "POST", {"to": "Bob"})
    bye = await greeting.add(GREETINGS, "POST", {"to": "Bob", "text": "Bye"})
    nobody = await greeting.add(GREETINGS, "POST", {"to": "nobody"})
    wrong = await greeting.add(GREETINGS, "POST", {"text": 1})
    built_in = await greeting.add(EXPENSES, "POST", SALARY)
    assert await greeting.process() == (5, 3, 2)
    assert (await greeting.item(hello))["responseData"] == {"said": "Hello, Bob"}
    assert (await greeting.item(bye))["responseData"] == {"said": "Bye, Bob"}
    assert (await greeting.item(built_in))["status"] == "completed"
    waiting = {item["_id"]: item for item in await greeting.pending()}
    assert "must be somebody" in waiting[nobody["_id"]]["error"]
    assert "to" in waiting[wrong["_id"]]["error"]
    assert waiting[nobody["_id"]]["retryAt"] is not None


@pytest.mark.usefixtures("quiet")
async def test_refusals_tell_of_own_handlers_too(greeting: Queue) -> None:
    for method in ("PUT", "DELETE", "GET"):
        problem = (await greeting.try_add(GREETINGS, method, {"_id": "1"})).refused_field(
            400, "invalid_value", "/method"
        )
        assert "POST" in problem["detail"]
    assert (
        GREETINGS
        in (await greeting.try_add("/api/none", "POST")).problem(400, "invalid_value")["detail"]
    )


async def test_a_handler_that_breaks_fails_alone_and_tells_no_secrets(
    stores: dict[str, Any], module: Callable[[str], None], errors_logged: Callable[[], list[str]]
) -> None:
    module(FAULTY)
    async with (
        serving(**stores, queue_handlers="myapp.handlers:HANDLERS") as server,
        aiohttp.ClientSession(server.url) as session,
    ):
        queue = Queue(Api(session))
        bad = [one(f"/api/{name}", data={}, priority=1) for name in ("fail", "odd", "raw")]
        dated = one("/api/dated", data={}, operationId="dated")
        *broken, dated, fine, expense = await queue.bulk(
            [*bad, dated, one("/api/fine/7", "PUT", {"how": "well"}), one()]
        )
        assert await queue.process() == (6, 3, 3)
        for item in (dated, fine, expense):
            assert (await queue.item(item))["status"] == "completed"
        again = await queue.add("/api/dated", "POST", {}, operationId="dated")
        assert again["responseData"]["at"].startswith("2026-01-01T00:00:00")
        done = await queue.item(fine)
        assert done["responseData"] == {"how": "well", "id": fine["_id"], "target": "7"}
        waiting = {item["_id"]: item for item in await queue.pending()}
        assert waiting.keys() == {item["_id"] for item in broken}
        assert all("secret" not in item["error"] for item in waiting.values())
        assert any("/api/fail" in line for line in errors_logged())

    async with serving(**stores) as server, aiohttp.ClientSession(server.url) as session:
        queue = Queue(Api(session))  # the handlers are registered no more
        await queue.add(EXPENSES, "POST", SALARY)
        assert await queue.process() == (1, 1, 0)
        assert len(await queue.pending()) == len(waiting)


CANNOT_BE_LOADED = {
    "no such module": ("elsewhere.handlers:HANDLERS", ""),
    "no such name": ("myapp.handlers:OTHERS", ""),
    "no name": ("myapp.handlers", ""),
    "empty": (":", ""),
    "not a sequence": ("myapp.handlers:HANDLERS", "HANDLERS = 7"),
    "no handlers": ("myapp.handlers:HANDLERS", "HANDLERS = ['/api/x']"),
    "it raises": ("myapp.handlers:HANDLERS", "raise RuntimeError('at its import')"),
    "no Python": ("myapp.handlers:HANDLERS", "HANDLERS = ["),
    "one of ours": ("myapp.handlers:HANDLERS", FAULTY.replace("/api/fail", "/api/expenses")),
    "registered twice": ("myapp.handlers:HANDLERS", FAULTY.replace("/api/fail", "/api/odd")),
}


@pytest.mark.parametrize("why", CANNOT_BE_LOADED)
async def test_handlers_that_cannot_be_loaded_are_an_error_that_names_the_setting(
    stores: dict[str, Any], module: Callable[[str], None], why: str
) -> None:
    name, code = CANNOT_BE_LOADED[why]
    module(code)
    with pytest.raises(SettingsError, match="QUEUE_HANDLERS"):
        create_app(Settings(**{**QUICK, **stores, "queue_handlers": name}))


async def test_the_server_does_not_start_with_handlers_that_are_not_there() -> None:
    result = await command(
        mongodb_uri="mongodb://127.0.0.1:1/",
        redis_url="redis://127.0.0.1:1/0",
        jwt_secret=SECRET,
        queue_handlers="elsewhere.handlers:HANDLERS",
    )
    assert result.code == 1
    assert "QUEUE_HANDLERS" in result.err
    assert "elsewhere" in result.err
    assert "Traceback" not in result.err
