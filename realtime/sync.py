"""News of sync: that something was pushed, to the user's other devices."""

import orjson

from domain.times import iso
from realtime import protocol
from realtime.connection import encoded_event_frame
from realtime.rooms import Rooms


def pack(device_id: str, stamp: int) -> bytes:
    """The message between instances: `device json`."""
    return b"%b %b" % (device_id.encode(), orjson.dumps({"syncTimestamp": iso(stamp)}))


class SyncNews:
    """Takes news of pushes to the connections here."""

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
