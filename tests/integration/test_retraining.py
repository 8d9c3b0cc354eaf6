"""A retraining as its users start it: the command and the job, on real Ray, killed in the middle, from new labels."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from cxrgaze_ray.cluster.connection import Cluster
from cxrgaze_ray.models.bundle import read_info
from cxrgaze_ray.phantoms import GAZE_FOLDER, Drift, PhantomReport, make_archive
from cxrgaze_ray.registry.audit import verify_registry
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.shards import IngestSettings, SplitSettings, ingest
from cxrgaze_ray.storage import LocalStore, open_store
from cxrgaze_ray.training.publishing import train_and_publish
from cxrgaze_ray.training.settings import STAGE_NAMES, TrainSettings
from tests.integration.conftest import HEIGHT

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

SPLIT = SplitSettings(train=0.6, validation=0.2)
SHORT = {name: {"epochs": 2, "batch": 8} for name in STAGE_NAMES}


@pytest.fixture(scope="module")
def config(
    cluster: Cluster, phantoms: tuple[str, PhantomReport], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Registry]:
    """Train a champion on one store, label another hospital's archive, and write down what is asked for."""
    folder = tmp_path_factory.mktemp("retraining")
    first = ingest(
        phantoms[0], f"{phantoms[0]}/{GAZE_FOLDER}", str(folder / "store"), settings=IngestSettings(split=SPLIT)
    )
    registry = Registry(LocalStore(str(folder / "registry")))
    train_and_publish(first, TrainSettings.for_preset("tiny", backbone="fresh", stages=SHORT), registry, promote=True)
    labelled = folder / "labelled"
    make_archive(LocalStore(str(labelled)), images=30, seed=77, height=HEIGHT, drift=Drift(site=1.0))
    asked = {
        "registry": registry.store.uri,
        "stores": [str(folder / "store")],
        "ingest": [
            {
                "archive": str(labelled),
                "gaze": [str(labelled / GAZE_FOLDER)],
                "out": str(folder / "new-store"),
                "settings": {"split": SPLIT.model_dump()},
            }
        ],
        "policy": {"name": "test", "gate": {"least_patients": 4, "rounds": 200}},
        "phases": ["saliency", "classifier"],
        "training": {"stages": {"saliency": {"epochs": 12, "patience": 12, "batch": 8}, "classifier": {"epochs": 3}}},
    }
    path = folder / "retrain.yaml"
    path.write_text(yaml.safe_dump(asked))
    return path, registry


def command(config: Path, cluster: Cluster, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "cxrgaze_ray", "retrain", "--config", str(config), "--address", cluster.address, *more,
    ]  # fmt: skip


def test_a_dry_run_says_what_would_be_done(config: tuple[Path, Registry], cluster: Cluster) -> None:
    path, registry = config
    done = subprocess.run(
        command(path, cluster, "--dry-run", "--json"), capture_output=True, text=True, env=os.environ, check=False
    )
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["to_ingest"] == [str(path.parent / "labelled")]
    assert plan["phases"] == ["saliency", "classifier"]
    assert not (path.parent / "new-store").exists()
    assert len(registry.history("cxrgaze")) == 3


def test_killed_while_training_it_goes_on_to_an_outcome(config: tuple[Path, Registry], cluster: Cluster) -> None:
    path, registry = config
    with subprocess.Popen(
        command(path, cluster), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=os.environ
    ) as first:
        assert first.stderr is not None
        seen = []
        for line in first.stderr:
            seen.append(line)
            if line.startswith("saliency") and "epoch  3/" in line:
                break
        else:
            raise AssertionError(f"the training ended before it was killed: {seen}")
        os.kill(first.pid, signal.SIGKILL)
    time.sleep(5)  # until Ray has ended the dead job's workers
    done = subprocess.run(
        command(path, cluster, "--json"), capture_output=True, text=True, env=os.environ, timeout=500, check=False
    )
    assert done.returncode in (0, 10, 11), done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["exit_code"] == done.returncode
    assert (said["version"], said["promoted"]) == ("v0002", False)
    entries = [(one.action, one.version) for one in registry.history("cxrgaze")]
    assert entries[3:] == [("look", None), ("publish", "v0002"), ("gate", "v0002")]
    assert not [one for one in verify_registry(registry, "cxrgaze", registry.head("cxrgaze")) if not one.note]
    lineage = read_info(open_store(registry.resolve("cxrgaze@v2").uri)).lineage
    assert lineage.parent == "cxrgaze@v0001"
    assert len(lineage.stores) == 2


def test_the_job_finds_it_finished(config: tuple[Path, Registry], cluster: Cluster) -> None:
    path, registry = config
    job = path.parent / "job.yaml"
    job.write_text(path.read_text() + f"reason: manual\ncluster: {{address: '{cluster.address}'}}\n")
    done = subprocess.run(
        [sys.executable, "jobs/retrain.py", "--config", str(job)], capture_output=True, text=True, env=os.environ,
        cwd=Path(__file__).parents[2], timeout=300, check=False,
    )  # fmt: skip
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["already"], said
    assert done.returncode == said["exit_code"]
    assert len(registry.history("cxrgaze")) == 6
