"""A training on a cluster of several nodes, one of which is lost for good."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.shards import ShardStore
from cxrgaze_ray.storage import LocalStore
from cxrgaze_ray.training.run import run_stages
from cxrgaze_ray.training.settings import TrainSettings

ROOT = Path(__file__).parents[2]
PARTS = slice(2), slice(2, None)
"""A history's first epochs, which two workers see, and the rest."""


def settings(epochs: int) -> TrainSettings:
    stage = {"epochs": epochs, "batch": 8, "patience": epochs}
    return TrainSettings.for_preset("tiny", ["encoder"], backbone="fresh", stages={"encoder": stage})


def train_on_nodes(
    store: ShardStore, chosen: TrainSettings, registry: Path, workers: str, loss: str, minutes: float
) -> list[str]:
    """Train in a process of its own, whose cluster has two nodes, until one is lost; return what was said."""
    arguments = [store.store.uri, str(registry), chosen.model_dump_json(), workers, loss, str(minutes)]
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
    """No checkpoint would be written within the phase if it were not for the notice."""
    chosen = settings(epochs=100)
    said = train_on_nodes(store, chosen, tmp_path / "nodes", "1:2", "notice", minutes=60)
    assert "Training with 2 workers." in said
    assert "A node is being taken away: a checkpoint is written first." in said
    assert any(line.startswith("A worker was lost") for line in said), said
    (where,) = [line for line in said if line.startswith("Going on after phase encoder, epoch ")]
    assert "step" in where
    assert where.endswith("with 1 worker.")
    run_stages(store, chosen, Registry(LocalStore(str(tmp_path / "alone"))))
    nodes, alone = history(tmp_path / "nodes"), history(tmp_path / "alone")
    assert [epoch["epoch"] for epoch in nodes] == list(range(1, 101)), "no epoch is left out or repeated"
    # the same batches, summed up by two workers and by one: the same but for rounding, which later epochs let grow
    # until single losses have nothing in common; how low they come has
    first, last = ([[epoch["validation_loss"] for epoch in one[part]] for one in (nodes, alone)] for part in PARTS)
    assert first[0] == pytest.approx(first[1], rel=1e-3)
    assert min(last[0]) == pytest.approx(min(last[1]), rel=0.25)
    assert min(last[0]) < min(first[0])


@pytest.mark.long
def test_a_fixed_number_of_workers_waits_for_a_node_and_says_so(store: ShardStore, tmp_path: Path) -> None:
    said = train_on_nodes(store, settings(epochs=24), tmp_path / "nodes", "2", "kill", minutes=0.005)
    (lost, waits, *_) = [line for line in said if "was lost" in line or line.startswith("Waiting")]
    assert lost.startswith("A worker was lost")
    assert waits.startswith("Waiting for 2 workers, a CPU each, for ")
    assert "nodes have 1 CPU," in waits
    assert len(history(tmp_path / "nodes")) == 24
