"""A training on a cluster of two nodes, one of which is lost for good: run as a script by a test."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
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


LOSE_AFTER = 4
"""Epochs."""

NOTICE_S = 15
"""Notice that is given before a node is taken away."""


def main(store: str, registry: str, settings: str, workers: str, loss: str, minutes: str) -> None:
    """Train; have the second node killed, or taken away with notice; print what was said.

    Where the training waits for the node that was killed, it gets another one.
    """
    nodes = Nodes(initialize_head=True, head_node_args=NODE)
    other = nodes.add_node(**NODE)
    nodes.wait_for_nodes()
    said: list[str] = []
    epochs = 0
    wanted: queue.Queue[Callable[[], object]] = queue.Queue()

    def lose() -> None:
        if loss == "notice":
            drain(nodes.address, other.node_id)
            time.sleep(NOTICE_S)
        nodes.remove_node(other, allow_graceful=False)

    def count(_metrics: dict[str, Any]) -> None:
        nonlocal epochs
        epochs += 1
        if epochs == LOSE_AFTER:
            wanted.put(lose)

    def say(line: str) -> None:
        said.append(line)
        if loss == "kill" and line.startswith("Waiting for"):
            wanted.put(lambda: nodes.add_node(**NODE))

    with connect(ClusterSettings(address=nodes.address), quiet=False) as cluster, ThreadPoolExecutor(1) as pool:
        training = pool.submit(
            run_stages,
            ShardStore.open(store),
            TrainSettings.build(**json.loads(settings)),
            Registry(open_store(registry)),
            workers=Workers.parse(workers),
            checkpoints=CheckpointSettings(minutes=float(minutes)),
            connect=lambda: joined(cluster),
            say=say,
            on_epoch=count,
        )
        while not training.done():  # nodes are started and stopped on the main thread only
            with suppress(queue.Empty):
                wanted.get(timeout=0.2)()
        weights = training.result().info.weights_sha256
    nodes.shutdown()  # type: ignore[no-untyped-call]
    print(json.dumps({"said": said, "weights": weights}))


def drain(address: str, node: str) -> None:
    """Give notice that a node will be taken away."""
    ray = Path(sys.executable).with_name("ray")
    options = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "test"]
    notice = ["--deadline-remaining-seconds", str(NOTICE_S)]
    subprocess.run([ray, "drain-node", "--address", address, "--node-id", node, *options, *notice], check=True)


@contextmanager
def joined(cluster: Cluster) -> Iterator[Cluster]:
    """Stand for `connect` where the cluster is joined already."""
    yield cluster


if __name__ == "__main__":
    main(*sys.argv[1:])
