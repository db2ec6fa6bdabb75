"""kill -9 in the midst of erasures: what was begun is finished, by others or after a restart."""

import asyncio
import random
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp

from tests.canaries import CANARIES, DEVICES, STATS, WORDS
from tests.dumps import documents, found
from tests.people import Login, guest
from tests.rest import Api
from tests.serving import ServerProcess, server_process
from tests.waiting import soon

PEOPLE = 40  # to be erased when the process is killed
AT_ONCE = 15
RESUME = "0.3s"


async def someone(http: aiohttp.ClientSession, number: int) -> Login:
    """A guest who has left something everywhere."""
    person = await guest(http, f"{DEVICES[0]}-{number}-{random.getrandbits(64):x}")
    api = person.api
    (await api.send("PUT", f"/users/{person.id}", json={"bio": WORDS["bio"]})).ok()
    await api.patch(__set=STATS, deviceId=DEVICES[0], opId="canary")
    status = {"status": "busy", "note": WORDS["note"]}
    (await api.post(f"/users/{person.id}/status", status)).ok()
    return person


async def everybody(http: aiohttp.ClientSession) -> list[Login]:
    return list(await asyncio.gather(*(someone(http, number) for number in range(PEOPLE))))


async def erase_until_killed(server: ServerProcess, people: list[Login]) -> set[str]:
    """Begin to erase all, kill the server in their midst; answers whose erasure was answered."""
    answered: set[str] = set()
    wanted = random.randrange(PEOPLE // 2)
    enough = asyncio.Event()
    under_way = asyncio.Semaphore(AT_ONCE)

    async def erase(person: Login) -> None:
        try:
            async with under_way:
                answer = await person.api.send("DELETE", "/api/auth/me")
        except (aiohttp.ClientError, TimeoutError):
            return
        answer.ok()
        answered.add(person.id)
        if len(answered) >= wanted:
            enough.set()

    if not wanted:
        enough.set()
    erasing = [asyncio.create_task(erase(person)) for person in people]
    await enough.wait()
    await asyncio.sleep(random.uniform(0, 0.02))
    await server.kill()
    await asyncio.gather(*erasing)
    return answered


async def begun_is_finished(stores: dict[str, Any], people: list[Login], sure: set[str]) -> int:
    """Everybody is either erased everywhere or not touched; answers how many are erased."""
    whole = await documents(stores)
    assert [doc["_id"] for doc in whole["users"] if "erasing" in doc] == []
    gone = {doc["_id"] for doc in whole["users"] if "erased" in doc}
    assert sure <= gone
    for person in people:
        theirs = {
            name: [doc for doc in docs if person.id in (doc["_id"], doc.get("userId"))]
            for name, docs in whole.items()
        }
        if person.id in gone:
            assert found(CANARIES, theirs) == []
            for name in ("users", "stats", "presence"):
                assert [doc["erased"] for doc in theirs[name]] == [True]
            assert all("endedAt" in doc for doc in theirs["sessions"])
        else:
            assert found(["canary", *map(str, STATS.values())], theirs), "whole as it was"
            assert not any("endedAt" in doc for doc in theirs["sessions"])
    return len(gone & {person.id for person in people})


async def test_another_instance_finishes_what_a_killed_one_has_begun(
    stores: dict[str, Any], tmp_path: Path
) -> None:
    async with server_process(tmp_path, **stores, erasure_resume_interval=RESUME) as survivor:
        async with (
            server_process(tmp_path, **stores, erasure_resume_interval="1h") as killed,
            aiohttp.ClientSession(killed.url) as http,
        ):
            people = await everybody(http)
            answered = await erase_until_killed(killed, people)

        async def check() -> int:
            return await begun_is_finished(stores, people, answered)

        assert await soon(check) >= len(answered)
        assert "Traceback" not in survivor.log


async def test_the_restarted_one_finishes_it_and_a_repeat_erases_the_others(
    stores: dict[str, Any], tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        killed = await stack.enter_async_context(server_process(tmp_path, **stores))
        async with aiohttp.ClientSession(killed.url) as http:
            people = await everybody(http)
            answered = await erase_until_killed(killed, people)
        again = await stack.enter_async_context(server_process(tmp_path, **stores))

        async def check() -> int:
            return await begun_is_finished(stores, people, answered)

        await soon(check)  # at its start: it does not wait for the interval
        async with aiohttp.ClientSession(again.url) as http:
            own = [Api(http, person.id) for person in people]
            for answer in await asyncio.gather(*(a.send("DELETE", "/api/auth/me") for a in own)):
                answer.ok()
        assert await check() == PEOPLE
        assert found(CANARIES, await documents(stores)) == []
