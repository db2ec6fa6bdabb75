"""The sync queue: what a client has left to be done, and when it is tried again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from domain.errors import AppError, Code, refuse_field
from domain.ids import parse_id
from domain.parsing import Id, Payload, checked
from domain.resources import given_id
from domain.times import iso

MAX_ATTEMPTS = 5
MOST_ATTEMPTS = 20
FIRST_RETRY = 5_000  # ms
LONGEST_RETRY = 80_000
MAX_BULK = 500
MAX_DEPTH = 64  # levels of an item's data


class Status(StrEnum):
    """Where an item is."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CONFLICT = "conflict"


ENDED = frozenset({Status.COMPLETED, Status.FAILED, Status.CONFLICT})


class Method(StrEnum):
    """What an item does to its target."""

    POST = "POST"
    PUT = "PUT"
    DELETE = "DELETE"


def _shallow(value: object) -> object:
    if value is None:
        return {}
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    if level:
        raise refuse_field(Code.INVALID_VALUE, "data", f"must be at most {MAX_DEPTH} levels deep")
    return value


class AddBody(Payload):
    """Body of `POST /api/sync/add`, and each of the items of a bulk."""

    endpoint: Annotated[str, Field(max_length=300)]
    method: Annotated[str, Field(max_length=10)]
    data: Annotated[dict[str, Any], checked(_shallow)] = Field(default_factory=dict)
    device_id: Id | None = None
    priority: Annotated[int, Field(ge=-1_000, le=1_000)] = 0
    max_attempts: Annotated[int, Field(ge=1, le=MOST_ATTEMPTS)] = MAX_ATTEMPTS
    operation_id: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    base_version: Annotated[int, Field(ge=0, le=2**53 - 1)] | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One item; times in milliseconds.

    `after` is the id of the item that has to be completed first, the one before it on the same
    document, which is `followed` then. `lease` is the mark of who is processing it, until
    `lease_until`. The background workers leave it alone until `worker_at`.
    """

    id: str
    user_id: str
    number: int
    endpoint: str
    path: str
    method: Method
    target_id: str
    data: Mapping[str, Any]
    created_at: int
    updated_at: int
    status: Status = Status.PENDING
    attempts: int = 0
    max_attempts: int = MAX_ATTEMPTS
    priority: int = 0
    device_id: str | None = None
    error: str | None = None
    response: Mapping[str, Any] | None = None
    retry_at: int = 0
    worker_at: int = 0
    after: str | None = None
    followed: bool = False
    base_version: int | None = None
    server: Mapping[str, Any] | None = None
    operation: str | None = None
    content: bytes = b""
    lease: str | None = None
    lease_until: int = 0

    @property
    def chain(self) -> str:
        """Equal for items about the same document: they are carried out in the order added."""
        return f"{self.path} {self.target_id}"

    def document(self) -> dict[str, Any]:
        """As its user gets it."""
        shown: dict[str, Any] = {
            "_id": self.id,
            "userId": self.user_id,
            "endpoint": self.endpoint,
            "method": self.method.value,
            "data": self.data,
            "status": self.status.value,
            "attempts": self.attempts,
            "maxAttempts": self.max_attempts,
            "error": self.error,
            "responseData": self.response,
            "deviceId": self.device_id,
            "priority": self.priority,
            "retryAt": iso(self.retry_at) if self.retry_at else None,
            "createdAt": iso(self.created_at),
            "updatedAt": iso(self.updated_at),
        }
        if self.server is not None:
            shown["server"] = self.server
        if self.base_version is not None:
            shown["baseVersion"] = self.base_version
        return shown


def retry_delay(attempts: int) -> int:
    """Milliseconds from the failure of attempt `attempts` to the next one.

    5, 10, 20, 40, then 80 s.
    """
    return int(min(FIRST_RETRY * 2 ** (attempts - 1), LONGEST_RETRY))


@dataclass(frozen=True, slots=True)
class Endpoints:
    """What the queue can do: methods by path."""

    methods: Mapping[str, frozenset[Method]] = field(default_factory=dict)

    def target(self, body: AddBody, item_id: str, user_id: str) -> tuple[str, Method, str]:
        """Path, method and document of an item; raises AppError that says what exists.

        A POST makes the document that its data name, else one with the item's id.
        """
        path, in_path = self._path(body.endpoint)
        method = self._method(path, body.method)
        try:
            in_data = given_id(body.data)
        except AppError as error:
            raise error.inside("data") from None
        if in_path is not None and in_data not in (None, in_path):
            raise refuse_field(Code.INVALID_ID, "data", "its id must be the endpoint's")
        if in_path is not None and method is Method.POST:
            raise refuse_field(Code.INVALID_VALUE, "endpoint", f"a POST is to {path} itself")
        doc_id = in_path or in_data
        if path == USERS and doc_id not in (None, user_id):
            raise AppError(Code.FORBIDDEN, f"{USERS}: only your own profile")
        if path == USERS:
            doc_id = user_id
        elif method is Method.POST:
            doc_id = doc_id or item_id
        if doc_id is None:
            raise refuse_field(
                Code.MISSING_FIELD, "data", "say which: an id in the endpoint, or as data._id"
            )
        return path, method, doc_id

    def _path(self, endpoint: str) -> tuple[str, str | None]:
        if endpoint in self.methods:
            return endpoint, None
        path, _, doc_id = endpoint.rpartition("/")
        if path in self.methods and doc_id:
            return path, parse_id(doc_id, "endpoint")
        known = ", ".join(
            f"{'/'.join(sorted(methods))} {path}" for path, methods in self.methods.items()
        )
        raise refuse_field(Code.INVALID_VALUE, "endpoint", f"there is none such; there are {known}")

    def _method(self, path: str, method: str) -> Method:
        allowed = self.methods[path]
        try:
            wanted = Method(method.upper())
        except ValueError:
            wanted = None
        if wanted is None or wanted not in allowed:
            names = ", ".join(sorted(allowed))
            raise refuse_field(Code.INVALID_VALUE, "method", f"{path} takes {names}")
        return wanted


USERS = "/api/users"
