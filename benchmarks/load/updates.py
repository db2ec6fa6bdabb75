"""Durable updates: each device keeps some in flight, the user's other devices see each.

Checked: every update is acked once and counted once (the sum in the newest document), no
broadcast comes twice, and in the end every device has the newest document of its user.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import orjson

from benchmarks.load.figures import Figures, Meter
from benchmarks.load.people import crowd, open_all, token
from benchmarks.load.websocket import Joined, frame

WARM_UP = 1.5  # seconds
SETTLE = 10.0  # seconds for the last acks and broadcasts


@dataclass
class User:
    """What is known of a user's document."""

    name: str
    sent: int = 0
    acked: int = 0
    devices: list["Player"] = field(default_factory=list)


class Player(Joined):
    """A device that sends updates."""

    def __init__(self, user: User, device: str, meter: Meter) -> None:
        super().__init__(token(user.name), device)
        self.user = user
        self.newest = {"rev": 0, "xp": 0}
        self.wrong = 0
        self.repeated = 0
        self.seen: set[int] = set()
        self.in_flight: dict[int, float] = {}
        self.playing = False
        self._meter = meter
        self._number = 0
        self._op = b'["user:clientUpdate",{"xp":1,"streak":1,"deviceId":"%b"' % device.encode()
        user.devices.append(self)

    def play(self, op_ids: bool) -> None:
        """Send one update; its ack sends the next."""
        self._number += 1
        number = self._number
        op = b',"opId":"%d"' % number if op_ids else b""
        self.in_flight[number] = time.perf_counter()
        self.user.sent += 1
        self.transport.write(frame(b"42%d%b%b}]" % (number, self._op, op)))

    def on_answer(self, number: int, body: bytes) -> None:
        sent = self.in_flight.pop(number, None)
        answer = orjson.loads(body)[0]
        if sent is None or not answer["ok"] or answer.get("duplicate"):
            self.wrong += 1
            return
        self._meter.note(time.perf_counter() - sent)
        self.user.acked += 1
        self._learn(answer["stats"])
        if self.playing:
            self.play(self.op_ids)

    op_ids = True

    def on_event(self, body: bytes) -> None:
        name, document = orjson.loads(body)
        if name != "user:data:updated":
            self.wrong += 1
            return
        if document["rev"] in self.seen:
            self.repeated += 1
        self.seen.add(document["rev"])
        self._learn(document)

    def _learn(self, document: dict[str, int]) -> None:
        if document["rev"] > self.newest["rev"]:
            self.newest = document

    def complete(self) -> bool:
        """Whether nothing is in flight and this device has its user's newest document."""
        return not self.in_flight and self.newest["xp"] == self.user.acked


async def run(
    urls: Sequence[str],
    *,
    seconds: float,
    users: int,
    devices: int,
    in_flight: int,
    op_ids: bool,
    deflate: bool,
) -> Figures:
    """Closed loop: `in_flight` updates of each device under way all the time."""
    meter = Meter()
    people, players = await gather(urls, users, devices, meter, deflate)
    for player in players:
        player.playing, player.op_ids = True, op_ids
        for _ in range(in_flight):
            player.play(op_ids)
    await asyncio.sleep(WARM_UP)
    meter.start()
    await asyncio.sleep(seconds)
    meter.stop()
    for player in players:
        player.playing = False
    await settle(players)
    return judged(meter.figures(), people, players)


async def gather(
    urls: Sequence[str], users: int, devices: int, meter: Meter, deflate: bool
) -> tuple[list[User], list[Player]]:
    """New users, and their joined devices: the nth device at the nth URL."""
    people = [User(name) for name in crowd(users)]
    make = [
        partial(Player, user, f"d{number}", meter) for user in people for number in range(devices)
    ]
    players = await open_all(make, urls, deflate)
    return people, players


async def settle(players: Sequence[Player]) -> None:
    """Wait for the last acks and broadcasts, SETTLE seconds at most."""
    until = time.perf_counter() + SETTLE
    while time.perf_counter() < until and not all(player.complete() for player in players):
        await asyncio.sleep(0.05)


def judged(figures: Figures, people: Sequence[User], players: Sequence[Player]) -> Figures:
    """The figures with what was lost, doubled or wrong."""
    for user in people:
        counted = max(player.newest["xp"] for player in user.devices)
        figures.lost += max(0, user.acked - counted) + user.sent - user.acked
        figures.doubled += max(0, counted - user.sent)
        newest = max(player.newest["rev"] for player in user.devices)
        figures.lost += sum(player.newest["rev"] < newest for player in user.devices)
    figures.doubled += sum(player.repeated for player in players)
    figures.wrong += sum(player.wrong + player.gone.done() for player in players)
    figures.extra = {
        "updates": sum(user.acked for user in people),
        "broadcasts": sum(len(player.seen) for player in players),
    }
    return figures
