"""What the routes of accounts take and answer."""

from typing import Annotated, Any

from pydantic import Field, RootModel, WithJsonSchema

from domain.ids import MAX_ID_LENGTH
from domain.parsing import Id, Payload, Query, checked
from domain.presence import MAX_NOTE
from domain.profiles import DisplayName, Email, Username
from domain.uuids import parse_uuid
from realtime.events import StatusName
from server.endpoints import AnswerBody, Time

MAX_LOGIN_NAME = 320
MAX_SHOWN_PASSWORD = 1_024  # to log in with: hashes from elsewhere may be of longer ones
PAGE_MAX = 100
SEARCH_MAX = 50

Uuid = Annotated[str, checked(parse_uuid), WithJsonSchema({"type": "string", "format": "uuid"})]
NewPassword = Annotated[
    str, WithJsonSchema({"type": "string", "maxLength": 128, "examples": ["secret123"]})
]
Password = Annotated[str, Field(max_length=MAX_SHOWN_PASSWORD)]
RefreshToken = Annotated[str, Field(max_length=256)]


# --- taken ---------------------------------------------------------------------------------


class Register(Payload):
    """Body of `POST /auth/register`."""

    username: Username
    email: Email
    password: NewPassword
    name: DisplayName = ""
    id: Uuid | None = None


class RegisterByName(Payload):
    """Body of `POST /api/auth/register`. Without a username one is found."""

    email: Email
    password: NewPassword
    name: DisplayName = ""
    username: Username | None = None
    id: Uuid | None = None


class LogIn(Payload):
    """Body of `POST /auth/login` and `POST /api/auth/login`: one of e-mail and username."""

    password: Password
    email: Annotated[str, Field(max_length=MAX_LOGIN_NAME)] | None = None
    username: Annotated[str, Field(max_length=MAX_LOGIN_NAME)] | None = None


class Refresh(Payload):
    """Body of `POST /api/auth/refresh`."""

    refresh_token: RefreshToken


class LogOut(Payload):
    """Body of `POST /api/auth/logout`: the session's refresh token, unless a token comes along."""

    refresh_token: RefreshToken | None = None


class ChangePassword(Payload):
    """Body of `POST /api/auth/password`."""

    current_password: Password
    new_password: NewPassword


class Guest(Payload):
    """Body of `POST /api/auth/guest`.

    A deviceId of 16 characters or more, best a random UUID, brings the same guest back.
    """

    device_id: Annotated[Id, Field(max_length=MAX_ID_LENGTH)]


class SetStatus(Payload):
    """Body of `POST /users/{id}/status`."""

    status: StatusName
    note: Annotated[str, Field(max_length=MAX_NOTE)] | None = None


class Page(Query):
    """Query of `GET /users`."""

    limit: Annotated[int, Field(ge=1, le=PAGE_MAX)] = 50
    cursor: Annotated[str, Field(max_length=512)] | None = None


class Search(Query):
    """Query of `GET /users/search`."""

    q: str
    limit: Annotated[int, Field(ge=1, le=SEARCH_MAX)] = SEARCH_MAX


# --- answered ------------------------------------------------------------------------------


class FoundUser(AnswerBody):
    """What a search shows of somebody."""

    id: str
    username: str
    avatar: str
    bio: str
    is_online: bool


class PublicProfile(FoundUser):
    """What anybody may see of somebody."""

    name: str
    updated_at: Annotated[int, Field(description="milliseconds since 1970")]
    status: str
    last_seen: Time | None


class WholeProfile(PublicProfile):
    """What people see of themselves."""

    email: str | None
    custom: dict[str, Any]
    role: str
    guest: bool
    created_at: Time


class Profile(RootModel[WholeProfile | PublicProfile]):
    """Whole for oneself, public for others."""


class PublicProfiles(RootModel[list[PublicProfile]]):
    """A page of people."""


class FoundUsers(RootModel[list[FoundUser]]):
    """Who was found."""


class Tokens(AnswerBody):
    """What a client needs after a login."""

    token: Annotated[str, Field(description="for Authorization: Bearer, and for sockets")]
    refresh_token: Annotated[str, Field(description="good once, for /api/auth/refresh")]
    expires_at: Annotated[Time, Field(description="when the token runs out")]


class Account(AnswerBody):
    """One's own account, without presence."""

    id: str
    username: str
    name: str
    bio: str
    avatar: str
    updated_at: Annotated[int, Field(description="milliseconds since 1970")]
    email: str | None
    custom: dict[str, Any]
    role: str
    guest: bool
    created_at: Time


class LoggedInUser(Account, Tokens):
    """One's own account with the tokens beside its fields."""


class LoggedInData(Tokens):
    """The account and the tokens."""

    user: Account


class LoggedInAnswer(AnswerBody):
    """Answer of the logins under `/api/auth`."""

    success: bool
    data: LoggedInData


class MeData(AnswerBody):
    """The account of the one who asks."""

    user: Account


class MeAnswer(AnswerBody):
    """Answer of `GET /api/auth/me`."""

    success: bool
    data: MeData


class ErasedData(AnswerBody):
    """Nothing is left to tell."""


class ErasedAnswer(AnswerBody):
    """Answer of an erasure."""

    success: bool
    data: ErasedData


class EndedData(AnswerBody):
    """How many sessions have ended."""

    sessions: int


class EndedAnswer(AnswerBody):
    """Answer of what ends sessions."""

    success: bool
    data: EndedData


class StatusAnswer(AnswerBody):
    """How a user stands now."""

    id: str
    is_online: bool
    status: str
    note: str | None = None
    last_seen: Time | None
