"""A cluster as `cxrgaze cluster status` shows it."""

from __future__ import annotations

import platform
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cxrgaze_ray import __version__
from cxrgaze_ray.cli.console import human_bytes, human_seconds

if TYPE_CHECKING:
    from cxrgaze_ray.cluster.joining import Found

_JOBS = 10
"""Newest jobs that are shown to people; JSON has all."""

_USED = ("CPU", "GPU", "memory", "object_store_memory", "objectStoreMemory")


def status_of(found: Found) -> dict[str, Any]:
    """Ask a cluster for its nodes, use, jobs and versions."""
    from cxrgaze_ray.cluster.nodes import VERSION_LABEL

    version = found.dashboard.version()
    nodes = [_node(one, VERSION_LABEL) for one in found.dashboard.nodes()]
    usage = {name: pair for name, pair in found.dashboard.usage().items() if name in _USED}
    return {
        "address": None if found.standing is None else found.standing.address,
        "dashboard": found.dashboard.url,
        "ray": version["ray"],
        "session": version["session"],
        "client": {"cxrgaze": __version__, "python": platform.python_version()},
        "nodes": nodes,
        "usage": {name: {"used": used, "total": total} for name, (used, total) in usage.items()},
        "jobs": [_job(one) for one in found.dashboard.jobs()],
    }


def _node(one: dict[str, Any], label: str) -> dict[str, Any]:
    total = one.get("resources_total") or {}
    return {
        "node": one["node_ip"],
        "role": "head" if one.get("is_head_node") else "worker",
        "state": one["state"],
        "cpus": total.get("CPU", 0),
        "gpus": total.get("GPU", 0),
        "memory": total.get("memory", 0),
        "object_store": total.get("object_store_memory", 0),
        "cxrgaze": (one.get("labels") or {}).get(label),
    }


def _job(one: dict[str, Any]) -> dict[str, Any]:
    began, ended = one.get("start_time"), one.get("end_time")
    return {
        "job": one["submission_id"],
        "status": one["status"],
        "exit_code": one.get("driver_exit_code"),
        "began": _date(began),
        "seconds": None if began is None else round(((ended or _now()) - began) / 1000, 1),
    }


def _now() -> float:
    return datetime.now(UTC).timestamp() * 1000


def _date(milliseconds: float | None) -> str | None:
    if milliseconds is None:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


def tables_of(status: dict[str, Any]) -> list[tuple[list[str], list[list[Any]]]]:
    """Return the tables of nodes and of the newest jobs, for people."""
    nodes = [
        [
            one["node"], one["role"], one["state"].lower(), f"{one['cpus']:g}", f"{one['gpus']:g}",
            human_bytes(one["memory"]), human_bytes(one["object_store"]), one["cxrgaze"],
        ]
        for one in status["nodes"]
    ]  # fmt: skip
    jobs = [
        [one["job"], one["status"].lower(), one["exit_code"], one["began"], human_seconds(one["seconds"] or 0)]
        for one in status["jobs"][:_JOBS]
    ]
    tables = [(["node", "role", "state", "CPUs", "GPUs", "memory", "object store", "cxrgaze"], nodes)]
    return [*tables, (["job", "state", "exit code", "began", "took"], jobs)] if jobs else tables


def status_lines(status: dict[str, Any]) -> list[str]:
    """Return what the tables don't say, for people."""
    usage = status["usage"]
    used = [f"{usage[name]['used']:g} of {usage[name]['total']:g} {name}s" for name in ("CPU", "GPU") if name in usage]
    lines = [f"In use: {', '.join(used)}."] if used else []
    states = Counter(one["status"].lower() for one in status["jobs"])
    told = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none yet"
    lines.append(f"Jobs: {told}. Ray {status['ray']}; dashboard {status['dashboard']}.")
    return lines + version_warnings(status)


def version_warnings(status: dict[str, Any]) -> list[str]:
    """Return a warning for each version that differs from this command's where it should not."""
    ours = status["client"]["cxrgaze"]
    others = {one["cxrgaze"] for one in status["nodes"] if one["state"] == "ALIVE"} - {None, ours}
    return [f"Warning: nodes have cxrgaze {', '.join(sorted(others))}, and this is {ours}."] if others else []
