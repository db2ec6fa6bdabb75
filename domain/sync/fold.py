"""What a push comes to: each change's acknowledgement, and what has to be stored."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from domain.errors import RETRYABLE, AppError, Code
from domain.sync.changes import Change, Operation, OpKey
from domain.sync.entities import EntityTypes, Key, Row
from domain.times import iso


@dataclass(frozen=True, slots=True)
class Logged:
    """An operation that was carried out, or lost against a newer row; times in milliseconds."""

    device_id: str
    operation_id: str
    type: str
    id: str
    operation: str
    timestamp: int
    applied_at: int
    """The clock that it counted with: its timestamp, or the server's when that was ahead."""
    stamp: int
    content: bytes
    conflict: bool = False

    @property
    def op_key(self) -> OpKey:
        """What counts once."""
        return self.device_id, self.operation_id, self.type, self.id


@dataclass(frozen=True, slots=True)
class Ack:
    """The answer to one change; `server` is the row that stands when it is not the client's."""

    operation_id: str | None
    id: str | None
    success: bool = True
    duplicate: bool = False
    conflict: bool = False
    applied_at: int | None = None
    server: Row | None = None
    error: AppError | None = None

    def document(self, user_id: str) -> dict[str, Any]:
        """As clients get it."""
        shown: dict[str, Any] = {
            "operationId": self.operation_id,
            "id": self.id,
            "success": self.success,
        }
        if self.duplicate:
            shown["duplicate"] = True
        if self.conflict:
            shown["conflict"] = True
        if self.applied_at is not None:
            shown["appliedTimestamp"] = iso(self.applied_at)
        if self.server is not None:
            shown["server"] = self.server.document(user_id)
        if self.error is not None:
            shown["code"] = self.error.code.value
            shown["message"] = self.error.message
            shown["retryable"] = self.error.code in RETRYABLE
            if self.error.fields:
                shown["errors"] = [fault._asdict() for fault in self.error.fields]
        return shown


@dataclass(slots=True)
class Fold:
    """A user's rows and operations as far as a push concerns them, and what becomes of them.

    `rows` and `ops` are what is stored; `written` and `logged` are to be stored in their place,
    with the stamp of this push.
    """

    types: EntityTypes
    rows: dict[Key, Row]
    ops: dict[OpKey, Logged]
    stamp: int
    now: int
    room: int
    """How many more entities the user may have."""
    written: dict[Key, Row] = field(default_factory=dict)
    logged: list[Logged] = field(default_factory=list)
    lost: set[Key] = field(default_factory=set)
    """Rows that the device has otherwise: a change has lost, or one it repeats is not the last."""

    def run(self, changes: Iterable[Change | Ack]) -> list[Ack]:
        """Acknowledge each change, in their order; what is an Ack already stays."""
        return [one if isinstance(one, Ack) else self._one(one) for one in changes]

    def _one(self, change: Change) -> Ack:
        done = self.ops.get(change.op_key)
        try:
            if done is not None:
                return self._again(change, done)
            return self._apply(change)
        except AppError as error:
            return Ack(change.operation_id, change.id, success=False, error=error)

    def _again(self, change: Change, done: Logged) -> Ack:
        if done.content != change.content:
            raise AppError(
                Code.OPERATION_ID_REUSED, "This operationId was used for another change of it"
            )
        row = self.rows.get(change.key)  # none: a tombstone that has gone since
        if row is not None and (done.conflict or row.stamp != done.stamp or not row.exact):
            self.lost.add(change.key)
        return Ack(
            change.operation_id,
            change.id,
            duplicate=True,
            conflict=done.conflict,
            applied_at=done.applied_at,
            server=row if done.conflict else None,
        )

    def _apply(self, change: Change) -> Ack:
        stored = self.rows.get(change.key)
        if stored is None and change.operation is Operation.UPDATE:
            raise AppError(
                Code.ENTITY_MISSING, "What it updates has not arrived yet: send its create first"
            )
        if stored is None and self.room <= 0:
            raise AppError(Code.ENTITY_LIMIT, "There is no room for more entities of this user")
        self._check_parents(change)
        wished = self._wished(change, stored)
        merge = self.types[change.type].merge
        row = wished if stored is None else merge(stored, wished)
        self._log(change, wished, conflict=row is None)
        if row is None:
            self.lost.add(change.key)
            return Ack(
                change.operation_id,
                change.id,
                conflict=True,
                applied_at=wished.updated_at,
                server=stored,
            )
        if stored is None:
            self.room -= 1
        else:
            row = self._merged(row, wished, {**stored.data, **change.data})
        self.rows[change.key] = self.written[change.key] = row
        return Ack(change.operation_id, change.id, applied_at=row.updated_at)

    def _check_parents(self, change: Change) -> None:
        for kind, parent_id in self.types.parents(change.type, change.data):
            if (kind, parent_id) not in self.rows:
                raise AppError(
                    Code.PARENT_MISSING, f"There is no {kind} {parent_id} yet: send that first"
                )

    def _wished(self, change: Change, stored: Row | None) -> Row:
        at = min(change.timestamp, self.now)
        before = self.written.get(change.key)
        base = 0 if stored is None else stored.stamp
        return Row(
            type=change.type,
            id=change.id,
            data=change.data,
            created_at=at,
            updated_at=at,
            deleted_at=at if change.operation is Operation.DELETE else None,
            device_id=change.device_id,
            stamp=self.stamp,
            base=base if before is None else before.base,
            exact=at == change.timestamp and (before is None or before.exact),
        )

    def _merged(self, row: Row, wished: Row, expected: dict[str, Any]) -> Row:
        """What a merge rule has made, with our bookkeeping: it may have a mind of its own."""
        same = (row.data, row.updated_at, row.deleted_at) == (
            expected,
            wished.updated_at,
            wished.deleted_at,
        )
        return replace(
            row,
            type=wished.type,
            id=wished.id,
            stamp=wished.stamp,
            base=wished.base,
            exact=wished.exact and same,
        )

    def _log(self, change: Change, wished: Row, *, conflict: bool) -> None:
        logged = Logged(
            device_id=change.device_id,
            operation_id=change.operation_id,
            type=change.type,
            id=change.id,
            operation=change.operation.value,
            timestamp=change.timestamp,
            applied_at=wished.updated_at,
            stamp=self.stamp,
            content=change.content,
            conflict=conflict,
        )
        self.ops[change.op_key] = logged
        self.logged.append(logged)
