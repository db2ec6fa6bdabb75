"""What a load client reports."""

import time
from dataclasses import asdict, dataclass, field
from typing import Any


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` (0..1) of `values` lie; 0.0 of none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass
class Figures:
    """One load's result. Times in seconds, latencies in milliseconds."""

    done: int = 0
    seconds: float = 0.0
    rate: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    client_cpu: float = 0.0
    """Share of one core that the client itself used."""
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    extra: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class Meter:
    """Latencies between `start` and `stop`, and the client's own CPU meanwhile."""

    def __init__(self) -> None:
        self.running = False
        self._latencies: list[float] = []
        self._began = self._cpu = self._seconds = self._used = 0.0

    def note(self, latency: float) -> None:
        """One answer came after `latency` seconds."""
        if self.running:
            self._latencies.append(latency)

    def start(self) -> None:
        """From here on it counts, from nothing."""
        self.running = True
        self._latencies = []
        self._began, self._cpu = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """It counts no more."""
        self.running = False
        self._seconds = time.perf_counter() - self._began
        self._used = time.process_time() - self._cpu

    def figures(self) -> Figures:
        """What was noted."""
        done = len(self._latencies)
        return Figures(
            done=done,
            seconds=round(self._seconds, 3),
            rate=round(done / self._seconds, 1),
            p50_ms=round(percentile(self._latencies, 0.5) * 1000, 2),
            p99_ms=round(percentile(self._latencies, 0.99) * 1000, 2),
            client_cpu=round(self._used / self._seconds, 2),
        )
