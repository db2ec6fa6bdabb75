"""What the routes of resources take and answer."""

from typing import Annotated

from pydantic import ConfigDict, Field

from domain.parsing import Query
from server.endpoints import AnswerBody


class PageQuery(Query):
    """Query of a list."""

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str, Field(max_length=128)] | None = None


class DocumentPage(AnswerBody):
    """A page of documents, under the name of their kind; `count` and `total` are of all."""

    model_config = ConfigDict(extra="allow")

    count: int
    total: Annotated[float, Field(description="the exact sum of all amounts")]
    cursor: str | None
