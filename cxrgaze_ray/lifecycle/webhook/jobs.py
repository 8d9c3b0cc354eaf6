"""Ray's job server, as far as the webhook needs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from cxrgaze_ray.errors import (
    EXIT_CANNOT_TELL,
    EXIT_DONE,
    EXIT_REJECTED,
    EXIT_USER,
    EnvironmentFault,
    ServingUnavailable,
)
from cxrgaze_ray.telemetry.labels import WEBHOOK_STATE

STATES = WEBHOOK_STATE.values
"""Every state of a retraining. done: accepted, or nothing to do; ask: a person has to look first."""

_VERDICTS = {EXIT_DONE: "done", EXIT_REJECTED: "rejected", EXIT_CANNOT_TELL: "cannot_tell", EXIT_USER: "ask"}


@dataclass(frozen=True)
class JobState:
    """One of `STATES`, and the exit code once there is one."""

    state: str
    exit_code: int | None = None


class Jobs(Protocol):
    """A server that runs retrainings."""

    def submit(self, submission_id: str, entrypoint: str, metadata: dict[str, str]) -> None:
        """Start a job; one of that id that is there already counts as started.

        Raises
        ------
        EnvironmentFault
            If the job server does not answer, or does not take the job.
        """

    def state(self, submission_id: str) -> JobState | None:
        """Return what became of a job; None if the server knows none of that id."""


class RayJobs:
    """The job server of a Ray cluster; it is asked with the cluster's own token (``RAY_AUTH_MODE=token``).

    Parameters
    ----------
    address
        Address such as http://head:8265, or the cluster's own. Ray lets $RAY_API_SERVER_ADDRESS override it.
    """

    def __init__(self, address: str) -> None:
        self._address = address

    def submit(self, submission_id: str, entrypoint: str, metadata: dict[str, str]) -> None:
        """Start a job; one of that id that is there already counts as started."""
        client = self._client()
        try:
            client.submit_job(entrypoint=entrypoint, submission_id=submission_id, metadata=metadata)
        except (RuntimeError, OSError) as error:
            # whatever the refusal says, all that counts is whether the job exists
            if self.state(submission_id) is None:
                raise ServingUnavailable(
                    f"Ray's job server at {self._address} did not take the job.", "See the log of the cluster's head."
                ) from error

    def state(self, submission_id: str) -> JobState | None:
        """Return what became of a job; None if the server knows none of that id."""
        try:
            details = self._client().get_job_info(submission_id)
        except RuntimeError as error:
            if "status code 404" in str(error):
                return None
            raise self._silent() from error
        except OSError as error:
            raise self._silent() from error
        return state_of(str(details.status.value), details.driver_exit_code)

    def _client(self) -> Any:
        from ray.exceptions import RayError
        from ray.job_submission import JobSubmissionClient

        try:
            return JobSubmissionClient(self._address)
        except (RuntimeError, ValueError, OSError, RayError) as error:  # RayError: the token is not the cluster's
            raise self._silent() from error

    def _silent(self) -> EnvironmentFault:
        return ServingUnavailable(
            f"Ray's job server at {self._address} does not answer.",
            "It comes with Ray's dashboard: start the cluster with it, and with the same token.",
        )


def state_of(status: str, exit_code: int | None) -> JobState:
    """Return a retraining's state from Ray's status and the exit code: a rejected candidate is not a failure."""
    known = {"PENDING": "pending", "RUNNING": "running", "STOPPED": "stopped", "SUCCEEDED": "done"}
    return JobState(known.get(status) or _VERDICTS.get(exit_code or 1, "failed"), exit_code)
