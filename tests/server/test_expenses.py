"""Expenses over REST: one's own, exact, in pages that are complete, changed version by version."""

import asyncio
import json
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from tests.queues import EXPENSES, SALARY
from tests.rest import ISO, Api

pytestmark = [pytest.mark.usefixtures("quiet", "no_worker", "shared_database")]


async def made(api: Api, **fields: Any) -> Any:
    answer = await api.post(EXPENSES, {**SALARY, **fields})
    assert answer.status == 201, answer
    return answer.json


async def test_an_expense_is_made_read_changed_in_part_and_removed(api: Api) -> None:
    answer = await api.post(EXPENSES, {"amount": 12.3, "category": "Food", "description": "Tea"})
    assert answer.status == 201
    first = answer.json
    assert first["_id"] == first["id"]
    assert (first["amount"], first["category"], first["description"]) == (12.3, "Food", "Tea")
    assert first["version"] == 1
    assert all(ISO.fullmatch(first[name]) for name in ("date", "createdAt", "updatedAt"))
    path = f"{EXPENSES}/{first['_id']}"
    shown = await api.get(path)
    assert shown.ok() == first
    assert shown.headers["ETag"] == answer.headers["ETag"]

    changed = await api.send("PUT", path, json={"amount": 12.4, "date": "2025-12-10T10:00:00Z"})
    second = changed.ok()
    assert second["updatedAt"] >= first["updatedAt"]
    assert second == {
        **first,
        "amount": 12.4,
        "date": "2025-12-10T10:00:00.000Z",
        "version": 2,
        "updatedAt": second["updatedAt"],
    }
    assert changed.headers["ETag"] != answer.headers["ETag"]
    # A pulled one may be sent back whole.
    assert (await api.send("PUT", path, json={**second, "category": "Drinks"})).ok()["version"] == 3
    assert (await api.get(path)).ok()["category"] == "Drinks"

    (await api.send("DELETE", path)).ok()
    for method in ("GET", "PUT", "DELETE"):
        (await api.send(method, path, json={})).problem(404, "not_found")


async def test_it_may_bring_its_id_and_none_is_there_twice(api: Api) -> None:
    assert (await made(api, _id="mine"))["_id"] == "mine"
    assert (await made(api, id="other"))["_id"] == "other"
    (await api.post(EXPENSES, {**SALARY, "_id": "mine"})).problem(409, "id_taken")
    for ids in ({"_id": "a b"}, {"_id": "$x"}, {"id": 7}, {"_id": "a", "id": "b"}):
        (await api.post(EXPENSES, {**SALARY, **ids})).problem(400, "invalid_id")
    (await api.send("PUT", f"{EXPENSES}/mine", json={"_id": "other"})).problem(400, "invalid_id")
    (await api.get(f"{EXPENSES}/a%20b")).problem(400, "invalid_id")


async def test_everybody_has_their_own(api: Api, http: aiohttp.ClientSession) -> None:
    await made(api, _id="x", amount=1)
    bob = Api(http, "bob")
    path = f"{EXPENSES}/x"
    for method in ("GET", "PUT", "DELETE"):
        (await bob.send(method, path, json={"amount": 9})).problem(404, "not_found")
    assert (await bob.get(EXPENSES)).ok()["count"] == 0
    await made(bob, _id="x", amount=2)  # the same id is another document
    assert (await api.get(path)).ok()["amount"] == 1
    assert (await bob.get(path)).ok()["amount"] == 2
    (await Api(http, None).get(EXPENSES)).problem(401, "missing_token")
    (await Api(http, None).post(EXPENSES, SALARY)).problem(401, "missing_token")


async def test_needed_fields_are_needed_and_others_refused_by_name(api: Api) -> None:
    for name in SALARY:
        body = {key: value for key, value in SALARY.items() if key != name}
        (await api.post(EXPENSES, body)).refused_field(400, "missing_field", f"/{name}")
    for name, value, code in (
        ("amount", "12.30", "invalid_type"),
        ("amount", True, "invalid_type"),
        ("amount", None, "invalid_type"),
        ("amount", 10**15, "invalid_value"),
        ("amount", 0.1234567, "invalid_value"),
        ("category", 7, "invalid_type"),
        ("date", "soon", "invalid_value"),
        ("colour", "red", "unknown_field"),
        ("$set", {}, "unknown_field"),
    ):
        body = {**SALARY, name: value}
        (await api.post(EXPENSES, body)).refused_field(400, code, f"/{name}")
    for text in ("NaN", "Infinity", "1e400", "-1e400"):
        body = f'{{"amount":{text},"category":""}}'.encode()
        (await api.post_raw(EXPENSES, body)).problem(400, "invalid_json")
    for body in (b"[]", b"1", b'"x"', b"null"):
        (await api.post_raw(EXPENSES, body)).problem(400, "invalid_type")
    assert (await api.get(EXPENSES)).ok()["count"] == 0


async def test_the_total_is_exact(api: Api) -> None:
    for amount in (0.1, 0.2):
        await made(api, amount=amount)
    assert (await api.get(EXPENSES)).ok()["total"] == 0.3
    for amount in (0.7, -0.1, 1e-06, 123456789012.345, 999999999999999, 5):
        await made(api, amount=amount)
    raw = (await api.get(f"{EXPENSES}?limit=1")).raw
    page = json.loads(raw, parse_float=Decimal, parse_int=Decimal)
    assert page["total"] == Decimal("1000123456789017.245001")
    assert page["count"] == 8


async def test_pages_have_each_once_though_others_come_and_go(api: Api) -> None:
    await asyncio.gather(*(made(api, _id=f"e{n:02}") for n in range(25)))
    seen: list[str] = []
    cursor: str | None = None
    while True:
        place = "" if cursor is None else f"&cursor={cursor}"
        page = (await api.get(f"{EXPENSES}?limit=10{place}")).ok()
        assert page.keys() == {"expenses", "count", "total", "cursor"}
        seen += [expense["_id"] for expense in page["expenses"]]
        if cursor is None:  # what is behind the cursor goes on
            await made(api, _id="e00b")
            (await api.send("DELETE", f"{EXPENSES}/{page['cursor']}")).ok()
        if (cursor := page["cursor"]) is None:
            break
    assert seen == [f"e{n:02}" for n in range(25)]
    assert (page["count"], page["total"]) == (25, 2500)
    for query in ("limit=0", "limit=201", "limit=x", "cursor=a%20b", "cursor=", "page=1"):
        assert (await api.get(f"{EXPENSES}?{query}")).status == 400, query


async def test_a_change_may_be_for_one_version_only(api: Api) -> None:
    first = await api.post(EXPENSES, {**SALARY, "_id": "x"})
    tag, path = first.headers["ETag"], f"{EXPENSES}/x"
    assert tag.startswith('"')
    answer = await api.send("PUT", path, json={"amount": 2}, headers={"If-Match": tag})
    newer = answer.headers["ETag"]
    assert answer.ok()["amount"] == 2
    for stale in (tag, '"no"', '"99999999999999999999"', "W/" + newer, '""', "\u00b2"):
        for method in ("PUT", "DELETE"):
            answer = await api.send(method, path, json={"amount": 3}, headers={"If-Match": stale})
            answer.problem(412, "precondition_failed")
    several = {"If-Match": f"{tag}, {newer}"}
    newer = (await api.send("PUT", path, json={"amount": 4}, headers=several)).headers["ETag"]
    (await api.send("PUT", path, json={"amount": 5}, headers={"If-Match": "*"})).ok()
    (await api.send("DELETE", path, headers={"If-Match": newer})).problem(
        412, "precondition_failed"
    )
    assert (await api.get(path)).ok()["amount"] == 5
    (await api.send("DELETE", path)).ok()


async def test_of_changes_at_the_same_time_for_one_version_one_wins(api: Api) -> None:
    tag = (await api.post(EXPENSES, {**SALARY, "_id": "x"})).headers["ETag"]
    answers = await asyncio.gather(
        *(
            api.send("PUT", f"{EXPENSES}/x", json={"amount": n}, headers={"If-Match": tag})
            for n in range(6)
        )
    )
    assert sorted(answer.status for answer in answers) == [200, *[412] * 5]
    assert (await api.get(f"{EXPENSES}/x")).ok()["version"] == 2
