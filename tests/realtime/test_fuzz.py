"""Whatever JSON a client sends, each event gets one answer of the promised shape."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.errors import RETRYABLE, Code
from tests.clients_py import joined
from tests.serving import Served
from tests.traces import outcry
from tests.wires import Wire, frame, wire

EVENTS = [
    "presence:join",
    "presence:ping",
    "presence:status",
    "presence:leave",
    "presence:watch",
    "presence:unwatch",
    "user:clientUpdate",
    "auth:refresh",
]
FIELDS = ["userId", "deviceId", "rev", "status", "note", "userIds", "token", "t", "opId"]
STATS = ["xp", "accuracy", "timePerQuestion", "lastGameResults", "__set", "totalTimeSpent"]
VALUES = ["", "ada", "bob", "online", "offline", "away", "$set", "a.b", "__proto__"]
WORDS = st.sampled_from(FIELDS + STATS + VALUES)
TEXT = WORDS | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-3, 3)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=12,
)
PAYLOADS = TEXT | NUMBERS | JSON | st.dictionaries(WORDS, NUMBERS | TEXT | JSON, max_size=3)
CALLS = st.lists(st.tuples(st.sampled_from(EVENTS), PAYLOADS), min_size=1, max_size=15)
RELAXED = settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
async def bystander(served: Served) -> AsyncIterator[Any]:
    async with joined(served.url, "bystander") as client:
        yield client


def check(answer: Any) -> None:
    """An ack or an `error` event of the promised shape, and nothing went wrong inside."""
    if "ok" not in answer:
        assert answer.keys() == {"t", "serverTime"}  # a pong
    elif answer["ok"] is not True:
        assert answer.keys() == {"ok", "error"}
        error = answer["error"]
        assert error.keys() <= {"code", "message", "retryable", "fields", "retryAfter"}
        assert error["retryable"] is (Code(error["code"]) in RETRYABLE)
        assert error["code"] not in ("internal", "unavailable"), answer


def refused(answer: Any) -> bool:
    return answer.get("ok") is False


@RELAXED
@given(calls=CALLS)
async def test_any_json_gets_one_answer_and_a_refused_update_changes_nothing(
    served: Served, bystander: Any, caplog: pytest.LogCaptureFixture, calls: list[Any]
) -> None:
    before = await served.live.stats.read("ada")
    async with wire(served.url) as socket:
        await socket.join()
        updates = 0
        for ack, (name, payload) in enumerate(calls, start=1):
            answer = await socket.call(ack, name, payload)
            check(answer)
            updates += name == "user:clientUpdate" and not refused(answer)
    after = await served.live.stats.read("ada")
    assert after.rev - before.rev <= updates
    if not updates:
        assert after == before
    assert (await served.live.stats.read("bob")).rev == 0
    assert (await bystander.call("presence:ping", {"t": 1}))["t"] == 1
    assert outcry(caplog, collect=False) == []


@settings(RELAXED, max_examples=150)
@given(text=st.binary(max_size=60) | TEXT.map(str.encode), connect=st.booleans())
async def test_any_bytes_as_a_packet_end_the_connection_or_get_an_answer(
    served: Served, caplog: pytest.LogCaptureFixture, text: bytes, connect: bool
) -> None:
    async with wire(served.url) as socket:
        if connect:
            await socket.connect()
        for packet in (text, b"4" + text, b"42" + text, b'42["' + text + b'"]'):
            await _try(socket, packet)
    assert outcry(caplog, collect=False) == []


async def _try(socket: Wire, packet: bytes) -> None:
    try:
        await socket.send(frame(packet))
        await socket.send('4277["presence:ping"]')
        while (answer := await socket.receive()) is not None and "4377[" not in answer:
            pass
    except ConnectionError:
        pass
