"""What the service runs on: a head without replicas, and nodes with one of each; and how to kill any of it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ray import serve

from cxrgaze_ray.benchmark.processes import command_of, descendants
from cxrgaze_ray.cluster.connection import ClusterSettings, connect
from cxrgaze_ray.cluster.ray_internals import start_node
from cxrgaze_ray.config.serve_file import APPLICATION, ServeFile

REPLICAS = 2
"""Of the ingress and of the model, each on a node of its own."""

INGRESS, MODEL, DECODING, PROXY, CONTROLLER = "ingress replica", "model replica", "decoding", "proxy", "controller"

_MARKS = {
    "ray::ServeReplica:cxrgaze:Ingress": INGRESS,
    "ray::ServeReplica:cxrgaze:Model": MODEL,
    "cxrgaze_ray.radiograph.decoding.worker": DECODING,
    "ray::ProxyActor": PROXY,
    "ray::ServeController": CONTROLLER,
}
"""What the command line of each process has in it."""

_REPLICA_CPUS = 2
_NODE_CPUS = 2 * _REPLICA_CPUS
_STORE_BYTES = 200 * 2**20


def serve_file(port: int, registry: str, follow_every_s: float) -> ServeFile:
    """Return the service's settings: replicas too large for the head, and spread over the nodes."""
    plain = ServeFile().with_arguments(port=port, registry=registry, follow_every_s=follow_every_s)
    spread = {
        "num_replicas": REPLICAS,
        "max_replicas_per_node": 1,
        "ray_actor_options": {"num_cpus": float(_REPLICA_CPUS)},
    }
    data = plain.model_dump()
    data["applications"][0]["deployments"] = [{"name": name, **spread} for name in ("Ingress", "Model")]
    data["applications"][0]["args"]["model"]["threads"] = 1
    return ServeFile.build(**data)


class Nodes:
    """The nodes beside the head, of the private cluster that this process is connected to."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._raylets: list[subprocess.Popen[bytes]] = []

    def add(self) -> None:
        """Start one."""
        self._raylets.append(start_node(self._address, _NODE_CPUS, _STORE_BYTES))

    def kill(self) -> int:
        """Kill the oldest with all that runs there, as a power cut does; return the number of its processes."""
        raylet = self._raylets.pop(0)
        there = [raylet.pid, *descendants(raylet.pid)]
        _kill(there)
        raylet.wait()
        return len(there)

    def end(self) -> None:
        """Kill them all."""
        while self._raylets:
            self.kill()


@contextmanager
def nodes() -> Iterator[Nodes]:
    """Start a private cluster of a head and as many nodes as there are replicas; it ends with the block."""
    with connect(ClusterSettings(num_cpus=1, object_store_mib=200)) as cluster:
        found = Nodes(cluster.address)
        try:
            for _ in range(REPLICAS):
                found.add()
            yield found
        finally:
            found.end()


def serving_processes() -> dict[int, str]:
    """Return what of this process's descendants serves: process ids, and what each is."""
    found = {}
    for pid in descendants(os.getpid()):
        command = command_of(pid)
        if role := next((role for mark, role in _MARKS.items() if mark in command), None):
            found[pid] = role
    return found


def kill_replica(role: str) -> int:
    """Kill one replica of `INGRESS` or `MODEL`, and what it started; return its process id."""
    victim = next(pid for pid, one in serving_processes().items() if one == role)
    _kill([victim, *descendants(victim)])
    return victim


def all_there() -> bool:
    """Return whether every replica that should be there is, and Serve calls each well."""
    roles = list(serving_processes().values())
    states = serve.status().applications[APPLICATION].deployments.values()
    return all(roles.count(role) == REPLICAS for role in (INGRESS, MODEL)) and all(
        dict(one.replica_states) == {"RUNNING": REPLICAS} for one in states
    )


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):  # it ended with another
            os.kill(pid, signal.SIGKILL)
