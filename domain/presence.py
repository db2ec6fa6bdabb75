"""Who is there: what a user says of themselves, and what others see of it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from domain.times import iso

MAX_NOTE = 140


class Status(StrEnum):
    """A user's own word on their presence; `offline` makes them invisible."""

    ONLINE = "online"
    AWAY = "away"
    BUSY = "busy"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class Profile:
    """What is kept of a user's presence while they are away; times in milliseconds."""

    status: Status = Status.ONLINE
    note: str = ""
    last_seen: int = 0
    erased: bool = False

    def saying(self, status: Status, note: str, now: int) -> "Profile":
        """The profile after the user's own word; going invisible is their last being seen."""
        hides = status is Status.OFFLINE and self.status is not Status.OFFLINE
        return Profile(status, note, max(now, self.last_seen) if hides else self.last_seen)


@dataclass(frozen=True, slots=True)
class Attendance:
    """What the roster says: devices connected now, and whether watchers hold them present.

    `present` stays True through the grace in which a lost last device may come back.
    """

    devices: int = 0
    present: bool = False


ABSENT = Attendance()


def entry(user_id: str, profile: Profile, attendance: Attendance, now: int) -> dict[str, Any]:
    """One user's presence as watchers see it (`presence:update`, PROTOCOL section 1)."""
    hidden = profile.erased or profile.status is Status.OFFLINE
    online = attendance.present and not hidden
    seen = now if online else profile.last_seen
    shown: dict[str, Any] = {
        "userId": user_id,
        "online": online,
        "status": (profile.status if online else Status.OFFLINE).value,
        "lastSeen": iso(seen),
        "devices": attendance.devices if online else 0,
    }
    if online and profile.note:
        shown["note"] = profile.note
    return shown
