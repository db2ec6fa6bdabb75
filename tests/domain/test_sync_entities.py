"""Entity types and what becomes of changes: the rules alone, without a database."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import AppError, Code
from domain.sync.changes import Change, parse_change
from domain.sync.entities import (
    BUILT_IN,
    EntityType,
    EntityTypes,
    ItemData,
    Row,
    last_write_wins,
)
from domain.sync.fold import Ack, Fold

TYPES = EntityTypes(BUILT_IN)
NOW = 1_000_000


def row(at: int, **data: Any) -> Row:
    return Row(type="item", id="a", data=data, created_at=1, updated_at=at, stamp=7)


def change(n: int, operation: str, at: int, **data: Any) -> Change:
    payload = {
        "operationId": f"op{n}",
        "id": data.pop("id", "a"),
        "entityType": data.pop("kind", "item"),
        "operation": operation,
        "timestamp": at,
        "data": data,
    }
    return parse_change(TYPES, payload, "phone")


def fold(*rows: Row, stamp: int = 100, room: int = 99, types: EntityTypes = TYPES) -> Fold:
    return Fold(types, {r.key: r for r in rows}, {}, stamp, NOW, room)


# --- types ----------------------------------------------------------------------------------


def test_the_built_in_types_are_those_of_the_source_document() -> None:
    assert {kind.name: kind.plural for kind in TYPES} == {
        "space": "spaces",
        "category": "categories",
        "item": "items",
    }


def test_an_unknown_type_is_refused_naming_those_that_exist() -> None:
    for name in ("movie", "", None, [], {}, 1):
        with pytest.raises(AppError) as caught:
            TYPES.find(name)
        assert caught.value.code is Code.INVALID_VALUE
        assert "space, category, item" in caught.value.message


@pytest.mark.parametrize(
    "another",
    [
        EntityType("item", "things", ItemData),
        EntityType("thing", "items", ItemData),
        EntityType("thing", "things", ItemData, {"boxId": "box"}),
    ],
)
def test_types_that_contradict_each_other_cannot_be_registered(another: EntityType) -> None:
    with pytest.raises(ValueError, match=another.name):
        EntityTypes([*BUILT_IN, another])


def test_a_type_may_be_its_own_parent() -> None:
    types = EntityTypes([EntityType("node", "nodes", ItemData, {"spaceId": "node"})])
    assert types.parents("node", {"spaceId": "x"}) == [("node", "x")]
    assert types.parents("node", {"spaceId": None}) == []


# --- last write wins ------------------------------------------------------------------------


def test_the_stored_row_wins_only_if_strictly_newer() -> None:
    assert last_write_wins(row(5), row(4)) is None
    assert last_write_wins(row(5, title="x"), row(5, title="y")) == row(5, title="y")
    assert last_write_wins(row(5, title="x"), row(6, notes="n")) == row(6, title="x", notes="n")


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["create", "update", "delete"]),
        st.integers(0, 20),
        st.fixed_dictionaries({}, optional={"title": st.text(max_size=2), "order": st.just(1)}),
    ),
    max_size=12,
)


@given(OPERATIONS)
def test_clocks_never_go_back_and_stamps_are_the_pushs(operations: list[Any]) -> None:
    pushed = fold(row(10, title="stored"))
    changes = [change(n, op, at, **data) for n, (op, at, data) in enumerate(operations)]
    acks = pushed.run(changes)
    stands = pushed.rows["item", "a"]
    won = [at for (_, at, _), ack in zip(operations, acks, strict=True) if not ack.conflict]
    assert won == sorted(won)
    assert stands.updated_at == max([10, *won])
    assert stands.created_at == 1
    assert all(written.stamp == 100 for written in pushed.written.values())
    assert all(ack.success and ack.applied_at is not None for ack in acks)
    assert len(pushed.logged) == len(operations)


@given(OPERATIONS)
def test_a_push_and_its_repeat_end_the_same(operations: list[Any]) -> None:
    changes = [change(n, op, at, **data) for n, (op, at, data) in enumerate(operations)]
    once = fold(row(10))
    first = once.run(changes)
    rows = dict(once.rows)
    again = Fold(TYPES, once.rows, once.ops, 101, NOW, 99)
    repeated = again.run(changes)
    assert again.rows == rows
    assert not again.written
    assert not again.logged
    assert all(ack.duplicate for ack in repeated)
    assert [ack.conflict for ack in repeated] == [ack.conflict for ack in first]
    assert [ack.applied_at for ack in repeated] == [ack.applied_at for ack in first]


@given(OPERATIONS, st.integers(0, 12))
def test_one_push_or_two_make_the_same_rows(operations: list[Any], cut: int) -> None:
    changes = [change(n, op, at, **data) for n, (op, at, data) in enumerate(operations)]
    one = fold()
    one.run(changes)
    two = fold()
    first = two.run(changes[:cut])
    rest = Fold(TYPES, two.rows, two.ops, 101, NOW, 99)
    rest.run(changes[cut:])
    assert len(first) == len(changes[:cut])

    def shown(rows: dict[Any, Row]) -> Any:
        return {key: replace(r, stamp=0, base=0, exact=True) for key, r in rows.items()}

    assert shown(rest.rows) == shown(one.rows)


def test_a_time_ahead_counts_as_now_and_the_device_does_not_have_it_exactly() -> None:
    pushed = fold()
    (ack,) = pushed.run([change(1, "create", NOW + 5)])
    assert ack.applied_at == NOW
    made = pushed.written["item", "a"]
    assert (made.created_at, made.updated_at, made.exact) == (NOW, NOW, False)


def test_a_row_remembers_the_stamp_that_it_was_based_on_through_one_push() -> None:
    pushed = fold(row(5))
    pushed.run([change(1, "update", 6), change(2, "update", 7)])
    assert (pushed.written["item", "a"].base, pushed.written["item", "a"].stamp) == (7, 100)


# --- refusals -------------------------------------------------------------------------------


def codes(acks: list[Ack]) -> list[Code | None]:
    return [None if ack.error is None else ack.error.code for ack in acks]


def test_an_update_of_what_is_not_there_is_refused_and_not_logged() -> None:
    pushed = fold()
    acks = pushed.run([change(1, "update", 5), change(2, "create", 4), change(1, "update", 5)])
    assert codes(acks) == [Code.ENTITY_MISSING, None, None]
    assert not acks[2].duplicate
    assert pushed.rows["item", "a"].updated_at == 5


def test_parents_must_be_there_of_their_type_and_may_be_deleted() -> None:
    space = replace(row(1), type="space", id="s")
    acks = fold(space).run(
        [
            change(1, "create", 5, spaceId="s"),
            change(2, "create", 5, id="b", categoryId="s"),
            change(3, "delete", 6, id="s", kind="space"),
            change(4, "create", 7, id="c", spaceId="s"),
            change(5, "create", 7, id="d", spaceId="t"),
        ]
    )
    missing = Code.PARENT_MISSING
    assert codes(acks) == [None, missing, None, None, missing]


def test_without_room_nothing_new_is_made_but_what_is_there_changes() -> None:
    pushed = fold(row(1), room=1)
    acks = pushed.run(
        [
            change(1, "create", 5, id="b"),
            change(2, "create", 5, id="c"),
            change(3, "delete", 5, id="d"),
            change(4, "update", 5),
            change(5, "create", 6, id="b"),
        ]
    )
    assert codes(acks) == [None, Code.ENTITY_LIMIT, Code.ENTITY_LIMIT, None, None]
    assert pushed.room == 0


def test_what_was_refused_before_stays_in_its_place() -> None:
    refused = Ack("x", "y", success=False, error=AppError(Code.INVALID_VALUE, "no"))
    acks = fold().run([change(1, "create", 5), refused, change(2, "update", 6)])
    assert acks[1] is refused
    assert [ack.success for ack in acks] == [True, False, True]


# --- merge rules ----------------------------------------------------------------------------


def keep_stored(stored: Row, wished: Row) -> Row:
    return replace(stored, data={**stored.data, "order": 2})


def test_whatever_a_merge_rule_takes_over_the_row_belongs_to_this_push() -> None:
    types = EntityTypes([EntityType("item", "items", ItemData, merge=keep_stored)])
    pushed = fold(row(50, order=1), types=types)
    (ack,) = pushed.run([change(1, "update", 5, order=9)])
    made = pushed.written["item", "a"]
    assert (made.stamp, made.base, made.exact) == (100, 7, False)
    assert (made.updated_at, made.data) == (50, {"order": 2})
    assert ack.applied_at == 50
