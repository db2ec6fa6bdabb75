"""Processes as /proc shows them."""

from pathlib import Path

from tests.waiting import soon


def children(pid: int) -> dict[int, str]:
    """The living child processes of `pid`: their ids and names."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, rest = stat.read_text().rpartition(") ")
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, parent = rest.split()[:2]
        if int(parent) == pid and state != "Z":
            found[int(head.split()[0])] = head.partition("(")[2]
    return found


def alive(pids: dict[int, str]) -> list[str]:
    """Those of the processes that are still there."""
    states = []
    for pid, name in pids.items():
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z":
            states.append(name)
    return states


async def gone(pids: dict[int, str]) -> None:
    """Wait until all of them have ended."""

    async def check() -> None:
        assert alive(pids) == []

    await soon(check)
