"""Which connections here get what about whom."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from realtime.connection import Connection


class Document(NamedTuple):
    """A stats document as JSON, and its `rev`."""

    rev: int
    body: bytes


@dataclass(slots=True)
class Room:
    """A user's joined connections here, and the newest `rev` that all of them were sent."""

    rev: int = 0
    members: set[Connection] = field(default_factory=set)
    joining: dict[Connection, Document | None] = field(default_factory=dict)
    """Members whose join is not answered yet, and the newest document that they missed."""


class Rooms:
    """The users' rooms and their watchers in this process.

    `want` is called when the first connection here takes an interest in a user, `unwant`
    after the last has lost it.
    """

    def __init__(self, want: Callable[[str], None], unwant: Callable[[str], None]) -> None:
        self._want = want
        self._unwant = unwant
        self._rooms: dict[str, Room] = {}
        self._watchers: dict[str, set[Connection]] = {}
        self._news: dict[str, int] = {}

    def enter(self, user: str, connection: Connection) -> Room:
        """Add a connection to the user's room; documents wait until `joined_now`."""
        self._note(user)
        room = self._rooms.setdefault(user, Room())
        room.members.add(connection)
        room.joining[connection] = None
        return room

    def joined_now(self, user: str, connection: Connection) -> Document | None:
        """The join is answered next: the document that came meanwhile, if any."""
        room = self._rooms.get(user)
        return room.joining.pop(connection, None) if room else None

    def leave(self, user: str, connection: Connection) -> None:
        """Take it out again. Harmless when it is not in."""
        room = self._rooms.get(user)
        if room is None:
            return
        room.members.discard(connection)
        room.joining.pop(connection, None)
        if not room.members:
            del self._rooms[user]
            self._forget(user)

    def watch(self, user: str, connection: Connection) -> None:
        """Let a connection follow a user."""
        self._note(user)
        self._watchers.setdefault(user, set()).add(connection)

    def unwatch(self, user: str, connection: Connection) -> None:
        """Let it follow no more. Harmless when it does not."""
        watchers = self._watchers.get(user)
        if watchers is None:
            return
        watchers.discard(connection)
        if not watchers:
            del self._watchers[user]
            self._news.pop(user, None)
            self._forget(user)

    def room(self, user: str) -> Room | None:
        """The user's room, if anybody is in it."""
        return self._rooms.get(user)

    def watchers(self, user: str) -> Collection[Connection]:
        """The connections that follow the user."""
        return self._watchers.get(user, ())

    def joined(self) -> list[str]:
        """The users with a room here."""
        return list(self._rooms)

    def watched(self) -> list[str]:
        """The users that somebody here follows."""
        return list(self._watchers)

    def members(self) -> int:
        """How many connections are in rooms."""
        return sum(len(room.members) for room in self._rooms.values())

    def noted(self, user: str) -> None:
        """There is news of a followed user: what was read before is old."""
        self._news[user] = self._news.get(user, 0) + 1

    def news(self, users: Iterable[str]) -> dict[str, int]:
        """How often there was news of each followed user so far."""
        return {user: self._news.get(user, 0) for user in users}

    def watches(self) -> int:
        """How many users are followed, each counted once per connection."""
        return sum(map(len, self._watchers.values()))

    def _note(self, user: str) -> None:
        if user not in self._rooms and user not in self._watchers:
            self._want(user)

    def _forget(self, user: str) -> None:
        if user not in self._rooms and user not in self._watchers:
            self._unwant(user)
