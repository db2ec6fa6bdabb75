"""One module for each kind of claim; `ALL` has them in the order of the table."""

from benchmarks.claims import (
    crowd,
    mass_drop,
    memory,
    redis_messages,
    slow_reader,
    sync_pull,
    sync_push,
)
from benchmarks.claims.comparisons import REST, UPDATES

ALL = [
    *UPDATES,
    memory.CLAIM,
    *REST,
    sync_push.CLAIM,
    sync_pull.CLAIM,
    redis_messages.CLAIM,
    mass_drop.CLAIM,
    slow_reader.CLAIM,
    crowd.CLAIM,
]
