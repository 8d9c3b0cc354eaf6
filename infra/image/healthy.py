#!/usr/bin/env python3
"""The image's health check: a container that serves is healthy once it is ready, any other while it lives.

Asks the port that the command line of `cxrgaze serve` names, else 8000; of a service whose config file names another
one, the container is started with a check of its own.
"""

from __future__ import annotations

import ssl
import sys
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

_PORT = 8000
_PATIENCE_S = 4


def served_port(command: list[str]) -> int | None:
    """Return the port of the service that a command line starts; None if it starts none."""
    words = iter(command)
    if not any(word.rpartition("/")[2] == "cxrgaze" for word in words) or next(words, "") != "serve":
        return None
    port = _PORT
    for word in words:
        name, _, value = word.partition("=")
        if name == "--port":
            port = int(value or next(words, _PORT))
    return port


def is_ready(port: int) -> bool:
    """Return whether the service on a port of this machine has a model; asks over TLS where it does not speak HTTP."""
    anybody = ssl._create_unverified_context()  # ours need not be of the name by which we reach ourselves
    for scheme in ("http", "https"):
        try:
            with urlopen(f"{scheme}://127.0.0.1:{port}/readyz", timeout=_PATIENCE_S, context=anybody) as answer:
                return answer.status == 200
        except HTTPError:
            return False
        except (OSError, HTTPException):  # nothing there, or it speaks the other one
            continue
    return False


def main() -> int:
    """Return the exit status: 0 if healthy."""
    command = Path("/proc/1/cmdline").read_text().split("\0")
    port = served_port(command)
    return 0 if port is None or is_ready(port) else 1


if __name__ == "__main__":
    sys.exit(main())
