"""One reader that stops reading while its user's documents go on changing; others play on."""

import asyncio
import socket
import sys
import time
from collections.abc import Sequence
from functools import partial

from benchmarks.load.figures import Figures, Meter
from benchmarks.load.people import crowd, open_all, token
from benchmarks.load.updates import Player, User
from benchmarks.load.websocket import Joined

BASELINE = 5.0  # seconds of play before the reader stops
PACE = 0.005  # seconds between two updates of the writer


async def run(urls: Sequence[str], *, seconds: float, users: int) -> Figures:
    """Others' figures while the reader is stuck; `extra` has those from before."""
    before, during = Meter(), Meter()
    fat = User(crowd(1)[0])
    writer = Player(fat, "writer", Meter())
    reader = Joined(token(fat.name), "reader")
    meters = [before, during]
    others = [
        partial(Player, User(name), "d", meter)
        for meter in meters
        for name in crowd(users // len(meters))
    ]
    await writer.open(urls[0])
    await reader.open(urls[0])
    players = await open_all(others, urls)
    writing = asyncio.ensure_future(_write(writer))
    for meter in meters:
        if meter is during:
            reader.transport.pause_reading()
            raw: socket.socket = reader.transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            sys.stdout.write("stuck\n")
            sys.stdout.flush()
        await _play([player for player in players if player._meter is meter], meter, seconds)
    writing.cancel()
    figures = during.figures()
    figures.extra = {"before": before.figures().as_dict(), "documents": writer.newest["rev"]}
    figures.wrong = sum(player.wrong + player.gone.done() for player in players)
    return figures


async def _play(players: list[Player], meter: Meter, seconds: float) -> None:
    for player in players:
        player.playing = True
        player.play(op_ids=True)
    meter.start()
    until = time.perf_counter() + (BASELINE if not players else seconds)
    while time.perf_counter() < until:
        await asyncio.sleep(0.1)
    meter.stop()
    for player in players:
        player.playing = False


async def _write(writer: Player) -> None:
    while True:
        if len(writer.in_flight) < 32:
            writer.play(op_ids=True)
        await asyncio.sleep(PACE)
