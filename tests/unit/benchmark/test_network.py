"""The race of engines: what is raced does the same work, and what does not work is said and left out."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
import typer
import yaml
from typer.testing import CliRunner

from cxrgaze_ray.benchmark import floors, network
from cxrgaze_ray.benchmark.blocks import time_blocks
from cxrgaze_ray.benchmark.network import ModelReport, bench_model, other_classes, phantoms
from cxrgaze_ray.benchmark.samples import jpeg_phantom
from cxrgaze_ray.cli import app
from cxrgaze_ray.cli import bench_model as bench_model_command
from cxrgaze_ray.errors import EnvironmentFault
from cxrgaze_ray.models.bundle import make_bundle
from cxrgaze_ray.models.engines.engine import ENGINES, EXACT_CPU, FAST_CPU, REFERENCE_CPU, Engine
from cxrgaze_ray.models.predictions import Predictions
from cxrgaze_ray.models.predictor import Predictor
from cxrgaze_ray.models.settings import System, architecture
from cxrgaze_ray.models.zoo import build

KINDS = ("model-cpu-bfloat16", "model-cpu")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "BATCHES", {"cpu": (1, 2)})
    monkeypatch.setattr(network, "_EDGE", 64)
    monkeypatch.setattr(network, "_PROBE_IMAGES", 2)


@pytest.mark.long
def test_every_engine_has_its_time_its_answers_and_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    make = Predictor.from_bundle

    def no_bfloat16(bundle: object, engine: Engine | None = None) -> Predictor:
        if engine == FAST_CPU:
            raise RuntimeError("/home/somebody")
        return make(bundle, engine)  # type: ignore[arg-type]

    monkeypatch.setattr(Predictor, "from_bundle", no_bfloat16)
    bundle = make_bundle(build(architecture("unet-s", "tiny")), "tiny", trained=False)
    report = bench_model(bundle, [FAST_CPU, EXACT_CPU, REFERENCE_CPU], images=2, rounds=2)
    assert [one.name for one in report.engines] == [EXACT_CPU.name, REFERENCE_CPU.name]
    assert report.skipped == {FAST_CPU.name: "RuntimeError"}
    exact, reference = report.engines
    assert reference.least_cc == pytest.approx(1)
    assert exact.least_cc is not None
    assert exact.least_cc >= 1 - 1e-6
    assert exact.difference is None, "it predicts no classes"
    assert report.released_batch in (1, 2)
    assert report.ratio(exact) == report.released.seconds / exact.timing.seconds
    assert report.gflop == pytest.approx(0.432, rel=0.01)
    assert list(report.parts)[-1] == "all of it"
    assert all(part.seconds > 0 for part in report.parts.values())


@pytest.mark.long
def test_answers_are_compared_on_one_s_own_radiographs(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg_phantom(number))
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8")
    arguments = ["bench", "model", "--system", "dnet201", "--preset", "tiny", "--images", "1", "--rounds", "1"]
    arguments += ["--engine", "openvino-float32-cpu", "--device", "cpu", "--archive", str(tmp_path)]
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert found["engines"][0]["difference"] <= 1e-5
    assert (found["compared"], found["engines"][0]["other_class"]) == (2, 0)
    assert found["ratios"]["openvino-float32-cpu"] > 0


@pytest.mark.parametrize(
    ("system", "first", "last"),
    [("gazenet", "encoder.levels.0", "classifier"), ("mt-unet", "unet.encoder.levels.0", "classifier")],
)
def test_the_blocks_hold_all_of_the_arithmetic(system: System, first: str, last: str) -> None:
    net = build(architecture(system, "tiny"), 0).eval()
    found = time_blocks(net, torch.rand(2, 1, *net.config.input_size), 1)
    assert (found[0].name, found[-1].name) == (first, last)
    assert [one.name for one in found if one.seconds <= 0] == []
    assert {"densenet", "decoder.stages.4"} <= {one.name for one in found} or system != "gazenet"
    assert sum(one.gflop for one in found) == pytest.approx(network._gflop(net), rel=0.01)


def test_a_tie_is_no_other_class() -> None:
    def answers(*rows: tuple[float, float, float]) -> Predictions:
        return Predictions(None, np.array(rows, np.float32), None)

    reference = answers((0.5, 0.3, 0.2), (0.401, 0.4, 0.199), (0.1, 0.2, 0.7))
    assert other_classes(answers((0.4, 0.5, 0.1), (0.4, 0.401, 0.199), (0.1, 0.2, 0.7)), reference) == 1
    assert other_classes(Predictions(None, None, None), reference) == 0


@pytest.mark.long
def test_a_ratio_below_its_floor_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["bench", "model", "--system", "dnet201", "--preset", "tiny", "--images", "1", "--rounds", "1"]
    arguments += ["--engine", "reference-float32-cpu", "--device", "cpu", "--check"]
    told = CliRunner().invoke(app, arguments)
    assert told.exit_code == 0, "the reference has no floor"
    assert "released code's way" in told.output
    assert "reference-float32-cpu" in told.output
    steep = {kind: {"reference-float32-cpu": 1e6} for kind in KINDS}
    monkeypatch.setattr(yaml, "safe_load", lambda _: steep)
    assert CliRunner().invoke(app, arguments).exit_code == 3
    (missed,) = floors.misses("model-cpu", {"reference-float32-cpu": 1.1, "another": 0.1})
    assert (missed.ratio, missed.floor) == (1.1, 1e6)


def test_an_engine_with_a_floor_that_does_not_work_is_a_failure() -> None:
    report = SimpleNamespace(engines=(), skipped={EXACT_CPU.name: "RuntimeError"})
    with pytest.raises(typer.Exit) as exit_info:
        bench_model_command._check(cast("ModelReport", report), "cpu")
    assert exit_info.value.exit_code == 3


def test_floors_are_of_engines_that_there_are() -> None:
    known = yaml.safe_load(Path(floors.__file__).with_name("floors.yaml").read_text())
    assert {kind for kind in known if kind.startswith("model-")} == set(KINDS)
    assert all(Engine.parse(name) in ENGINES for kind in KINDS for name in known[kind])


def test_a_network_that_reads_gaze_is_refused() -> None:
    told = CliRunner().invoke(app, ["bench", "model", "--system", "gazegnn", "--preset", "tiny"])
    assert told.exit_code != 0
    assert "gaze" in str(told.exception or told.output)


def test_phantoms_are_the_same_every_time() -> None:
    assert (phantoms(2) == phantoms(3)[:2]).all()


BENCH = ["bench", "model", "--system", "dnet201", "--preset", "tiny", "--images", "1", "--rounds", "1"]


def test_engines_are_asked_for_in_the_words_of_score_or_by_name() -> None:
    every = bench_model_command._engines(["fast", "exact", "float32"], "cpu")
    assert every == bench_model_command._engines(["auto", "exact", "float32"], "cpu")
    assert every[-1] == REFERENCE_CPU
    assert len(every) == len(set(every))
    assert bench_model_command._engines(["float32", "openvino-float32-cpu"], "cpu") == [REFERENCE_CPU, EXACT_CPU]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_an_engine_that_is_not_for_this_machine_is_named_and_those_that_are() -> None:
    told = CliRunner().invoke(app, [*BENCH, "--engine", "folded-float16-cuda"]).exception
    assert isinstance(told, EnvironmentFault)
    assert "folded-float16-cuda needs a CUDA device" in told.message
    assert REFERENCE_CPU.name in told.hint
    assert "--new" not in str(told), "no run is continued here"


@pytest.mark.long
def test_a_bench_whose_only_engine_is_broken_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    make = Predictor.from_bundle

    def broken(bundle: object, engine: Engine | None = None) -> Predictor:
        if engine == EXACT_CPU:
            raise RuntimeError
        return make(bundle, engine)  # type: ignore[arg-type]

    monkeypatch.setattr(Predictor, "from_bundle", broken)
    ended = CliRunner().invoke(app, [*BENCH, "--engine", EXACT_CPU.name, "--device", "cpu"])
    assert isinstance(ended.exception, EnvironmentFault)
