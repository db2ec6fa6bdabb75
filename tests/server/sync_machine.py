"""Devices of two users against a real server, with a reference that says what must come of it."""

import sys
import time
from copy import deepcopy
from typing import Any

import aiohttp
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from domain.times import iso, parse_time
from tests.devices import Device, Key, Row, alive, rows_of
from tests.loops import LoopThread
from tests.tokens import bearer

HOUR = 3_600_000
SKEWS = [0, 3 * HOUR, -2 * HOUR]
SPACES = ["00000000-0000-4000-8000-000000000000"]
CATEGORIES = ["00000000-0000-4000-8000-000000000010"]
ITEMS = [f"00000000-0000-4000-8000-00000000002{n}" for n in range(3)]
IDS = {"space": SPACES, "category": CATEGORIES, "item": ITEMS}
PARENTS = {
    "space": {},
    "category": {"spaceId": "space"},
    "item": {"spaceId": "space", "categoryId": "category"},
}
BAD: list[Any] = [
    None,
    {"operationId": "bad"},
    {
        "operationId": "bad",
        "id": ITEMS[0],
        "entityType": "item",
        "operation": "update",
        "data": {"title": "x", "poster": "/inception.jpg"},
        "timestamp": 1,
    },
    {
        "operationId": "bad",
        "id": "nowhere",
        "entityType": "item",
        "operation": "update",
        "data": {"title": "x"},
        "timestamp": 1,
    },
]

words = st.sampled_from(["a", "b", "c"])
item_fields = st.fixed_dictionaries(
    {},
    optional={
        "title": words,
        "notes": words | st.none(),
        "isCompleted": st.booleans(),
        "order": st.integers(0, 3),
        "tags": st.lists(words, max_size=2),
    },
)
group_fields = st.fixed_dictionaries({}, optional={"name": words, "color": words | st.none()})


class Reference:
    """What one user's rows must be: last write wins, in the order in which pushes arrive."""

    def __init__(self, user: str) -> None:
        self.user = user
        self.rows: dict[Key, Row] = {}
        self.clocks: dict[Key, int] = {}
        self.done: dict[tuple[str, str], bool] = {}
        """Operations that were carried out, by device and id, and whether they have lost."""
        self.stamp = 0
        self.moved = False
        """Whether something was carried out since `stamp` was issued."""

    def pushed(self, change: dict[str, Any], ack: dict[str, Any], then: int, now: int) -> None:
        """Check the answer to a change that arrived between `then` and `now`; carry it out."""
        assert (ack["operationId"], ack["id"]) == (change["operationId"], change["id"])
        operation = change["deviceId"], change["operationId"]
        if operation in self.done:
            assert ack["success"]
            assert ack["duplicate"]
            assert ack.get("conflict", False) == self.done[operation]
            return
        assert "duplicate" not in ack
        if code := self._refusal(change):
            assert (ack["success"], ack["code"], ack["retryable"]) == (False, code, True)
            return
        assert ack["success"], ack
        at = self._applied_at(change, ack, then, now)
        key = change["entityType"], change["id"]
        lost = self.clocks.get(key, 0) > at
        assert ack.get("conflict", False) == lost
        self.done[operation] = lost
        self.moved = True
        if not lost:
            self._write(key, change, at)
        elif "server" in ack:
            assert ack["server"]["id"] == change["id"]

    def _refusal(self, change: dict[str, Any]) -> str | None:
        kind, data = change["entityType"], change["data"] or {}
        if change["operation"] == "update" and (kind, change["id"]) not in self.rows:
            return "entity_missing"
        for name, parent in PARENTS[kind].items():
            if data.get(name) is not None and (parent, data[name]) not in self.rows:
                return "parent_missing"
        return None

    def _applied_at(self, change: dict[str, Any], ack: dict[str, Any], then: int, now: int) -> int:
        sent, at = parse_time(change["timestamp"]), parse_time(ack["appliedTimestamp"])
        assert at == sent <= now or then <= at <= min(sent, now)
        return at

    def _write(self, key: Key, change: dict[str, Any], at: int) -> None:
        when = iso(at)
        fresh = {"id": key[1], "_id": key[1], "userId": self.user, "createdAt": when}
        self.clocks[key] = at
        self.rows[key] = {
            **self.rows.get(key, fresh),
            **(change["data"] or {}),
            "updatedAt": when,
            "deletedAt": when if change["operation"] == "delete" else None,
            "deviceId": change["deviceId"],
        }


class World:
    """The server, as the machine's devices reach it."""

    def __init__(self, loop: LoopThread, http: aiohttp.ClientSession) -> None:
        self._loop = loop
        self._http = http
        self.examples = 0
        self.quiets = 0
        self.requests = 0

    def send(self, user: str, method: str, path: str, **options: Any) -> Any:
        """A request of `user`; answers `data`."""

        async def request() -> Any:
            headers = bearer(user)
            async with self._http.request(method, path, headers=headers, **options) as answer:
                assert answer.status == 200, await answer.text()
                return (await answer.json())["data"]

        self.requests += 1
        return self._loop.call(request())


devices = st.integers(0, 3)


class SyncMachine(RuleBasedStateMachine):
    """Three devices of one user and one of another, who uses the same ids for everything."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        world.examples += 1
        ada, bob = f"ada-{world.examples}", f"bob-{world.examples}"
        self.references = {user: Reference(user) for user in (ada, bob)}
        names = [(ada, "phone"), (ada, "tablet"), (ada, "laptop"), (bob, "phone")]
        self.devices = [Device(*name) for name in names]
        self.skews = [0, SKEWS[1], SKEWS[2], 0]
        self.pages: dict[int, tuple[int, str]] = {}
        self.on_the_way: list[tuple[str, dict[str, Any]]] = []
        self.start = _now() - 60_000
        self.ticks = 0

    # --- writing ----------------------------------------------------------------------------

    @rule(
        which=devices,
        kind=st.sampled_from(["item", "item", "item", "category", "space"]),
        slot=st.sampled_from([0, 0, 1, 2]),
        operation=st.sampled_from(["create", "update", "update", "update", "delete"]),
        data=st.data(),
        pause=st.integers(0, 2),
        after=st.booleans(),
    )
    def write(
        self,
        which: int,
        kind: str,
        slot: int,
        operation: str,
        data: st.DataObject,
        pause: int,
        after: bool,
    ) -> None:
        """One change of a device, by its clock, or, as careful apps do, `after` what it has."""
        device = self.devices[which]
        row_id = IDS[kind][slot % len(IDS[kind])]
        if (kind, row_id) not in device.rows:
            operation = "create"  # nobody changes what is not there
        fields = None
        if operation != "delete":
            fields = data.draw(item_fields if kind == "item" else group_fields)
            for name, parent in PARENTS[kind].items():
                there = sorted(i for k, i in device.rows if k == parent)
                if there and data.draw(st.booleans()):
                    fields[name] = data.draw(st.sampled_from([*there, None]))
        self.ticks += pause
        at = self.start + self.skews[which] + self.ticks
        if after and (row := device.rows.get((kind, row_id))):
            at = max(at, parse_time(row["updatedAt"]) + 1)
        device.write(kind, row_id, operation, fields, at)

    @rule(which=devices, skew=st.sampled_from(SKEWS))
    def set_the_clock(self, which: int, skew: int) -> None:
        self.skews[which] = skew

    # --- pushing ----------------------------------------------------------------------------

    @rule(
        which=devices,
        most=st.none() | st.integers(1, 4),
        fate=st.sampled_from(["answered", "answered", "answer lost", "sent again", "late"]),
        limit=st.none() | st.integers(1, 4),
    )
    def push(self, which: int, most: int | None, fate: str, limit: int | None) -> None:
        device = self.devices[which]
        body = device.body(most, **({} if limit is None else {"limit": limit}))
        if body["changes"]:
            self.on_the_way.append((device.user, deepcopy(body)))
        if fate == "late":
            return
        answer = self._exchange(device.user, body)
        if fate == "sent again":  # its answer was lost
            answer = self._exchange(device.user, body)
        if fate != "answer lost":
            self._take(which, answer)

    @rule(which=devices, bad=st.sampled_from(BAD), place=st.integers(0, 5))
    def push_with_a_bad_change(self, which: int, bad: Any, place: int) -> None:
        device = self.devices[which]
        body = device.body()
        place = min(place, len(body["changes"]))
        body["changes"] = [*body["changes"][:place], bad, *body["changes"][place:]]
        answer = self._exchange(device.user, body, place)
        self._take(which, answer)

    @precondition(lambda self: self.on_the_way)
    @rule(which=st.integers(0, 10**6))
    def an_old_push_arrives_again(self, which: int) -> None:
        self._exchange(*self.on_the_way[which % len(self.on_the_way)])

    # --- pulling ----------------------------------------------------------------------------

    @rule(which=devices)
    def pull(self, which: int) -> None:
        device = self.devices[which]
        self._take(which, self._exchange(device.user, device.body(0)))

    @precondition(lambda self: self.pages)
    @rule(data=st.data(), limit=st.integers(1, 3))
    def next_page(self, data: st.DataObject, limit: int) -> None:
        which = data.draw(st.sampled_from(sorted(self.pages)))
        device = self.devices[which]
        round_, token = self.pages.pop(which)
        body = device.body(0, limit=limit, pageToken=token)
        answer = self._exchange(device.user, body)
        self._take(which, answer)
        assert round_ < 20  # pages come to an end, whatever is written meanwhile
        if which in self.pages:
            self.pages[which] = round_ + 1, answer["pageToken"]

    @rule(
        which=devices,
        way=st.sampled_from(["null", "initial", "initial in pages", "old date", "date to come"]),
    )
    def wipe_and_rejoin(self, which: int, way: str) -> None:
        device = self.devices[which]
        self.pages.pop(which, None)
        device.wipe()
        if way == "initial":
            device.take(self._initial(device.user))
        elif way == "initial in pages":
            device.take(answer := self._initial(device.user, limit=2))
            while answer["hasMore"]:
                answer = self._initial(device.user, limit=2, pageToken=answer["pageToken"])
                device.take(answer)
        elif way == "old date":
            device.cursor = "2020-02-29T12:00:00+02:00"
        elif way == "date to come":
            device.cursor = iso(_now() + 5 * HOUR)

    @rule(which=devices, back=st.sampled_from([0, 1, 1000, HOUR]), ahead=st.booleans())
    def come_back_with_a_client_date(self, which: int, back: int, ahead: bool) -> None:
        """One before its cursor, in any notation, or one to come."""
        device = self.devices[which]
        self.pages.pop(which, None)
        if ahead:
            device.cursor = _now() + HOUR + back
        elif device.cursor is not None:
            cursor = parse_time(device.cursor)
            if cursor <= _now():
                device.cursor = max(0, cursor - back)

    # --- what always holds ------------------------------------------------------------------

    @invariant()
    def the_server_has_what_last_write_wins_makes_of_it(self) -> None:
        if self.world.requests % 7 == 0:
            self._check_rows()

    def teardown(self) -> None:
        """Quiet: everyone pushes and pulls until nothing is new; then all have the same."""
        if sys.exc_info()[0] is not None:
            return  # a step has failed: that is the news
        self.world.quiets += 1
        self.pages.clear()
        for _ in range(2):
            for which, device in enumerate(self.devices):
                self._take(which, self._exchange(device.user, device.body()))
                assert device.queue == []
        self._check_rows()
        for device in self.devices:
            answer = self._exchange(device.user, device.body())
            assert not any(answer["serverUpdates"].values())
            assert alive(device.rows) == rows_of(self._initial(device.user)["serverUpdates"])

    def _check_rows(self) -> None:
        for user, reference in self.references.items():
            everything = self._exchange(user, {"lastSyncTimestamp": None})
            assert rows_of(everything["serverUpdates"]) == reference.rows
            initial = self._initial(user)
            assert rows_of(initial["serverUpdates"]) == alive(reference.rows)

    # --- the wire ---------------------------------------------------------------------------

    def _exchange(self, user: str, body: dict[str, Any], bad: int | None = None) -> Any:
        """POST /api/sync, its answer checked; `bad` is the place of a change that is none."""
        reference, then = self.references[user], _now()
        answer = self.world.send(user, "POST", "/api/sync", json=body)
        now = _now()
        acks = answer["acknowledged"]
        changes = body.get("changes", [])
        assert len(acks) == len(changes)
        for place, (change, ack) in enumerate(zip(changes, acks, strict=True)):
            if place == bad:
                assert not ack["success"]
            else:
                reference.pushed(change, ack, then, now)
        for key, row in rows_of(answer["serverUpdates"]).items():
            assert row["userId"] == user
            assert row == reference.rows[key]
        if not answer.get("hasMore"):
            self._check_stamp(reference, parse_time(answer["syncTimestamp"]), "pageToken" in body)
        return answer

    def _check_stamp(self, reference: Reference, stamp: int, last_page: bool) -> None:
        if last_page:  # as of the first one
            assert reference.moved or stamp <= reference.stamp
            return
        assert stamp > reference.stamp if reference.moved else stamp == reference.stamp
        reference.stamp, reference.moved = stamp, False

    def _take(self, which: int, answer: Any) -> None:
        self.devices[which].take(answer)
        self.pages.pop(which, None)
        if answer.get("hasMore"):
            self.pages[which] = 0, answer["pageToken"]

    def _initial(self, user: str, **query: Any) -> Any:
        answer = self.world.send(user, "GET", "/api/sync/initial", params=query)
        for row in rows_of(answer["serverUpdates"]).values():
            assert row["userId"] == user
            assert row["deletedAt"] is None
        return answer


def _now() -> int:
    return time.time_ns() // 1_000_000
