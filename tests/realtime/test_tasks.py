"""Owners of tasks end what they started, whatever runs in it."""

import asyncio

from realtime.tasks import Loop, Tasks


async def swallow_one_cancellation(began: asyncio.Event) -> None:
    """As `asyncio.wait_for` does before Python 3.12 when its result comes at the same moment."""
    first = not began.is_set()
    began.set()
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        if not first:
            raise


async def test_a_loop_ends_though_its_step_swallows_the_cancellation() -> None:
    began = asyncio.Event()
    loop = Loop("stubborn", lambda: swallow_one_cancellation(began), 0.01)
    loop.start()
    await began.wait()
    async with asyncio.timeout(3):
        await loop.stop()


async def test_a_loop_whose_step_fails_tries_again_and_may_be_stopped_twice() -> None:
    tries = 0
    enough = asyncio.Event()

    async def fail() -> None:
        nonlocal tries
        tries += 1
        if tries == 3:
            enough.set()
        raise ValueError(tries)

    loop = Loop("failing", fail, 0.0)
    loop.start()
    loop.start()
    await asyncio.wait_for(enough.wait(), 3)
    await loop.stop()
    await loop.stop()
    before = tries
    await asyncio.sleep(0.02)
    assert tries == before


async def test_tasks_end_though_one_swallows_the_cancellation_and_goes_on() -> None:
    tasks = Tasks()
    began = asyncio.Event()

    async def stubborn() -> None:
        await swallow_one_cancellation(began)
        await asyncio.sleep(3600)

    tasks.spawn(stubborn(), "stubborn")
    await began.wait()
    async with asyncio.timeout(3):
        await tasks.close()
    assert len(tasks) == 0
