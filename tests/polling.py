"""A long-polling client by hand: requests as a browser sends them, and others."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import aiohttp

from tests.clients_py import PATIENCE
from tests.tokens import token


class Poller:
    """One Engine.IO session on long-polling."""

    def __init__(self, http: aiohttp.ClientSession, sid: str, path: str = "/socket.io/") -> None:
        self.http = http
        self.sid = sid
        self.path = f"{path}?EIO=4&transport=polling&sid={sid}"
        self._packets: deque[str] = deque()

    async def post(self, *packets: str) -> int:
        """POST Engine.IO packets; answers the status."""
        return await self.post_body("\x1e".join(packets).encode())

    async def post_body(self, body: Any, **headers: str) -> int:
        """POST any body; answers the status."""
        async with self.http.post(self.path, data=body, headers=headers) as answer:
            await answer.read()
            return answer.status

    async def get(self) -> tuple[int, list[str]]:
        """One GET: its status and its packets."""
        async with self.http.get(self.path) as answer:
            text = await answer.text()
            return answer.status, text.split("\x1e") if answer.status == 200 else []

    async def receive(self, timeout: float = PATIENCE) -> str | None:
        """The next packet, pings answered on the way; None when the session has ended."""
        async with asyncio.timeout(timeout):
            while True:
                while not self._packets:
                    status, packets = await self.get()
                    if status != 200:
                        return None
                    self._packets.extend(packets)
                packet = self._packets.popleft()
                if packet == "2":
                    await self.post("3")
                elif packet == "1":
                    return None
                elif packet != "6":
                    return packet

    async def connect(self, user: str = "ada") -> Self:
        """CONNECT to namespace `/`."""
        assert await self.post("40" + json.dumps({"token": token(user)})) == 200
        reply = await self.receive()
        assert reply is not None
        assert reply.startswith("40"), reply
        return self

    async def call(self, ack: int, name: str, payload: Any) -> Any:
        """Send an event and wait for its ack; other packets are dropped."""
        assert await self.post(f"42{ack}" + json.dumps([name, payload])) == 200
        return await self.answer(ack)

    async def answer(self, ack: int) -> Any:
        """The ack with that number; other packets are dropped."""
        while (packet := await self.receive()) is not None:
            if packet.startswith(f"43{ack}["):
                return json.loads(packet[len(f"43{ack}") :])[0]
        raise ConnectionError("ended while waiting for an ack")

    async def join(self, user: str = "ada", **payload: Any) -> Self:
        """CONNECT and `presence:join`."""
        await self.connect(user)
        answer = await self.call(0, "presence:join", payload)
        assert answer["ok"], answer
        return self


@asynccontextmanager
async def poller(url: str, path: str = "/socket.io/") -> AsyncIterator[Poller]:
    """An open session on long-polling, in no namespace yet."""
    async with aiohttp.ClientSession(url) as http:
        async with http.get(f"{path}?EIO=4&transport=polling") as answer:
            opening = await answer.text()
        assert opening.startswith("0{"), opening
        yield Poller(http, json.loads(opening[1:])["sid"], path)
