"""GazeNet: its size, its shapes and what it computes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torchvision.models import densenet201

from cxrgaze_ray.models.densenet import CONTRASTIVE_PARTS
from cxrgaze_ray.models.gazenet import PRESETS, GazeNet, GazeNetConfig
from cxrgaze_ray.models.settings import Preset
from cxrgaze_ray.models.unet import (
    DecoderStage,
    ResidualLevel,
    SaliencyHead,
    SqueezeExcite,
    UNetEncoder,
    double_conv,
    log_density,
)
from cxrgaze_ray.models.zoo import build

TINY = PRESETS["tiny"]
TOTAL = 66_643_143


def count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def counts(modules: Sequence[nn.Module]) -> list[int]:
    return [count(module) for module in modules]


def images(count: int = 2, height: int = 64, width: int = 96, seed: int = 0) -> Tensor:
    return torch.rand(count, 1, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def full() -> GazeNet:
    with torch.device("meta"):
        return GazeNet(PRESETS["full"])


@pytest.fixture
def tiny() -> GazeNet:
    return build(TINY, seed=3).eval()


def test_the_whole_network_has_the_size_of_the_paper(full: GazeNet) -> None:
    assert count(full) == TOTAL


def test_encoder_levels_have_their_sizes(full: GazeNet) -> None:
    assert counts(list(full.encoder.levels)) == [38_976, 297_856, 1_189_632, 4_754_944, 19_012_608]


def test_decoder_stages_have_their_sizes(full: GazeNet) -> None:
    stages = [stage for stage in full.decoder.stages if isinstance(stage, DecoderStage)]
    assert counts([stage.up for stage in stages]) == [8_848_896, 1_180_416, 295_296, 73_920, 37_056]
    assert counts([stage.merge for stage in stages]) == [9_440_256, 2_360_832, 590_592, 147_840, 110_976]


def test_heads_have_their_sizes(full: GazeNet) -> None:
    assert count(full.saliency_head) == 37_121
    assert count(full.classifier) == 127_235


def test_densenet_has_the_size_and_the_names_of_torchvision(full: GazeNet) -> None:
    assert count(full.densenet.features) == 18_092_928
    assert count(full.densenet.classifier) == 5_763
    with torch.device("meta"):
        original = densenet201(weights=None).state_dict()
    features = {name: tensor.shape for name, tensor in full.densenet.state_dict().items() if "features." in name}
    assert features == {name: tensor.shape for name, tensor in original.items() if "features." in name}
    assert len(features) == 1205


def test_the_saliency_stage_trains_what_the_paper_trains(full: GazeNet) -> None:
    assert count(*full.parts()["saliency_path"]) == 48_417_217


def test_the_contrastive_stage_holds_1200_tensors(full: GazeNet) -> None:
    assert sum(len(module.state_dict()) for module in full.parts()["densenet_contrastive"]) == 1200


def test_the_other_tap_has_its_own_size() -> None:
    with torch.device("meta"):
        network = GazeNet(GazeNetConfig(tap="transition3"))
    assert count(network) == 61_924_551


def test_the_stages_learn_every_parameter_between_them_once(tiny: GazeNet) -> None:
    parts = tiny.parts()
    learned = [
        id(p) for name in ("densenet", "saliency_path", "classifier") for m in parts[name] for p in m.parameters()
    ]
    assert sorted(learned) == sorted(id(parameter) for parameter in tiny.parameters())


def test_the_contrastive_stage_learns_all_of_the_features_but_the_last_norm(tiny: GazeNet) -> None:
    features = tiny.densenet.features
    learned = {id(p) for module in tiny.parts()["densenet_contrastive"] for p in module.parameters()}
    assert learned == {id(p) for name, p in features.named_parameters() if not name.startswith("norm5.")}


def test_the_contrastive_parts_are_what_comes_before_the_tap(tiny: GazeNet) -> None:
    x = images().expand(-1, 3, -1, -1)
    for name in CONTRASTIVE_PARTS:
        x = tiny.densenet.features.get_submodule(name)(x)
        if name == "norm0":
            x = functional.max_pool2d(functional.relu(x), kernel_size=3, stride=2, padding=1)
    torch.testing.assert_close(tiny.tap(images()), x)


def test_the_state_has_no_unexpected_parts(full: GazeNet) -> None:
    tops = {name.split(".")[0] for name in full.state_dict()}
    assert tops == {"encoder", "densenet", "decoder", "saliency_head", "classifier"}
    assert len(full.state_dict()) == 1415


@pytest.mark.parametrize("preset", ["full", "small", "tiny"])
def test_presets_are_settings_of_the_same_code(preset: Preset) -> None:
    config = PRESETS[preset]
    with FakeTensorMode():  # shapes only
        network = GazeNet(config)
        output = network(torch.empty(2, 1, *config.input_size))
    assert config.preset == preset
    assert output.log_saliency_B1HW.shape == (2, 1, *config.input_size)
    assert output.logits_BK.shape == (2, 3)
    names = {name.split(".")[0]: type(module) for name, module in network.named_children()}
    assert names == {name: type(module) for name, module in build(TINY).named_children()}


def test_smaller_presets_are_smaller() -> None:
    with torch.device("meta"):
        sizes = {name: count(GazeNet(config)) for name, config in PRESETS.items()}
    assert sizes["tiny"] < sizes["small"] / 10
    assert sizes["small"] < sizes["full"] / 5


def test_shapes(tiny: GazeNet) -> None:
    with torch.inference_mode():
        image = images(2, 64, 96)
        output = tiny(image)
        assert output.log_saliency_B1HW.shape == (2, 1, 64, 96)
        assert output.logits_BK.shape == (2, 3)
        channels = tiny.densenet.classifier.in_features
        assert tiny.tap(image).shape == (2, channels, 2, 3)
        assert tiny.fused(image).shape == (2, channels + TINY.widths[0])
        assert tiny.densenet_logits(image).shape == (2, 3)


def test_saliency_is_a_density(tiny: GazeNet) -> None:
    with torch.inference_mode():
        output = tiny(images())
    sums = output.log_saliency_B1HW.exp().sum(dim=(1, 2, 3))
    torch.testing.assert_close(sums, torch.ones(2), atol=1e-4, rtol=0)
    assert output.log_saliency_B1HW.exp().std() > 0


@torch.inference_mode()
def test_the_pieces_agree_with_the_whole(tiny: GazeNet) -> None:
    image = images()
    output = tiny(image)
    torch.testing.assert_close(tiny.saliency(image), output.log_saliency_B1HW)
    torch.testing.assert_close(tiny.classify(tiny.fused(image)), output.logits_BK)


@torch.inference_mode()
def test_densenets_own_logits_are_torchvisions(tiny: GazeNet) -> None:
    image = images()
    torch.testing.assert_close(tiny.densenet_logits(image), tiny.densenet(image.expand(-1, 3, -1, -1)))


@torch.inference_mode()
def test_answers_stay_float32_under_autocast(tiny: GazeNet) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        output = tiny(images())
        assert tiny.fused(images()).dtype == torch.float32
        assert tiny.densenet_logits(images()).dtype == torch.float32
    assert {tensor.dtype for tensor in output} == {torch.float32}


@pytest.mark.parametrize(("height", "width"), [(48, 64), (64, 100), (33, 32)])
def test_sizes_that_are_no_multiple_of_32_are_refused(tiny: GazeNet, height: int, width: int) -> None:
    for call in (tiny, tiny.saliency, tiny.fused):
        with pytest.raises(ValueError, match=f"{height}x{width}"):
            call(images(1, height, width))


def test_settings_of_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValidationError, match="multiple of 32"):
        GazeNetConfig(input_size=(650, 512))
    with pytest.raises(ValidationError, match="multiple of 32"):
        GazeNetConfig(contrastive_size=(320, 250))


def test_a_seed_gives_the_same_weights_whatever_was_drawn_before() -> None:
    first = build(TINY, seed=5).state_dict()
    torch.rand(7)
    second = build(TINY, seed=5).state_dict()
    other = build(TINY, seed=6).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["encoder.levels.0.shortcut.weight"], other["encoder.levels.0.shortcut.weight"])


def test_building_leaves_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    build(TINY, seed=9)
    assert torch.equal(torch.rand(3), expected)


def _convolved(x: Tensor, layer: nn.Module) -> Tensor:
    assert isinstance(layer, nn.Conv2d)
    return functional.conv2d(x, layer.weight, layer.bias, padding=layer.kernel_size[0] // 2)


def _normed(x: Tensor, layer: nn.Module) -> Tensor:
    assert isinstance(layer, nn.BatchNorm2d)
    return functional.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias)


def _level(x: Tensor, level: nn.Module) -> Tensor:
    assert isinstance(level, ResidualLevel)
    conv1, norm1, _, conv2, norm2 = level.residual
    inner = functional.relu(_normed(_convolved(x, conv1), norm1))
    summed = functional.relu(_normed(_convolved(inner, conv2), norm2) + _convolved(x, level.shortcut))
    gate = functional.relu(summed.mean((2, 3)) @ level.gate.squeeze.weight.T) @ level.gate.excite.weight.T
    return summed * gate.sigmoid()[..., None, None]


def _stage(x: Tensor, skip: Tensor, stage: nn.Module) -> Tensor:
    assert isinstance(stage, DecoderStage)
    _, conv, norm, _ = stage.up
    up = functional.relu(_normed(_convolved(x.repeat_interleave(2, 2).repeat_interleave(2, 3), conv), norm))
    conv1, norm1, _, conv2, norm2, _ = stage.merge
    merged = functional.relu(_normed(_convolved(torch.cat([skip, up], 1), conv1), norm1))
    return functional.relu(_normed(_convolved(merged, conv2), norm2))


@pytest.fixture
def stirred(tiny: GazeNet) -> GazeNet:
    """Give batch norms what fresh ones lack, and saliency contrast: a fresh map is flat."""
    generator = torch.Generator().manual_seed(1)
    for module in tiny.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.running_var, module.weight.data, module.bias.data):
                assert tensor is not None
                tensor.add_(torch.rand(tensor.shape, generator=generator) / 5)
    tiny.get_parameter("saliency_head.layers.3.weight").data.mul_(64)
    return tiny


@torch.inference_mode()
def test_the_network_computes_what_the_paper_says(stirred: GazeNet) -> None:
    image = images()
    skips = [_level(image, stirred.encoder.levels[0])]
    for level in list(stirred.encoder.levels)[1:]:
        skips.append(_level(functional.max_pool2d(skips[-1], 2), level))
    raw = image.expand(-1, 3, -1, -1)
    features = stirred.densenet.features
    for name, layer in features.named_children():
        raw = layer(raw) if name != "norm5" else raw
    decoded = raw
    for skip, stage in zip(reversed(skips), stirred.decoder.stages, strict=True):
        decoded = _stage(decoded, skip, stage)
    conv, norm, _, last = stirred.saliency_head.layers
    scores = _convolved(functional.relu(_normed(_convolved(decoded, conv), norm)), last)
    vector = functional.relu(_normed(raw, features.norm5)).mean((2, 3))
    hidden = functional.relu(stirred.classifier.hidden(torch.cat([vector, decoded.mean((2, 3))], 1)))

    output = stirred(image)
    expected = scores - scores.logsumexp((2, 3), keepdim=True)
    torch.testing.assert_close(output.log_saliency_B1HW, expected, atol=2e-4, rtol=0)
    torch.testing.assert_close(output.logits_BK, stirred.classifier.out(hidden), atol=1e-5, rtol=0)


@torch.inference_mode()
def test_the_other_tap_starts_the_decoder_elsewhere_and_keeps_the_vector(tiny: GazeNet) -> None:
    other = build(TINY.model_copy(update={"tap": "transition3"}), seed=4).eval()
    other.densenet.load_state_dict(tiny.densenet.state_dict())
    image, channels = images(), tiny.densenet.classifier.in_features
    assert other(image).log_saliency_B1HW.shape == (2, 1, 64, 96)
    torch.testing.assert_close(other.fused(image)[:, :channels], tiny.fused(image)[:, :channels])
    first = other.decoder.stages[0]
    assert isinstance(first, DecoderStage)
    convolution = first.up[1]
    assert isinstance(convolution, nn.Conv2d)
    assert convolution.in_channels == tiny.densenet.features.transition3.conv.out_channels


def test_gates_have_no_biases() -> None:
    assert {name for name, _ in SqueezeExcite(8, 4).named_parameters()} == {"squeeze.weight", "excite.weight"}


def test_encoder_halves_the_resolution_four_times() -> None:
    outputs = UNetEncoder((4, 4, 8, 8, 8), double_conv)(images(1, 64, 32))
    assert [tuple(output.shape[1:]) for output in outputs] == [
        (4, 64, 32), (4, 32, 16), (8, 16, 8), (8, 8, 4), (8, 4, 2),
    ]  # fmt: skip


@torch.inference_mode()
def test_extreme_scores_still_sum_to_one() -> None:
    head = SaliencyHead(GazeNetConfig(widths=(4, 4, 8, 8, 8), se_reduction=4)).eval()
    scores = head(1e4 * torch.randn(2, 4, 32, 32, generator=torch.Generator().manual_seed(0)))
    density = log_density(scores).exp()
    torch.testing.assert_close(density.sum(dim=(1, 2, 3)), torch.ones(2), atol=1e-4, rtol=0)


def test_dropout_is_of_training_only(tiny: GazeNet) -> None:
    fused = torch.rand(4, tiny.classifier.hidden.in_features)
    assert torch.equal(tiny.classify(fused), tiny.classify(fused))
    tiny.train()
    assert not torch.equal(tiny.classify(fused), tiny.classify(fused))
