"""A Socket.IO client on a bare TCP protocol, so that the client is not what is measured.

Frames are masked with the key 0, which is valid and spares this side the work; the server
unmasks as always. With `deflate` it offers permessage-deflate, as browsers do.
"""

import asyncio
import socket
import zlib
from typing import Any
from urllib.parse import urlsplit

import orjson

_REQUEST = (
    "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {host}\r\n"
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{extensions}\r\n"
)
_DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
_TAIL = b"\x00\x00\xff\xff"
_TEXT, _CLOSE, _PING = 1, 8, 9


class LoadError(Exception):
    """The server did what it should not."""


def frame(payload: bytes, opcode: int = _TEXT) -> bytes:
    """A client's frame with the mask 0."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size))
    elif size < 65_536:
        head = bytes((0x80 | opcode, 0x80 | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 0x80 | 127)) + size.to_bytes(8, "big")
    return head + b"\0\0\0\0" + payload


def event(name: str, payload: Any, ack: int | None = None) -> bytes:
    """The frame of a Socket.IO event."""
    number = b"" if ack is None else b"%d" % ack
    return frame(b"42" + number + orjson.dumps([name, payload]))


class Client(asyncio.Protocol):
    """One websocket; subclasses take acks and events in `on_ack` and `on_event`."""

    receive_buffer = 0
    """In the kernel, bytes; 0 leaves it to the kernel, which may take many MB."""

    def __init__(self, token: str) -> None:
        loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport
        self.connected: asyncio.Future[None] = loop.create_future()
        self.gone: asyncio.Future[str] = loop.create_future()
        self.pings = 0
        self._token = token
        self._rest = b""
        self._upgraded = False
        self._inflate: Any = None

    async def open(self, url: str, deflate: bool = False) -> None:
        """Connect, do the handshakes, and present the token; returns in the namespace."""
        parts = urlsplit(url)
        raw = socket.socket()
        raw.setblocking(False)
        if self.receive_buffer:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(raw, (parts.hostname, parts.port))
        await loop.create_connection(lambda: self, sock=raw)
        request = _REQUEST.format(host=parts.netloc, extensions=_DEFLATE if deflate else "")
        self.transport.write(request.encode())
        await self.connected

    def on_ack(self, number: int, body: bytes) -> None:
        """`body` is the JSON array of the ack's arguments."""

    def on_event(self, body: bytes) -> None:
        """`body` is the JSON array with the event's name and payload."""

    # --- the protocol -------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(str(exc or "closed"))

    def _end(self, reason: str) -> None:
        if not self.gone.done():
            self.gone.set_result(reason)
        if not self.connected.done():
            self.connected.set_exception(LoadError(reason))

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        if not self._upgraded:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self._rest = head
                return
            self._on_response(head)
        at, have = 0, len(data)
        while have - at >= 2:
            size, start = data[at + 1], at + 2
            if size >= 126:
                wide = 2 if size == 126 else 8
                size = int.from_bytes(data[start : start + wide], "big")
                start += wide
            if have < start + size:
                break
            self._on_frame(data[at], data[start : start + size])
            at = start + size
        self._rest = data[at:]

    def _on_response(self, head: bytes) -> None:
        if not head.startswith(b"HTTP/1.1 101"):
            self.transport.abort()
            self._end(head.decode("latin-1")[:200])
        self._upgraded = True
        if b"permessage-deflate" in head:
            self._inflate = zlib.decompressobj(-15)

    def _on_frame(self, first: int, payload: bytes) -> None:
        if first & 0x40:
            payload = self._inflate.decompress(payload + _TAIL)
        kind = first & 0x0F
        if kind == _TEXT:
            self._on_text(payload)
        elif kind == _CLOSE:
            self._end(f"close frame {int.from_bytes(payload[:2], 'big')}")
        elif kind == _PING:
            self.transport.write(frame(payload, 10))

    def _on_text(self, payload: bytes) -> None:
        code = payload[:2]
        if code == b"42":
            self.on_event(payload[2:])
        elif code == b"43":
            at = payload.index(b"[")
            self.on_ack(int(payload[2:at]), payload[at:])
        elif payload == b"2":
            self.pings += 1
            self.transport.write(frame(b"3"))
        elif code == b"0{":
            self.transport.write(frame(b"40" + orjson.dumps({"token": self._token})))
        elif code == b"40" and not self.connected.done():
            self.connected.set_result(None)
        elif code == b"44":
            self._end(payload.decode())


class Joined(Client):
    """A device of a user, in the user's room once `open` has returned."""

    def __init__(self, token: str, device: str) -> None:
        super().__init__(token)
        self.device = device
        self._answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def open(self, url: str, deflate: bool = False) -> None:
        """Connect and join."""
        await super().open(url, deflate)
        self.transport.write(event("presence:join", {"deviceId": self.device}, 0))
        answer = await self._answer
        if not answer[0]["ok"]:
            raise LoadError(f"not joined: {answer}")

    def on_ack(self, number: int, body: bytes) -> None:
        if number == 0:
            self._answer.set_result(orjson.loads(body))
        else:
            self.on_answer(number, body)

    def on_answer(self, number: int, body: bytes) -> None:
        """The ack of anything but the join."""

    def _end(self, reason: str) -> None:
        super()._end(reason)
        if not self._answer.done():
            self._answer.set_exception(LoadError(reason))
            self._answer.exception()  # seen, if nobody asks
