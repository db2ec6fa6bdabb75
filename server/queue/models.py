"""What the routes of the queue take and answer."""

from typing import Annotated, Any, Literal

from pydantic import Field

from domain.parsing import Payload, Query
from domain.queue import MAX_BULK, AddBody
from server.endpoints import AnswerBody, Time


class Bulk(Payload):
    """Body of `POST /api/sync/bulk`."""

    items: Annotated[list[AddBody], Field(min_length=1, max_length=MAX_BULK)]


class Resolve(Payload):
    """Body of `POST /api/sync/items/{id}/resolve`."""

    keep: Literal["mine", "server"]


class QueuePage(Query):
    """Query of the lists."""

    limit: Annotated[int, Field(ge=1, le=500)] = 100
    cursor: Annotated[int, Field(ge=0, le=2**62)] = 0


class ShownItem(AnswerBody):
    """An item of the queue."""

    id: Annotated[str, Field(alias="_id")]
    user_id: str
    endpoint: str
    method: str
    data: dict[str, Any]
    status: Literal["pending", "processing", "completed", "failed", "conflict"]
    attempts: int
    max_attempts: int
    error: str | None
    response_data: dict[str, Any] | None
    device_id: str | None
    priority: int
    retry_at: Time | None
    created_at: Time
    updated_at: Time
    server: dict[str, Any] | None = None
    base_version: int | None = None


class Added(AnswerBody):
    """Answer of `POST /api/sync/add`."""

    message: str
    sync_item: ShownItem


class AddedMany(AnswerBody):
    """Answer of `POST /api/sync/bulk`."""

    message: str
    count: int
    sync_items: list[ShownItem]


class Listed(AnswerBody):
    """Answer of the lists: `count` is of all, `cursor` where the next page begins."""

    message: str
    count: int
    syncs: list[ShownItem]
    cursor: int | None


class Processed(AnswerBody):
    """Answer of `POST /api/sync/process`."""

    message: str
    processed: int
    successful: int
    failed: int


class Cleared(AnswerBody):
    """Answer of `DELETE /api/sync/clear`."""

    message: str
    deleted_count: int


class Said(AnswerBody):
    """Answer of what has nothing else to say."""

    message: str
