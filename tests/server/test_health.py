"""/health for people, /health/live and /health/ready for orchestrators."""

import dataclasses
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from redis.asyncio import Redis

from realtime.limits import LiveLimits
from server.app import create_app
from server.embedded import PrivateServer
from server.keys import DRAINING
from server.settings import Settings
from tests.clients_py import joined
from tests.rest import ISO, Api
from tests.serving import QUICK, Served, serving
from tests.waiting import soon


@asynccontextmanager
async def asking(url: str) -> AsyncIterator[Api]:
    async with aiohttp.ClientSession(url) as http:
        yield Api(http, None)


async def test_health_has_the_documented_shape(served: Served, service: Api) -> None:
    nobody = await service.get("/health")
    body = nobody.ok()
    assert nobody.headers["Cache-Control"] == "no-store"
    assert ISO.fullmatch(body.pop("timestamp"))
    assert 0 <= body.pop("uptime") < 60
    instance = body.pop("instance")
    assert re.fullmatch(r"[0-9a-f]{12}", instance.pop("id"))
    assert instance == {"connectedClients": 0, "connectedUsers": 0, "ready": True}
    assert body == {
        "status": "OK",
        "connectedClients": 0,
        "connectedUsers": 0,
        "totalUsers": 0,
        "version": version("livetally"),
        "components": {"mongodb": {"status": "up"}, "redis": {"status": "up"}},
    }


async def test_the_counts_are_the_clusters_and_instance_has_this_processs(
    stores: dict[str, Any],
) -> None:
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(serving(**stores))
        two = await stack.enter_async_context(serving(**stores))
        first = await stack.enter_async_context(asking(one.url))
        second = await stack.enter_async_context(asking(two.url))

        async def counted(cluster: tuple[int, int], *instances: tuple[int, int]) -> None:
            for api, here in zip((first, second), instances, strict=True):
                body = (await api.get("/health")).ok()
                assert (body["connectedClients"], body["connectedUsers"]) == cluster
                instance = body["instance"]
                assert (instance["connectedClients"], instance["connectedUsers"]) == here

        async with joined(one.url, "ada"), joined(two.url, "ada"), joined(two.url, "ada"):
            async with joined(one.url, "bob"):
                await soon(lambda: counted((4, 2), (2, 2), (2, 1)))
            await soon(lambda: counted((3, 1), (1, 1), (2, 1)))
        ids = {(await api.get("/health")).ok()["instance"]["id"] for api in (first, second)}
        assert len(ids) == 2


async def test_total_users_counts_stored_users(stores: dict[str, Any]) -> None:
    async with serving(**stores) as server, joined(server.url) as phone:
        for n in range(3):
            assert (await phone.call("user:clientUpdate", {"xp": n + 1}))["ok"]
    async with serving(**stores) as server, asking(server.url) as api:
        assert (await api.get("/health")).ok()["totalUsers"] == 1


# ---- when something is away


async def test_without_redis_health_is_degraded_and_still_200_and_ready(
    stores: dict[str, Any], own_redis: PrivateServer
) -> None:
    settings = {**stores, "redis_url": own_redis.url}
    async with serving(**settings) as server, asking(server.url) as api, joined(server.url):
        await own_redis.kill()

        async def degraded() -> None:
            body = (await api.get("/health")).ok()
            assert body["status"] == "DEGRADED"
            assert body["components"] == {"mongodb": {"status": "up"}, "redis": {"status": "down"}}
            assert body["connectedClients"] == body["connectedUsers"] == 1  # its own, at least

        await soon(degraded)
        assert (await api.get("/health/ready")).ok() == {"status": "ready"}
        await own_redis.restart()

        async def fine() -> None:
            assert (await api.get("/health")).ok()["status"] == "OK"

        await soon(fine)


async def test_without_mongodb_health_is_down_and_503_and_not_ready_but_live(
    stores: dict[str, Any], own_mongod: PrivateServer
) -> None:
    await own_mongod.kill()
    settings = {**stores, "mongodb_uri": own_mongod.url}
    async with serving(**settings) as server, asking(server.url) as api:
        answer = await api.get("/health")
        assert answer.status == 503
        assert answer.json["status"] == "DOWN"
        components = {"mongodb": {"status": "down"}, "redis": {"status": "up"}}
        assert answer.json["components"] == components
        assert answer.json["instance"]["ready"] is False
        answer = await api.get("/health/ready")
        assert answer.status == 503
        assert answer.json == {"status": "not ready", "reasons": ["mongodb away"]}
        assert (await api.get("/health/live")).ok() == {"status": "live"}
        await own_mongod.restart()

        async def fine() -> None:
            assert (await api.get("/health")).ok()["status"] == "OK"
            assert (await api.get("/health/ready")).status == 200

        await soon(fine)


async def test_a_draining_instance_is_healthy_and_not_ready(served: Served, api: Api) -> None:
    assert (await api.get("/health/ready")).ok() == {"status": "ready"}
    served.app[DRAINING].set()
    answer = await api.get("/health/ready")
    assert answer.status == 503
    assert answer.json == {"status": "not ready", "reasons": ["draining"]}
    body = (await api.get("/health")).ok()
    assert (body["status"], body["instance"]["ready"]) == ("OK", False)
    assert (await api.get("/health/live")).status == 200


class QuickEcho(Settings):
    """Settings with an echo that need not be waited for."""

    def limits(self) -> LiveLimits:
        return dataclasses.replace(super().limits(), echo_every=0.1, echo_timeout=0.5)


async def test_an_instance_that_redis_answers_but_does_not_bring_messages_is_not_ready(
    stores: dict[str, Any], own_redis: PrivateServer
) -> None:
    settings = QuickEcho(**{**QUICK, **stores, "redis_url": own_redis.url})
    runner = web.AppRunner(create_app(settings), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with asking(url) as api, Redis.from_url(own_redis.url) as admin:
            assert (await api.get("/health/ready")).status == 200
            await admin.execute_command("ACL", "SETUSER", "default", "-subscribe")
            await admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

            async def deaf() -> None:
                answer = await api.get("/health/ready")
                assert answer.status == 503
                [reason] = answer.json["reasons"]
                assert "do not come back" in reason

            await soon(deaf)
            assert (await api.get("/health")).ok()["status"] == "OK"
            await admin.execute_command("ACL", "SETUSER", "default", "+subscribe")

            async def hears() -> None:
                assert (await api.get("/health/ready")).status == 200

            await soon(hears)
    finally:
        await runner.cleanup()


@pytest.mark.usefixtures("quiet")
async def test_health_needs_no_token_and_tells_no_addresses(served: Served, api: Api) -> None:
    for path in ("/health", "/health/live", "/health/ready"):
        answer = await api.get(path, headers={"Authorization": "Bearer nonsense"})
        assert answer.status == 200
        assert b"mongodb://" not in answer.raw
        assert b"redis://" not in answer.raw
