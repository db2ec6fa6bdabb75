"""A user who watches others, and all that they were told."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from tests.clients_py import Client, connected, joined
from tests.serving import Served

MARKER = "marker"
GRACE = 0.5
"""Seconds of grace of the servers that show presence here."""


@asynccontextmanager
async def watching(served: Served, *users: str, name: str = "eve") -> AsyncIterator[Client]:
    """A client that watches `users`, and `marker`, whose news come after all others."""
    async with joined(served.url, name) as client:
        assert (await client.call("presence:watch", {"userIds": [*users, MARKER]}))["ok"]
        yield client


Told = list[tuple[str, bool, str]]
"""What somebody was told: user, online, status."""


async def told(watcher: Client, served: Served) -> Told:
    """All that the watcher was told until now."""
    return (await told_each([watcher], served))[0]


async def told_each(watchers: list[Client], served: Served) -> list[Told]:
    """All that each of the watchers was told until now."""
    async with connected(served.url, MARKER) as marker:
        await marker.join(status="busy")
        await marker.call("presence:status", {"status": "offline"})
    return [await _until_marker(watcher) for watcher in watchers]


async def _until_marker(watcher: Client) -> Told:
    found = []
    while True:
        news = await watcher.next("presence:update")
        assert news.keys() - {"note"} == {"userId", "online", "status", "lastSeen", "devices"}
        if news["userId"] != MARKER:
            found.append((news["userId"], news["online"], news["status"]))
        elif not news["online"]:
            return found


async def shown(watcher: Client, user: str) -> dict[str, Any]:
    """The entry of `user`, as the watcher sees it when asking."""
    answer = await watcher.call("presence:watch", {"userIds": [user]})
    assert answer["ok"], answer
    return dict(answer["users"][0])


def edges(served: Served, edge: str) -> float:
    """How many users this instance has announced `on` or `off`."""
    return served.metric("livetally_presence_edges_total", edge=edge)


def seen(news: dict[str, Any]) -> float:
    """When the user was last seen, in seconds since 1970."""
    return datetime.fromisoformat(news["lastSeen"]).timestamp()
