"""A person's account: who they are, and what others see of it."""

from dataclasses import dataclass, field
from typing import Any

from domain.emails import email_key
from domain.errors import AppError, Code, refuse_field
from domain.identity import Role
from domain.search import normalised, search_keys
from domain.times import iso
from domain.usernames import parse_username, username_key, username_looks

MAX_SUGGESTED = 40  # characters before the number


@dataclass(frozen=True, slots=True)
class Account:
    """One person; times in milliseconds.

    `updated_at` is the profile's clock for last write wins, 0 until it is first changed, so that
    what somebody wrote offline before they registered counts; `version` grows by one with every
    write and guards the next one. Without a password it is a guest, who may come back by
    `device_key`, or somebody known by tokens made elsewhere.
    """

    id: str
    username: str
    created_at: int
    updated_at: int = 0
    version: int = 1
    email: str | None = None
    name: str = ""
    bio: str = ""
    avatar: str = ""
    custom: dict[str, Any] = field(default_factory=dict)
    role: Role = Role.USER
    password_hash: str | None = None
    guest: bool = False
    device_key: str | None = None

    @property
    def username_key(self) -> str:
        """Equal for all ways to write the username."""
        return username_key(self.username)

    @property
    def username_looks(self) -> list[str]:
        """What the username looks like: no two people share one of these."""
        return username_looks(self.username)

    @property
    def email_key(self) -> str | None:
        """Equal for e-mail addresses that only one person may have."""
        return None if self.email is None else email_key(self.email)

    @property
    def search_keys(self) -> list[str]:
        """What they are found by; guests are not found."""
        return [] if self.guest else search_keys(self.username, self.name)

    def public(self) -> dict[str, Any]:
        """What anyone may see."""
        return {
            "id": self.id,
            "username": self.username,
            "name": self.name,
            "bio": self.bio,
            "avatar": self.avatar,
            "updatedAt": self.updated_at or self.created_at,
        }

    def whole(self) -> dict[str, Any]:
        """What the person sees of themselves."""
        return {
            **self.public(),
            "email": self.email,
            "custom": self.custom,
            "role": self.role.value,
            "guest": self.guest,
            "createdAt": iso(self.created_at),
        }

    def found(self) -> dict[str, Any]:
        """What a search shows."""
        return {
            "id": self.id,
            "username": self.username,
            "avatar": self.avatar,
            "bio": self.bio,
        }


def suggest_username(wanted: str, number: int) -> str:
    """A username that begins like `wanted` and ends with `number`, of at most six digits."""
    words = normalised(wanted).replace(" ", "_")[:MAX_SUGGESTED]
    try:
        return parse_username(f"{words or 'player'}_{number:06d}")
    except AppError:
        return f"player_{number:06d}"


_TAKEN = {
    "id": (Code.ID_TAKEN, "belongs to somebody already"),
    "deviceId": (Code.ID_TAKEN, "belongs to a guest already"),
    "username": (Code.USERNAME_TAKEN, "this one, or one that looks like it, is taken"),
    "email": (Code.EMAIL_TAKEN, "belongs to an account already: log in"),
}


def taken(field: str) -> AppError:
    """The refusal of an id, username or e-mail address that somebody has."""
    code, message = _TAKEN[field]
    return refuse_field(code, field, message)
