"""The stats document: what a patch may hold, and how it is stored."""

from datetime import UTC, datetime

from pymongo import ReturnDocument, WriteConcern
from pymongo.errors import DuplicateKeyError

NUMBERS = {
    "xp": 0,
    "hearts": 5,
    "diamonds": 0,
    "level": 1,
    "streak": 0,
    "accuracy": 0,
    "maxStreak": 0,
    "completedQuestions": 0,
    "correctAnswers": 0,
    "wrongAnswers": 0,
    "totalQuestions": 0,
    "totalTimeSpent": 0,
}
DEFAULTS = {**NUMBERS, "timePerQuestion": [], "lastGameResults": {}}
IGNORED = {"userId", "opId", "deviceId", "updatedAt"}
KEPT_TIMES = 1000
SAFE_INTEGER = 2**53 - 1
NEVER = datetime.fromtimestamp(0, UTC)


class BadRequest(Exception):
    pass


def is_number(value):
    is_numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return is_numeric and abs(value) <= SAFE_INTEGER


def is_times(value):
    return isinstance(value, list) and all(is_number(entry) for entry in value)


def check(good, name, what):
    if not good:
        raise BadRequest(f"{name} must be {what}")


def check_set(name, value):
    if name == "timePerQuestion":
        check(is_times(value), name, "an array of numbers")
    elif name == "lastGameResults":
        check(isinstance(value, dict), name, "an object")
    elif name in NUMBERS:
        check(is_number(value), name, "a finite number")
    else:
        raise BadRequest(f"{name} is not a stats field")


def to_update(patch):
    """The MongoDB update for a patch; what `__set` names wins over a delta of the same field."""
    check(isinstance(patch, dict), "the patch", "an object")
    sets = patch.get("__set", {})
    check(isinstance(sets, dict), "__set", "an object")
    for name, value in sets.items():
        check_set(name, value)

    increments, pushes = {"rev": 1}, {}
    for name, value in patch.items():
        if name in IGNORED or name == "__set":
            continue
        if name == "timePerQuestion":
            check(is_times(value), name, "an array of numbers")
            if name not in sets:
                pushes[name] = {"$each": value, "$slice": -KEPT_TIMES}
        elif name in NUMBERS:
            check(is_number(value), name, "a finite number")
            if name not in sets:
                increments[name] = value
        else:
            raise BadRequest(f"{name} is not a stats field")

    # MongoDB refuses one path in two operators: defaults only for what is not touched above.
    touched = {*sets, *increments, *pushes}
    return {
        "$set": {**sets, "updatedAt": datetime.now(UTC)},
        "$inc": increments,
        "$setOnInsert": {name: value for name, value in DEFAULTS.items() if name not in touched},
        **({"$push": pushes} if pushes else {}),
    }


def iso(time):
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def to_wire(user_id, stored):
    """The document as clients see it, with defaults for a user never written."""
    values = dict(stored or {})
    values.pop("_id", None)
    rev, updated_at = values.pop("rev", 0), values.pop("updatedAt", NEVER)
    return {"userId": user_id, "rev": rev, "updatedAt": iso(updated_at), **DEFAULTS, **values}


class StatsStore:
    def __init__(self, db):
        self._stats = db.get_collection("user_stats", write_concern=WriteConcern("majority"))

    async def load(self, user_id):
        return to_wire(user_id, await self._stats.find_one({"_id": user_id}))

    async def patch(self, user_id, patch):
        update = to_update(patch)
        # $inc would start a new user's hearts at 0, not 5: that user gets the defaults first.
        upsert = not any(NUMBERS.get(name) for name in update["$inc"])
        stored = await self._write(user_id, update, upsert)
        if stored is None:
            await self._write(user_id, {"$setOnInsert": {"rev": 0, **DEFAULTS}}, True)
            stored = await self._write(user_id, update, True)
        return to_wire(user_id, stored)

    async def _write(self, user_id, update, upsert):
        def write():
            return self._stats.find_one_and_update(
                {"_id": user_id}, update, upsert=upsert, return_document=ReturnDocument.AFTER
            )

        try:
            return await write()
        except DuplicateKeyError:  # two first writes raced; the other one inserted the document
            return await write()
