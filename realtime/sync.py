"""News of sync and of the sync queue to a user's devices."""

import orjson

from domain.times import iso
from realtime import protocol
from realtime.connection import encoded_event_frame
from realtime.rooms import Rooms


def pack(device_id: str, stamp: int) -> bytes:
    """The message between instances: `device json`."""
    return b"%b %b" % (device_id.encode(), orjson.dumps({"syncTimestamp": iso(stamp)}))


class SyncNews:
    """Takes news of pushes, and of ended items of the queue, to the connections here."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    def deliver(self, user: str, stamp: int, packed: bytes) -> None:
        """Send `sync:changed` to the user's connections here, the pushing device's aside."""
        room = self._rooms.room(user)
        if room is None:
            return
        device, _, body = packed.partition(b" ")
        pushed_by = device.decode()
        frame = encoded_event_frame(protocol.SYNC_CHANGED, body)
        for member in room.members:
            if not pushed_by or member.device_id != pushed_by:
                member.socket.send_latest(f"sync {user}", frame, stamp)

    def deliver_item(self, user: str, body: bytes) -> None:
        """Send `sync:item` to all of the user's connections here."""
        room = self._rooms.room(user)
        if room is None:
            return
        frame = encoded_event_frame(protocol.SYNC_ITEM, body)
        for member in room.members:
            member.socket.send_text(frame)
