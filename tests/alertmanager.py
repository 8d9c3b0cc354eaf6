"""What Alertmanager posts, as the webhook's tests need it."""

from __future__ import annotations

import json
from typing import Any


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
