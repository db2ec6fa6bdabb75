"""Packets as bytes: the parts of Engine.IO 4, Socket.IO 5 and RFC 6455 that we read and write."""

import json
from typing import Any, NamedTuple

import orjson
from engineio.exceptions import EngineIOError
from socketio import packet as sio

MAX_ACK_DIGITS = 16
MAX_ATTACHMENTS = 16
UNREADABLE = object()
"""Stands for a payload that is JSON by its form only."""


class ProtocolError(EngineIOError):
    """The client sent what is not Engine.IO or Socket.IO: its connection ends."""


class Event(NamedTuple):
    """One Socket.IO event of a client: its name, its arguments, and the ack it asked for."""

    name: str
    args: list[Any]
    ack: int | None


class Json:
    """orjson under the names that python-socketio calls; refuses NaN and infinities."""

    @staticmethod
    def dumps(value: object, separators: object = None) -> str:
        """`value` as compact JSON text."""
        return orjson.dumps(value).decode()

    @staticmethod
    def loads(text: str | bytes) -> Any:
        """The value of a JSON text."""
        return orjson.loads(text)


class Packet(sio.Packet):
    """A Socket.IO packet that reads and writes JSON with orjson."""

    json = Json


def parse_event(data: bytes) -> Event | None:
    """The event in a text packet for namespace `/`, or None if it is another packet.

    Raises ProtocolError for what claims to be one and is not.
    """
    if data[:1] != b"2" or data[1:2] == b"/":
        return None
    at = data.find(b"[", 1)
    digits = data[1:at]
    if at < 0 or len(digits) > MAX_ACK_DIGITS or (digits and not digits.isdigit()):
        raise ProtocolError
    ack = int(digits) if digits else None
    try:
        return checked_event(orjson.loads(data[at:]), ack)
    except ValueError:
        return _unreadable(data[at:], ack)


def _unreadable(text: bytes, ack: int | None) -> Event:
    """The event of JSON that orjson refuses and JavaScript writes: half a surrogate pair, say.

    Its payload is UNREADABLE: it gets a refusal, and the connection lives.
    """
    try:
        event = checked_event(json.loads(text), ack)
    except (ValueError, RecursionError) as error:
        raise ProtocolError from error
    return Event(event.name.encode("utf-8", "replace").decode(), [UNREADABLE], ack)


def attachments_due(data: bytes) -> int:
    """How many binary frames must follow this text packet; raises ProtocolError for too many."""
    if data[:1] not in (b"5", b"6"):
        return 0
    digits, dash, _ = data[1:].partition(b"-")
    if not dash or not digits.isdigit() or len(digits) > 2 or int(digits) > MAX_ATTACHMENTS:
        raise ProtocolError
    return int(digits)


def checked_event(args: Any, ack: int | None) -> Event:
    """An Event from a decoded packet; raises ProtocolError for reserved or missing names."""
    if not isinstance(args, list) or not args or not isinstance(args[0], str):
        raise ProtocolError
    if args[0] in ("connect", "disconnect", "connect_error"):
        raise ProtocolError
    return Event(args[0], args[1:], ack)


def make_frame(opcode: int, payload: bytes) -> bytes:
    """One unmasked, unfragmented server frame (RFC 6455, section 5.2)."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, size))
    elif size < 65_536:
        head = bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 127)) + size.to_bytes(8, "big")
    return head + payload
