"""Clients for tests: python-socketio's own, and a bare one that can misbehave."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import socketio

from tests.tokens import token

PATIENCE = 10.0  # seconds; a bound for what should take milliseconds


class Client:
    """One device: python-socketio's client, every event kept until it is asked for."""

    def __init__(self) -> None:
        self.sio = socketio.AsyncClient(reconnection=False)
        self._events: defaultdict[str, asyncio.Queue[Any]] = defaultdict(asyncio.Queue)
        self.gone = asyncio.Event()
        self.sio.on("*", self._keep)
        self.sio.on("disconnect", self._gone)

    async def _keep(self, name: str, *args: Any) -> None:
        self._events[name].put_nowait(args[0] if args else None)

    async def _gone(self, *_: Any) -> None:
        self.gone.set()

    async def call(self, name: str, payload: Any = None, timeout: float = PATIENCE) -> Any:
        """Emit and answer with the ack."""
        return await self.sio.call(name, payload, timeout=timeout)

    async def emit(self, name: str, payload: Any = None) -> None:
        """Emit without asking for an ack."""
        await self.sio.emit(name, payload)

    async def next(self, name: str, timeout: float = PATIENCE) -> Any:
        """The next event `name`, waiting for it."""
        return await asyncio.wait_for(self._events[name].get(), timeout)

    def pending(self, name: str) -> int:
        """How many events `name` have come that nobody asked for yet."""
        return self._events[name].qsize()

    async def until(self, name: str, wanted: Any, timeout: float = PATIENCE) -> Any:
        """The first event `name` for which `wanted(payload)` holds."""
        async with asyncio.timeout(timeout):
            while True:
                payload = await self._events[name].get()
                if wanted(payload):
                    return payload

    async def join(self, **payload: Any) -> Any:
        """`presence:join`; answers its ack, which must be ok."""
        answer = await self.call("presence:join", payload)
        assert answer["ok"], answer
        return answer


@asynccontextmanager
async def connected(
    url: str, user: str = "ada", *, transports: list[str] | None = None, auth: Any = None
) -> AsyncIterator[Client]:
    """A connected client of `user`, not joined yet."""
    client = Client()
    await client.sio.connect(
        url,
        auth=auth or {"token": token(user)},
        transports=transports or ["websocket"],
        wait_timeout=PATIENCE,
    )
    try:
        yield client
    finally:
        await client.sio.disconnect()
        # Left open by the library when it finds in writing that the server has gone.
        if (ws := client.sio.eio.ws) is not None:
            await ws.close()


@asynccontextmanager
async def joined(
    url: str,
    user: str = "ada",
    *,
    transports: list[str] | None = None,
    auth: Any = None,
    **payload: Any,
) -> AsyncIterator[Client]:
    """A client of `user` that has joined."""
    async with connected(url, user, transports=transports, auth=auth) as client:
        await client.join(**payload)
        yield client


class RawSocket:
    """A websocket that speaks Engine.IO by hand: whatever a hostile client can send."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws

    async def send(self, text: str) -> None:
        """Send one text frame."""
        await self.ws.send_str(text)

    async def receive(self, timeout: float = PATIENCE) -> str | None:
        """The next text frame, answering pings on the way; None when it is closed."""
        async with asyncio.timeout(timeout):
            while True:
                message = await self.ws.receive()
                if message.type is not aiohttp.WSMsgType.TEXT:
                    return None
                if message.data == "2":
                    await self.ws.send_str("3")
                    continue
                return str(message.data)

    async def connect(self, user: str = "ada") -> str:
        """CONNECT to namespace `/`; answers the reply packet."""
        await self.send("40" + json.dumps({"token": token(user)}))
        reply = await self.receive()
        assert reply is not None
        return reply

    async def call(self, ack: int, name: str, payload: Any) -> Any:
        """Send an event with an ack id and wait for that ack; other frames are dropped."""
        await self.send(f"42{ack}" + json.dumps([name, payload]))
        while (reply := await self.receive()) is not None:
            if reply.startswith(f"43{ack}["):
                return json.loads(reply[len(f"43{ack}") :])[0]
        raise ConnectionError("closed while waiting for an ack")

    async def closed(self, timeout: float = PATIENCE) -> None:
        """Wait until the server has closed it."""
        while await self.receive(timeout) is not None:
            pass


@asynccontextmanager
async def raw_socket(url: str) -> AsyncIterator[RawSocket]:
    """An open Engine.IO websocket, its OPEN packet read, in no namespace yet."""
    address = url.replace("http", "ws") + "/socket.io/?EIO=4&transport=websocket"
    async with aiohttp.ClientSession() as session, session.ws_connect(address) as ws:
        raw = RawSocket(ws)
        opening = await raw.receive()
        assert opening is not None
        assert opening[0] == "0"
        yield raw
