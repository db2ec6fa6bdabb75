"""Between instances: a Redis channel per user, held only where somebody is interested.

Messages are `kind origin rev payload`; the payload is the JSON that clients get (of a profile
there are two, see `pack` in realtime/profiles.py). What is lost while Redis is away is made good
by comparing revs, not by keeping it; lost news of a profile come with the next change.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable
from typing import NamedTuple

from realtime.limits import LiveLimits
from realtime.metrics import Metrics
from realtime.tasks import Loop
from storage.redis import Listener, RedisAway, RedisLink

log = logging.getLogger(__name__)

DOCUMENT = b"D"
PRESENCE = b"P"
PROFILE = b"U"
SYNC = b"S"
ITEM = b"I"
RETRY_AFTER = 0.5  # seconds
READS_IN_A_ROW = 64
SUBSCRIBE_WAIT = 1.0  # seconds that a join waits for its subscription


class Note(NamedTuple):
    """What one instance tells the others of a user."""

    user: str
    kind: bytes
    rev: int
    body: bytes


class Fanout:
    """Publishes to, and receives from, the channels of the users that are wanted here."""

    def __init__(
        self,
        link: RedisLink,
        instance: str,
        limits: LiveLimits,
        metrics: Metrics,
        on_note: Callable[[Note], None],
        on_listening: Callable[[], None],
    ) -> None:
        self._link = link
        self._names = link.names
        self._instance = instance.encode()
        self._limits = limits
        self._metrics = metrics
        self._on_note = on_note
        self._on_listening = on_listening
        self._echo_channel = self._names.echo_channel(instance)
        self._outgoing: list[tuple[str, bytes]] = []
        self._to_publish = asyncio.Event()
        self._wanted: set[str] = set()
        self._asked: set[str] = set()
        self._confirmed: set[str] = set()
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._interest = asyncio.Event()
        self._listener: Listener | None = None
        self._silent_since: float | None = None  # None: Redis does not take our messages
        self._listening = Loop("fanout listen", self._listen, RETRY_AFTER)
        self._loops = [
            Loop("fanout publish", self._publish, 0.0),
            Loop("fanout subscribe", self._subscribe, 0.0),
            Loop("fanout echo", self._echo, limits.echo_every),
        ]

    def start(self) -> None:
        """Begin to publish and to listen."""
        for loop in (self._listening, *self._loops):
            loop.start()

    async def stop(self) -> None:
        """Publish what waits, for a moment, then end."""
        try:
            async with asyncio.timeout(2):
                await self._flush()
        except (TimeoutError, RedisAway):
            log.warning("Redis did not take the last messages")
        for loop in (*reversed(self._loops), self._listening):
            await loop.stop()

    # --- interest -----------------------------------------------------------------------

    def want(self, user: str) -> None:
        """Receive what concerns `user` from now on."""
        self._wanted.add(user)
        self._interest.set()

    def unwant(self, user: str) -> None:
        """Receive it no more."""
        self._wanted.discard(user)
        self._interest.set()

    async def wanted(self, user: str) -> None:
        """Wait until Redis has confirmed the interest in `user`; not long, and not without it."""
        if user in self._confirmed or self._listener is None or self._silent_since is None:
            return
        confirmed = self._waiting.get(user)
        if confirmed is None:
            confirmed = self._waiting[user] = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait_for(asyncio.shield(confirmed), SUBSCRIBE_WAIT)
        except TimeoutError:
            log.debug("no confirmation of a subscription within %s s", SUBSCRIBE_WAIT)

    async def _subscribe(self) -> None:
        await self._interest.wait()
        self._interest.clear()
        listener = self._listener
        if listener is None:
            return
        new, gone = self._wanted - self._asked, self._asked - self._wanted
        self._asked = set(self._wanted)
        self._confirmed -= gone
        try:
            await listener.unsubscribe([self._names.user_channel(user) for user in gone])
            await listener.subscribe([self._names.user_channel(user) for user in new])
        except RedisAway as error:
            log.warning("Redis, subscribing: %s", error)
            await self._listen_anew()
        self._metrics.subscriptions.set(len(self._asked))

    # --- in -----------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Listen on a fresh connection until it fails or has gone deaf."""
        try:
            async with self._link.listen() as listener:
                self._asked = set(self._wanted)
                self._confirmed.clear()
                channels = [self._names.user_channel(user) for user in self._asked]
                await listener.subscribe([self._echo_channel, *channels])
                self._listener = listener
                self._interest.set()
                await self._receive(listener)
        except RedisAway as error:
            log.warning("Redis, listening: %s", error)
        finally:
            self._listener = None
            self._release_all()

    async def _receive(self, listener: Listener) -> None:
        loop = asyncio.get_running_loop()
        for number in itertools.count(1):
            if number % READS_IN_A_ROW == 0:
                await asyncio.sleep(0)  # what has arrived is read without waiting
            message = await listener.read()
            if message is None:
                continue
            if message.channel == self._echo_channel:
                if message.data is None:
                    self._on_listening()
                else:
                    self._heard_echo(loop.time(), float(message.data))
            elif (user := self._names.user_of(message.channel)) is not None:
                if message.data is None:
                    self._confirm(user)
                else:
                    self._take(user, message.data)

    def _take(self, user: str, data: bytes) -> None:
        self._metrics.received.inc()
        kind, origin, rev, body = data.split(b" ", 3)
        if origin != self._instance:
            self._on_note(Note(user, kind, int(rev), body))

    def _confirm(self, user: str) -> None:
        if user in self._wanted:
            self._confirmed.add(user)
        if (waiting := self._waiting.pop(user, None)) is not None and not waiting.done():
            waiting.set_result(None)

    def _release_all(self) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_result(None)
        self._waiting.clear()

    # --- out ----------------------------------------------------------------------------

    def publish(self, user: str, kind: bytes, rev: int, body: bytes) -> None:
        """Tell the other instances; never waits. Beyond the bound the message is dropped."""
        if len(self._outgoing) >= self._limits.max_publishes:
            self._metrics.publish_lost.inc()
            return
        payload = b"%b %b %d %b" % (kind, self._instance, rev, body)
        self._outgoing.append((self._names.user_channel(user), payload))
        self._to_publish.set()

    async def _publish(self) -> None:
        await self._to_publish.wait()
        try:
            await self._flush()
        except RedisAway as error:
            log.warning("Redis, publishing: %s", error)
            await asyncio.sleep(RETRY_AFTER)

    async def _flush(self) -> None:
        self._to_publish.clear()
        messages, self._outgoing = self._outgoing, []
        if not messages:
            return
        try:
            await self._link.publish(messages)
        except RedisAway:
            self._metrics.publish_lost.inc(len(messages))
            raise
        self._metrics.published.inc(len(messages))

    # --- echo ---------------------------------------------------------------------------

    async def _echo(self) -> None:
        """Send a message to ourselves; a listener that does not hear it is replaced."""
        now = asyncio.get_running_loop().time()
        try:
            await self._link.publish([(self._echo_channel, b"%f" % now)])
        except RedisAway:
            self._silent_since = None  # away is not deaf
            return
        if self._silent_since is None:
            self._silent_since = now
        if self.deaf:
            log.warning("messages do not come back through Redis: listening anew")
            await self._listen_anew()

    async def _listen_anew(self) -> None:
        await self._listening.stop()
        self._listening.start()

    def _heard_echo(self, now: float, sent: float) -> None:
        self._metrics.echo_seconds.observe(now - sent)
        self._silent_since = now

    @property
    def deaf(self) -> bool:
        """Whether Redis takes our messages and does not bring them back."""
        if self._silent_since is None:
            return False
        silence = asyncio.get_running_loop().time() - self._silent_since
        return silence > self._limits.echo_timeout
