"""Everything that train.yaml says reaches the training, as the command's options do."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from cxrgaze_ray.models.bundle import make_bundle
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.registry.mlflow_tracking import EXPERIMENT, import_quietly
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.storage import LocalStore
from cxrgaze_ray.training import order
from cxrgaze_ray.training.running import CheckpointSettings, Workers
from cxrgaze_ray.training.settings import TrainSettings
from tests.labelled_store import write_store

SAID = """
store: {store}
registry: {registry}
preset: tiny
phases: [saliency]
parent: net@v3
workers: 2:4
checkpoints: {{minutes: 7, keep: 5}}
tensorboard: {registry}/events
reason: because
settings: {{recipe: recommended, stages: {{saliency: {{schedule: cosine, clip: 1}}}}}}
"""

train: Any = importlib.import_module("jobs.train")


def test_a_job_s_settings_reach_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_store(tmp_path / "store", {"train": 1})
    given: dict[str, Any] = {}

    def train_and_publish(_store: object, settings: TrainSettings, registry: Registry, **how: Any) -> ModelPin:
        given.update(how, settings=settings)
        return registry.publish(make_bundle(build(settings.network), "net", trained=True))

    monkeypatch.setattr(order, "train_and_publish", train_and_publish)
    job = train.TrainJob.from_yaml(SAID.format(store=tmp_path / "store", registry=tmp_path / "registry"))
    result = train.work(job)
    (phase,) = given["settings"].stages.values()
    assert (phase.schedule, phase.clip, given["settings"].recipe) == ("cosine", 1, "recommended")
    assert (given["parent"], given["workers"], given["reason"]) == ("net@v3", Workers(2, 4), "because")
    assert given["checkpoints"] == CheckpointSettings(minutes=7, keep=5)
    assert (tmp_path / "registry" / "events").is_dir()
    page = (tmp_path / "registry" / "net" / "reports" / "v0001.html").read_text()
    assert result["report"].endswith("/net/reports/v0001.html")
    assert "net v0001 on the test split" in page


def test_mlflow_is_told_of_epochs_and_of_what_was_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_store(tmp_path / "store", {"train": 1})

    def train_and_publish(*_: object, on_epoch: Any, **_how: Any) -> ModelPin:
        on_epoch({"stage": "joint", "epoch": 1, "train_loss": 2.0, "validation_loss": 3.0, "images": 8, "seconds": 1.0})
        made = make_bundle(build(PRESETS["tiny"], 1), "net", trained=True).with_metrics({"diagnosis": {"ece": 0.1}})
        return Registry(LocalStore(str(tmp_path / "registry"))).publish(made)

    monkeypatch.setattr(order, "train_and_publish", train_and_publish)
    said = SAID.replace("parent: net@v3\n", "") + "tracking: {registry}/mlflow\n"
    train.work(train.TrainJob.from_yaml(said.format(store=tmp_path / "store", registry=tmp_path / "registry")))
    client = import_quietly().MlflowClient(tracking_uri=str(tmp_path / "registry" / "mlflow"))
    (run,) = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
    assert run.data.metrics["joint/validation_loss"] == 3.0
    assert run.data.metrics["diagnosis/ece"] == 0.1
    assert run.data.tags["version"] == "net@v0001"
