"""A whole job on a cluster of three nodes, one of which may be lost: run as a script by a test."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from cxrgaze_ray.cluster.connection import Cluster, ClusterSettings, connect, set_ray_environment

set_ray_environment()

import ray  # noqa: E402
from ray._private.state import actors  # noqa: E402
from ray.cluster_utils import Cluster as Nodes  # noqa: E402

from cxrgaze_ray.scoring import driver  # noqa: E402
from cxrgaze_ray.scoring.decode import DecodeChunk  # noqa: E402
from cxrgaze_ray.scoring.gather import Progress  # noqa: E402
from cxrgaze_ray.scoring.pipeline import Pools  # noqa: E402
from cxrgaze_ray.scoring.runs import Request  # noqa: E402

NODE: dict[str, Any] = {"num_cpus": 3, "object_store_memory": 300 * 2**20}
"""Two of these have room for all actors: none waits for a third."""

LOSE_AFTER = 48
"""Rows."""


def main(archive: str, registry: str, out: str, notes: str, lose: str) -> None:
    """Score an archive; print the run, and what ran on the node that was lost."""
    nodes = Nodes(initialize_head=True, head_node_args=NODE)
    others = [nodes.add_node(**NODE) for _ in range(2)]
    nodes.wait_for_nodes()
    lost: dict[str, list[str]] = {}

    def look(progress: Progress) -> None:
        everywhere = len(list(Path(notes).iterdir())) == 1 + len(others)
        if lose == "yes" and not lost and everywhere and progress.received >= LOSE_AFTER:
            with_model = [node for node in others if any(name.endswith("Model") for name in classes(node.node_id))]
            victim = (with_model or others)[0]
            lost[victim.node_id] = classes(victim.node_id)
            nodes.remove_node(victim, allow_graceful=False)

    vars(driver)["Pools"] = partial(Pools, decode=noting(notes))
    request = Request(archive=archive, model="cxrgaze@champion", engine="float32")
    with connect(ClusterSettings(address=nodes.address), quiet=False) as cluster:
        settings = driver.ScoreSettings(decoders=3)
        outcome = driver.score_archive(
            request, out, registry, lambda: joined(cluster), settings=settings, on_progress=look
        )
    nodes.shutdown()  # type: ignore[no-untyped-call]
    print(json.dumps({"run": outcome.run.store.uri, "lost": lost}))


@contextmanager
def joined(cluster: Cluster) -> Iterator[Cluster]:
    """Stand for `connect` where the cluster is joined already."""
    yield cluster


def noting(notes: str) -> type[DecodeChunk]:
    """Return a decoder that leaves a note of the node it works on, a byte a chunk."""

    class Noted(DecodeChunk):
        def __call__(self, batch: pa.Table) -> pa.Table:
            done = super().__call__(batch)
            with Path(notes, ray.get_runtime_context().get_node_id()).open("a") as note:
                note.write(".")
            return done

    return Noted


def classes(node: str) -> list[str]:
    """Return the classes of the actors that run on a node."""
    found: dict[str, Any] = actors()
    here = [one for one in found.values() if one["State"] == "ALIVE" and one["Address"]["NodeID"] == node]
    return sorted(one["ActorClassName"] for one in here)


if __name__ == "__main__":
    main(*sys.argv[1:])
