"""A training on a cluster of several nodes, one of which is lost for good."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cxrgaze_ray.cluster.connection import Cluster
from cxrgaze_ray.phantoms import GAZE_FOLDER, PhantomReport
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.shards import IngestSettings, ShardStore, SplitSettings, ingest
from cxrgaze_ray.storage import LocalStore
from cxrgaze_ray.training.run import run_stages
from cxrgaze_ray.training.settings import TrainSettings

ROOT = Path(__file__).parents[2]
EPOCHS = 24
CHOSEN = TrainSettings.for_preset(
    "tiny", ["encoder"], backbone="fresh", stages={"encoder": {"epochs": EPOCHS, "batch": 8, "patience": EPOCHS}}
)


@pytest.fixture(scope="module")
def store(
    cluster: Cluster, phantoms: tuple[str, PhantomReport], tmp_path_factory: pytest.TempPathFactory
) -> ShardStore:
    out = str(tmp_path_factory.mktemp("training-store"))
    split = IngestSettings(split=SplitSettings(train=0.6, validation=0.2))
    return ingest(phantoms[0], f"{phantoms[0]}/{GAZE_FOLDER}", out, settings=split, workers=1)


def train_on_nodes(store: ShardStore, registry: Path, workers: str, *, lose: int, add: str) -> list[str]:
    """Train in a process of its own, whose cluster has two nodes; return what was said."""
    arguments = [store.store.uri, str(registry), CHOSEN.model_dump_json(), workers, str(lose), add]
    command = [sys.executable, "-m", "tests.integration.elastic_training", *arguments]
    environment = os.environ | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=580, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    said: list[str] = json.loads(done.stdout.splitlines()[-1])["said"]
    return said


def history(registry: Path) -> list[dict[str, Any]]:
    (metrics,) = registry.rglob("metrics.json")
    found: list[dict[str, Any]] = json.loads(metrics.read_text())
    return found


@pytest.mark.long
def test_a_training_goes_on_with_the_workers_that_are_left(store: ShardStore, tmp_path: Path) -> None:
    said = train_on_nodes(store, tmp_path / "nodes", "1:2", lose=4, add="never")
    assert "Training with 2 workers." in said
    assert any(line.startswith("A worker was lost") for line in said), said
    assert any(line.startswith("Going on after phase encoder, epoch ") and "with 1 worker." in line for line in said)
    run_stages(store, CHOSEN, Registry(LocalStore(str(tmp_path / "alone"))))
    for one, other in zip(history(tmp_path / "nodes"), history(tmp_path / "alone"), strict=True):
        assert one["epoch"] == other["epoch"]
        # the encoder has no dropout, and its batch norms see a part of each batch on two workers
        assert one["validation_loss"] == pytest.approx(other["validation_loss"], rel=0.1)


@pytest.mark.long
def test_a_fixed_number_of_workers_waits_for_a_node_and_says_so(store: ShardStore, tmp_path: Path) -> None:
    said = train_on_nodes(store, tmp_path / "nodes", "2", lose=4, add="wait")
    (lost, waits, *_) = [line for line in said if "was lost" in line or line.startswith("Waiting")]
    assert lost.startswith("A worker was lost")
    assert waits.startswith("Waiting for 2 workers, a CPU each, for ")
    assert "nodes have 1 CPU," in waits
    assert len(history(tmp_path / "nodes")) == EPOCHS
