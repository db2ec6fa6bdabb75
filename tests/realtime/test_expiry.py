"""A token that runs out under a live socket, and its renewal."""

import json
import math
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.clients_py import connected
from tests.serving import Served, serving
from tests.tokens import token
from tests.wires import Wire, wire

GRACE = 0.4


@pytest.fixture
async def brief(stores: dict[str, Any]) -> AsyncIterator[Served]:
    """A server with a short grace after expiry."""
    async with serving(**stores, token_expired_grace=GRACE) as server:
        yield server


def ending_soon(user: str = "ada", **claims: Any) -> str:
    """A token that runs out in 0.5 to 1.5 seconds."""
    return token(user, exp=math.ceil(time.time() + 0.5), **claims)


async def join(socket: Wire, credential: str, **payload: Any) -> None:
    await socket.send("40" + json.dumps({"token": credential}))
    assert (await socket.receive() or "").startswith("40")
    assert (await socket.call(0, "presence:join", payload))["ok"]


async def expired(socket: Wire) -> dict[str, Any]:
    """Wait for `auth:expired`."""
    while (text := await socket.receive(timeout=4)) is not None:
        if text.startswith('42["auth:expired"'):
            return dict(json.loads(text[2:])[1])
    raise ConnectionError("ended without a word")


async def test_a_token_that_runs_out_is_told_updates_are_refused_then_the_transport_ends(
    brief: Served,
) -> None:
    async with wire(brief.url) as socket:
        await join(socket, ending_soon())
        assert (await expired(socket))["code"] == "token_expired"
        told_at = time.monotonic()
        for name, payload in (
            ("user:clientUpdate", {"xp": 1}),
            ("presence:join", None),
            ("presence:status", {"status": "away"}),
            ("presence:watch", {"userIds": ["bob"]}),
        ):
            answer = await socket.call(1, name, payload)
            assert (answer["ok"], answer["error"]["code"]) == (False, "token_expired"), name
        assert (await socket.call(2, "presence:ping", {"t": 5}))["t"] == 5
        await socket.ended(timeout=4)
        assert GRACE * 0.9 < time.monotonic() - told_at < GRACE + 1
    assert brief.metric("livetally_sockets_closed_total", reason="token expired") == 1
    assert (await brief.live.stats.read("ada")).rev == 0


async def test_a_refresh_in_time_goes_on_as_if_nothing_was(brief: Served) -> None:
    async with wire(brief.url) as socket, wire(brief.url) as late:
        await join(socket, ending_soon())
        await join(late, ending_soon())
        assert await socket.call(1, "auth:refresh", {"token": token()}) == {"ok": True}
        await expired(late)
        await late.ended(timeout=4)  # by now the first would have been closed, too
        assert (await socket.call(2, "user:clientUpdate", {"xp": 1}))["ok"]


async def test_a_refresh_after_expiry_makes_updates_work_again(brief: Served) -> None:
    async with wire(brief.url) as socket:
        await join(socket, ending_soon())
        await expired(socket)
        for bad, code in (
            (token("bob"), "forbidden"),
            (token(ttl=-5), "token_expired"),
            ("no", "invalid_token"),
        ):
            answer = await socket.call(1, "auth:refresh", {"token": bad})
            assert answer["error"]["code"] == code
            assert answer["error"]["retryable"] is False
        assert (await socket.call(2, "user:clientUpdate", {"xp": 1}))["ok"] is False
        assert (await socket.call(3, "auth:refresh", {"token": token()}))["ok"]
        assert (await socket.call(4, "user:clientUpdate", {"xp": 1}))["ok"]


async def test_a_refreshed_token_runs_out_in_its_turn(brief: Served) -> None:
    async with wire(brief.url) as socket:
        await join(socket, token())
        assert (await socket.call(1, "auth:refresh", {"token": ending_soon()}))["ok"]
        await expired(socket)
        await socket.ended(timeout=4)


async def test_a_refresh_by_another_user_changes_nothing(brief: Served) -> None:
    async with connected(brief.url) as client:
        await client.join()
        answer = await client.call("auth:refresh", {"token": token("bob")})
        assert answer["error"]["code"] == "forbidden"
        assert (await client.call("user:clientUpdate", {"xp": 1}))["stats"]["userId"] == "ada"


async def test_a_refresh_to_a_lesser_role_ends_acting_for_others(brief: Served) -> None:
    async with connected(brief.url, auth={"token": token("job", role="service")}) as client:
        await client.join(userId="bob")
        assert (await client.call("user:clientUpdate", {"xp": 1}))["stats"]["userId"] == "bob"
        await client.call("auth:refresh", {"token": token("job")})
        answer = await client.call("user:clientUpdate", {"xp": 1})
        assert answer["ok"] is False, answer
        assert (await brief.live.stats.read("bob")).values["xp"] == 1
