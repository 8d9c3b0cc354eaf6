"""Ray's job server, with an address and a token of its own, whatever the environment says of other clusters."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Queue
from typing import Any, NamedTuple, Protocol

from cxrgaze_ray.cluster.dashboard import Dashboard
from cxrgaze_ray.cluster.token import use_file
from cxrgaze_ray.errors import ServingUnavailable

_OVERRIDES = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")
"""Variables that Ray's client takes before the address that it is given."""

_CHATTY = ("ray", "ray.dashboard.modules.job.sdk", "ray.dashboard.modules.dashboard_sdk")
"""Loggers that tell the terminal of every upload and connection."""

ENDS = ("SUCCEEDED", "FAILED", "STOPPED")


class JobState(NamedTuple):
    """What the server says of a job: Ray's word for its state, and the exit code of its entry point once it has one."""

    status: str
    exit_code: int | None = None

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.status in ENDS


class Server(Protocol):
    """A server that runs jobs, as far as one that follows them needs it."""

    @property
    def url(self) -> str:
        """Where it is."""

    def session(self) -> str:
        """Return the name of its session, another one after each start; ServingUnavailable if it does not answer."""

    def state(self, job: str) -> JobState | None:
        """Return what became of a job; None if it knows none; ServingUnavailable if it does not answer."""

    def tail(self, job: str, words: Queue[str | None]) -> None:
        """Put what a job says into a queue, from its beginning, and None where that ends, for whatever reason."""

    def stop(self, job: str) -> None:
        """Tell a job to end."""


class JobServer:
    """The job server of a cluster.

    Parameters
    ----------
    dashboard
        The cluster's dashboard, which is its job server too.
    token_file
        File of its token; None leaves that to Ray's own ways.
    """

    def __init__(self, dashboard: Dashboard, token_file: Path | None) -> None:
        self._dashboard = dashboard
        self._token_file = token_file
        self.url = dashboard.url

    def session(self) -> str:
        """Return the name of its session, another one after each start."""
        return self._dashboard.version()["session"]

    def state(self, job: str) -> JobState | None:
        """Return what became of a job; None if it knows none of that name."""
        found = self._dashboard.job(job)
        # for some names, such as "" and ".", the server lists all jobs instead
        return None if not isinstance(found, dict) else JobState(str(found["status"]), found.get("driver_exit_code"))

    def submit(self, job: str, entrypoint: str, working_dir: Path, metadata: dict[str, str]) -> None:
        """Start a job with the files of a folder, which are all that is sent.

        Raises
        ------
        ServingUnavailable
            If the server does not answer, or does not take the job.
        """
        how = {"working_dir": str(working_dir)}
        try:
            client = self._client()
            client.submit_job(entrypoint=entrypoint, submission_id=job, runtime_env=how, metadata=metadata)
        except (RuntimeError, OSError) as error:
            with suppress(ServingUnavailable):
                if self.state(job) is not None:  # whatever the refusal says, all that counts is whether the job exists
                    return
            raise ServingUnavailable(
                f"The job server at {self.url} did not take the job ({type(error).__name__}).",
                "Look at the log of the cluster's head, then try again.",
            ) from error

    def tail(self, job: str, words: Queue[str | None]) -> None:
        """Put what a job says into a queue, from its beginning, and None where that ends; on a thread of its own."""
        threading.Thread(target=self._tail, args=(job, words), name="logs", daemon=True).start()

    def stop(self, job: str) -> None:
        """Tell a job to end."""
        self._dashboard.stop_job(job)

    def _tail(self, job: str, words: Queue[str | None]) -> None:
        async def follow() -> None:
            async for said in self._client().tail_job_logs(job):
                words.put(said)

        try:
            asyncio.run(follow())
        except Exception:  # a connection that broke: whoever reads the queue asks for the job's state, and again
            pass
        finally:
            words.put(None)

    def _client(self) -> Any:
        if self._token_file is not None:
            use_file(self._token_file)
        with _without(_OVERRIDES):
            from ray.job_submission import JobSubmissionClient

            for chatty in _CHATTY:
                logging.getLogger(chatty).setLevel(logging.WARNING)
            headers = {"Authorization": f"Bearer {self._dashboard.token}"}
            return JobSubmissionClient(self.url, headers=headers)


@contextmanager
def _without(names: tuple[str, ...]) -> Iterator[None]:
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)
