"""A websocket on a bare TCP connection: any bytes out, frames in, and no reading unless asked."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self
from urllib.parse import urlsplit

from tests.clients_py import PATIENCE
from tests.tokens import token

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def frame(
    payload: bytes | str,
    opcode: int = TEXT,
    *,
    final: bool = True,
    reserved: int = 0,
    masked: bool = True,
) -> bytes:
    """One client frame (RFC 6455, section 5.2), wrong ones included."""
    payload = payload.encode() if isinstance(payload, str) else payload
    head = bytes([(0x80 if final else 0) | reserved << 4 | opcode])
    bit, size = (0x80 if masked else 0), len(payload)
    if size < 126:
        head += bytes([bit | size])
    elif size < 65_536:
        head += bytes([bit | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([bit | 127]) + size.to_bytes(8, "big")
    if not masked:
        return head + payload
    mask = os.urandom(4)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return head + mask + (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")


class Wire:
    """One websocket of a client that decides about every byte."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self.close_code: int | None = None
        """What the server's close frame said."""

    async def send(self, data: bytes | str) -> None:
        """Send bytes as they are, or a text as one good frame."""
        await self._loop.sock_sendall(self._sock, frame(data) if isinstance(data, str) else data)

    async def event(self, name: str, payload: Any, ack: int | str = "") -> None:
        """Send an event."""
        await self.send(f"42{ack}" + json.dumps([name, payload]))

    async def receive(self, timeout: float = PATIENCE) -> str | None:
        """The next text frame, Engine.IO pings answered on the way; None when it has ended."""
        async with asyncio.timeout(timeout):
            while (found := await self._frame()) is not None:
                opcode, payload = found
                if opcode == TEXT and payload == b"2":
                    await self.send("3")
                elif opcode == TEXT:
                    return payload.decode()
                elif opcode == CLOSE:
                    self.close_code = int.from_bytes(payload[:2], "big")
        return None

    async def ended(self, timeout: float = PATIENCE) -> list[str]:
        """Wait until the server has ended the connection; the texts that came before."""
        texts = []
        while (text := await self.receive(timeout)) is not None:
            texts.append(text)
        return texts

    async def connect(self, user: str = "ada") -> Self:
        """CONNECT to namespace `/`."""
        await self.send("40" + json.dumps({"token": token(user)}))
        reply = await self.receive()
        assert reply is not None
        assert reply.startswith("40"), reply
        return self

    async def answer(self, ack: int) -> Any:
        """The ack with that number; other frames are dropped."""
        while (text := await self.receive()) is not None:
            if text.startswith(f"43{ack}["):
                return json.loads(text[len(f"43{ack}") :])[0]
        raise ConnectionError("ended while waiting for an ack")

    async def call(self, ack: int, name: str, payload: Any) -> Any:
        """Send an event and wait for its ack."""
        await self.event(name, payload, ack)
        return await self.answer(ack)

    async def join(self, user: str = "ada", **payload: Any) -> Self:
        """CONNECT and `presence:join`."""
        await self.connect(user)
        answer = await self.call(0, "presence:join", payload)
        assert answer["ok"], answer
        return self

    def leave(self) -> None:
        """Go away as a client does whose process is killed."""
        self._sock.close()

    async def _frame(self) -> tuple[int, bytes] | None:
        try:
            head = await self._take(2)
            size = head[1] & 0x7F
            if size == 126:
                size = int.from_bytes(await self._take(2), "big")
            elif size == 127:
                size = int.from_bytes(await self._take(8), "big")
            return head[0] & 0x0F, await self._take(size)
        except ConnectionError:
            return None

    async def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            data = await self._loop.sock_recv(self._sock, 65_536)
            if not data:
                raise ConnectionError("the server has ended it")
            self._buffer += data
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken


@asynccontextmanager
async def wire(
    url: str,
    query: str = "EIO=4&transport=websocket",
    *,
    path: str = "/socket.io/",
    receive_buffer: int | None = None,
) -> AsyncIterator[Wire]:
    """An open Engine.IO websocket, its OPEN packet read (none for an upgrade: `sid` in `query`)."""
    address = urlsplit(url)
    sock = socket.socket()
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setblocking(False)
    with sock:
        await asyncio.get_running_loop().sock_connect(sock, (address.hostname, address.port))
        made = Wire(sock)
        await made.send(
            f"GET {path}?{query} HTTP/1.1\r\nHost: {address.netloc}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await made._take(1)
        assert head.startswith(b"HTTP/1.1 101"), head
        if "sid=" not in query:
            opening = await made.receive()
            assert opening is not None
            assert opening.startswith("0{")
        yield made
