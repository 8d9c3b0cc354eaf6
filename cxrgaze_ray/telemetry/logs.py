"""Logs as lines of JSON, where CXRGAZE_LOG_FORMAT asks for them: in commands, Ray's workers and Serve's replicas.

A line has the ids of the work it is about: run, shard, request. What may stand in it is a closed list of fields, whose
values are numbers or short words; an exception is told by its type and place, for its message may quote a file.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import IO
from uuid import UUID

from cxrgaze_ray.errors import ConfigError, place_of

FORMAT_VARIABLE = "CXRGAZE_LOG_FORMAT"
"""Environment variable: ``json``, or ``text``, which is the default and leaves logs as Python and Ray write them."""

FORMATS = ("text", "json")

OURS, SERVES = "cxrgaze_ray", "ray.serve"
"""Loggers whose lines are ours to write: our own, and Serve's, whose records know the request."""

FIELDS = frozenset(
    {
        "run", "shard", "chunk", "request", "route", "code", "seconds", "rows", "images", "failed", "job", "engine",
        "version", "stage", "epoch", "loss", "attempt",
    }
)  # fmt: skip
"""Everything that a line may say besides its message."""

_WORD = re.compile(r"[\w./@+-]{1,64}", re.ASCII)

Value = str | int | float

_bound: ContextVar[dict[str, Value] | None] = ContextVar("cxrgaze_log_fields", default=None)


def wanted() -> bool:
    """Return whether the environment asks for JSON."""
    return os.environ.get(FORMAT_VARIABLE, "").lower() == "json"


def check_format() -> None:
    """Raise ConfigError if the environment asks for a format that there is none of."""
    if (given := os.environ.get(FORMAT_VARIABLE, "").lower()) not in ("", *FORMATS):
        known = " or ".join(FORMATS)
        raise ConfigError(f"{FORMAT_VARIABLE} is {given!r}, which is no format.", f"Set it to {known}, or unset it.")


@contextmanager
def about(**fields: Value) -> Iterator[None]:
    """Have every line that is written in the block say what it is about; ValueError for a field not in `FIELDS`."""
    token = _bound.set({**(_bound.get() or {}), **_checked(fields)})
    try:
        yield
    finally:
        _bound.reset(token)


def event(log: logging.Logger, what: str, level: int = logging.INFO, **fields: Value) -> None:
    """Log what happened, with fields of `FIELDS`.

    Parameters
    ----------
    what
        Always the same words for the same happening: what differs goes into fields.

    Raises
    ------
    ValueError
        If a field is not of the list, or its value is neither a number nor a short word.
    """
    if log.isEnabledFor(level):
        log.log(level, what, extra={"cxrgaze": _checked(fields)})


def start_logging(stream: IO[str] | None = None) -> bool:
    """Write logs as JSON from now on, if the environment asks for it.

    Every process of ours calls it as it begins; a second call does nothing.

    Parameters
    ----------
    stream
        Where to; by default to stderr, which Ray keeps in a file for each of its workers.

    Returns
    -------
    bool
        Whether logs are JSON.
    """
    if not wanted():
        return False
    log = logging.getLogger(OURS)
    if not any(isinstance(handler.formatter, JsonLines) for handler in log.handlers):
        handler = logging.StreamHandler(stream or sys.stderr)
        handler.setFormatter(JsonLines())
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False
    for one in logging.getLogger(SERVES).handlers:
        target: logging.Handler | None = getattr(one, "target", None)  # Serve writes its file through a buffer
        (target or one).setFormatter(JsonLines())
    return True


def line_of(sentence: str, level: int) -> str:
    """Return a sentence to the user as a line of the log."""
    record = logging.LogRecord("cxrgaze", level, "", 0, sentence, None, None)
    return JsonLines().format(record)


def request_id_of(given: str | None) -> str | None:
    """Return a client's id of its request if that is a UUID, and None else: other words may name a patient."""
    try:
        return str(UUID(given)) if given else None
    except ValueError:
        return None


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        line: dict[str, Value] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process or 0,
            **(_bound.get() or {}),
            **getattr(record, "cxrgaze", {}),
        }
        if request := request_id_of(getattr(record, "request_id", None)):  # Serve's filter puts it there
            line.setdefault("request", request)
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = place_of(record.exc_info[1])
        return json.dumps(line)


def _checked(fields: dict[str, Value]) -> dict[str, Value]:
    for name, value in fields.items():
        if name not in FIELDS:
            raise ValueError(f"a log line has no field {name}")
        if isinstance(value, str) and not _WORD.fullmatch(value):
            raise ValueError(f"a value of a log line's field {name} is no short word")
    return fields
