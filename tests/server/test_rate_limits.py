"""RATE_LIMIT_PER_MINUTE: per user over REST; per address while nobody is known."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from tests.rest import Answer, Api
from tests.serving import serving
from tests.waiting import soon

pytestmark = pytest.mark.usefixtures("quiet")

OWN = "/api/users/ada/stats"


@asynccontextmanager
async def limited(
    stores: dict[str, Any], per_minute: int = 3, **settings: Any
) -> AsyncIterator[aiohttp.ClientSession]:
    async with (
        serving(**stores, rate_limit_per_minute=per_minute, **settings) as server,
        aiohttp.ClientSession(server.url) as http,
    ):
        yield http


async def from_address(http: aiohttp.ClientSession, *forwarded: str) -> Answer:
    """An unsigned request with these X-Forwarded-For headers: it counts for its address."""
    async with http.get(OWN, headers=[("X-Forwarded-For", hop) for hop in forwarded]) as answer:
        return Answer(answer.status, answer.headers, await answer.read())


async def test_beyond_the_limit_a_user_gets_429_with_the_time_to_wait(
    stores: dict[str, Any],
) -> None:
    async with limited(stores) as http:
        ada = Api(http)
        for _ in range(3):
            assert (await ada.get(OWN)).status == 200
        answer = await ada.get(OWN)
        answer.problem(429, "rate_limited")
        assert 15 <= int(answer.headers["Retry-After"]) <= 20  # one in 20 s


async def test_after_the_time_to_wait_it_goes_on(stores: dict[str, Any]) -> None:
    async with limited(stores, per_minute=120) as http:
        ada = Api(http)
        while (answer := await ada.get(OWN)).status == 200:
            pass
        wait = int(answer.headers["Retry-After"])
        assert wait == 1

        async def served() -> None:
            assert (await ada.get(OWN)).status == 200

        await soon(served, within=wait + 0.5)


async def test_the_limit_is_each_users_own_over_all_their_tokens_and_routes(
    stores: dict[str, Any],
) -> None:
    async with limited(stores) as http:
        await Api(http, iat=1).get(OWN)
        await Api(http, iat=2).post("/api/users/data/patch", {})
        await Api(http, iat=3).post("/api/users/stats/batch", {"userIds": []})
        (await Api(http, iat=4).get(OWN)).problem(429, "rate_limited")
        assert (await Api(http, "bob").get("/api/users/bob/stats")).status == 200


async def test_refused_requests_count_too(stores: dict[str, Any]) -> None:
    async with limited(stores) as http:
        ada = Api(http)
        (await ada.get("/api/users/bob/stats")).problem(403, "forbidden")
        (await ada.post_raw("/api/users/data/patch", b"{")).problem(400, "invalid_json")
        (await ada.post("/api/users/data/patch", {"gold": 1})).problem(400, "unknown_field")
        (await ada.get(OWN)).problem(429, "rate_limited")


async def test_guessing_tokens_is_limited_by_address_and_does_not_touch_users(
    stores: dict[str, Any],
) -> None:
    async with limited(stores) as http:
        nobody = Api(http, None)
        for guess in ("a", "b", "c"):
            answer = await nobody.get(OWN, headers={"Authorization": f"Bearer {guess}"})
            answer.problem(401, "invalid_token")
        (await nobody.get(OWN)).problem(429, "rate_limited")
        assert (await Api(http).get(OWN)).status == 200


async def test_health_and_metrics_are_not_limited(stores: dict[str, Any]) -> None:
    async with limited(stores, per_minute=1) as http:
        for api in (Api(http), Api(http, None)):
            for path in ("/health", "/health/live", "/health/ready", "/metrics") * 5:
                assert (await api.get(path)).status == 200


async def test_a_limit_of_0_is_none(stores: dict[str, Any]) -> None:
    async with limited(stores, per_minute=0) as http:
        for _ in range(150):
            assert (await Api(http).get(OWN)).status == 200


async def test_the_default_is_100_a_minute(stores: dict[str, Any]) -> None:
    async with limited(stores, per_minute=100) as http:
        statuses = [(await Api(http).get(OWN)).status for _ in range(105)]
    assert statuses[:100] == [200] * 100
    assert 429 in statuses[100:]


# ---- whose address it is


async def test_a_forwarded_address_of_just_anybody_is_not_believed(
    stores: dict[str, Any],
) -> None:
    async with limited(stores) as http:
        for n in range(3):
            (await from_address(http, f"203.0.113.{n}")).problem(401, "missing_token")
        (await from_address(http, "203.0.113.9")).problem(429, "rate_limited")


async def test_behind_a_trusted_proxy_each_client_has_its_own_limit(
    stores: dict[str, Any],
) -> None:
    async with limited(
        stores, per_minute=1, trusted_proxies="127.0.0.0/8, ::1, 10.0.0.0/8"
    ) as http:
        for client in ("203.0.113.1", "203.0.113.2", "2001:db8::1", "2001:db8::2"):
            (await from_address(http, client)).problem(401, "missing_token")
            (await from_address(http, client)).problem(429, "rate_limited")
            # through a second trusted proxy
            (await from_address(http, f"{client}, 10.1.2.3")).problem(429, "rate_limited")
            (await from_address(http, client, "10.1.2.3")).problem(429, "rate_limited")


async def test_behind_a_trusted_proxy_the_client_cannot_choose_its_address(
    stores: dict[str, Any],
) -> None:
    async with limited(stores, per_minute=1, trusted_proxies="127.0.0.1") as http:
        await from_address(http, "203.0.113.1")
        for spoofed in ("198.51.100.7", "127.0.0.1", "garbage", "", "x" * 500):
            answer = await from_address(http, f"{spoofed}, 203.0.113.1")
            answer.problem(429, "rate_limited")
            (await from_address(http, spoofed, "203.0.113.1")).problem(429, "rate_limited")


async def test_a_garbled_forwarded_address_counts_for_the_proxy(stores: dict[str, Any]) -> None:
    async with limited(stores, per_minute=1, trusted_proxies="127.0.0.1") as http:
        (await from_address(http, "unknown")).problem(401, "missing_token")
        for garbled in ("_hidden", "", "203.0.113.1:9", "1.2.3.4.5", "[2001:db8::1]:80"):
            (await from_address(http, garbled)).problem(429, "rate_limited")
