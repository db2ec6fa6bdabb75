"""Redis is away: logins work, and every process counts their failures by itself."""

import asyncio
from typing import Any

from server.embedded import PrivateServer
from tests.outages import frozen
from tests.registering import WRONG, failed, instances, log_in, registered, throttled, together


async def test_while_redis_is_away_logins_work_and_each_process_throttles_by_itself(
    stores: dict[str, Any], own_redis: PrivateServer
) -> None:
    own = {**stores, "redis_url": own_redis.url, "redis_timeout": 0.3}
    async with instances(own, 2) as (one, two):
        await registered(one)
        await registered(one, "bob")
        await own_redis.stop()
        (await log_in(one, "ada")).ok()
        failed(*await together(*(log_in(one, "ada", WRONG) for _ in range(3))))
        throttled(await log_in(one, "ada"), await log_in(one, "ada", WRONG))
        (await log_in(one, "bob")).ok()
        failed(*await together(*(log_in(two, "ada", WRONG) for _ in range(3))))
        throttled(await log_in(two, "ada"))


async def test_while_redis_is_away_successful_logins_do_not_count_either(
    stores: dict[str, Any], own_redis: PrivateServer
) -> None:
    own = {**stores, "redis_url": own_redis.url, "redis_timeout": 0.3}
    async with instances(own, login_failures_per_address=3) as (http,):
        await registered(http)
        await own_redis.stop()
        for answer in [await log_in(http, "ada") for _ in range(8)]:
            answer.ok()
        failed(*await together(*(log_in(http, "ada", WRONG) for _ in range(3))))
        throttled(await log_in(http, "ada"))


async def test_while_redis_answers_nothing_logins_work(
    stores: dict[str, Any], own_redis: PrivateServer
) -> None:
    own = {**stores, "redis_url": own_redis.url, "redis_timeout": 0.3}
    async with instances(own) as (http,):
        await registered(http)
        with frozen(own_redis):
            async with asyncio.timeout(5):
                (await log_in(http, "ada")).ok()
                failed(*await together(*(log_in(http, "ada", WRONG) for _ in range(3))))
                throttled(await log_in(http, "ada"))
