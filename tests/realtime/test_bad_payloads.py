"""Every event with every kind of wrong payload: a code, and nothing has changed."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from domain.errors import RETRYABLE, Code
from tests.clients_py import connected, joined
from tests.serving import Served
from tests.tokens import token
from tests.traces import outcry
from tests.wires import BINARY, Wire, frame, wire

JOIN, PING, STATUS, LEAVE = "presence:join", "presence:ping", "presence:status", "presence:leave"
WATCH, UNWATCH = "presence:watch", "presence:unwatch"
UPDATE, REFRESH = "user:clientUpdate", "auth:refresh"

SCALARS: list[Any] = ["text", 7, -1.5, True, [], [1, 2]]
NAMES = ["$where", "a.b", "__proto__", "constructor", "", "\x00", "_id", "xp.$", "ä" * 200]

WRONG: dict[str, list[tuple[Any, str]]] = {
    JOIN: [
        *((value, "invalid_type") for value in SCALARS if not isinstance(value, str)),
        *((name, "invalid_id") for name in ["", "a b", "$ada", "a/b", "x" * 129, "ä", "\x00"]),
        *(({name: 1}, "unknown_field") for name in NAMES),
        ({"userId": 7}, "invalid_type"),
        ({"userId": "a b"}, "invalid_id"),
        ({"userId": "bob"}, "forbidden"),
        ("bob", "forbidden"),
        ({"deviceId": "$set"}, "invalid_id"),
        ({"deviceId": ["phone"]}, "invalid_type"),
        ({"rev": -1}, "invalid_value"),
        ({"rev": "1"}, "invalid_type"),
        ({"rev": 1.5}, "invalid_type"),
        ({"rev": True}, "invalid_type"),
        ({"rev": 1e30}, "invalid_type"),
        ({"status": "asleep"}, "invalid_value"),
        ({"status": 1}, "invalid_value"),
    ],
    PING: [
        *((value, "invalid_value") for value in SCALARS),
        *(({name: 1}, "invalid_value") for name in NAMES),
        ({"t": {}}, "invalid_type"),
        ({"t": []}, "invalid_type"),
        ({"t": "x" * 65}, "invalid_type"),
    ],
    STATUS: [
        *((value, "invalid_type") for value in SCALARS),
        (None, "missing_field"),
        ({}, "missing_field"),
        ({"note": "hi"}, "missing_field"),
        ({"status": "gone"}, "invalid_value"),
        ({"status": None}, "invalid_value"),
        ({"status": ["away"]}, "invalid_value"),
        ({"status": "away", "note": "x" * 141}, "invalid_value"),
        ({"status": "away", "note": 7}, "invalid_type"),
        ({"status": "away", "note": None}, "invalid_type"),
        *(({"status": "away", name: 1}, "unknown_field") for name in NAMES),
    ],
    LEAVE: [
        *((value, "invalid_type") for value in SCALARS),
        *(({name: 1}, "unknown_field") for name in NAMES),
    ],
    WATCH: [
        *((value, "invalid_type") for value in SCALARS),
        (None, "missing_field"),
        ({"userIds": "bob"}, "invalid_type"),
        ({"userIds": {"0": "bob"}}, "invalid_type"),
        ({"userIds": [7]}, "invalid_type"),
        ({"userIds": ["bob", None]}, "invalid_type"),
        ({"userIds": [["bob"]]}, "invalid_type"),
        ({"userIds": ["bob", "$bob"]}, "invalid_id"),
        ({"userIds": [""]}, "invalid_id"),
        ({"userIds": ["bob"], "more": 1}, "unknown_field"),
        ({"userIds": [f"u{n}" for n in range(501)]}, "watch_limit"),
    ],
    UPDATE: [
        *((value, "invalid_type") for value in SCALARS),
        (None, "invalid_type"),
        *(({name: 1}, "unknown_field") for name in NAMES),
        *(({"__set": {name: 1}}, "unknown_field") for name in NAMES),
        ({"xp": "1"}, "invalid_type"),
        ({"xp": True}, "invalid_type"),
        ({"xp": None}, "invalid_type"),
        ({"xp": {"$inc": 1}}, "invalid_type"),
        ({"xp": 1.5}, "invalid_type"),
        ({"xp": 1e13}, "invalid_value"),
        ({"xp": -(10**30)}, "invalid_value"),
        ({"accuracy": 1e308}, "invalid_value"),
        ({"rev": 1}, "unknown_field"),
        ({"lastGameResults": {}}, "invalid_type"),
        ({"__set": 7}, "invalid_type"),
        ({"__set": {"xp": -1}}, "invalid_value"),
        ({"__set": {"xp": 2**53}}, "invalid_value"),
        ({"__set": {"accuracy": 100.1}}, "invalid_value"),
        ({"__set": {"userId": "bob"}}, "unknown_field"),
        ({"__set": {"timePerQuestion": [-1]}}, "invalid_value"),
        ({"__set": {"timePerQuestion": [1] * 1001}}, "invalid_value"),
        ({"__set": {"lastGameResults": {"$set": 1}}}, "invalid_value"),
        ({"__set": {"lastGameResults": {"a": [{"b.c": 1}]}}}, "invalid_value"),
        ({"__set": {"lastGameResults": {"__proto__": 1}}}, "invalid_value"),
        ({"__set": {"lastGameResults": {"a": "x" * 8192}}}, "invalid_value"),
        ({"__set": {"lastGameResults": {"a": 2**60}}}, "invalid_value"),
        ({"__set": {"lastGameResults": {"a": [[[[[[]]]]]]}}}, "invalid_value"),
        ({"timePerQuestion": [1, "2"]}, "invalid_type"),
        ({"timePerQuestion": 3}, "invalid_type"),
        ({"opId": 7, "xp": 1}, "invalid_type"),
        ({"opId": "", "xp": 1}, "invalid_value"),
        ({"opId": "x" * 65, "xp": 1}, "invalid_value"),
        ({"deviceId": "a/b", "xp": 1}, "invalid_id"),
        ({"deviceId": 7, "xp": 1}, "invalid_id"),
        ({"userId": "bob", "xp": 1}, "forbidden"),
        ({"userId": "$bob", "xp": 1}, "invalid_id"),
        ({"userId": {"$ne": 1}, "xp": 1}, "invalid_id"),
    ],
    REFRESH: [
        *((value, "invalid_type") for value in SCALARS),
        (None, "missing_field"),
        ({"token": 7}, "invalid_type"),
        ({"token": ""}, "invalid_token"),
        ({"token": "a.b.c"}, "invalid_token"),
        ({"token": "x" * 100_000}, "invalid_token"),
        ({"token": token("bob")}, "forbidden"),
        ({"token": token(), "userId": "bob"}, "unknown_field"),
    ],
}
WRONG[UNWATCH] = [(payload, code) for payload, code in WRONG[WATCH] if code != "watch_limit"]


@pytest.fixture
async def ada(served: Served) -> AsyncIterator[Wire]:
    """A joined socket, whose user has a document."""
    async with wire(served.url) as socket:
        await socket.join()
        assert (await socket.call(1, UPDATE, {"xp": 5}))["ok"]
        yield socket


def check_error(error: Any) -> str:
    """`error` has the promised shape; answers its code."""
    assert error.keys() <= {"code", "message", "retryable", "fields", "retryAfter"}, error
    assert isinstance(error["message"], str)
    assert 0 < len(error["message"]) < 400, error
    assert error["retryable"] is (Code(error["code"]) in RETRYABLE)
    for field in error.get("fields", ()):
        assert field.keys() == {"pointer", "message"}
        assert field["pointer"] == "" or field["pointer"].startswith("/")
    return str(error["code"])


async def unchanged(served: Served) -> None:
    """Nobody's document is other than it was."""
    found = await served.live.stats.read_many(["ada", "bob"])
    assert (found["ada"].rev, found["ada"].values["xp"], found["bob"].rev) == (1, 5, 0)
    assert served.live.rooms.joined() == ["ada"]
    assert served.live.rooms.watched() == []
    assert (await served.live.presence.entries(["ada"]))["ada"]["status"] == "online"


@pytest.mark.parametrize("event", list(WRONG))
async def test_a_wrong_payload_is_refused_with_its_code_and_changes_nothing(
    served: Served, ada: Wire, caplog: pytest.LogCaptureFixture, event: str
) -> None:
    found = []
    for n, (payload, _) in enumerate(WRONG[event], start=2):
        answer = await ada.call(n, event, payload)
        found.append((payload, "ok" if answer.get("ok", True) else check_error(answer["error"])))
    assert found == WRONG[event]
    await unchanged(served)
    assert outcry(caplog) == []


@pytest.mark.parametrize("event", list(WRONG))
async def test_without_an_ack_the_refusal_comes_as_event_error(
    served: Served, ada: Wire, event: str
) -> None:
    payload, code = WRONG[event][0]
    await ada.event(event, payload)
    reply = json.loads((await ada.receive() or "")[2:])
    assert reply[0] == "error"
    assert reply[1]["ok"] is False
    assert check_error(reply[1]["error"]) == code
    await unchanged(served)


async def test_binary_anywhere_in_an_event_is_refused_with_a_code_and_changes_nothing(
    served: Served, ada: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    hole = {"_placeholder": True, "num": 0}
    payloads: dict[str, list[Any]] = {
        JOIN: [hole, {"userId": hole}, {"deviceId": hole}, {"status": hole}, {"rev": hole}],
        PING: [hole, {"t": hole}],
        STATUS: [hole, {"status": hole}, {"status": "away", "note": hole}],
        LEAVE: [hole],
        WATCH: [hole, {"userIds": hole}, {"userIds": [hole]}],
        UPDATE: [
            hole,
            {"xp": hole},
            {"__set": hole},
            {"__set": {"lastGameResults": {"a": hole}}},
            {"opId": hole, "xp": 1},
            {"timePerQuestion": [hole]},
            {"userId": hole},
        ],
        REFRESH: [hole, {"token": hole}],
        "unheard:of": [hole],
    }
    accepted = []
    for event, shapes in payloads.items():
        for payload in shapes:
            for content in (b"away", b"\xff\x00", b"", b"1"):
                await ada.send(f"451-7{json.dumps([event, payload])}")
                await ada.send(frame(content, BINARY))
                answer = await ada.answer(7)
                if answer.get("ok", True):
                    accepted.append((event, payload, content))
                else:
                    assert check_error(answer["error"]) != "internal", (event, payload)
    assert accepted == []
    await unchanged(served)
    assert outcry(caplog) == []


async def test_several_arguments_are_refused(served: Served, ada: Wire) -> None:
    await ada.send('425["user:clientUpdate",{"xp":1},{"xp":1}]')
    assert check_error((await ada.answer(5))["error"]) == "invalid_value"
    await unchanged(served)


async def test_events_before_join_are_refused_except_join_ping_and_refresh(served: Served) -> None:
    async with connected(served.url) as client:
        for event, payload in (
            (STATUS, {"status": "away"}),
            (LEAVE, None),
            (WATCH, {"userIds": ["bob"]}),
            (UNWATCH, {"userIds": ["bob"]}),
            (UPDATE, {"xp": 1}),
        ):
            assert check_error((await client.call(event, payload))["error"]) == "not_joined"
        assert "serverTime" in await client.call(PING)
        assert (await client.call(REFRESH, {"token": token()}))["ok"]
        await client.emit(UPDATE, {"xp": 1})
        assert (await client.next("error"))["error"]["code"] == "not_joined"
        assert (await client.join())["stats"]["rev"] == 0


async def test_unknown_events_are_refused_by_name(served: Served) -> None:
    async with joined(served.url) as client:
        for name in ("", "x" * 5000, "presence:Join", "connection", "error", "*", "$where", "\x00"):
            error = (await client.call(name, {}))["error"]
            assert check_error(error) == "unknown_event"
