"""A client that never stops asking, while something happens to the application it asks."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from typing import Self

_TIMEOUT_S = 120.0


class LoadGenerator:
    """Posts one radiograph after another until the block ends, and counts what it is answered.

    Parameters
    ----------
    url
        Address of the application.
    body
        A radiograph's bytes.

    Attributes
    ----------
    versions
        Answers by the version of the model that gave them, in order of their first one.
    failures
        Answers that were none, by their HTTP status or the error's name.
    """

    def __init__(self, url: str, body: bytes) -> None:
        self._url, self._body = f"{url}/v1/predict", body
        self.versions: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="load", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=_TIMEOUT_S)

    @property
    def requests(self) -> int:
        """Requests that were answered, or failed."""
        return self.versions.total() + self.failures.total()

    def wait_for(self, version: str, seconds: float = 120.0) -> float:
        """Wait until a version has answered since this call; return the seconds it took, infinite if it did not."""
        before, start = self.versions[version], time.monotonic()
        while time.monotonic() - start < seconds:
            if self.versions[version] > before:
                return time.monotonic() - start
            time.sleep(0.02)
        return float("inf")

    def wait_for_requests(self, count: int, seconds: float = 120.0) -> None:
        """Wait until so many more requests have come back."""
        end, until = time.monotonic() + seconds, self.requests + count
        while self.requests < until and time.monotonic() < end:
            time.sleep(0.02)

    def _ask(self) -> None:
        while not self._stop.is_set():
            self._count(self._post)

    def _count(self, post: Callable[[], str]) -> None:
        try:
            self.versions[post()] += 1
        except urllib.error.HTTPError as error:
            self.failures[str(error.code)] += 1
        except OSError as error:
            self.failures[type(error).__name__] += 1

    def _post(self) -> str:
        request = urllib.request.Request(self._url, data=self._body, method="POST")
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            version: str = json.load(answer)["model"]["version"]
        return version
