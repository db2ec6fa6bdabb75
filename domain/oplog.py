"""What a device has already done: op ids remembered so that a repeat counts once.

A device sends its (n+32)th operation only after its nth was acknowledged. While op n is
unacknowledged, at most 31 newer ops and the 31 that were under way when n was sent can be
applied after it: 62. A window of the last 64 therefore always still holds n. A copy that
outlives its own acknowledgement (in a stalled proxy, say) is known until 64 newer ones came.
"""

from dataclasses import dataclass, replace
from hashlib import blake2b

from domain.errors import AppError, Code

WINDOW = 64
MAX_DEVICES = 32
FORGET_AFTER = 30 * 24 * 3600 * 1000
MAX_OP_ID_LENGTH = 64

_ID_BYTES = 8
_CONTENT_BYTES = 4
_ENTRY = _ID_BYTES + _CONTENT_BYTES


@dataclass(frozen=True, slots=True)
class Op:
    """One operation as remembered: whose it is, which it is, and what it said."""

    device: str
    id_hash: bytes
    content_hash: bytes


def op_of(device_id: str, op_id: str, content: bytes) -> Op:
    """The op of a device; `content` is a canonical encoding of what it does."""
    return Op(
        device_key(device_id),
        blake2b(op_id.encode("utf-8", "surrogatepass"), digest_size=_ID_BYTES).digest(),
        blake2b(content, digest_size=_CONTENT_BYTES).digest(),
    )


def device_key(device_id: str) -> str:
    """A device's name in the document: hex, so that no id can act as a path. `""` is `-`."""
    return blake2b(device_id.encode(), digest_size=8).hexdigest() if device_id else "-"


@dataclass(frozen=True, slots=True)
class OpWindow:
    """The newest 64 ops of one device, 12 bytes each, oldest first; `seen` in milliseconds."""

    entries: bytes = b""
    seen: int = 0

    def find(self, op: Op) -> bytes | None:
        """The content hash remembered for `op`, or None."""
        at = self.entries.find(op.id_hash)
        while at >= 0 and at % _ENTRY:
            at = self.entries.find(op.id_hash, at + 1)
        return None if at < 0 else self.entries[at + _ID_BYTES : at + _ENTRY]

    def remember(self, op: Op, now: int) -> "OpWindow":
        """This window with `op` as its newest entry."""
        kept = self.entries[-(WINDOW - 1) * _ENTRY :]
        return OpWindow(kept + op.id_hash + op.content_hash, max(now, self.seen))


def seen_before(devices: dict[str, OpWindow], op: Op) -> bool:
    """Whether `op` was applied before; raises AppError `op_id_reused` for other content."""
    window = devices.get(op.device)
    content = window.find(op) if window else None
    if content is None:
        return False
    if content != op.content_hash:
        raise AppError(
            Code.OP_ID_REUSED,
            "This opId was used for another patch: give every new patch an opId of its own",
        )
    return True


def remember(devices: dict[str, OpWindow], op: Op, now: int) -> dict[str, OpWindow]:
    """The windows with `op` in its device's; a new 33rd device takes a long unseen one's place.

    Raises AppError `device_limit` when no device has been unseen for 30 days.
    """
    windows = dict(devices)
    if op.device not in windows and op.device != "-":
        _make_room(windows, now)
    windows[op.device] = windows.get(op.device, OpWindow()).remember(op, now)
    return windows


def touch(devices: dict[str, OpWindow], device: str, now: int) -> dict[str, OpWindow]:
    """The windows with `device` seen at `now`, or the same object if it was seen later."""
    window = devices[device]
    if now <= window.seen:
        return devices
    return {**devices, device: replace(window, seen=now)}


def _make_room(windows: dict[str, OpWindow], now: int) -> None:
    named = [key for key in windows if key != "-"]
    if len(named) < MAX_DEVICES:
        return
    oldest = min(named, key=lambda key: windows[key].seen)
    if now - windows[oldest].seen < FORGET_AFTER:
        raise AppError(
            Code.DEVICE_LIMIT,
            f"This user has {MAX_DEVICES} devices already; "
            "keep one deviceId per installation instead of a new one per start",
        )
    del windows[oldest]
