"""Devices that write, push, lose answers, resend, page and rejoin end up with the same rows.

FUZZ_EXAMPLES and FUZZ_STEPS make it bigger; scripts/fuzz runs it for as long as it is told.
"""

import os
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.loops import loop_thread
from tests.server.sync_machine import SyncMachine, World
from tests.serving import serving

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "100"))
STEPS = int(os.environ.get("FUZZ_STEPS", "25"))


@pytest.fixture
def world(stores: dict[str, Any]) -> Iterator[World]:
    async def enter(stack: AsyncExitStack) -> aiohttp.ClientSession:
        served = await stack.enter_async_context(serving(**stores))
        return await stack.enter_async_context(aiohttp.ClientSession(served.url))

    with loop_thread() as loop:
        stack = AsyncExitStack()
        try:
            yield World(loop, loop.call(enter(stack)))
        finally:
            loop.call(stack.aclose())


@pytest.mark.timeout(3600)
def test_after_quiet_every_device_has_what_initial_has_and_no_acknowledged_change_is_lost(
    world: World,
) -> None:
    run_state_machine_as_test(
        lambda: SyncMachine(world),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[phase for phase in Phase if phase is not Phase.explain],
            database=None,  # users differ from run to run
        ),
    )
    assert world.quiets >= EXAMPLES
