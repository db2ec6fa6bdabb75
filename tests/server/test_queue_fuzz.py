"""Whatever JSON arrives: an answer below 500, nothing at ERROR, and lists that can be read."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.queues import EXPENSES, ORDERS, SALARY, USERS, Queue
from tests.rest import Answer, Api

pytestmark = pytest.mark.usefixtures("quiet", "no_worker", "shared_database", "clock")

PATHS = [EXPENSES, ORDERS, USERS, f"{EXPENSES}/x", f"{ORDERS}/x", f"{USERS}/ada"]
NAMES = st.one_of(
    st.sampled_from(["_id", "id", "amount", "category", "date", "lines", "patientName"]),
    st.sampled_from(["totalAmount", "name", "bio", "custom", "updatedAt", "version", "price"]),
    st.sampled_from(["$set", "$where", "a.b", ".", "__proto__", "", "\0", "\ud800", "_id.x"]),
    st.text(max_size=8),
)
NUMBERS = st.one_of(
    st.integers(-10, 10),
    st.sampled_from([2**53, 2**63, 2**64 - 1, 2**64, -(2**63) - 1, 10**30, -0.0, 1e308, 5e-324]),
    st.floats(allow_nan=True, allow_infinity=True),
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    st.text(st.characters(exclude_categories=[]), max_size=12),
    st.sampled_from(["x", "ada", "bob", "2024-01-15T10:30:00Z", "0000-00-00", "\0", "x" * 300]),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=10,
)
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=5)
ITEMS = st.fixed_dictionaries(
    {
        "endpoint": st.sampled_from(PATHS) | LEAVES,
        "method": st.sampled_from(["POST", "PUT", "DELETE", "GET", "put"]) | LEAVES,
    },
    optional={
        "data": OBJECTS | OBJECTS.map(lambda more: {**SALARY, **more}) | VALUES,
        "deviceId": st.sampled_from(["d"]) | LEAVES,
        "priority": st.integers(-3, 3) | NUMBERS,
        "maxAttempts": st.integers(1, 3) | NUMBERS,
        "operationId": st.sampled_from(["op", "\0", "$x"]) | LEAVES,
        "baseVersion": st.integers(0, 2) | NUMBERS,
    },
)
RIGHT = st.fixed_dictionaries(
    {
        "endpoint": st.sampled_from(PATHS),
        "method": st.just("PUT"),
        "data": OBJECTS.map(lambda more: {**more, "_id": "x", "id": "x"}),
    }
)
SHAPES = st.one_of(
    VALUES,
    ITEMS,
    ITEMS,
    RIGHT,
    st.fixed_dictionaries({"items": st.lists(ITEMS | RIGHT, max_size=4) | VALUES}),
    st.fixed_dictionaries({"keep": LEAVES}),
    OBJECTS.map(lambda more: {**SALARY, **more}),
)
BODIES = st.one_of(
    SHAPES.map(lambda value: json.dumps(value).encode()),
    SHAPES.map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")),
    st.binary(max_size=40),
)
PLACES = st.sampled_from(
    [
        *[("POST", "/api/sync/add")] * 3,
        *[("POST", "/api/sync/bulk")] * 3,
        *(("POST", EXPENSES), ("POST", ORDERS)),
        *(("PUT", f"{EXPENSES}/x"), ("PUT", f"{ORDERS}/x")),
        ("POST", "/api/sync/items/x/resolve"),
    ]
)


def check(answer: Answer) -> None:
    assert answer.status < 500, answer
    if answer.status >= 300:
        answer.problem(answer.status, json.loads(answer.raw)["code"])
        assert len(answer.raw) < 20_000


async def check_lists(queue: Queue) -> None:
    """What is stored can be read, carried out or not, and read again."""
    await queue.pending()
    processed, successful, failed = await queue.process()
    assert processed == successful + failed
    await queue.pending()
    for item in await queue.failed():
        assert len(item["error"]) < 2_000
    for path in (EXPENSES, ORDERS):
        (await queue.api.get(path)).ok()


@settings(
    max_examples=160,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(place=PLACES, body=BODIES)
async def test_any_json_is_answered_below_500(
    api: Api,
    queue: Queue,
    errors_logged: Callable[[], list[str]],
    place: tuple[str, str],
    body: bytes,
) -> None:
    method, path = place
    answer = await api.send(method, path, data=body, headers={"Content-Type": "application/json"})
    check(answer)
    if answer.status in (200, 201):
        await check_lists(queue)
    assert errors_logged() == []


def nested(depth: int, kind: str) -> str:
    if kind == "lists":
        return '{"a":' + "[" * depth + "]" * depth + "}"
    return '{"a":' * depth + "1" + "}" * depth


@pytest.mark.parametrize("kind", ["lists", "objects"])
async def test_deep_nesting_is_kept_or_refused_and_breaks_no_list(
    api: Api, queue: Queue, kind: str
) -> None:
    for depth in (2, 30, 60, 64, 65, 120, 240, 250, 260, 500, 900, 1100, 5000, 100_000):
        data = nested(depth, kind)
        item = f'{{"endpoint":"{EXPENSES}","method":"POST","maxAttempts":1,"data":{data}}}'
        for path, body in (
            ("/api/sync/add", item),
            ("/api/sync/bulk", f'{{"items":[{item}]}}'),
            (EXPENSES, data),
        ):
            answer = await api.send("POST", path, data=body.encode())
            check(answer)
            refused = answer.status in (400, 413)
            assert refused or (depth <= 64 and path != EXPENSES), (depth, path)
    await check_lists(queue)
    for item in await queue.failed():
        assert item["status"] == "failed"


WEIRD: list[Any] = [
    {"$set": {"status": "completed"}, "$where": "1", "a.b": {"$gt": ""}, "": None},
    {"__proto__": {"x": 1}, "constructor": 1, "\0": "\0"},
    {"amount": 2**64 - 1, "category": 2**63},
    {"amount": {"$numberDecimal": "1"}, "category": {"$ne": None}},
    {f"f{n}": n for n in range(500)},
    {"x" * 100_000: 1},
    {"category": "x" * 200_000},
    {"lines": [{}] * 5000},
    {"_id": "x", "date": 1e300, "amount": 1e300},
    {"description": "\u0000\u202e\ufffe", "amount": 1, "category": "\U0010ffff"},
]


async def test_strange_items_are_kept_as_they_are_and_fail_alone(queue: Queue) -> None:
    for data in WEIRD:
        for path in (EXPENSES, ORDERS):
            item = await queue.add(path, "POST", data, maxAttempts=1)
            assert item["data"] == data
    good = await queue.add(EXPENSES, "POST", SALARY, priority=-1)
    assert [item["data"] for item in await queue.pending()][: 2 * len(WEIRD) : 2] == WEIRD
    processed, successful, failed = await queue.process()
    assert processed == 2 * len(WEIRD) + 1
    assert (await queue.item(good))["status"] == "completed"
    for item in await queue.failed():
        assert 0 < len(item["error"]) < 2_000
    assert successful + failed == processed


async def test_a_lone_surrogate_is_mended(api: Api) -> None:
    for text in (r"\ud800", r"\udc00\ud800"):
        body = f'{{"endpoint":"{EXPENSES}","method":"POST","data":{{"{text}":"{text}"}}}}'
        added = await api.post_raw("/api/sync/add", body.encode())
        assert added.status == 201, added
        assert "\ufffd" in next(iter(added.json["syncItem"]["data"]))
        for path in ("/api/sync/bulk", EXPENSES):
            answer = await api.post_raw(path, body.encode())
            assert answer.status == 400
            assert b"invalid_json" not in answer.raw
