"""DenseNet's first weights: all of them, or a clear refusal."""

from __future__ import annotations

import copy
import re
from http.client import HTTPException
from pathlib import Path
from typing import get_args
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import DenseNet, DenseNet201_Weights, densenet201

from cxrgaze_ray.errors import StoreNotFound, UserError
from cxrgaze_ray.models.densenet import load_backbone
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.settings import SYSTEMS, WITH_DENSENET, Preset, System, architecture
from cxrgaze_ray.models.zoo import build

PUBLISHED = "densenet201-c1103571.pth"
State = dict[str, Tensor]


def drawn(shapes: dict[str, torch.Size], seed: int = 1) -> State:
    """Return tensors in which every element differs from every other of its tensor, and from fresh weights."""
    state: State = {}
    for number, (name, shape) in enumerate(shapes.items()):
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(seed + number)
        else:
            state[name] = torch.arange(shape.numel(), dtype=torch.float32).reshape(shape) + seed + number / 2048
    return state


def published(state: State) -> State:
    """Return the state as the published file has it: old names, no counters."""
    old = re.compile(r"(denselayer\d+\.(?:norm|conv))([12])\.")
    return {old.sub(r"\1.\2.", name): t for name, t in state.items() if not name.endswith("num_batches_tracked")}


def same(densenet: DenseNet, expected: State) -> None:
    features = {name: t for name, t in densenet.state_dict().items() if name.startswith("features.")}
    wrong = [name for name, tensor in features.items() if name in expected and not torch.equal(tensor, expected[name])]
    assert wrong == []
    assert {name for name in features if not name.endswith("num_batches_tracked")} <= expected.keys()


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return torch's folder of downloads; nothing is downloaded into it."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("torch.hub._hub_dir", None)
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    offline(monkeypatch, URLError("no route"))
    return folder


def offline(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)


@pytest.fixture
def tiny() -> DenseNet:
    return build(PRESETS["tiny"], seed=1).densenet


@pytest.fixture(scope="module")
def outline() -> DenseNet:
    """Return a DenseNet-201 without memory, for what must not be loaded."""
    with torch.device("meta"):
        return densenet201(weights=None, num_classes=3)


@pytest.fixture
def big(outline: DenseNet) -> DenseNet:
    densenet = copy.deepcopy(outline).to_empty(device="cpu")
    for tensor in densenet.state_dict().values():
        tensor.zero_()
    return densenet


def shapes(densenet: DenseNet) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in densenet.state_dict().items()}


def test_the_published_file_has_the_name_that_torchvision_looks_for() -> None:
    assert DenseNet201_Weights.IMAGENET1K_V1.url.endswith(f"/{PUBLISHED}")


def test_the_published_file_is_loaded_whole(hub: Path, big: DenseNet) -> None:
    state = drawn(shapes(big))
    imagenet = published(state) | {"classifier.weight": torch.ones(1000, 1920), "classifier.bias": torch.ones(1000)}
    assert "features.denseblock1.denselayer1.norm.1.weight" in imagenet
    torch.save(imagenet, hub / PUBLISHED)
    report = load_backbone(big)
    assert (report.source, report.warning) == ("imagenet", "")
    same(big, {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")})
    assert not big.classifier.weight.any()


def test_an_incomplete_published_file_is_refused(hub: Path, big: DenseNet) -> None:
    state = published(drawn(shapes(big)))
    del state["features.denseblock3.denselayer7.norm.2.running_mean"]
    torch.save(state, hub / PUBLISHED)
    with pytest.raises(UserError, match=r"1 tensors differ, first features\.denseblock3\.denselayer7\.norm2"):
        load_backbone(big)


@pytest.mark.parametrize("error", [URLError("no route"), OSError(28, "No space left"), TimeoutError(), HTTPException()])
def test_without_a_download_densenet_starts_fresh_and_says_so(
    outline: DenseNet, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    offline(monkeypatch, error)
    report = load_backbone(outline)
    assert report.source == "fresh"
    assert "score worse" in report.warning
    assert "--backbone-weights" in report.warning


def test_a_download_that_is_not_the_published_file_starts_fresh(
    outline: DenseNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    # what torch raises when a proxy answers with a page of its own
    offline(monkeypatch, RuntimeError('invalid hash value (expected "c1103571", got "00")'))
    assert load_backbone(outline).source == "fresh"


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_cached_file_cut_short_starts_fresh(hub: Path, outline: DenseNet, share: float) -> None:
    torch.save({"features.conv0.weight": torch.ones(64, 3, 7, 7)}, hub / PUBLISHED)
    whole = (hub / PUBLISHED).read_bytes()
    (hub / PUBLISHED).write_bytes(whole[: int(share * len(whole))])
    report = load_backbone(outline)
    assert report.source == "fresh"
    assert "or read here" in report.warning


def test_a_tiny_network_says_that_it_starts_fresh() -> None:
    network = build(PRESETS["tiny"], seed=1)
    before = {name: tensor.clone() for name, tensor in network.densenet.state_dict().items()}
    report = network.load_pretrained()
    assert report.source == "fresh"
    assert "this preset" in report.warning
    same(network.densenet, before)


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("preset", get_args(Preset))
def test_only_networks_of_the_published_sizes_take_imagenet_weights(system: System, preset: Preset) -> None:
    published = system in (*WITH_DENSENET, "inception-resnet-v2")
    assert architecture(system, preset).fits_imagenet is (published and preset == "full")


def test_densenet_201_is_known_by_its_settings(big: DenseNet) -> None:
    config = architecture("dnet201", "full")
    with torch.device("meta"):
        assert shapes(build(config).densenet) == shapes(big)
    assert not architecture("dnet201", "full", {"block_config": [6, 12, 50, 31]}).fits_imagenet
    assert architecture("dnet201", "full", {"input_size": [320, 256]}).fits_imagenet


@pytest.mark.parametrize("classifier", [True, False])
def test_a_file_is_loaded_exactly(tmp_path: Path, tiny: DenseNet, classifier: bool) -> None:
    head = tiny.classifier.weight.clone()
    state = {name: t for name, t in drawn(shapes(tiny)).items() if classifier or name.startswith("features.")}
    save_file(state, tmp_path / "backbone.safetensors")
    report = load_backbone(tiny, str(tmp_path / "backbone.safetensors"))
    assert (report.source, report.warning) == ("file", "")
    same(tiny, state)
    assert torch.equal(tiny.features.norm5.num_batches_tracked, state["features.norm5.num_batches_tracked"])
    assert torch.equal(tiny.classifier.weight, head)


def test_a_file_with_another_head_fits(tmp_path: Path, tiny: DenseNet) -> None:
    state = drawn(shapes(tiny)) | {"classifier.weight": torch.ones(1000, 5), "classifier.bias": torch.ones(1000)}
    save_file(state, tmp_path / "backbone.safetensors")
    load_backbone(tiny, str(tmp_path / "backbone.safetensors"))
    same(tiny, state)


def _without(state: State, name: str) -> State:
    return {key: tensor for key, tensor in state.items() if key != name}


@pytest.mark.parametrize(
    ("edit", "first"),
    [
        (lambda s: _without(s, "features.conv0.weight"), "features.conv0.weight"),
        (lambda s: _without(s, "features.norm5.running_var"), "features.norm5.running_var"),
        (lambda s: s | {"features.norm5.weight": torch.ones(3)}, "features.norm5.weight"),
        (lambda s: s | {"features.denseblock5.weight": torch.ones(3)}, "features.denseblock5.weight"),
    ],
    ids=["missing", "missing buffer", "another shape", "left over"],
)
def test_a_file_that_does_not_fit_is_refused_and_changes_nothing(
    tmp_path: Path, tiny: DenseNet, edit: object, first: str
) -> None:
    assert callable(edit)
    before = {name: tensor.clone() for name, tensor in tiny.state_dict().items()}
    save_file(edit(drawn(shapes(tiny))), tmp_path / "backbone.safetensors")
    with pytest.raises(UserError, match=rf"1 tensors differ, first {re.escape(first)}\."):
        load_backbone(tiny, str(tmp_path / "backbone.safetensors"))
    same(tiny, before)


def test_a_file_that_holds_nan_is_refused_and_changes_nothing(tmp_path: Path, tiny: DenseNet) -> None:
    before = {name: tensor.clone() for name, tensor in tiny.state_dict().items()}
    state = drawn(shapes(tiny))
    state["features.conv0.weight"][0, 0, 0, 0] = torch.nan
    save_file(state, tmp_path / "backbone.safetensors")
    with pytest.raises(UserError, match=r"not finite: 1 tensors, first features\.conv0\.weight"):
        load_backbone(tiny, str(tmp_path / "backbone.safetensors"))
    same(tiny, before)


def test_a_file_of_other_names_is_refused(tmp_path: Path, tiny: DenseNet) -> None:
    state = {f"model.module.{name}": tensor for name, tensor in drawn(shapes(tiny)).items()}
    save_file(state, tmp_path / "backbone.safetensors")
    with pytest.raises(UserError, match="do not fit"):
        load_backbone(tiny, str(tmp_path / "backbone.safetensors"))


def test_a_pickle_is_refused_with_the_way_out(tmp_path: Path, tiny: DenseNet) -> None:
    torch.save(drawn(shapes(tiny)), tmp_path / "backbone.pth")
    with pytest.raises(UserError, match=r"not a safetensors file\. Convert it once"):
        load_backbone(tiny, str(tmp_path / "backbone.pth"))


def test_an_absent_file_is_not_found(tmp_path: Path, tiny: DenseNet) -> None:
    with pytest.raises(StoreNotFound):
        load_backbone(tiny, str(tmp_path / "none.safetensors"))
