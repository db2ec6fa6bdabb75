"""What long-polling carries: several packets in a body, several in an answer."""

import asyncio
import binascii
from typing import Any, Final

from aiohttp import web

from realtime.frames import ProtocolError

MAX_PACKETS_PER_POST: Final = 1024
MAX_PACKETS_PER_POLL: Final = 16  # more would be refused by Python's Engine.IO client


async def posted(request: web.Request, max_size: int) -> list[bytes] | None:
    """The packets of a POST, of `max_size` bytes at most; None when it is not as it should be."""
    try:
        body = await request.read()
    except Exception:  # too large, cut off, not what its headers say
        return None
    packets = body.split(b"\x1e")
    if len(body) > max_size or len(packets) > MAX_PACKETS_PER_POST:
        return None
    return packets


def attachment(packet: bytes) -> bytes:
    """The binary attachment in a packet that begins with `b`; raises ProtocolError."""
    try:
        return binascii.a2b_base64(packet[1:], strict_mode=True)
    except ValueError as error:
        raise ProtocolError from error


async def next_packets(queue: "asyncio.Queue[Any]", patience: float) -> list[Any]:
    """What waits for a poll, at least one; raises TimeoutError after `patience` seconds."""
    packets = [await asyncio.wait_for(queue.get(), patience)]
    while not queue.empty() and len(packets) < MAX_PACKETS_PER_POLL:
        packets.append(queue.get_nowait())
    return packets
