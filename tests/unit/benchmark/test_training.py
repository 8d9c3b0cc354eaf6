"""The race of training's phases: what is raced does the same work, and the plain way is what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

from cxrgaze_ray.benchmark import floors, training
from cxrgaze_ray.benchmark.plain_training import PlainPhase, pairwise_triplets
from cxrgaze_ray.benchmark.timing import Timing
from cxrgaze_ray.benchmark.training import Compared, TrainReport, bench_train
from cxrgaze_ray.cli import app
from cxrgaze_ray.cli import bench_train as command
from cxrgaze_ray.models.losses import triplet_loss
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.training.compute import Compute
from cxrgaze_ray.training.recipes import RECIPES
from cxrgaze_ray.training.stages import StageModule
from tests.rows import feed_of, make_rows
from tests.unit.training.test_training import settings, train

KINDS = ("train-cpu-full",)


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> TrainReport:
    monkeypatch.setattr(training, "TRIPLETS", 5)
    monkeypatch.setattr(training, "EPOCHS", 2)
    return bench_train("tiny", "cpu", images=3, batch=3, rounds=1)


@pytest.mark.long
def test_every_phase_has_its_plain_way_and_ours(report: TrainReport) -> None:
    assert [one.key for one in report.phases] == ["contrastive", "saliency", "classifier"]
    assert [one.images for one in report.phases] == [5, 3, 6]
    assert all(next(iter(one.timings)) == "plain" and "ours" in one.timings for one in report.phases)
    assert report.ratios()["classifier ours"] == report.phases[2].ratio("ours") > 0
    assert all(0 <= share <= 1 for share in report.waiting.values())
    assert report.peak_bytes is None


def test_triplets_one_by_one_have_the_loss_and_the_gradient_of_the_vectorised_sum() -> None:
    maps_BCHW = torch.randn(6, 3, 4, 2, generator=torch.Generator().manual_seed(1), requires_grad=True)
    label_B = torch.arange(6) % 3
    plain = pairwise_triplets(maps_BCHW, label_B)
    gradient, maps_BCHW.grad = maps_BCHW.grad, None
    loss = triplet_loss(maps_BCHW, label_B, mining="rowwise_sum")
    loss.backward()  # type: ignore[no-untyped-call]
    assert plain == pytest.approx(float(loss.detach()), rel=1e-4)
    assert gradient is not None
    torch.testing.assert_close(gradient, maps_BCHW.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.long
def test_the_plain_way_of_a_phase_learns_what_ours_learns() -> None:
    chosen = settings("saliency", batch=9)
    network = build(chosen.network, seed=3)
    module = StageModule(network, RECIPES["gazenet"].stages["saliency"], chosen)
    (batch,) = feed_of(make_rows(9)).select(module.stage).shuffled(0, 9, network.config.input_size)
    loss = PlainPhase(module, chosen.stages["saliency"].lr, Compute(torch.device("cpu"), chosen)).step(batch)
    ours, history = train(chosen)
    assert loss == pytest.approx(history[0]["train_loss"], rel=1e-5)
    learned = zip(network.parameters(), ours.parameters(), strict=True)
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in learned)


def test_the_command_tells_it_as_a_table_and_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    timings = {"plain": Timing(2.0, 1.9, 2.1), "ours": Timing(0.5, 0.4, 0.6)}
    found = TrainReport("full", "cpu", [Compared("saliency", "saliency phase", 4, timings)], {"ahead": 0.03}, None)
    monkeypatch.setattr(training, "bench_train", lambda *_, **__: found)
    arguments = ["bench", "train", "--device", "cpu"]
    told = CliRunner().invoke(app, arguments)
    assert told.exit_code == 0, told.output
    assert "4.00" in told.output
    assert "3.0%" in told.output
    assert json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)["ratios"] == {"saliency ours": 4.0}
    for floor, code in ((3.9, 0), (4.1, 3)):
        steep = {"train-cpu-full": {"saliency ours": floor}}
        monkeypatch.setattr(yaml, "safe_load", lambda _, steep=steep: steep)
        assert CliRunner().invoke(app, [*arguments, "--check"]).exit_code == code


def test_a_gpu_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert command._device("auto") == "cpu"
    told = CliRunner().invoke(app, ["bench", "train", "--device", "cuda"])
    assert "no CUDA device" in str(told.exception)


def test_floors_are_of_what_is_raced() -> None:
    known = yaml.safe_load(Path(floors.__file__).with_name("floors.yaml").read_text())
    raced = {"contrastive ours", "saliency ours", "saliency channels last", "classifier ours"}
    assert {kind for kind in known if kind.startswith("train-")} == set(KINDS)
    assert all(set(known[kind]) <= raced for kind in KINDS)
