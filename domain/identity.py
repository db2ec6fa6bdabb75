"""Who is asking, as their token says."""

from dataclasses import dataclass
from enum import StrEnum

from domain.errors import AppError, Code


class Role(StrEnum):
    """What a token allows; an unknown role counts as `user`."""

    USER = "user"
    SERVICE = "service"
    ADMIN = "admin"

    @classmethod
    def of(cls, claim: object) -> "Role":
        """The role of a `role` claim."""
        return cls(claim) if claim in (cls.SERVICE.value, cls.ADMIN.value) else cls.USER


@dataclass(frozen=True, slots=True)
class Identity:
    """A verified token: its user, role, and end (seconds since 1970)."""

    user_id: str
    role: Role
    expires_at: float

    def acting_for(self, user_id: str | None) -> str:
        """The user acted on: oneself, or anyone for `service` and `admin`.

        Raises AppError `forbidden`.
        """
        if user_id is None or user_id == self.user_id:
            return self.user_id
        if self.role is Role.USER:
            raise AppError(Code.FORBIDDEN, "This token acts for its own user only")
        return user_id
