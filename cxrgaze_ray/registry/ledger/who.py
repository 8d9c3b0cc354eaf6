"""The name of the person or program that acts, for the ledger."""

from __future__ import annotations

import getpass
import os
import socket

_LENGTH = 120


def signature(who: str | None = None) -> str:
    """Return the actor's name on one line: as given, else $CXRGAZE_WHO, else user@host; never fails."""
    named = _tidy(who or "") or _tidy(os.environ.get("CXRGAZE_WHO", ""))
    return named or _tidy(f"{_user()}@{_host()}")


def _tidy(who: str) -> str:
    return " ".join(who.split())[:_LENGTH]


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user id may have no name
        return f"uid-{os.getuid()}" if hasattr(os, "getuid") else "unknown"


def _host() -> str:
    try:
        return socket.gethostname()
    except OSError:
        return "unknown"
