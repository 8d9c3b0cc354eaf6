"""A cluster of three nodes: the job spreads over them, and survives the loss of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, sys
from contextlib import contextmanager
from cxrgaze_ray.cluster import ClusterSettings, connect, set_ray_environment

set_ray_environment()
from ray._private.state import actors
from ray.cluster_utils import Cluster

from cxrgaze_ray.runs import Request, verify_run
from cxrgaze_ray.scoring.driver import ScoreSettings, score_archive

archive, registry, out, lose = sys.argv[1:]
nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": 300 * 2**20})
others = [nodes.add_node(num_cpus=2, object_store_memory=300 * 2**20) for _ in range(2)]
nodes.wait_for_nodes()
seen, lost = {}, []


def look(progress):
    if not progress.received or lost:
        return
    for actor in actors().values():
        if actor["State"] == "ALIVE":
            seen.setdefault(actor["ActorClassName"], set()).add(actor["Address"]["NodeID"])
    if lose == "yes" and progress.received >= 48:
        models = {
            one["Address"]["NodeID"]
            for one in actors().values()
            if one["State"] == "ALIVE" and one["ActorClassName"].endswith("Model")
        }
        host = [node for node in others if node.node_id in models] or others
        nodes.remove_node(host[0], allow_graceful=False)
        lost.append(host[0].node_id)


with connect(ClusterSettings(address=nodes.address), quiet=False) as cluster:
    outcome = score_archive(
        Request(archive=archive, model="cxrgaze@champion", engine="float32"), out, registry,
        lambda: contextmanager(lambda: (yield cluster))(), settings=ScoreSettings(decoders=3), on_progress=look,
    )
problems = [problem.what for problem in verify_run(outcome.run)]
nodes.shutdown()
spread = {name: len(places) for name, places in seen.items()}
print(json.dumps({"run": outcome.run.store.uri, "spread": spread, "lost": len(lost), "problems": problems}))
"""


def score_on_three_nodes(archive: str, registry: str, out: Path, *, lose: bool) -> dict[str, object]:
    """Score in a process of its own: the tests' own cluster has one node."""
    command = [sys.executable, "-c", SCRIPT, archive, registry, str(out), "yes" if lose else "no"]
    environment = os.environ | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=580, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.mark.long
@pytest.mark.parametrize("lose", [False, True])
def test_a_job_spreads_over_nodes_and_outlives_one(
    lose: bool, large_archive: str, published: str, tmp_path: Path
) -> None:
    result = score_on_three_nodes(large_archive, published, tmp_path / "out", lose=lose)
    assert result["problems"] == []
    assert result["lost"] == int(lose)
    spread = result["spread"]
    assert isinstance(spread, dict)
    assert max(count for name, count in spread.items() if "MapWorker" in name) >= 2
