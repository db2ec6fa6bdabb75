"""What can go wrong, in words that both doors (HTTP and sockets) translate."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple


class Code(StrEnum):
    """Every error code that a client can see."""

    INVALID_JSON = "invalid_json"
    INVALID_TYPE = "invalid_type"
    INVALID_VALUE = "invalid_value"
    INVALID_ID = "invalid_id"
    UNKNOWN_FIELD = "unknown_field"
    MISSING_FIELD = "missing_field"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    UNKNOWN_EVENT = "unknown_event"
    NOT_JOINED = "not_joined"
    MISSING_TOKEN = "missing_token"  # noqa: S105 - a code, not a secret
    INVALID_TOKEN = "invalid_token"  # noqa: S105
    TOKEN_EXPIRED = "token_expired"  # noqa: S105
    TOKEN_IN_QUERY = "token_in_query"  # noqa: S105
    INVALID_CREDENTIALS = "invalid_credentials"
    REQUEST_TIMEOUT = "request_timeout"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    BAD_REQUEST = "bad_request"
    CONFLICT = "conflict"
    ID_TAKEN = "id_taken"
    USERNAME_TAKEN = "username_taken"
    EMAIL_TAKEN = "email_taken"
    OP_ID_REUSED = "op_id_reused"
    OPERATION_ID_REUSED = "operation_id_reused"
    ENTITY_MISSING = "entity_missing"
    PARENT_MISSING = "parent_missing"
    ENTITY_LIMIT = "entity_limit"
    FULL_SYNC_REQUIRED = "full_sync_required"
    QUEUE_FULL = "queue_full"
    ITEM_BUSY = "item_busy"
    DEVICE_LIMIT = "device_limit"
    SOCKET_LIMIT = "socket_limit"
    WATCH_LIMIT = "watch_limit"
    ERASED = "erased"
    PRECONDITION_FAILED = "precondition_failed"
    RATE_LIMITED = "rate_limited"
    TOO_MANY_IN_FLIGHT = "too_many_in_flight"
    OVERLOADED = "overloaded"
    DRAINING = "draining"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


RETRYABLE = frozenset(
    {
        Code.ENTITY_MISSING,
        Code.PARENT_MISSING,
        Code.CONFLICT,
        Code.RATE_LIMITED,
        Code.TOO_MANY_IN_FLIGHT,
        Code.OVERLOADED,
        Code.DRAINING,
        Code.UNAVAILABLE,
    }
)


class FieldError(NamedTuple):
    """One field that was refused: `pointer` is a JSON Pointer (RFC 6901)."""

    pointer: str
    message: str


class AppError(Exception):
    """A refusal with a code and a message that says what to do next.

    Nothing has been changed when it is raised, except with `unavailable`, where the
    outcome is unknown and the same `opId` may be sent again.
    """

    def __init__(
        self,
        code: Code,
        message: str,
        fields: Sequence[FieldError] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.fields = tuple(fields)
        self.retry_after = retry_after

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later, unchanged."""
        return self.code in RETRYABLE

    def inside(self, *names: str) -> "AppError":
        """The same refusal, of a field that is inside another."""
        prefix = "".join("/" + _escaped(name) for name in names)
        fields = [FieldError(prefix + field.pointer, field.message) for field in self.fields]
        return AppError(self.code, f"{'.'.join(names)}.{self.message}", fields, self.retry_after)

    def as_ack(self) -> dict[str, Any]:
        """The error object of a Socket.IO ack (PROTOCOL, section 0)."""
        error: dict[str, Any] = {
            "code": self.code.value,
            "message": self.message,
            "retryable": self.retryable,
        }
        if self.fields:
            error["fields"] = [field._asdict() for field in self.fields]
        if self.retry_after is not None:
            error["retryAfter"] = self.retry_after
        return {"ok": False, "error": error}


def pointer(*names: str | int) -> str:
    """The JSON Pointer (RFC 6901) of a place, each name cut to 64 characters."""
    return "".join("/" + _escaped(str(name)[:64]) for name in names)


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def refuse_field(code: Code, name: str, message: str) -> AppError:
    """An AppError about the one field `name`."""
    return AppError(code, f"{name[:64]}: {message}", [FieldError(pointer(name), message)])


def erased() -> AppError:
    """The refusal of whatever would show an erased person or bring them back."""
    return AppError(Code.ERASED, "This person was erased and does not come back")
