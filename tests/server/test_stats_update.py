"""POST /api/users/updateStats: last write wins."""

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.rest import DEFAULTS, Api

pytestmark = pytest.mark.usefixtures("quiet")

UPDATE = "/api/users/updateStats"

SAMPLE: dict[str, Any] = {
    "xp": 160,
    "hearts": 4,
    "diamonds": 26,
    "level": 3,
    "streak": 8,
    "accuracy": 86,
    "maxStreak": 12,
    "completedQuestions": 51,
    "correctAnswers": 44,
    "wrongAnswers": 7,
    "totalQuestions": 51,
    "timePerQuestion": [2.5, 3.1, 2.8, 2.9],
    "totalTimeSpent": 155,
    "lastGameResults": {"score": 12, "won": True},
    "updatedAt": "2024-01-15T10:35:00Z",
}


def millis(iso: str) -> int:
    return round(datetime.fromisoformat(iso).timestamp() * 1000)


def now() -> int:
    return int(time.time() * 1000)


async def test_the_sample_of_the_app_is_stored_as_it_is(api: Api) -> None:
    answer = await api.update(SAMPLE, userId="ada")
    assert answer.keys() == {"applied", "stats"}
    assert answer["applied"] is True
    stored = {**SAMPLE, "updatedAt": "2024-01-15T10:35:00.000Z", "userId": "ada", "rev": 1}
    assert answer["stats"] == stored == await api.stats()


async def test_fields_given_replace_and_absent_ones_stay(api: Api) -> None:
    await api.update({"xp": 5, "diamonds": 7})
    answer = await api.update({"xp": 2, "timePerQuestion": [1]})
    wanted = {**DEFAULTS, "xp": 2, "diamonds": 7, "timePerQuestion": [1]}
    assert {name: answer["stats"][name] for name in DEFAULTS} == wanted


async def test_a_pulled_document_can_be_posted_back(api: Api) -> None:
    for _ in range(2):  # never written, then written
        pulled = await api.stats()
        answer = await api.update(pulled, userId="ada")
        assert answer == {"applied": True, "stats": pulled}
        await api.patch(xp=1)


async def test_an_edited_document_can_be_posted_back(api: Api) -> None:
    pulled = await api.patch(xp=1)
    del pulled["duplicate"]
    answer = await api.update({**pulled, "xp": 9})
    assert answer["applied"] is True
    assert answer["stats"] == {**pulled, "xp": 9, "rev": 2}


async def test_user_id_and_rev_inside_stats_are_ignored(api: Api, service: Api) -> None:
    answer = await api.update({"userId": "bob", "rev": 99, "xp": 3})
    assert (answer["stats"]["userId"], answer["stats"]["rev"]) == ("ada", 1)
    assert (await service.stats("bob"))["rev"] == 0


async def test_the_older_write_loses_and_gets_the_stored_document(api: Api) -> None:
    stored = (await api.update(SAMPLE))["stats"]
    late = await api.update({"xp": 1, "updatedAt": "2024-01-15T10:34:59.999Z"})
    assert late == {"applied": False, "stats": stored}
    assert await api.stats() == stored


async def test_the_same_time_wins(api: Api) -> None:
    await api.update(SAMPLE)
    answer = await api.update({"xp": 1, "updatedAt": SAMPLE["updatedAt"]})
    assert (answer["applied"], answer["stats"]["xp"]) == (True, 1)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (1_705_856_400_000, "2024-01-21T17:00:00.000Z"),
        (1_705_856_400_000.0, "2024-01-21T17:00:00.000Z"),
        ("2024-01-21T17:00:00Z", "2024-01-21T17:00:00.000Z"),
        ("2024-01-21T17:00:00.123Z", "2024-01-21T17:00:00.123Z"),
        ("2024-01-21T17:00:00.123456+00:00", "2024-01-21T17:00:00.123Z"),
        ("2024-01-21T18:30:00+01:30", "2024-01-21T17:00:00.000Z"),
        ("2024-01-21T17:00:00", "2024-01-21T17:00:00.000Z"),
    ],
)
async def test_both_forms_of_time_are_taken(api: Api, given: object, stored: str) -> None:
    answer = await api.update({"xp": 1, "updatedAt": given})
    assert answer["stats"]["updatedAt"] == stored


@pytest.mark.parametrize("ahead", ["2999-01-01T00:00:00Z", 32_503_680_000_000])
async def test_a_time_ahead_of_the_server_counts_as_now(api: Api, ahead: object) -> None:
    before = now()
    answer = await api.update({"xp": 1, "updatedAt": ahead})
    assert answer["applied"] is True
    assert before <= millis(answer["stats"]["updatedAt"]) <= now()
    # Otherwise nobody with a right clock could write for centuries.
    assert (await api.update({"xp": 2}))["applied"] is True


async def test_without_a_time_it_is_now(api: Api) -> None:
    await api.update(SAMPLE)
    before = now()
    answer = await api.update({"xp": 1})
    assert answer["applied"] is True
    assert before <= millis(answer["stats"]["updatedAt"]) <= now()


async def test_a_stored_time_never_goes_back(api: Api) -> None:
    patched = await api.patch(xp=1)
    assert abs(millis(patched["updatedAt"]) - datetime.now(UTC).timestamp() * 1000) < 60_000
    assert (await api.update(SAMPLE))["applied"] is False
    assert (await api.patch(xp=1))["updatedAt"] >= patched["updatedAt"]


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({}, "missing_field", "/stats"),
        ({"stats": None}, "invalid_type", "/stats"),
        ({"stats": []}, "invalid_type", "/stats"),
        ({"stats": {}, "xp": 1}, "unknown_field", "/xp"),
        ({"stats": {}, "userId": 7}, "invalid_type", "/userId"),
        ({"stats": {}, "userId": "$"}, "invalid_id", "/userId"),
    ],
)
async def test_a_faulty_body_is_refused_naming_the_field(
    api: Api, body: dict[str, object], code: str, pointer: str
) -> None:
    (await api.post(UPDATE, body)).refused_field(400, code, pointer)


@pytest.mark.parametrize(
    ("stats", "code", "field"),
    [
        ({"gold": 1}, "unknown_field", "gold"),
        ({"xp": -1}, "invalid_value", "xp"),
        ({"xp": "160"}, "invalid_type", "xp"),
        ({"updatedAt": "yesterday"}, "invalid_value", "updatedAt"),
        ({"updatedAt": None}, "invalid_value", "updatedAt"),
        ({"updatedAt": -1}, "invalid_value", "updatedAt"),
        ({"updatedAt": True}, "invalid_value", "updatedAt"),
        ({"lastGameResults": {"$set": 1}}, "invalid_value", "lastGameResults"),
        ({"timePerQuestion": [1] * 1001}, "invalid_value", "timePerQuestion"),
    ],
)
async def test_a_faulty_field_is_refused_and_nothing_is_stored(
    api: Api, stats: dict[str, object], code: str, field: str
) -> None:
    answer = await api.post(UPDATE, {"stats": {"xp": 1, **stats}})
    assert (await api.stats())["rev"] == 0
    answer.refused_name(400, code, field)
