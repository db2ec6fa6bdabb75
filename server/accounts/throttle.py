"""Failed logins are few: per account and per address, over all instances."""

import asyncio
import hashlib
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from ipaddress import IPv6Address, ip_address, ip_network

from domain.errors import AppError, Code
from server.accounts.metrics import AccountMetrics
from server.limits import Buckets
from storage.redis import RedisAway
from storage.throttle import Throttle, Tries

WINDOW = 300.0  # seconds in which failures are counted
FAILURE_STEP = 0.5  # seconds
IPV6_PREFIX = 64  # bits that a customer gets: whose addresses are one


class LoginThrottle:
    """Counts failures and answers them at even times.

    While Redis is away every process counts by itself.
    """

    def __init__(
        self, throttle: Throttle, per_account: int, per_address: int, metrics: AccountMetrics
    ) -> None:
        self._throttle = throttle
        self._most = {"account": per_account, "address": per_address}
        self._here = {
            kind: Buckets(most / WINDOW, float(most)) for kind, most in self._most.items()
        }
        self._metrics = metrics

    @asynccontextmanager
    async def attempt(self, account: str, address: str) -> AsyncIterator[None]:
        """Around one attempt to log in; raises AppError `rate_limited` after too many failures.

        Whatever fails inside fails at a multiple of half a second, whether the account exists
        or not and however its password is hashed.
        """
        tries = self._tries({"account": account, "address": _network(address)})
        here = await self._take(tries)
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            yield
        except AppError as error:
            if error.code is not Code.INVALID_CREDENTIALS:
                await self._give_back(tries, here)
                raise
            took = loop.time() - started
            await asyncio.sleep(math.ceil(took / FAILURE_STEP) * FAILURE_STEP - took)
            raise
        await self._give_back(tries, here)

    def _tries(self, who: dict[str, str]) -> list[Tries]:
        return [
            Tries(f"{kind}:{_hidden(name)}", self._most[kind])
            for kind, name in who.items()
            if self._most[kind]
        ]

    async def _take(self, tries: list[Tries]) -> bool:
        """Count one try of each; answers whether in this process only."""
        wait, here = 0.0, False
        if tries:
            try:
                wait = await self._throttle.take(tries)
            except RedisAway:
                wait, here = max(self._buckets(one).wait(one.who) for one in tries), True
        if wait:
            self._metrics.throttled.inc()
            raise AppError(
                Code.RATE_LIMITED, "Too many failed logins: wait a while", retry_after=wait
            )
        return here

    async def _give_back(self, tries: list[Tries], here: bool) -> None:
        if here:
            for one in tries:
                self._buckets(one).give_back(one.who)
        elif tries:
            with suppress(RedisAway):  # or it is counted for the rest of the window
                await self._throttle.give_back(tries)

    def _buckets(self, one: Tries) -> Buckets:
        return self._here[one.who.partition(":")[0]]


def _hidden(name: str) -> str:
    """Not the name itself: Redis need not know who tries to log in, and keys stay short."""
    return hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:32]


def _network(address: str) -> str:
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is None:
            return str(ip_network((parsed, IPV6_PREFIX), strict=False))
        parsed = parsed.ipv4_mapped
    return str(parsed)
