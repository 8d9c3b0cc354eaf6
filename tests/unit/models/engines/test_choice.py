"""Which engine a kind is on which hardware, and what happens where one does not work."""

from __future__ import annotations

import logging
import re
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
import torch

from cxrgaze_ray.config import EngineKind
from cxrgaze_ray.errors import BundleError, ConfigError, EnvironmentFault
from cxrgaze_ray.models import predictor as predictors
from cxrgaze_ray.models.bundle import Bundle, Golden, make_bundle
from cxrgaze_ray.models.engines import engine as engines
from cxrgaze_ray.models.engines.engine import ENGINES, EXACT_CPU, FAST_CPU, REFERENCE_CPU, Engine, engines_for
from cxrgaze_ray.models.engines.forward import TorchForward
from cxrgaze_ray.models.network import Network, NetworkOutput
from cxrgaze_ray.models.predictor import Predictor, predictor_for, with_golden
from cxrgaze_ray.models.settings import architecture
from cxrgaze_ray.models.zoo import build


def test_engine_names_come_back() -> None:
    assert all(Engine.parse(engine.name) == engine for engine in ENGINES)
    assert len({engine.name for engine in ENGINES}) == len(ENGINES)


@pytest.mark.parametrize(
    "name",
    [
        "reference-float32-cpu", "reference-float32-cuda",
        "fast-float32-cpu", "fast-bfloat16-cpu", "fast-bfloat16-cuda", "fast-float16-cuda",
    ],
)  # fmt: skip
def test_engines_that_earlier_runs_were_planned_with_are_still_there(name: str) -> None:
    assert Engine.parse(name).name == name


@pytest.mark.parametrize("name", ["", "fast", "fast-int8-cpu", "fast-float32-tpu", "Fast-float32-cpu"])
def test_unknown_engine_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"no engine {name}"):
        Engine.parse(name)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


def names(kind: EngineKind) -> list[str]:
    return [engine.name for engine in engines_for(kind)]


def has_flags(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: str | None, *, openvino: bool = True) -> None:
    """Let the kernel report a processor with these flags, or nothing at all, and OpenVINO be installed or not."""
    cpuinfo = tmp_path / "cpuinfo"
    if flags is not None:
        cpuinfo.write_text(f"processor\t: 0\nflags\t\t: fpu {flags} xsave\n")
    monkeypatch.setattr(engines, "Path", lambda _: cpuinfo)
    monkeypatch.setattr(engines, "find_spec", lambda name: ModuleSpec(name, None) if openvino else None)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("flags", ["avx512_bf16", "amx_bf16 avx2"])
def test_fast_is_bfloat16_where_the_processor_computes_with_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: str
) -> None:
    has_flags(monkeypatch, tmp_path, flags)
    assert names("auto") == names("fast")
    assert names("fast") == [
        "openvino-bfloat16-cpu", "openvino-float32-cpu", "fast-bfloat16-cpu", "reference-float32-cpu"
    ]  # fmt: skip
    assert names("exact") == ["openvino-float32-cpu", "reference-float32-cpu"]
    has_flags(monkeypatch, tmp_path, flags, openvino=False)
    assert names("fast") == ["fast-bfloat16-cpu", "reference-float32-cpu"]


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("flags", ["avx2 avx512f", None])
def test_elsewhere_fast_is_exact(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: str | None) -> None:
    has_flags(monkeypatch, tmp_path, flags)
    assert names("auto") == names("fast") == names("exact") == ["openvino-float32-cpu", "reference-float32-cpu"]
    has_flags(monkeypatch, tmp_path, flags, openvino=False)
    assert names("auto") == names("exact") == ["reference-float32-cpu"]


def test_float32_is_the_reference_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for cuda in (False, True):
        monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)  # noqa: B023  read before the next turn
        assert names("float32") == [f"reference-float32-{'cuda' if cuda else 'cpu'}"]
        assert engines_for("float32", "cpu") == (REFERENCE_CPU,)


def test_a_gpu_computes_in_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for kind in ("auto", "fast"):
        assert names(kind) == ["folded-float16-cuda", "fast-float16-cuda", "reference-float32-cuda"]
    assert names("exact") == ["reference-float32-cuda"]


@pytest.mark.usefixtures("no_gpu")
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"No CUDA device.*device to cpu or auto"):
        engines_for("auto", "cuda")


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return with_golden(make_bundle(build(architecture("dnet201", "tiny"), seed=3), "tiny", trained=False))


def with_engines(monkeypatch: pytest.MonkeyPatch, forwards: dict[Engine, type[TorchForward]]) -> None:
    """Let a kind be these engines, each computed so."""
    monkeypatch.setattr(predictors, "engines_for", lambda *_: tuple(forwards))
    monkeypatch.setattr(predictors, "_forward", lambda network, engine, *_: forwards[engine](network, engine))


class Torn(TorchForward):
    def __init__(self, network: Network, engine: Engine) -> None:
        raise RuntimeError(f"/home/somebody: no kernel for {network} on {engine}")


class Wrong(TorchForward):
    """A compiler's mistake: every answer is another one."""

    def __call__(self, image_B1HW: torch.Tensor, gaze_BHW: torch.Tensor | None) -> NetworkOutput:
        output = super().__call__(image_B1HW, gaze_BHW)
        assert output.logits_BK is not None
        return NetworkOutput(output.log_saliency_B1HW, output.logits_BK + torch.tensor([0.1, 0, 0]))


@pytest.mark.parametrize(
    ("broken", "why"), [(Torn, "fails: RuntimeError"), (Wrong, r"moves the answer to a golden image by 0\.02\d")]
)
def test_an_engine_that_does_not_work_is_passed_over_with_one_line(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    bundle: Bundle,
    broken: type[TorchForward],
    why: str,
) -> None:
    with_engines(monkeypatch, {FAST_CPU: broken, REFERENCE_CPU: TorchForward})
    with caplog.at_level(logging.WARNING):
        found = predictor_for(bundle, "auto")
    assert found.engine == REFERENCE_CPU
    (line,) = caplog.messages
    assert "openvino-bfloat16-cpu" in line
    assert "somebody" not in line
    assert re.search(why, line), line


def test_an_engine_that_works_is_taken_without_a_word(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, bundle: Bundle
) -> None:
    with_engines(monkeypatch, {EXACT_CPU: TorchForward, REFERENCE_CPU: Torn})
    assert predictor_for(bundle, "exact").engine == EXACT_CPU
    assert caplog.messages == []


def test_a_bundle_without_golden_answers_is_tried_all_the_same(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> None:
    bare = Bundle(bundle.info.model_copy(update={"golden": ()}), bundle.state)
    with_engines(monkeypatch, {EXACT_CPU: Torn, REFERENCE_CPU: TorchForward})
    assert predictor_for(bare, "exact").engine == REFERENCE_CPU


def test_a_bundle_without_golden_answers_is_compared_with_the_reference(
    monkeypatch: pytest.MonkeyPatch, bundle: Bundle
) -> None:
    bare = Bundle(bundle.info.model_copy(update={"golden": ()}), bundle.state)
    with_engines(monkeypatch, {EXACT_CPU: Wrong, REFERENCE_CPU: TorchForward})
    kinds = {"exact": (EXACT_CPU, REFERENCE_CPU), "float32": (REFERENCE_CPU,)}
    monkeypatch.setattr(predictors, "engines_for", lambda kind, *_: kinds[kind])
    assert predictor_for(bare, "exact").engine == REFERENCE_CPU


@pytest.mark.usefixtures("no_gpu")
def test_an_engine_that_a_run_was_begun_on_elsewhere_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, bundle: Bundle
) -> None:
    with pytest.raises(EnvironmentFault, match=r"folded-float16-cuda needs a CUDA device.*--new"):
        Predictor.from_bundle(bundle, Engine.parse("folded-float16-cuda"))
    monkeypatch.setattr(engines, "find_spec", lambda _: None)
    with pytest.raises(EnvironmentFault, match=r"openvino-bfloat16-cpu needs OpenVINO.*--new"):
        Predictor.from_bundle(bundle, FAST_CPU)


def test_weights_that_overflow_on_every_engine_are_refused(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> None:
    state = bundle.state | {
        "densenet.classifier.weight": torch.full_like(bundle.state["densenet.classifier.weight"], 3e38)
    }
    with_engines(monkeypatch, {EXACT_CPU: TorchForward, REFERENCE_CPU: TorchForward})
    with pytest.raises(BundleError, match="not finite"):
        predictor_for(Bundle(bundle.info, state), "exact")


@pytest.mark.long
def test_a_map_that_moved_is_seen_too() -> None:
    """A network that predicts gaze alone has no probability to compare."""
    made = with_golden(make_bundle(build(architecture("unet-s", "tiny"), seed=3), "tiny", trained=False))
    assert predictor_for(made, "float32").golden_difference() == 0
    (first, *others) = made.info.golden
    cells = np.array(first.saliency)
    cells[0] += 64 * 0.02
    moved = Golden(seed=first.seed, saliency=tuple(cells.tolist()))
    other = Bundle(made.info.model_copy(update={"golden": (moved, *others)}), made.state)
    assert predictor_for(other, "float32").golden_difference() == pytest.approx(0.02)
