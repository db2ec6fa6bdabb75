"""Profiles: what people say of themselves, and which of two changes wins."""

import re
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import Field, WithJsonSchema

from domain.accounts import Account
from domain.emails import email_key, parse_email
from domain.errors import Code, refuse_field
from domain.openjson import check_json_object
from domain.parsing import Id, Payload, checked, parse
from domain.texts import parse_text
from domain.times import parse_time
from domain.usernames import parse_username

MAX_NAME = 100
MAX_BIO = 1_000
MAX_AVATAR = 2_048
CUSTOM_BYTES = 8 * 1024
CUSTOM_DEPTH = 6

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_SAFE_SCHEMES = ("http:", "https:")


def _name(value: object) -> str:
    return parse_text("name", value, MAX_NAME)


def _bio(value: object) -> str:
    return parse_text("bio", value, MAX_BIO, multiline=True)


def _avatar(value: object) -> str:
    text = parse_text("avatar", value, MAX_AVATAR)
    if (scheme := _SCHEME.match(text)) and scheme[0].lower() not in _SAFE_SCHEMES:
        raise refuse_field(Code.INVALID_VALUE, "avatar", "must be an http or https address")
    return text


def _custom(value: object) -> dict[str, Any]:
    given = {} if value is None else value
    return check_json_object("custom", given, CUSTOM_BYTES, CUSTOM_DEPTH)


def _text_or_null(most: int) -> WithJsonSchema:
    return WithJsonSchema({"type": ["string", "null"], "maxLength": most})


Username = Annotated[
    str,
    checked(parse_username),
    WithJsonSchema({"type": "string", "minLength": 2, "maxLength": 64, "examples": ["ada"]}),
]
Email = Annotated[
    str,
    checked(parse_email),
    WithJsonSchema(
        {"type": "string", "format": "email", "maxLength": 254, "examples": ["ada@example.com"]}
    ),
]
DisplayName = Annotated[str, checked(_name), _text_or_null(MAX_NAME)]
Bio = Annotated[str, checked(_bio), _text_or_null(MAX_BIO)]
Avatar = Annotated[str, checked(_avatar), _text_or_null(MAX_AVATAR)]
Custom = Annotated[dict[str, Any], checked(_custom), WithJsonSchema({"type": ["object", "null"]})]
Time = Annotated[
    int,
    checked(parse_time),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string", "format": "date-time"}]}),
]


class ProfileBody(Payload):
    """Absent fields stay, null empties one. Last write wins by `updatedAt`, when it is given.

    `id` and `email` may come along unchanged.
    """

    id: Id | None = None
    username: Username = Field(default_factory=str)  # a default would show in the schema
    email: Email | None = None
    name: DisplayName = ""
    bio: Bio = ""
    avatar: Avatar = ""
    custom: Custom = Field(default_factory=dict)
    updated_at: Time | None = None


PROFILE_FIELDS = ("username", "name", "bio", "avatar", "custom")


@dataclass(frozen=True, slots=True)
class ProfileChange:
    """New values of some fields, and when they were made (ms; None: now)."""

    values: dict[str, Any]
    email: str | None = None
    """The e-mail address that the client believes to be the account's."""
    at: int | None = None


def parse_profile(user_id: str, payload: object) -> ProfileChange:
    """A change of `user_id`'s profile; raises AppError naming the field."""
    body = parse(ProfileBody, payload)
    if body.id not in (None, user_id):
        raise refuse_field(Code.INVALID_VALUE, "id", "must be the id in the path")
    given = body.model_fields_set.intersection(PROFILE_FIELDS)
    return ProfileChange({name: getattr(body, name) for name in given}, body.email, body.updated_at)


def change(account: Account, wish: ProfileChange, now: int) -> Account:
    """The account after `wish`, or `account` itself when that is outdated or changes nothing.

    Last write wins by `wish.at`, which counts as now when it is ahead. Raises AppError when
    the e-mail address differs.
    """
    _check_email(account, wish)
    at = now if wish.at is None else min(wish.at, now)
    if wish.at is not None and at < account.updated_at:
        return account
    changed = any(getattr(account, name) != value for name, value in wish.values.items())
    if not changed and (wish.at is None or at <= account.updated_at):
        return account
    return replace(
        account,
        **wish.values,
        updated_at=max(at, account.updated_at),
        version=account.version + 1,
    )


def _check_email(account: Account, wish: ProfileChange) -> None:
    if wish.email is not None and email_key(wish.email) != account.email_key:
        raise refuse_field(Code.INVALID_VALUE, "email", "cannot be changed here")
