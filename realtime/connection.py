"""One client in namespace `/`: who it is, what it joined, and how it is answered."""

from collections import deque
from typing import Any

import orjson

from domain.bucket import TokenBucket
from domain.errors import AppError
from domain.identity import Identity
from realtime import protocol
from realtime.transport import Socket
from realtime.wheel import Timer


def event_frame(name: str, payload: object) -> bytes:
    """An Engine.IO message with the event `name`, ready to be sent to many."""
    return b"42" + orjson.dumps([name, payload])


def encoded_event_frame(name: str, body: bytes) -> bytes:
    """Likewise, for a payload that is JSON already."""
    return b'42["' + name.encode() + b'",' + body + b"]"


def ack_frame(ack: int, body: bytes) -> bytes:
    """The answer to the event that asked for ack `ack`; `body` is JSON."""
    return b"43%d[%b]" % (ack, body)


Parts = tuple[bytes, ...]
"""A frame to be put together when it is sent: the answers of one commit share their document."""


NOBODY: frozenset[str] = frozenset()  # one for all: an empty one takes 216 bytes too


class Slot:
    """An answer that keeps its place in a connection's line until it is known."""

    __slots__ = ("parts",)

    def __init__(self) -> None:
        self.parts: Parts | None = None


class Connection:
    """One Socket.IO session of a verified user."""

    __slots__ = (
        "_line",
        "bucket",
        "closed",
        "device_id",
        "expired",
        "expiry",
        "identity",
        "joined_as",
        "sid",
        "socket",
        "watched",
    )

    def __init__(self, sid: str, socket: Socket, identity: Identity, bucket: TokenBucket) -> None:
        self.sid = sid
        self.socket = socket
        self.identity = identity
        self.bucket = bucket
        self.joined_as: str | None = None
        self.device_id = ""
        self.watched = NOBODY
        self.expired = False
        self.expiry = Timer(None)
        self.closed = False
        self._line: deque[Slot] | None = None

    def emit(self, name: str, payload: object) -> None:
        """Send one event to this client."""
        self.socket.send_text(event_frame(name, payload))

    def answer(self, ack: int | None, body: dict[str, Any]) -> None:
        """Ack with `body`, if the client asked for it."""
        if ack is not None:
            self.socket.send_text(ack_frame(ack, orjson.dumps(body)))

    def refuse(self, ack: int | None, error: AppError) -> None:
        """Tell of an error: as the ack, or as event `error` when none was asked for."""
        self.socket.send_text(self.refusal(ack, error))

    def refusal(self, ack: int | None, error: AppError) -> bytes:
        """The frame that tells of an error."""
        if ack is None:
            return event_frame(protocol.ERROR, error.as_ack())
        return ack_frame(ack, orjson.dumps(error.as_ack()))

    # A connection's stats events are acked in the order sent, refused ones included.

    def in_flight(self) -> int:
        """Stats events whose answer is still to come."""
        return len(self._line) if self._line else 0

    def reserve(self) -> Slot:
        """A place in the line of answers."""
        if self._line is None:
            self._line = deque()
        slot = Slot()
        self._line.append(slot)
        return slot

    def settle(self, slot: Slot, *parts: bytes) -> None:
        """Fill a place (with nothing: no answer was asked for) and send what is next in line."""
        slot.parts = parts
        self.caught_up()

    def caught_up(self) -> None:
        """Send the answers that are next in line, for as long as the reader takes them.

        One commit may answer 128 changes with 27 KB each: at once that would look like a
        reader who does not read.
        """
        line = self._line
        while line and line[0].parts is not None and self.socket.writable:
            if parts := line.popleft().parts:
                self.socket.send_text(b"".join(parts))
