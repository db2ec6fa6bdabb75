"""Logs: JSON lines for machines, plain lines when a person runs the server."""

import logging
import sys
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError

EXTRAS = ("request", "session", "user", "method", "path", "status", "ms", "reason", "worker")
"""What a record may carry beside its message; never a token, a password or a query string."""


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message and the extras."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= _extras(record)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class Console(logging.Formatter):
    """Time, level, message, extras; for people."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line of text."""
        extras = " ".join(f"{name}={value}" for name, value in _extras(record).items())
        line = f"{_time(record)[11:23]} {record.levelname:<7} {record.getMessage()}"
        if extras:
            line += f"  [{extras}]"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {name: record.__dict__[name] for name in EXTRAS if name in record.__dict__}


def _not_a_clients_fault(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError | RequestPayloadError)


class _Worker(logging.Filter):
    """Lets all pass, and notes whose it is."""

    def __init__(self, worker: int) -> None:
        super().__init__()
        self._worker = worker

    def filter(self, record: logging.LogRecord) -> bool:
        """Note the worker."""
        record.worker = self._worker
        return True


def quiet_about_clients() -> None:
    """Keep aiohttp from logging a traceback for malformed HTTP, which it answers with 400."""
    logger = logging.getLogger("aiohttp.server")
    logger.removeFilter(_not_a_clients_fault)
    logger.addFilter(_not_a_clients_fault)


def set_up(level: str, log_format: str, worker: int | None = None) -> None:
    """Log to stderr; `auto` is console on a terminal and JSON elsewhere.

    Every line of a worker carries its number.
    """
    if log_format == "auto":
        log_format = "console" if sys.stderr.isatty() else "json"
    handler = logging.StreamHandler()
    handler.setFormatter(Console() if log_format == "console" else JsonLines())
    if worker is not None:
        handler.addFilter(_Worker(worker))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for chatty in ("pymongo", "redis", "asyncio", "push_response"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLogger().level))
