"""What a claim is, and what comes of measuring it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.contenders import Stores

Say = Callable[[str], None]
"""Shows progress."""


@dataclass(frozen=True)
class Effort:
    """How long to measure: `seconds` of load in each of `rounds`."""

    seconds: float
    rounds: int


@dataclass(frozen=True)
class Result:
    """What was measured of a claim, for the table and (`details`) for the JSON."""

    measured: str
    reached: bool
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """`name` for the command line, `title` and `bar` for the table."""

    name: str
    title: str
    bar: str
    run: Callable[[Stores, Effort, Say], Awaitable[Result]]
