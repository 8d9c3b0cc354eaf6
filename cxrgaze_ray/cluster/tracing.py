"""Whether a cluster that is started here is one that traces: Ray then calls a hook in each of its processes."""

from __future__ import annotations

import os

from cxrgaze_ray.config.environment import TRACES_VARIABLE

TRACING_HOOK = "cxrgaze_ray.telemetry.traces:start_tracing"


def tracing_hook() -> str | None:
    """Return the hook to start a cluster with, None where the environment asks for no traces."""
    return TRACING_HOOK if os.environ.get(TRACES_VARIABLE) else None
