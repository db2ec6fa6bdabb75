"""One reader that stops reading while its user's documents go on changing; others play on."""

import asyncio
import random
import sys
from collections.abc import Sequence
from functools import partial

from benchmarks.load.figures import Figures, Meter
from benchmarks.load.people import crowd, open_all, token
from benchmarks.load.updates import Player, User
from benchmarks.load.websocket import Joined

BASELINE = 25.0  # seconds of play before the reader stops; op windows are full by then
PLAY_EVERY = 0.2  # seconds between two updates of one of the others
WRITE_EVERY = 0.002  # seconds between two updates of the writer
MAX_IN_FLIGHT = 32
PHONE_BUFFER = 64 * 1024  # bytes that the reader's kernel takes


async def run(urls: Sequence[str], *, seconds: float, users: int) -> Figures:
    """The others' figures while the reader is stuck; `extra` has those from before."""
    meter = Meter()
    fat = User(crowd(1)[0])
    writer, reader = Player(fat, "writer", Meter()), Joined(token(fat.name), "reader")
    await writer.open(urls[0])
    reader.receive_buffer = PHONE_BUFFER
    await reader.open(urls[0])
    players = await open_all([partial(Player, User(n), "d", meter) for n in crowd(users)], urls)
    writing = asyncio.ensure_future(_write(writer))
    playing = [asyncio.ensure_future(_play(player)) for player in players]
    before = await _measure(meter, BASELINE)
    reader.transport.pause_reading()
    sys.stdout.write("stuck\n")
    sys.stdout.flush()
    figures = await _measure(meter, seconds)
    for task in (writing, *playing):
        task.cancel()
    figures.extra = {"before": before.as_dict(), "documents": writer.newest["rev"]}
    figures.wrong = sum(player.wrong + player.gone.done() for player in players)
    return figures


async def _measure(meter: Meter, seconds: float) -> Figures:
    meter.start()
    await asyncio.sleep(seconds)
    meter.stop()
    return meter.figures()


async def _play(player: Player) -> None:
    await asyncio.sleep(random.uniform(0, PLAY_EVERY))
    while True:
        player.play(op_ids=True)
        await asyncio.sleep(PLAY_EVERY)


async def _write(writer: Player) -> None:
    while True:
        if len(writer.in_flight) < MAX_IN_FLIGHT:
            writer.play(op_ids=True)
        await asyncio.sleep(WRITE_EVERY)
