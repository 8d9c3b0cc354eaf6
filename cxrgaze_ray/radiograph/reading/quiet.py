"""Keep pydicom's and highdicom's warnings and logs, which hold values of tags, to ourselves."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from pydicom.config import disable_value_validation

_LOCK = threading.RLock()  # warning filters, pydicom's settings and loggers are of the process, not of a thread
_LOGGERS = tuple(logging.getLogger(name) for name in ("pydicom", "highdicom", "pylibjpeg", "openjpeg"))


@contextmanager
def quiet() -> Iterator[None]:
    """Read without warnings, log records and value validation; one thread at a time."""
    with _LOCK, warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore")
        before = [logger.propagate for logger in _LOGGERS]
        try:
            for logger in _LOGGERS:
                logger.propagate = False
            yield
        finally:
            for logger, propagate in zip(_LOGGERS, before, strict=True):
                logger.propagate = propagate
