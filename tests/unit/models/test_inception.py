"""Inception-ResNet-v2: timm's network as it is, and its first weights."""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from cxrgaze_ray.errors import ConfigError, UserError
from cxrgaze_ray.models.inception import InceptionResNetV2
from cxrgaze_ray.models.settings import architecture
from cxrgaze_ray.models.zoo import build


def tiny() -> InceptionResNetV2:
    network = build(architecture("inception-resnet-v2", "tiny"), seed=3)
    assert isinstance(network, InceptionResNetV2)
    return network


@pytest.fixture
def full() -> InceptionResNetV2:
    with torch.device("meta"):
        network = build(architecture("inception-resnet-v2", "full"))
    assert isinstance(network, InceptionResNetV2)
    network.inception.to_empty(device="cpu")
    for tensor in network.inception.state_dict().values():
        tensor.zero_()
    return network


@torch.inference_mode()
def test_the_image_comes_three_times_with_the_network_s_own_mean_and_spread() -> None:
    network = tiny().eval()
    image = torch.rand(1, 1, 96, 128, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network(image).logits_BK, network.inception(((image - 0.5) / 0.5).repeat(1, 3, 1, 1)))


def test_repeats_are_the_settings_and_no_more_than_the_published_ones() -> None:
    with torch.device("meta"):
        parts = dict(build(architecture("inception-resnet-v2", "small")).named_modules())
    repeats = [parts[f"inception.{name}"] for name in ("repeat", "repeat_1", "repeat_2")]
    assert [len(list(blocks.children())) for blocks in repeats] == [4, 8, 4]
    with pytest.raises(ConfigError, match=r"architecture\.repeats"):
        architecture("inception-resnet-v2", "tiny", {"repeats": (11, 1, 1)})


def test_an_image_too_small_for_its_convolutions_is_refused_by_the_settings() -> None:
    with pytest.raises(ConfigError, match="64x128 is less than 96 each way"):
        architecture("inception-resnet-v2", "tiny", {"input_size": (64, 128)})


def publish(monkeypatch: pytest.MonkeyPatch, answer: object) -> None:
    """Make timm's download give a state, or raise."""

    class Network:
        def state_dict(self) -> object:
            return answer

    def create_model(name: str, *, pretrained: bool) -> Network:
        assert (name, pretrained) == ("inception_resnet_v2", True)
        if isinstance(answer, Exception):
            raise answer
        return Network()

    monkeypatch.setattr("timm.create_model", create_model)


def drawn(network: InceptionResNetV2) -> dict[str, Tensor]:
    """Return weights with timm's names and 1000 classes, every tensor another."""
    state = {
        name: torch.full_like(tensor, number % 251 + 1)
        for number, (name, tensor) in enumerate(network.inception.state_dict().items())
    }
    return state | {"classif.weight": torch.ones(1000, 1536), "classif.bias": torch.ones(1000)}


def test_published_weights_are_loaded_whole_and_the_head_is_the_classes(
    monkeypatch: pytest.MonkeyPatch, full: InceptionResNetV2
) -> None:
    state = drawn(full)
    publish(monkeypatch, state)
    report = full.load_pretrained()
    assert (report.source, report.warning) == ("imagenet", "")
    found = full.inception.state_dict()
    assert all(torch.equal(found[name], t) for name, t in state.items() if not name.startswith("classif."))
    assert found["classif.weight"].shape == (3, 1536)
    assert not found["classif.weight"].any()


def test_published_weights_that_do_not_fit_are_refused(
    monkeypatch: pytest.MonkeyPatch, full: InceptionResNetV2
) -> None:
    state = drawn(full)
    del state["repeat_1.19.branch0.bn.running_var"]
    publish(monkeypatch, state)
    with pytest.raises(UserError, match=r"1 tensors differ, first repeat_1\.19\.branch0\.bn\.running_var"):
        full.load_pretrained()


@pytest.mark.parametrize("error", [URLError("no route"), OSError(28, "No space left"), RuntimeError("wrong hash")])
def test_without_a_download_it_starts_fresh_and_says_so(
    monkeypatch: pytest.MonkeyPatch, full: InceptionResNetV2, error: Exception
) -> None:
    publish(monkeypatch, error)
    report = full.load_pretrained()
    assert report.source == "fresh"
    assert "Inception starts fresh, and will score worse" in report.warning
    assert "--backbone-weights FILE (safetensors, timm's names)" in report.warning


def test_a_smaller_preset_starts_fresh_without_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny()
    publish(monkeypatch, AssertionError("asked"))
    report = network.load_pretrained()
    assert report.source == "fresh"
    assert "ImageNet weights are for Inception-ResNet-v2" in report.warning


def test_a_file_is_loaded_exactly_or_refused(tmp_path: Path) -> None:
    network = tiny()
    state = drawn(network)
    save_file(state, tmp_path / "whole.safetensors")
    assert network.load_pretrained(str(tmp_path / "whole.safetensors")).source == "file"
    found = network.inception.state_dict()
    assert all(torch.equal(found[name], t) for name, t in state.items() if not name.startswith("classif."))
    save_file({"conv2d_1a.conv.weight": state["conv2d_1a.conv.weight"]}, tmp_path / "part.safetensors")
    with pytest.raises(UserError, match=r"The backbone weights do not fit: \d+ tensors differ"):
        network.load_pretrained(str(tmp_path / "part.safetensors"))


@pytest.mark.parametrize("system", ["mt-unet", "unet-s", "res-se-unet", "gazegnn"])
def test_a_network_without_a_backbone_takes_no_file(system: str) -> None:
    network = build(architecture(system, "tiny"))  # type: ignore[arg-type]
    assert network.load_pretrained().source == "fresh"
    with pytest.raises(ConfigError, match=f"A {system} has no backbone to load weights into"):
        network.load_pretrained("weights.safetensors")
