"""The REST door for tests: answers read whole, problems checked to the letter, raw HTTP."""

import asyncio
import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from multidict import CIMultiDict

from tests.tokens import bearer

PATIENCE = 10.0  # seconds; a bound for what should take milliseconds
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")

DEFAULTS: dict[str, Any] = {
    "xp": 0,
    "hearts": 5,
    "diamonds": 0,
    "level": 1,
    "streak": 0,
    "accuracy": 0,
    "maxStreak": 0,
    "completedQuestions": 0,
    "correctAnswers": 0,
    "wrongAnswers": 0,
    "totalQuestions": 0,
    "timePerQuestion": [],
    "totalTimeSpent": 0,
    "lastGameResults": {},
}
"""Every field of the stats document except `userId`, `rev` and `updatedAt`."""

PUBLIC_DEFAULTS: dict[str, Any] = {"xp": 0, "level": 1, "streak": 0, "maxStreak": 0}


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, read to its end."""

    status: int
    headers: Any
    raw: bytes

    @property
    def json(self) -> Any:
        """The body of a success."""
        assert self.headers["Content-Type"].startswith("application/json"), self
        return json.loads(self.raw)

    def ok(self) -> Any:
        """The JSON body of a 200."""
        assert self.status == 200, self
        return self.json

    def problem(self, status: int, code: str) -> dict[str, Any]:
        """The problem (RFC 9457) that this answer must be."""
        assert self.status == status, self
        assert self.headers["Content-Type"].split(";")[0] == "application/problem+json", self
        body: dict[str, Any] = json.loads(self.raw)
        assert body.keys() - {"errors"} == {
            "type",
            "title",
            "status",
            "detail",
            "code",
            "requestId",
        }
        assert body["status"] == status
        assert body["code"] == code, body
        assert body["requestId"] == self.headers["X-Request-Id"]
        assert all(isinstance(body[name], str) for name in ("type", "title", "detail"))
        for fault in body.get("errors", []):
            assert fault.keys() == {"pointer", "message"}
            assert fault["pointer"].startswith("/")
        return body

    def refused_field(self, status: int, code: str, pointer: str) -> dict[str, Any]:
        """The problem that names the field at `pointer` (RFC 6901) in the body sent."""
        body = self.problem(status, code)
        assert [fault["pointer"] for fault in body["errors"]] == [pointer]
        return body

    def refused_name(self, status: int, code: str, name: str) -> dict[str, Any]:
        """Likewise, wherever in the body a field `name` is."""
        body = self.problem(status, code)
        assert [fault["pointer"].rpartition("/")[2] for fault in body["errors"]] == [name]
        return body


class Api:
    """Requests with one token; `Api(session, None)` sends none."""

    def __init__(
        self, session: aiohttp.ClientSession, user: str | None = "ada", **claims: Any
    ) -> None:
        self._session = session
        self._headers = {} if user is None else bearer(user, **claims)

    async def send(self, method: str, path: str, **options: Any) -> Answer:
        """One request; options as aiohttp takes them."""
        headers = {**self._headers, **options.pop("headers", {})}
        async with (
            asyncio.timeout(PATIENCE),
            self._session.request(method, path, headers=headers, **options) as answer,
        ):
            return Answer(answer.status, answer.headers, await answer.read())

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.send("GET", path, **options)

    async def post(self, path: str, body: Any, **options: Any) -> Answer:
        return await self.send("POST", path, json=body, **options)

    async def post_raw(self, path: str, body: bytes, **options: Any) -> Answer:
        """A body as it is, JSON by its header unless told otherwise."""
        headers = {"Content-Type": "application/json", **options.pop("headers", {})}
        return await self.send("POST", path, data=body, headers=headers, **options)

    async def stats(self, user: str = "ada") -> Any:
        """The stats document of `user`."""
        return (await self.get(f"/api/users/{user}/stats")).ok()

    async def patch(self, **patch: Any) -> Any:
        """An accepted patch's answer."""
        return (await self.post("/api/users/data/patch", patch)).ok()

    async def update(self, stats: dict[str, Any], **body: Any) -> Any:
        """An accepted updateStats' answer."""
        return (await self.post("/api/users/updateStats", {**body, "stats": stats})).ok()


async def raw_http(url: str, request: bytes, timeout: float = PATIENCE) -> Answer:
    """Send bytes that no client would send, and read the answer until the server hangs up."""
    address = urlsplit(url)
    async with asyncio.timeout(timeout):
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        try:
            writer.write(request)
            answer = await reader.read()
        finally:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers: CIMultiDict[str] = CIMultiDict()
    for line in lines:
        name, _, value = line.partition(":")
        headers.add(name, value.strip())
    return Answer(int(first.split()[1]), headers, body)


def http_request(line: str, *headers: str, body: bytes = b"") -> bytes:
    """Bytes of a request that ends its connection: `line` is method and target."""
    lines = [f"{line} HTTP/1.1", "Host: test", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body
