"""Who is asking, as their token says."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from domain.errors import AppError, Code

QUERY_NAMES = frozenset({"token", "access_token", "jwt", "auth", "authorization"})


def refuse_query_token(names: Iterable[str]) -> None:
    """Raise AppError `token_in_query` if a query's parameter names say that it has a token."""
    if any(name.lower() in QUERY_NAMES for name in names):
        raise AppError(
            Code.TOKEN_IN_QUERY,
            "A token in a query string ends up in logs: send it as auth: {token} over a socket, "
            "as Authorization: Bearer over REST",
        )


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
    """A verified token: its user, role, end (seconds since 1970), and session if it has one."""

    user_id: str
    role: Role
    expires_at: float
    session_id: str | None = None

    def acting_for(self, user_id: str | None) -> str:
        """The user acted on: oneself, or anyone for `service` and `admin`.

        Raises AppError `forbidden`.
        """
        if not self.may_act_for(user_id):
            raise AppError(Code.FORBIDDEN, "This token acts for its own user only")
        return self.user_id if user_id is None else user_id

    def may_act_for(self, user_id: str | None) -> bool:
        """Whether this token acts for `user_id` (None: for oneself)."""
        return user_id in (None, self.user_id) or self.role is not Role.USER
