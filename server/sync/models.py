"""What the routes of sync take and answer."""

from typing import Annotated, Any

from pydantic import Field

from domain.parsing import Id, Payload, Query
from domain.sync.changes import ChangeBody
from server.endpoints import AnswerBody, Time

PAGE_MAX = 1_000
TOKEN_MAX = 1_024


class Push(Payload):
    """Body of `POST /api/sync`; without changes it only pulls."""

    device_id: Id | None = None
    last_sync_timestamp: Annotated[
        Any, Field(json_schema_extra={"anyOf": [{"type": ["string", "integer", "null"]}]})
    ] = None
    changes: Annotated[
        list[Any],
        Field(default_factory=list, json_schema_extra={"items": ChangeBody.model_json_schema()}),
    ]
    limit: Annotated[int, Field(ge=1, le=PAGE_MAX)] | None = None
    page_token: Annotated[str, Field(max_length=TOKEN_MAX)] | None = None
    epoch: Annotated[str, Field(max_length=64)] | None = None


class Initial(Query):
    """Query of `GET /api/sync/initial`."""

    limit: Annotated[int, Field(ge=1, le=PAGE_MAX)] | None = None
    page_token: Annotated[str, Field(max_length=TOKEN_MAX)] | None = None


class LogPage(Query):
    """Query of `GET /api/sync/log`."""

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str, Field(max_length=TOKEN_MAX)] | None = None


class Acknowledged(AnswerBody):
    """The answer to one change."""

    operation_id: str | None
    id: str | None
    success: bool
    duplicate: bool | None = None
    conflict: bool | None = None
    applied_timestamp: Time | None = None
    server: dict[str, Any] | None = None
    code: str | None = None
    message: str | None = None
    retryable: bool | None = None
    errors: list[dict[str, str]] | None = None


class SyncData(AnswerBody):
    """What has become of the changes, and what is new to the device."""

    acknowledged: list[Acknowledged]
    server_updates: Annotated[
        dict[str, list[dict[str, Any]]],
        Field(description="rows by the plural of their type: spaces, categories, items"),
    ]
    sync_timestamp: Annotated[
        Time | None, Field(description="the cursor for the next call; until the last page, the old")
    ]
    epoch: Annotated[str, Field(description="what tells this database from others")]
    has_more: bool | None = None
    page_token: str | None = None


class SyncAnswer(AnswerBody):
    """Answer of `POST /api/sync` and `GET /api/sync/initial`."""

    success: bool
    data: SyncData


class LoggedOperation(AnswerBody):
    """An operation that was carried out or has lost."""

    operation_id: str
    device_id: str
    entity_type: str
    entity_id: str
    operation: str
    timestamp: Time
    applied_timestamp: Time
    sync_timestamp: Time
    conflict: bool


class LogData(AnswerBody):
    """A page of the log."""

    operations: list[LoggedOperation]
    cursor: str | None


class LogAnswer(AnswerBody):
    """Answer of `GET /api/sync/log`."""

    success: bool
    data: LogData
