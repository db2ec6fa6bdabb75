"""A user whose status is `offline`: there, and seen by nobody."""

import asyncio
import time

from tests.clients_py import connected, joined
from tests.serving import Served
from tests.traces import eventually
from tests.watchers import GRACE, edges, seen, shown, told, watching

HIDE = {"status": "offline"}


async def test_who_hides_looks_like_gone_at_once_and_was_last_seen_then(brief: Served) -> None:
    async with watching(brief, "ada") as eve, joined(brief.url) as ada:
        await eve.next("presence:update")
        hidden_at = time.time()
        answer = await ada.call("presence:status", {**HIDE, "note": "not here"})
        assert answer["presence"]["online"] is False
        news = await eve.next("presence:update")
        assert (news["online"], news["status"], news["devices"]) == (False, "offline", 0)
        assert "note" not in news
        assert abs(seen(news) - hidden_at) < 0.4
        assert seen(await shown(eve, "ada")) == seen(news)


async def test_nothing_that_the_hidden_do_is_told_or_moves_when_they_were_last_seen(
    brief: Served,
) -> None:
    async with watching(brief, "ada") as eve:
        async with joined(brief.url) as ada:
            await ada.call("presence:status", HIDE)
            first = await eve.until("presence:update", lambda news: not news["online"])
            await asyncio.sleep(0.1)
            await ada.call("presence:status", HIDE)
            await ada.call("presence:status", {**HIDE, "note": "still not here"})
            await ada.join(status="offline")
            await ada.call("user:clientUpdate", {"xp": 1})
            async with joined(brief.url):
                pass
            assert await told(eve, brief) == []
            assert seen(await shown(eve, "ada")) == seen(first)
        await eventually(lambda: edges(brief, "off") >= 1)
        assert await told(eve, brief) == []
        async with joined(brief.url):
            assert await told(eve, brief) == []
        assert seen(await shown(eve, "ada")) == seen(first)


async def test_the_hidden_have_their_own_documents_and_watch_others(brief: Served) -> None:
    async with (
        joined(brief.url) as phone,
        joined(brief.url) as tablet,
        joined(brief.url, "bob") as bob,
    ):
        await phone.call("presence:status", HIDE)
        assert (await phone.call("presence:watch", {"userIds": ["bob"]}))["users"][0]["online"]
        sent = await phone.call("user:clientUpdate", {"xp": 1})
        assert await tablet.next("user:data:updated") == sent["stats"]
        await bob.call("presence:status", {"status": "busy"})
        assert (await phone.next("presence:update"))["status"] == "busy"


async def test_who_shows_up_again_is_told_once(brief: Served) -> None:
    async with watching(brief, "ada") as eve, joined(brief.url) as ada:
        await ada.call("presence:status", HIDE)
        await eve.until("presence:update", lambda news: not news["online"])
        await ada.call("presence:status", {"status": "online"})
        assert await told(eve, brief) == [("ada", True, "online")]


async def test_who_hides_while_away_and_comes_back_stays_unseen(brief: Served) -> None:
    async with watching(brief, "ada") as eve:
        async with connected(brief.url) as ada:
            await ada.join(status="offline")
            assert (await told(eve, brief)) == []
            assert (await shown(eve, "ada"))["online"] is False
        await asyncio.sleep(2 * GRACE)
        async with joined(brief.url):
            assert await told(eve, brief) == []
