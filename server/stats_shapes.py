"""The stats on the wire as JSON Schemas: built from the fields, the app's own included."""

from typing import Any

from domain.oplog import MAX_OP_ID_LENGTH
from domain.parsing import ID_SCHEMA
from domain.patch import MAX_DELTA
from domain.stats import (
    GAME_RESULTS_BYTES,
    GAME_RESULTS_DEPTH,
    MAX_TIMES,
    SAFE_INTEGER,
    Kind,
    NumberField,
    StatsSchema,
)
from domain.times import LAST
from server.endpoints import TIME_SCHEMA

JsonSchema = dict[str, Any]

_REV = {
    "type": "integer",
    "minimum": 0,
    "examples": [7],
    "description": "Grows by one with every change, and never goes down",
}
_TIMES = {
    "type": "array",
    "maxItems": MAX_TIMES,
    "items": {"type": "number", "minimum": 0, "maximum": SAFE_INTEGER},
    "description": "Seconds per question",
    "examples": [[2.5]],
}
_GAME_RESULTS = {
    "type": "object",
    "description": f"Any JSON of at most {GAME_RESULTS_BYTES // 1024} KiB,"
    f" {GAME_RESULTS_DEPTH} levels deep; no name has a `.` or a `$`",
}
_GIVEN_TIME = {
    "description": "ISO 8601 (UTC when it says nothing else), or milliseconds since 1970",
    "anyOf": [
        {"type": "string", "maxLength": 40, "examples": TIME_SCHEMA["examples"]},
        {"type": "number", "minimum": 0, "maximum": LAST},
    ],
}


def document(schema: StatsSchema) -> JsonSchema:
    """`Stats`: what a pull, an ack and a broadcast have alike."""
    return _answer("Stats", _documented(schema))


def patched(schema: StatsSchema) -> JsonSchema:
    """`PatchedStats`: the document, and whether the patch had been applied before."""
    says = "The `opId` was known: nothing was changed"
    duplicate = {"type": "boolean", "examples": [False], "description": says}
    return _answer("PatchedStats", {**_documented(schema), "duplicate": duplicate})


def updated(schema: StatsSchema) -> JsonSchema:
    """`UpdatedStats`: the stored document, and whether it is the one that was sent."""
    applied = {"type": "boolean", "description": "False: what is stored is newer"}
    return {
        **_answer("UpdatedStats", {"applied": applied, "stats": {"$ref": "#/$defs/Stats"}}),
        "$defs": {"Stats": document(schema)},
    }


def public_by_id(schema: StatsSchema) -> JsonSchema:
    """`PublicStatsById`: what anyone may see, by user id."""
    public = {name: _value(schema.numbers[name]) for name in schema.public_names}
    return {
        "title": "PublicStatsById",
        "type": "object",
        "propertyNames": dict(ID_SCHEMA),
        "additionalProperties": {"$ref": "#/$defs/PublicStats"},
        "$defs": {"PublicStats": _answer("PublicStats", public)},
    }


def patch(schema: StatsSchema) -> JsonSchema:
    """`StatsPatch`: numbers to add, values to set, times to append."""
    deltas = {name: _delta(spec) for name, spec in schema.numbers.items()}
    op_id = {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_OP_ID_LENGTH,
        "description": "With it the patch counts once, however often it is sent",
    }
    device = "The scope of `opId`: keep it for as long as the app is installed"
    properties = {
        "userId": {**ID_SCHEMA, "description": "Whose stats; the caller's own when absent"},
        "opId": op_id,
        "deviceId": {**ID_SCHEMA, "description": device},
        **deltas,
        "timePerQuestion": {**_TIMES, "description": "Seconds to append; the newest are kept"},
        "__set": _closed(_values(schema), description="Values to set, after the deltas"),
        "updatedAt": {"description": "Tolerated, not used"},
    }
    return {
        **_closed(properties, title="StatsPatch"),
        "examples": [
            {"xp": 10, "hearts": -1, "__set": {"level": 2}, "opId": "6f1c", "deviceId": "tablet"}
        ],
    }


def update(schema: StatsSchema) -> JsonSchema:
    """`StatsUpdate`: fields that replace the stored ones."""
    whose = {
        "anyOf": [dict(ID_SCHEMA), {"type": "null"}],
        "description": "Whose stats; the caller's own when absent",
    }
    properties = {"userId": whose, "stats": {"$ref": "#/$defs/StatsFields"}}
    return {
        **_closed(properties, title="StatsUpdate"),
        "required": ["stats"],
        "$defs": {"StatsFields": _fields(schema)},
    }


def _fields(schema: StatsSchema) -> JsonSchema:
    ignored = {"description": "Ignored, so that a pulled document can be sent back"}
    properties = {
        "userId": ignored,
        "rev": ignored,
        "updatedAt": {**_GIVEN_TIME, "description": "When they were so; now, when absent"},
        **_values(schema),
    }
    says = "Fields given replace the stored ones, absent ones stay"
    return _closed(properties, title="StatsFields", description=says)


def _documented(schema: StatsSchema) -> JsonSchema:
    return {
        "userId": dict(ID_SCHEMA),
        "rev": _REV,
        "updatedAt": dict(TIME_SCHEMA),
        **_values(schema),
    }


def _values(schema: StatsSchema) -> JsonSchema:
    numbers = {name: _value(spec) for name, spec in schema.numbers.items()}
    return {**numbers, "timePerQuestion": _TIMES, "lastGameResults": _GAME_RESULTS}


def _value(spec: NumberField) -> JsonSchema:
    return {
        "type": _type(spec),
        "minimum": spec.min,
        "maximum": spec.max,
        "examples": [spec.default],
    }


def _delta(spec: NumberField) -> JsonSchema:
    return {"type": _type(spec), "minimum": -int(MAX_DELTA), "maximum": int(MAX_DELTA)}


def _type(spec: NumberField) -> str:
    return "integer" if spec.kind is Kind.COUNTER else "number"


def _answer(title: str, properties: JsonSchema) -> JsonSchema:
    return {
        "title": title,
        "type": "object",
        "properties": properties,
        "required": list(properties),
    }


def _closed(properties: JsonSchema, **more: str) -> JsonSchema:
    return {**more, "type": "object", "properties": properties, "additionalProperties": False}
