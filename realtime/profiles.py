"""News of profiles: all of it to the user's own connections, its public part to who watches."""

from realtime import protocol
from realtime.connection import encoded_event_frame
from realtime.rooms import Rooms


def pack(own: bytes, public: bytes) -> bytes:
    """Both bodies in one message between instances: `length-of-own own public`."""
    return b"%d %b%b" % (len(own), own, public)


def unpack(packed: bytes) -> tuple[bytes, bytes]:
    """The two bodies of `pack`."""
    length, _, bodies = packed.partition(b" ")
    return bodies[: int(length)], bodies[int(length) :]


class Profiles:
    """Takes news of profiles to the connections here.

    A reader that is behind gets the newest version only. One that keeps up gets what comes, in
    the order in which it comes; an older version may come after a newer one.
    """

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    def deliver(self, user: str, version: int, own: bytes, public: bytes) -> None:
        """Send the JSON `own` to the user's connections here, `public` to other watchers."""
        room = self._rooms.room(user)
        members = room.members if room is not None else ()
        key = f"profile {user}"  # no id has a space in it
        if members:
            frame = encoded_event_frame(protocol.PROFILE_UPDATED, own)
            for member in members:
                member.socket.send_latest(key, frame, version)
        if watchers := self._rooms.watchers(user):
            frame = encoded_event_frame(protocol.PROFILE_UPDATED, public)
            for watcher in watchers:
                if watcher not in members:
                    watcher.socket.send_latest(key, frame, version)
