"""POST /api/users/stats/batch: what anyone may see of many users."""

from typing import Any

import pytest

from tests.rest import PUBLIC_DEFAULTS, Api

pytestmark = pytest.mark.usefixtures("quiet")

BATCH = "/api/users/stats/batch"


async def ask(api: Api, *users: Any) -> Any:
    return (await api.post(BATCH, {"userIds": list(users)})).ok()


async def test_public_stats_by_id_and_nothing_else_of_anyone(api: Api, service: Api) -> None:
    await api.patch(xp=5, diamonds=9, streak=2, maxStreak=4)
    await service.patch(userId="bob", xp=6, level=1)
    assert await ask(api, "ada", "bob", "nobody") == {
        "ada": {"xp": 5, "level": 1, "streak": 2, "maxStreak": 4},
        "bob": {"xp": 6, "level": 2, "streak": 0, "maxStreak": 0},
        "nobody": PUBLIC_DEFAULTS,
    }


async def test_a_user_named_twice_is_answered_once(api: Api) -> None:
    assert await ask(api, "bob", "bob", "bob") == {"bob": PUBLIC_DEFAULTS}


async def test_no_users_are_no_stats(api: Api) -> None:
    assert await ask(api) == {}


async def test_at_most_200_users(api: Api) -> None:
    users = [f"user{n}" for n in range(200)]
    assert (await ask(api, *users)).keys() == set(users)
    answer = await api.post(BATCH, {"userIds": [*users, "one-more"]})
    answer.refused_field(400, "invalid_value", "/userIds")


async def test_it_needs_a_token(http: Any) -> None:
    answer = await Api(http, None).post(BATCH, {"userIds": ["bob"]})
    answer.problem(401, "missing_token")


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({}, "missing_field", "/userIds"),
        ({"userIds": "ada"}, "invalid_type", "/userIds"),
        ({"userIds": {"ada": 1}}, "invalid_type", "/userIds"),
        ({"userIds": ["ada", 7]}, "invalid_type", "/userIds/1"),
        ({"userIds": [None]}, "invalid_type", "/userIds/0"),
        ({"userIds": [], "fields": ["diamonds"]}, "unknown_field", "/fields"),
    ],
)
async def test_a_faulty_batch_is_refused_naming_the_field(
    api: Api, body: dict[str, object], code: str, pointer: str
) -> None:
    (await api.post(BATCH, body)).refused_field(400, code, pointer)


@pytest.mark.parametrize("user", ["$where", "", "a b", "a" * 129])
async def test_an_ill_formed_id_is_refused(api: Api, user: str) -> None:
    (await api.post(BATCH, {"userIds": ["ada", user]})).problem(400, "invalid_id")
