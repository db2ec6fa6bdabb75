"""A token bucket: so many a second, with a burst."""


class TokenBucket:
    """Grants `rate` a second and at most `burst` at once; a rate of 0 grants everything."""

    __slots__ = ("_burst", "_filled_at", "_rate", "_tokens", "refused_in_a_row")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._filled_at = now
        self.refused_in_a_row = 0

    def take(self, now: float) -> bool:
        """Whether one more is granted at `now` (seconds, any steady clock)."""
        if not self._rate:
            return True
        self._fill(now)
        if self._tokens < 1:
            self.refused_in_a_row += 1
            return False
        self._tokens -= 1
        self.refused_in_a_row = 0
        return True

    def give_back(self, now: float) -> None:
        """One that was taken does not count."""
        self._fill(now)
        self._tokens = min(self._burst, self._tokens + 1)

    def wait(self, now: float) -> float:
        """Seconds until the next would be granted."""
        if not self._rate:
            return 0.0
        self._fill(now)
        return max(0.0, (1 - self._tokens) / self._rate)

    def _fill(self, now: float) -> None:
        passed = max(0.0, now - self._filled_at)
        self._tokens = min(self._burst, self._tokens + passed * self._rate)
        self._filled_at = now
