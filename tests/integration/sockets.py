"""Which sockets processes listen on, and whether one does anything for those who have no token."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterable
from contextlib import suppress
from http.client import HTTPException

import grpc  # type: ignore[import-untyped]
import psutil

GUARDED = (
    "ray.rpc.JobInfoGcsService/GetAllJobInfo",
    "ray.rpc.NodeManagerService/GetNodeStats",
    "ray.rpc.ObjectManagerService/Pull",
    "ray.rpc.ReporterService/GetTraceback",
    "ray.rpc.RayletDriver/ClusterInfo",
    "ray.rpc.CoreWorkerService/PushTask",
    "ray.serve.ASGIService/HandleRequest",
)
"""A call of every service that Ray's gRPC ports have; one that a port lacks is refused as unknown."""


def family_of(process: psutil.Process) -> tuple[list[psutil.Process], list[psutil.Process]]:
    """Return a process and all that it started: first those that are no replicas of Serve's, then these.

    Replicas have a port for one another on all interfaces, with the token, wherever they run.
    """
    others: list[psutil.Process] = []
    replicas: list[psutil.Process] = []
    for one in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            (replicas if "ServeReplica" in " ".join(one.cmdline()) else others).append(one)
    return others, replicas


def sockets(processes: Iterable[psutil.Process]) -> set[tuple[str, int]]:
    """Return address and port of every socket that processes listen on."""
    found = set()
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            for link in process.net_connections("inet"):
                if link.status == psutil.CONN_LISTEN:
                    found.add((link.laddr.ip.removeprefix("::ffff:"), link.laddr.port))
    return found


def refuses(host: str, port: int) -> bool:
    """Return whether a port tells and does nothing without the token, whichever of HTTP and gRPC it speaks."""
    status = http_status(host, port)
    if status is not None:
        return status in (401, 403)
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        codes = {call(channel, name) for name in GUARDED}
    return "UNAUTHENTICATED" in codes and codes <= {"UNAUTHENTICATED", "UNIMPLEMENTED"}


def http_status(host: str, port: int) -> int | None:
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/api/jobs/", timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except (OSError, HTTPException):
        return None


def call(channel: grpc.Channel, name: str) -> str:
    try:
        channel.unary_unary(f"/{name}")(b"", timeout=10)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def shows_metrics_alone(host: str, port: int) -> bool:
    """Return whether a port answers what anybody may ask for with metrics, or not at all."""
    with (
        suppress(OSError, HTTPException),
        urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=10) as answer,
    ):
        return bool(answer.read(6) == b"# HELP")
    return False
