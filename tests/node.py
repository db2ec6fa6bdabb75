"""The real socket.io-client under Node.js, as a device for tests."""

import asyncio
import contextlib
import itertools
import json
import shutil
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.serving import ROOT
from tests.tokens import token

PATIENCE = 10.0  # seconds
FOLDER = ROOT / "tests" / "e2e" / "js"


class NodeDevice:
    """One socket of tests/e2e/js/device.mjs; what happens to it is kept until asked for."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._happened: defaultdict[str, asyncio.Queue[Any]] = defaultdict(asyncio.Queue)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._calls = itertools.count()

    async def read(self) -> None:
        """Sort what the script prints; ends with it."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            kind, what = json.loads(line)
            if kind == "answer":
                self._answers.pop(what["id"]).set_result(what["answer"])
            elif kind == "event":
                self._happened[f"event {what['name']}"].put_nowait(what["args"])
            else:
                self._happened[kind].put_nowait(what)

    def _say(self, *command: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")

    def emit(self, name: str, *payload: Any) -> None:
        """`socket.emit(name, payload)`."""
        self._say("emit", name, *payload)

    async def call(self, name: str, *payload: Any, timeout: float = PATIENCE) -> Any:
        """`socket.emit(name, payload, ack)`; answers what the ack was given."""
        number = next(self._calls)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        self._say("call", number, name, *payload)
        [only] = await asyncio.wait_for(answer, timeout)
        return only

    async def next(self, name: str, timeout: float = PATIENCE) -> Any:
        """The payload of the next event `name`."""
        [payload] = await self.happens(f"event {name}", timeout)
        return payload

    async def happens(self, kind: str, timeout: float = PATIENCE) -> Any:
        """The next `open`, `upgrade`, `connect`, `connect_error`, `disconnect`, or other kind."""
        return await asyncio.wait_for(self._happened[kind].get(), timeout)

    def pending(self, kind: str) -> int:
        """How many of these nobody asked for yet."""
        return self._happened[kind].qsize()


@asynccontextmanager
async def node_device(
    url: str, user: str = "ada", *, auth: str | None = "", **options: Any
) -> AsyncIterator[NodeDevice]:
    """A device with socket.io-client's default options, or `options`; `auth` is its token."""
    node = shutil.which("node")
    assert node is not None, "the end-to-end tests need Node.js"
    given = token(user) if auth == "" else auth
    process = await asyncio.create_subprocess_exec(
        node,
        "device.mjs",
        json.dumps({"url": url, "token": given, "options": options}),
        cwd=FOLDER,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    device = NodeDevice(process)
    reading = asyncio.create_task(device.read())
    try:
        yield device
    finally:
        assert process.stdin is not None
        process.stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), PATIENCE)
        if process.returncode is None:
            process.kill()
            await process.wait()
        await reading
