"""A batch job that meets the cluster's application in the middle of a change."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from ray.serve.schema import ApplicationStatus

from cxrgaze_ray.config.serve_file import APPLICATION
from cxrgaze_ray.errors import EnvironmentFault
from cxrgaze_ray.serving import batch


def application(status: ApplicationStatus, **states: int) -> dict[str, Any]:
    deployments = {"Model": SimpleNamespace(replica_states=states)} if states else {}
    return {APPLICATION: SimpleNamespace(status=status, deployments=deployments)}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Give the list of what Serve says, of which the last is said for ever."""
    said: list[dict[str, Any]] = []
    now = [0.0]

    def status() -> SimpleNamespace:
        return SimpleNamespace(applications=said.pop(0) if len(said) > 1 else said[0])

    monkeypatch.setattr(batch, "serve", SimpleNamespace(status=status))
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return said


def test_one_that_is_being_deployed_is_waited_for(seen: list[dict[str, Any]]) -> None:
    seen += [application(ApplicationStatus.DEPLOYING)] * 3
    seen += [application(ApplicationStatus.DEPLOYING, STARTING=2)] * 3
    seen += [application(ApplicationStatus.DEPLOYING, STARTING=1, RUNNING=1, STOPPING=1)]
    assert batch.await_replicas() == 2


def test_one_that_goes_away_leaves_the_job_to_start_its_own(seen: list[dict[str, Any]]) -> None:
    seen += [application(ApplicationStatus.DELETING, STOPPING=1), {}]
    assert batch.await_replicas() == 0


@pytest.mark.parametrize("status", [ApplicationStatus.DEPLOY_FAILED, ApplicationStatus.DEPLOYING])
def test_one_that_does_not_come_is_the_environments_fault(
    seen: list[dict[str, Any]], status: ApplicationStatus
) -> None:
    seen += [application(status, STARTING=1)]
    with pytest.raises(EnvironmentFault, match=f"it is {status.value}") as fault:
        batch.await_replicas()
    assert "serve status" in fault.value.hint
