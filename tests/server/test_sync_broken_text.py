"""JavaScript writes half an emoji where it cuts a text: that must not hold up a whole queue."""

import json
from typing import Any

import pytest

from tests.rest import Api


def change(operation: str, row_id: str, title: str) -> dict[str, Any]:
    return {
        "operationId": operation,
        "id": row_id,
        "entityType": "item",
        "operation": "create",
        "data": {"title": title},
        "timestamp": 1,
        "deviceId": "phone",
    }


async def test_half_a_surrogate_pair_becomes_a_replacement_character(api: Api) -> None:
    titles = ["half \ud83d", "\ude00 half", "whole \U0001f600", "\\ud83d as it is", "ä"]
    changes = [change(f"op-{n}", f"i{n}", title) for n, title in enumerate(titles)]
    changes.append(change("op-\ud83d", "i9", "its id too"))
    body = json.dumps({"deviceId": "phone", "changes": changes}).encode()
    for _ in range(2):
        acks = (await api.post_raw("/api/sync", body)).ok()["data"]["acknowledged"]
        assert all(ack["success"] for ack in acks)
    assert all(ack["duplicate"] for ack in acks)
    assert acks[-1]["operationId"] == "op-\ufffd"
    rows = (await api.get("/api/sync/initial")).ok()["data"]["serverUpdates"]["items"]
    assert {row["id"]: row["title"] for row in rows} == {
        "i0": "half \ufffd",
        "i1": "\ufffd half",
        "i2": "whole \U0001f600",
        "i3": "\\ud83d as it is",
        "i4": "ä",
        "i9": "its id too",
    }


@pytest.mark.parametrize(
    "body",
    [
        b'{"deviceId": "\\ud83d", "changes": [NaN]}',
        b'{"deviceId": "\\ud83d"',
        b'{"\\ud83d": 1' + b"0" * 5000 + b"}",
        b'{"a": "\\ud83d", "b": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=["NaN", "cut off", "an endless number", "very deep"],
)
async def test_what_is_no_json_besides_stays_refused(api: Api, body: bytes) -> None:
    assert (await api.post_raw("/api/sync", body)).status == 400
