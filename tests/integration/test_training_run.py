"""The four phases on real Ray Train, up to a published version."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from safetensors.torch import save_file

from cxrgaze_ray.cluster.connection import Cluster
from cxrgaze_ray.errors import TrainingDiverged, UserError
from cxrgaze_ray.models.bundle import read_bundle, read_info
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.predictor import Predictor
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.phantoms import PhantomReport
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.shards import IngestSettings, ShardStore, SplitSettings, ingest
from cxrgaze_ray.storage import LocalStore, open_store
from cxrgaze_ray.training.publishing import train_and_publish
from cxrgaze_ray.training.settings import STAGE_NAMES, TrainSettings
from tests.integration.test_telemetry import count, wait_until

SHORT = {name: {"epochs": 2, "batch": 8} for name in STAGE_NAMES}


def settings(**values: Any) -> TrainSettings:
    return TrainSettings.for_preset("tiny", backbone="fresh", **{"stages": SHORT, **values})


@pytest.mark.long  # the demo of tests/e2e trains and publishes too
def test_training_publishes_a_bundle_that_carries_its_story(store: ShardStore, tmp_path: Path) -> None:
    registry = Registry(LocalStore(str(tmp_path)))
    lines: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(train_and_publish, store, settings(), registry, promote=True, say=lines.append)
        seen: list[float] = []

        def watched() -> bool:
            loss = count("ray_cxrgaze_training_loss", stage="saliency", split="validation")
            seen.append(min(loss, count("ray_cxrgaze_training_epoch", stage="saliency")))
            return seen[-1] > 0 or training.done()

        wait_until(watched, "neither loss nor epoch was to be seen")
        assert seen[-1] > 0, "the training ended before its loss and epoch were to be seen"
        pin = training.result()
    bundle = read_bundle(open_store(pin.uri))
    assert registry.resolve("cxrgaze@champion") == pin
    assert bundle.info.trained
    assert bundle.info.lineage.store_sha256 == store.info.sha256()
    assert (bundle.info.lineage.split_by, bundle.info.lineage.caution) == ("patient", "")
    assert bundle.info.metrics["images"] == store.rows("test")
    for golden in bundle.info.golden:
        assert Predictor.from_bundle(bundle).golden(golden.seed).logits == pytest.approx(golden.logits, abs=1e-4)
    epochs = [line for line in lines if " epoch " in line and not line.startswith("Warning")]
    assert [line.split()[0] for line in epochs] == [name for name in STAGE_NAMES for _ in range(2)]
    (metrics,) = tmp_path.rglob("metrics.json")
    history = json.loads(metrics.read_text())
    assert [(e["stage"], e["epoch"]) for e in history] == [(name, n) for name in STAGE_NAMES for n in (1, 2)]

    # the same command again finds the training finished, and trains nothing
    more: list[str] = []
    again = train_and_publish(store, settings(), registry, say=more.append)
    assert not [line for line in more if "epoch" in line]
    assert again.weights_sha256 == pin.weights_sha256


@pytest.mark.long
def test_two_workers_train_as_one_does(store: ShardStore, tmp_path: Path) -> None:
    history = {}
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        train_and_publish(store, settings(), Registry(LocalStore(str(folder))), workers=workers)
        (metrics,) = folder.rglob("metrics.json")
        history[workers] = json.loads(metrics.read_text())
    # the same batches: what differs is rounding, which batch norms that learn make larger
    for one, two in zip(history[1], history[2], strict=True):
        assert (one["stage"], one["epoch"]) == (two["stage"], two["epoch"])
        for split in ("train", "validation"):
            assert two[f"{split}_loss"] == pytest.approx(one[f"{split}_loss"], rel=0.06)  # 0.026 was measured


class Command:
    """One training's command, started again and again."""

    def __init__(self, store: str, registry: Path, config: Path, *options: str) -> None:
        self.command = [
            sys.executable, "-m", "cxrgaze_ray", "train", store, "--preset", "tiny", "--config", str(config),
            "--registry", str(registry), *options,
        ]  # fmt: skip
        self.lines: list[str] = []

    def until(self, wanted: Callable[[str], bool], then: Callable[[int], None]) -> int:
        """Run it, do something at the first line that is wanted, and return its exit code."""
        self.lines = []
        with subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            waiting = True
            for line in process.stderr:
                self.lines.append(line)
                if waiting and wanted(line):
                    waiting = False
                    then(process.pid)
            assert not waiting, f"the training ended before anything was done to it: {self.lines}"
            return process.wait()

    def said(self, text: str) -> bool:
        return any(text in line for line in self.lines)


def at(stage: str, epoch: int) -> Callable[[str], bool]:
    """Recognise the line of an epoch of a phase, or of a later one."""
    return lambda line: line.startswith(stage) and int(line.split()[2].split("/")[0]) >= epoch


def kill_a_worker(number: signal.Signals) -> None:
    ours = psutil.Process().children(recursive=True)  # others' trainings may run on this machine
    alive = [one for one in ours if one.status() != psutil.STATUS_ZOMBIE]
    found = [one for one in alive if "RayTrainWorker" in " ".join(one.cmdline())]
    assert found, "no worker is to be seen"
    found[0].send_signal(number)


@pytest.mark.long
def test_a_training_that_loses_command_and_workers_ends_as_an_undisturbed_one(
    cluster: Cluster, store: ShardStore, tmp_path: Path
) -> None:
    stages = {name: {"epochs": 8, "batch": 8, "patience": 8} for name in STAGE_NAMES}
    config = tmp_path / "settings.yaml"
    config.write_text(yaml.safe_dump({"backbone": "fresh", "stages": stages}))
    command = Command(
        *(store.store.uri, tmp_path / "registry", config, "--address", cluster.address, "--promote"),
        *("--checkpoint-minutes", "0.005"),
    )

    assert command.until(at("encoder", 2), lambda pid: os.kill(pid, signal.SIGTERM)) == 130
    assert command.said("It is written"), command.lines
    time.sleep(5)  # until Ray has ended the dead job's workers

    assert command.until(at("saliency", 2), lambda pid: os.kill(pid, signal.SIGKILL)) == -signal.SIGKILL
    assert not command.said("contrastive "), "a finished phase was trained again"
    assert not command.said("encoder      epoch  1/"), "the phase began anew"
    time.sleep(5)

    assert command.until(at("saliency", 3), lambda _: kill_a_worker(signal.SIGKILL)) == 0
    assert command.said("A worker was lost"), command.lines
    assert not command.said("encoder "), "a finished phase was trained again"

    registry = Registry(LocalStore(str(tmp_path / "registry")))
    champion = registry.resolve("cxrgaze@champion")
    assert champion.trained
    assert read_info(open_store(champion.uri)).lineage.backbone == "fresh"
    (metrics,) = (tmp_path / "registry").rglob("metrics.json")
    chosen = TrainSettings.for_preset("tiny", backbone="fresh", stages=stages)
    straight = train_and_publish(store, chosen, Registry(LocalStore(str(tmp_path / "straight"))))
    (expected,) = (tmp_path / "straight").rglob("metrics.json")
    same = ("stage", "epoch", "train_loss", "validation_loss", "best")
    disturbed, undisturbed = (json.loads(file.read_text()) for file in (metrics, expected))
    assert [[one[k] for k in same] for one in disturbed] == [[one[k] for k in same] for one in undisturbed]
    assert straight.weights_sha256 == champion.weights_sha256


@pytest.mark.long
def test_a_worker_told_to_end_has_a_checkpoint_written_first(
    cluster: Cluster, store: ShardStore, tmp_path: Path
) -> None:
    """One of two, and none would be written otherwise but at the ends of phases."""
    config = tmp_path / "settings.yaml"
    stages = {name: {"epochs": 8, "batch": 8, "patience": 8} for name in ("encoder", "classifier")}
    config.write_text(yaml.safe_dump({"backbone": "fresh", "stages": stages}))
    command = Command(
        *(store.store.uri, tmp_path / "registry", config, "--address", cluster.address),
        *("--phases", "encoder,classifier", "--workers", "2", "--checkpoint-minutes", "60"),
    )
    assert command.until(at("encoder", 2), lambda _: kill_a_worker(signal.SIGTERM)) == 0
    assert command.said("A worker was lost"), command.lines
    (where,) = [line for line in command.lines if line.startswith("Going on after phase encoder, epoch ")]
    assert "step" in where, "it went on from the middle of an epoch"
    epochs = [int(line.split()[2].split("/")[0]) for line in command.lines if line.startswith("encoder ")]
    assert epochs == list(range(1, 9)), "no epoch was trained twice"


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_a_training_that_blows_up_ends_with_its_phase_and_advice(
    store: ShardStore, tmp_path: Path, workers: int
) -> None:
    registry, wild = Registry(LocalStore(str(tmp_path))), str(tmp_path / "wild.safetensors")
    features = build(PRESETS["tiny"]).densenet.state_dict()
    # finite, and no sum of theirs is; a rate that does it later is out of the settings' bounds
    save_file({name: one * 1e38 if name.endswith("conv0.weight") else one for name, one in features.items()}, wild)
    for _ in ("first", "the same command again"):
        lines: list[str] = []
        with pytest.raises(TrainingDiverged, match=r"phase contrastive, before the first epoch, .* not finite") as told:
            train_and_publish(store, settings(), registry, workers=workers, backbone_weights=wild, say=lines.append)
        assert "start from other weights" in told.value.hint
        assert not [line for line in lines if line.startswith("contrastive")]
        assert registry.models() == ()


@pytest.mark.long
def test_a_store_without_labels_is_told_as_what_it_is(
    cluster: Cluster, phantoms: tuple[str, PhantomReport], tmp_path: Path
) -> None:
    asked = IngestSettings(keep="all", split=SplitSettings(train=0.6, validation=0.2))
    unlabelled = ingest(phantoms[0], (), str(tmp_path / "store"), settings=asked, workers=1)
    with pytest.raises(UserError, match="No image of the train split has a label") as told:
        train_and_publish(unlabelled, settings(), Registry(LocalStore(str(tmp_path / "registry"))))
    assert "Traceback" not in str(told.value)
