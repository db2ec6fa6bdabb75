"""Whatever JSON a push is: an answer below 500, and nothing in the log at ERROR."""

import json
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.rest import ISO, Api
from tests.server.test_fuzz import VALUES
from tests.syncing import INITIAL, LOG, SYNC_PATH, at

IDS = st.sampled_from(["a", "b", "s", "a" * 128, "", "$a", "a b", "é"])
FIELDS = st.sampled_from(
    [
        *("title", "notes", "tags", "order", "priority", "isCompleted", "spaceId", "categoryId"),
        *("id", "_id", "userId", "updatedAt", "deletedAt", "poster", "$set", "a.b", "__proto__"),
    ]
)
DATA = st.dictionaries(FIELDS, VALUES | IDS, max_size=4)
TIMES = st.one_of(
    st.sampled_from([at(), at(5), at(-5), "2999-01-01T00:00:00Z", "2025-12-29T14:30:00.123456"]),
    st.integers(0, 2**45),
)


def mostly(right: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """What is due, and sometimes anything."""
    return st.integers(0, 9).flatmap(lambda n: right if n else VALUES)


CHANGES = mostly(
    st.fixed_dictionaries(
        {
            "operationId": mostly(st.sampled_from(["o1", "o2", "o3"]) | st.text(max_size=130)),
            "id": mostly(IDS),
            "entityType": mostly(st.sampled_from(["item", "space", "category"])),
            "operation": mostly(st.sampled_from(["create", "update", "delete"])),
            "timestamp": mostly(TIMES),
        },
        optional={"data": mostly(DATA), "deviceId": mostly(st.sampled_from(["x", "y"]))},
    )
)
BODIES = mostly(
    st.fixed_dictionaries(
        {"deviceId": mostly(st.just("phone")), "changes": mostly(st.lists(CHANGES, max_size=8))},
        optional={
            "lastSyncTimestamp": mostly(st.none() | TIMES),
            "limit": mostly(st.integers(1, 5)),
            "pageToken": mostly(st.text(max_size=40)),
            "epoch": mostly(st.none()),
        },
    )
)


@settings(
    max_examples=250,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(body=BODIES)
async def test_any_json_is_answered_below_500_and_each_change_acknowledged(
    api: Api, errors_logged: Callable[[], list[str]], body: Any
) -> None:
    answer = await api.post_raw(SYNC_PATH, json.dumps(body).encode())
    assert answer.status in (200, 400, 410), answer
    if answer.status != 200:
        answer.problem(answer.status, json.loads(answer.raw)["code"])
    else:
        acks = answer.ok()["data"]["acknowledged"]
        assert len(acks) == len(body.get("changes", []))
        for ack in acks:
            assert ack.keys() >= {"operationId", "id", "success"}
            assert ack["success"] or {"code", "message", "retryable"} <= ack.keys()
            assert ack.get("code") not in ("internal", "unavailable")
    assert errors_logged() == []
    await _check_what_is_stored(api)


async def _check_what_is_stored(api: Api) -> None:
    """Whatever was accepted, the rows are still rows."""
    for of in (await api.get(INITIAL)).ok()["data"]["serverUpdates"].values():
        for row in of:
            assert row["id"] == row["_id"]
            assert row["userId"] == "ada"
            assert ISO.fullmatch(row["createdAt"])
            assert ISO.fullmatch(row["updatedAt"])
            assert not row.keys() & {"poster", "$set", "a.b", "__proto__"}


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    params=st.dictionaries(
        st.sampled_from(["limit", "pageToken", "cursor", "$where"]),
        st.sampled_from(["", "0", "5", "1e3", "null", "W10", "AAAA", "1.00", "{}"])
        | st.text(max_size=20).filter(lambda text: text.isprintable()),
        max_size=3,
    )
)
async def test_any_query_is_answered_below_500(
    api: Api, errors_logged: Callable[[], list[str]], params: dict[str, str]
) -> None:
    for path in (INITIAL, LOG):
        answer = await api.get(path, params=params)
        assert answer.status in (200, 400), answer
    assert errors_logged() == []
