"""What a push comes to, over any changes: split, repeated, in order, among bad ones."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import AppError, Code
from domain.sync.changes import Change, Operation, parse_change
from domain.sync.entities import BUILT_IN, EntityType, EntityTypes, Key, Merge, Row
from domain.sync.fold import Ack, Fold, Logged
from domain.times import iso

TYPES = EntityTypes(BUILT_IN)
NOW = 1_700_000_000_000
AHEAD = 3_600_000
IDS = {"space": ["s1", "s2"], "category": ["c1"], "item": ["i1", "i2", "i3"]}
DEVICES = ["phone", "tablet"]


def change(
    number: int,
    kind: str = "item",
    row_id: str = "i1",
    operation: str = "create",
    at: int = NOW,
    data: dict[str, Any] | None = None,
    device: str = "phone",
) -> Change:
    """The change of operation `number`, as it comes in."""
    payload = {
        "operationId": f"op-{number}",
        "id": row_id,
        "entityType": kind,
        "operation": operation,
        "timestamp": iso(at),
        "data": data or {},
    }
    return parse_change(TYPES, payload, device)


class Store:
    """What is kept between pushes."""

    def __init__(self, room: int = 1000) -> None:
        self.rows: dict[Key, Row] = {}
        self.ops: dict[Any, Logged] = {}
        self.stamp = NOW
        self.room = room
        self.applied: list[Any] = []
        self.lost: set[Key] = set()
        self.types = TYPES

    def push(self, changes: Iterable[Change | Ack], now: int = NOW) -> list[Ack]:
        """One push, with a stamp of its own; checks what each one owes."""
        changes = list(changes)
        self.stamp += 1
        fold = Fold(self.types, dict(self.rows), dict(self.ops), self.stamp, now, self.room)
        acks = fold.run(changes)
        assert len(acks) == len(changes)
        for given_one, ack in zip(changes, acks, strict=True):
            if isinstance(given_one, Change):
                assert (ack.operation_id, ack.id) == (given_one.operation_id, given_one.id)
        assert fold.lost <= fold.rows.keys()
        assert all(row.stamp == self.stamp for row in fold.written.values())
        assert all(op.stamp == self.stamp for op in fold.logged)
        assert {row.key for row in fold.written.values()} == set(fold.written)
        self.applied += [op.op_key for op in fold.logged]
        self.rows = {**self.rows, **fold.written}
        self.ops = {**self.ops, **{op.op_key: op for op in fold.logged}}
        self.room = fold.room
        self.lost = fold.lost
        return acks

    @property
    def final(self) -> dict[Key, Row]:
        """The rows as clients see them: stamps are of the server."""
        return {
            key: replace(row, stamp=0, base=0, exact=True, data=dict(sorted(row.data.items())))
            for key, row in self.rows.items()
        }


def shown(ack: Ack) -> dict[str, Any]:
    """An acknowledgement as far as it does not depend on how changes were split."""
    return {k: v for k, v in ack.document("ada").items() if k not in ("duplicate", "server")}


@st.composite
def fields(draw: st.DrawFn, kind: str) -> dict[str, Any]:
    texts = st.sampled_from(["a", "b", None])
    optional: dict[str, Any] = {"title": texts, "order": st.integers(0, 3)}
    for name, parent in TYPES[kind].parents.items():
        optional[name] = st.sampled_from([*IDS[parent], None])
    found: dict[str, Any] = draw(st.fixed_dictionaries({}, optional=optional))
    return found


@st.composite
def arrays(draw: st.DrawFn, most: int = 12) -> list[Change]:
    """Changes of two devices, each with an operation id of its own."""
    found = []
    for number in range(draw(st.integers(0, most))):
        kind = draw(st.sampled_from(["item", "item", "category", "space"]))
        found.append(
            change(
                number,
                kind,
                draw(st.sampled_from(IDS[kind])),
                draw(st.sampled_from(["create", "update", "delete"])),
                NOW + draw(st.integers(-4, 0) | st.sampled_from([-AHEAD, AHEAD])),
                draw(fields(kind)),
                draw(st.sampled_from(DEVICES)),
            )
        )
    return found


def split(draw: st.DrawFn, changes: Sequence[Change]) -> list[Sequence[Change]]:
    cuts = sorted(draw(st.lists(st.integers(0, len(changes)), max_size=5)))
    ends = [*cuts, len(changes)]
    return [changes[a:b] for a, b in zip([0, *cuts], ends, strict=True)]


@given(arrays(), st.data())
def test_any_split_into_pushes_comes_to_the_same_rows_and_acknowledgements(
    changes: list[Change], data: st.DataObject
) -> None:
    at_once, in_parts = Store(), Store()
    acks = at_once.push(changes)
    parts = [ack for part in data.draw(splits(changes)) for ack in in_parts.push(part)]
    assert in_parts.final == at_once.final
    assert [shown(ack) for ack in parts] == [shown(ack) for ack in acks]
    assert in_parts.applied == at_once.applied
    assert in_parts.room == at_once.room == 1000 - len(at_once.rows)


@st.composite
def splits(draw: st.DrawFn, changes: Sequence[Change]) -> list[Sequence[Change]]:
    return split(draw, changes)


@given(arrays(), st.data())
def test_repeats_of_what_succeeded_change_nothing_wherever_they_arrive(
    changes: list[Change], data: st.DataObject
) -> None:
    once, often = Store(), Store()
    acks = once.push(changes)
    succeeded: list[int] = []
    for number, (one, ack) in enumerate(zip(changes, acks, strict=True)):
        again = data.draw(st.lists(st.sampled_from(succeeded), max_size=4)) if succeeded else []
        more = often.push([one, *(changes[n] for n in again)])
        assert shown(more[0]) == shown(ack)
        for n, repeated in zip(again, more[1:], strict=True):
            assert repeated.duplicate
            assert shown(repeated) == shown(acks[n])
        if ack.success:
            succeeded.append(number)
    assert often.final == once.final
    assert often.applied == once.applied


@given(arrays(), st.data())
def test_every_operation_is_carried_out_at_most_once_whatever_arrives(
    changes: list[Change], data: st.DataObject
) -> None:
    store = Store()
    trace = data.draw(st.lists(st.sampled_from(changes), max_size=60)) if changes else []
    for part in data.draw(splits(trace)):
        before = dict(store.ops)
        for one, ack in zip(part, store.push(part), strict=True):
            if one.op_key in before:
                assert ack.duplicate
                assert ack.applied_at == before[one.op_key].applied_at
    assert len(store.applied) == len(set(store.applied))


@given(arrays())
def test_a_queue_that_repeats_what_is_retryable_loses_nothing(changes: list[Change]) -> None:
    """Changes in any order: what waits for a create is carried out once that has come."""
    store, queue = Store(), list(reversed(changes))
    while True:
        acks = store.push(queue)
        left = [one for one, ack in zip(queue, acks, strict=True) if not ack.success]
        if len(left) == len(queue):
            break
        queue = left
    carried_out = set(store.applied)
    for one in changes:
        if one not in queue:
            assert one.op_key in carried_out
            continue
        parents = TYPES.parents(one.type, one.data)
        assert one.op_key not in carried_out
        assert (one.operation is Operation.UPDATE and one.key not in store.rows) or any(
            parent not in store.rows for parent in parents
        )


@given(arrays())
def test_the_stored_row_wins_only_if_strictly_newer_and_the_answer_carries_it(
    changes: list[Change],
) -> None:
    store = Store()
    for one in changes:
        stored = store.rows.get(one.key)
        (ack,) = store.push([one])
        row = store.rows.get(one.key)
        if not ack.success:
            assert row is stored
            continue
        counts = min(one.timestamp, NOW)
        assert ack.applied_at == counts
        assert ack.conflict == (stored is not None and stored.updated_at > counts)
        if ack.conflict:
            assert ack.server is row is stored
            continue
        assert row is not None
        assert row.data == {**(stored.data if stored else {}), **one.data}
        assert (row.updated_at, row.device_id) == (counts, one.device_id)
        assert row.created_at == (stored.created_at if stored else counts)
        assert row.deleted_at == (counts if one.operation is Operation.DELETE else None)


@given(arrays(), st.data())
def test_an_older_change_never_revives_and_a_newer_one_does(
    changes: list[Change], data: st.DataObject
) -> None:
    store = Store()
    store.push(changes)
    gone = sorted(key for key, row in store.rows.items() if row.deleted_at is not None)
    for kind, row_id in gone:
        tombstone = store.rows[kind, row_id]
        operation = data.draw(st.sampled_from(["create", "update"]))
        older = tombstone.updated_at - data.draw(st.integers(1, AHEAD))
        store.push([change(1000, kind, row_id, operation, older, {"title": "back"})])
        assert store.rows[kind, row_id] == tombstone
        newer = change(1001, kind, row_id, operation, tombstone.updated_at, {"title": "back"})
        store.push([newer])
        assert store.rows[kind, row_id].deleted_at is None
        assert store.rows[kind, row_id].data["title"] == "back"


def _refused(payload: object) -> Ack:
    with pytest.raises(AppError) as error:
        parse_change(TYPES, payload, "phone")
    return Ack(None, None, success=False, error=error.value)


MALFORMED = [
    None,
    [],
    {},
    {"operationId": "x", "id": "i1", "entityType": "movie", "operation": "create", "timestamp": 1},
    {
        "operationId": "x",
        "id": "i1",
        "entityType": "item",
        "operation": "create",
        "timestamp": 1,
        "data": {"title": "x", "poster": "/inception.jpg"},
    },
]


@given(arrays(), st.data())
def test_bad_changes_never_change_the_outcome_of_the_others(
    changes: list[Change], data: st.DataObject
) -> None:
    alone, among = Store(), Store()
    acks = alone.push(changes)
    mixed: list[Change | Ack] = list(changes)
    for number in range(data.draw(st.integers(1, 5))):
        bad = data.draw(
            st.sampled_from(
                [
                    *(_refused(payload) for payload in MALFORMED),
                    change(2000 + number, "item", "nowhere", "update"),
                    change(2000 + number, "item", "i1", "create", data={"spaceId": "nowhere"}),
                ]
            )
        )
        mixed.insert(data.draw(st.integers(0, len(mixed))), bad)
    answers = among.push(mixed)
    ours = {id(one) for one in changes}
    of_ours = [ack for one, ack in zip(mixed, answers, strict=True) if id(one) in ours]
    others = [ack for one, ack in zip(mixed, answers, strict=True) if id(one) not in ours]
    assert [shown(ack) for ack in of_ours] == [shown(ack) for ack in acks]
    assert not any(ack.success for ack in others)
    assert among.final == alone.final
    assert among.applied == alone.applied


@given(arrays(), st.integers(0, 10**6))
def test_an_operation_id_with_another_content_is_refused_and_changes_nothing(
    changes: list[Change], which: int
) -> None:
    store = Store()
    acks = store.push(changes)
    applied = [one for one, ack in zip(changes, acks, strict=True) if ack.success]
    if not applied:
        return
    one = applied[which % len(applied)]
    other = change(
        int(one.operation_id[3:]),
        one.type,
        one.id,
        "create",
        NOW,
        {"title": "another"},
        one.device_id,
    )
    rows = dict(store.rows)
    (ack,) = store.push([other])
    assert ack.error is not None
    assert ack.error.code is Code.OPERATION_ID_REUSED
    assert store.rows == rows


def test_a_repeat_of_what_has_lost_against_a_tombstone_that_has_gone_since_is_a_repeat() -> None:
    store = Store()
    late = change(2, at=NOW - 1)
    store.push([change(1, operation="delete"), late])
    store.rows.clear()
    (ack,) = store.push([late])
    assert ack.duplicate
    assert ack.conflict
    assert store.rows == {}


def test_a_repeat_brings_the_row_if_it_is_not_as_the_repeated_change_left_it() -> None:
    store = Store()
    mine, ahead = change(1), change(2, row_id="i2", at=NOW + AHEAD)
    store.push([mine, ahead])
    store.push([mine, ahead])
    assert store.lost == {ahead.key}  # it counts with another time
    store.push([change(3, device="tablet")])
    store.push([mine])
    assert store.lost == {mine.key}


def test_the_same_operation_id_of_another_device_entity_or_type_is_another_operation() -> None:
    store = Store()
    acks = store.push(
        [
            change(1, row_id="i1"),
            change(1, row_id="i2"),
            change(1, row_id="i1", device="tablet"),
            change(1, "space", "i1"),
        ]
    )
    assert not any(ack.duplicate for ack in acks)
    assert len(store.applied) == 4


@given(arrays())
def test_changes_count_in_the_order_of_the_array(changes: list[Change]) -> None:
    """With one and the same time the last that is carried out stands."""
    same = [change(n, c.type, c.id, c.operation, NOW, c.data) for n, c in enumerate(changes)]
    store = Store()
    acks = store.push(same)
    last = {one.key: one for one, ack in zip(same, acks, strict=True) if ack.success}
    assert last.keys() == store.rows.keys()
    for key, one in last.items():
        row = store.rows[key]
        assert (row.deleted_at is not None) == (one.operation is Operation.DELETE)
        assert {name: row.data[name] for name in one.data} == one.data
    assert store.applied == [one.op_key for one, ack in zip(same, acks, strict=True) if ack.success]


def test_parent_and_child_may_come_in_one_push_and_only_in_this_order() -> None:
    space = change(1, "space", "s1", data={"name": "Work"})
    item = change(2, "item", "i1", data={"spaceId": "s1"})
    update = change(3, "item", "i1", "update", data={"title": "a"})
    assert all(ack.success for ack in Store().push([space, item, update]))
    wrong = Store().push([update, item, space])
    assert [ack.error.code if ack.error else None for ack in wrong] == [
        Code.ENTITY_MISSING,
        Code.PARENT_MISSING,
        None,
    ]


@given(arrays(), st.integers(0, 4))
def test_a_full_user_keeps_what_there_is_and_may_change_it(
    changes: list[Change], room: int
) -> None:
    store = Store(room)
    for one in changes:
        had = one.key in store.rows
        (ack,) = store.push([one])
        if had and not TYPES.parents(one.type, one.data):
            assert ack.success
        if ack.error is not None and ack.error.code is Code.ENTITY_LIMIT:
            assert not had
            assert len(store.rows) == room
    assert len(store.rows) <= room
    assert store.room == room - len(store.rows)


@given(arrays(), arrays(), st.booleans())
def test_an_exact_row_is_what_a_device_has_that_knew_its_base(
    before: list[Change], changes: list[Change], knows: bool
) -> None:
    """It need not get back what it has just pushed, unless it has lost against something."""
    store = Store()
    store.push(replace(one, operation_id=f"before {one.operation_id}") for one in before)
    stored, since = dict(store.rows), store.stamp if knows else 0
    local = {key: (row.data, row.deleted_at) for key, row in stored.items()} if knows else {}
    for one, ack in zip(changes, store.push(changes), strict=True):
        if ack.success:
            had, _ = local.get(one.key, ({}, None))
            deleted_at = one.timestamp if one.operation is Operation.DELETE else None
            local[one.key] = {**had, **one.data}, deleted_at
    for key, row in store.rows.items():
        if row.stamp == store.stamp:
            assert row.base == (stored[key].stamp if key in stored else 0)
            if row.exact and row.base <= since and key not in store.lost:
                assert local[key] == (row.data, row.deleted_at)


def _never_back(stored: Row, wished: Row) -> Row | None:
    return replace(stored, data={**stored.data, "order": 9})


def _buried(stored: Row, wished: Row) -> Row | None:
    gone = stored.deleted_at or wished.deleted_at
    return replace(wished, data={**stored.data, **wished.data}, deleted_at=gone)


@pytest.mark.parametrize("rule", [_never_back, _buried])
def test_what_a_merge_rule_makes_gets_the_stamp_of_its_push_and_goes_back_to_the_device(
    rule: Merge,
) -> None:
    store = Store()
    store.types = EntityTypes([EntityType("item", "items", BUILT_IN[2].model, merge=rule)])
    store.push([change(1), change(2, operation="delete")])
    store.push([change(3, data={"title": "a"})])
    row = store.rows["item", "i1"]
    assert row.stamp == store.stamp
    assert row.base == store.stamp - 1
    assert not row.exact
