"""What stands around the webhook in its tests: what Alertmanager posts, a job server, a clock."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cxrgaze_ray.errors import ServingUnavailable
from cxrgaze_ray.lifecycle.webhook.jobs import JobState

NOW = datetime(2026, 11, 2, 4, tzinfo=UTC)


def alert(
    name: str = "CxrgazeDrift", status: str = "firing", start: str = "2026-11-02T03:04:05.123456789Z"
) -> dict[str, Any]:
    """Return one alert, with all the keys that Alertmanager 0.25 sends."""
    return {
        "status": status,
        "labels": {"alertname": name, "family": "intensity", "severity": "warning"},
        "annotations": {"summary": "The images or scores of late differ from the baseline (intensity)."},
        "startsAt": start,
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus:9090/graph",
        "fingerprint": "4f2b2fb1c9e8f5a7",
    }


def notification(*alerts: dict[str, Any], group: str = '{}/{alertname=~"Cxrgaze.*"}:{}', **more: Any) -> bytes:
    """Return a request body with these alerts; one that fires if there are none."""
    body = {
        "version": "4",
        "groupKey": group,
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "retrain",
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager:9093",
        "alerts": list(alerts or [alert()]),
    }
    return json.dumps(body | more).encode()


@dataclass
class FakeJobs:
    """A job server in memory, which refuses an id it has as Ray's does; it may be down."""

    jobs: dict[str, tuple[str, dict[str, str]]] = field(default_factory=dict)
    submissions: int = 0
    down: bool = False
    dies_after: bool = False

    def submit(self, submission_id: str, entrypoint: str, metadata: dict[str, str]) -> None:
        if self.down:
            raise ServingUnavailable("The job server does not answer.")
        self.submissions += 1
        self.jobs.setdefault(submission_id, (entrypoint, metadata))
        if self.dies_after:
            raise KeyboardInterrupt

    def state(self, submission_id: str) -> JobState | None:
        if self.down:
            raise ServingUnavailable("The job server does not answer.")
        return JobState("running") if submission_id in self.jobs else None


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **time: float) -> None:
        self.now += timedelta(**time)
