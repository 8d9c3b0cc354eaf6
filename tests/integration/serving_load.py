"""Single requests that keep coming while something happens to the application."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.context import _get_global_client
from ray.serve.exceptions import RayServeException


@dataclass(frozen=True)
class Answer:
    """What a client got."""

    code: int
    retry_after: str | None
    body: dict[str, Any]


@contextmanager
def hammered(url: str, body: bytes, clients: int = 3) -> Iterator[list[Answer]]:
    """Have clients post a body, each again as soon as it is answered, until the block ends; give what they got."""
    answers: list[Answer] = []
    stop = threading.Event()

    def post() -> None:
        with httpx.Client(base_url=url, timeout=120) as client:
            while not stop.is_set():
                found = client.post("/v1/predict", content=body)
                answers.append(Answer(found.status_code, found.headers.get("retry-after"), found.json()))
                if found.status_code != 200:
                    time.sleep(0.2)

    with ThreadPoolExecutor(clients) as pool:
        posted = [pool.submit(post) for _ in range(clients)]
        try:
            yield answers
        finally:
            stop.set()
        for one in posted:
            one.result()


def processes(application: str, deployment: str = "Model") -> set[int]:
    """Return the process ids of the replicas of a deployment that run."""
    details: Any = _get_global_client().get_serve_details()["applications"].get(application)  # type: ignore[union-attr]
    replicas = details["deployments"][deployment]["replicas"] if details else []
    return {replica["pid"] for replica in replicas if replica["state"] == "RUNNING"}


def held(application: str) -> list[list[tuple[str, str]]]:
    """Return what each model replica has loaded; waits until this process knows of one."""
    found: list[list[tuple[str, str]]] = []

    def ask() -> bool:
        with contextlib.suppress(RayServeException, RayActorError):
            found[:] = serve.get_deployment_handle("Model", application).broadcast("held").results()
        return bool(found)

    wait_until(ask, "no replica answers")
    return found


def wait_until(happened: Callable[[], bool], what: str, seconds: float = 180) -> None:
    """Wait, with an error that says for what."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, what
        time.sleep(0.1)
