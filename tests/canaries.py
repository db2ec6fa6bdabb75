"""Somebody of whom every store holds something that is easy to find."""

import hashlib
from typing import Any

from domain.oplog import device_key
from tests.clients_py import joined
from tests.rest import Api

DEVICES = ("canary-device-phone-0001", "canary-device-tablet-0002")
STATS = {"xp": 7_310_581, "diamonds": 9_264_107, "totalTimeSpent": 83_519.25}

WORDS: dict[str, Any] = {
    "username": "canaryname",
    "email": "canarymail@example.org",
    "name": "Canary Realname",
    "bio": "canary biography",
    "avatar": "https://example.org/canary-avatar.png",
    "custom": {"canary-key": "canary-value"},
    "note": "canary note",
    "password": "canary-password",
    "game": {"canary-game": "canary-result"},
}

CANARIES = [
    "canary",
    *(str(value) for value in STATS.values()),
    *(device_key(device) for device in DEVICES),
    *(hashlib.sha256(device.encode()).hexdigest() for device in DEVICES),
]
"""What none of the stores has once the person is erased; hashes of device ids, too."""

PROFILE = {name: WORDS[name] for name in ("username", "name", "bio", "avatar", "custom")}


async def leave_traces(api: Api, user: str, url: str, auth: dict[str, str]) -> list[dict[str, Any]]:
    """Write something everywhere: profile, stats, status, devices; answers the patches sent."""
    ops = []
    (await api.send("PUT", f"/users/{user}", json=PROFILE)).ok()
    for number, device in enumerate(DEVICES):
        op = {
            "opId": f"canary-op-{number}",
            "deviceId": device,
            "xp": 1 + number,
            "__set": {**STATS, "lastGameResults": WORDS["game"]},
            "timePerQuestion": [7_310_581],
        }
        ops.append(op)
        await api.patch(**op)
    await api.patch(__set={**STATS})
    status = {"status": "busy", "note": WORDS["note"]}
    (await api.post(f"/users/{user}/status", status)).ok()
    async with joined(url, auth=auth, deviceId=DEVICES[0]) as phone:
        await phone.call("presence:status", {"status": "away", "note": WORDS["note"]})
    return ops
