"""A training on a cluster of two nodes, one of which is lost for good: run as a script by a test."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cxrgaze_ray.cluster.connection import Cluster, ClusterSettings, connect, set_ray_environment

set_ray_environment()

from ray.cluster_utils import Cluster as Nodes  # noqa: E402

from cxrgaze_ray.registry.versions import Registry  # noqa: E402
from cxrgaze_ray.shards import ShardStore  # noqa: E402
from cxrgaze_ray.storage import open_store  # noqa: E402
from cxrgaze_ray.training.run import run_stages  # noqa: E402
from cxrgaze_ray.training.running import CheckpointSettings, Workers  # noqa: E402
from cxrgaze_ray.training.settings import TrainSettings  # noqa: E402

NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 200 * 2**20}
"""Room for one worker."""


def main(store: str, registry: str, settings: str, workers: str, lose: str, add: str) -> None:
    """Train; lose the second node after some epochs, and add another one after more; print what was said."""
    nodes = Nodes(initialize_head=True, head_node_args=NODE)
    other = nodes.add_node(**NODE)
    nodes.wait_for_nodes()
    said: list[str] = []
    epochs = 0

    def count(_metrics: dict[str, Any]) -> None:
        nonlocal epochs
        epochs += 1
        if epochs == int(lose):
            nodes.remove_node(other, allow_graceful=False)
        if epochs == int(add):
            nodes.add_node(**NODE)

    def say(line: str) -> None:
        said.append(line)
        if add == "wait" and line.startswith("Waiting for"):
            nodes.add_node(**NODE)

    with connect(ClusterSettings(address=nodes.address), quiet=False) as cluster:
        bundle = run_stages(
            ShardStore.open(store),
            TrainSettings.build(**json.loads(settings)),
            Registry(open_store(registry)),
            workers=Workers.parse(workers),
            checkpoints=CheckpointSettings(minutes=0.005),
            connect=lambda: joined(cluster),
            say=say,
            on_epoch=count,
        )
    nodes.shutdown()  # type: ignore[no-untyped-call]
    print(json.dumps({"said": said, "weights": bundle.info.weights_sha256}))


@contextmanager
def joined(cluster: Cluster) -> Iterator[Cluster]:
    """Stand for `connect` where the cluster is joined already."""
    yield cluster


if __name__ == "__main__":
    main(*sys.argv[1:])
