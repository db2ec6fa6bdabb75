"""Who may ask how often: users over REST, addresses for new connections."""

import time
from collections import OrderedDict
from ipaddress import IPv4Address, IPv6Address, ip_address

from aiohttp import web

from domain.bucket import TokenBucket
from domain.errors import AppError, Code
from server.settings import Settings

MOST_REMEMBERED = 100_000  # keys; the one unused longest makes room
CONNECTION_BURST = 5  # seconds' worth of connections that an address may open at once


class Buckets:
    """A token bucket per key; what is forgotten starts full again."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def wait(self, key: str) -> float:
        """Take one for `key`: 0.0, or the seconds to wait when there is none."""
        if not self._rate:
            return 0.0
        now = time.monotonic()
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(self._rate, self._burst, now)
            if len(self._buckets) > MOST_REMEMBERED:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return 0.0 if bucket.take(now) else bucket.wait(now)

    def give_back(self, key: str) -> None:
        """What `wait` took for `key` does not count."""
        bucket = self._buckets.get(key)
        if bucket is not None:
            bucket.give_back(time.monotonic())


class RequestLimits:
    """The limits of one process."""

    def __init__(self, settings: Settings) -> None:
        per_minute = settings.rate_limit_per_minute
        self._requests = Buckets(per_minute / 60, per_minute)
        per_second = settings.connections_per_second
        self._connections = Buckets(per_second, per_second * CONNECTION_BURST)
        self._networks = settings.proxy_networks

    def request(self, who: str) -> None:
        """Count a REST request of a user (or, before one is known, an address)."""
        wait = self._requests.wait(who)
        if wait:
            raise AppError(Code.RATE_LIMITED, "Too many requests: slow down", retry_after=wait)

    def connection(self, address: str) -> None:
        """Count a new connection of an address; raises AppError `overloaded`."""
        wait = self._connections.wait(address)
        if wait:
            raise AppError(
                Code.OVERLOADED, "Too many new connections from here: wait", retry_after=wait
            )

    def client_address(self, request: web.Request) -> str:
        """Whose request it is; X-Forwarded-For counts only from a trusted proxy."""
        address = request.remote or ""
        if not self._trusted(address):
            return address
        for hop in reversed(",".join(request.headers.getall("X-Forwarded-For", [])).split(",")):
            hop = hop.strip()
            if _parsed(hop) is None:
                break
            address = hop
            if not self._trusted(hop):
                break
        return address

    def _trusted(self, address: str) -> bool:
        parsed = _parsed(address)
        return parsed is not None and any(parsed in network for network in self._networks)


def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(address)
    except ValueError:
        return None
