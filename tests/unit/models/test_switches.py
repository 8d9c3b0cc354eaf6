"""The switches where paper, figure and released code differ: each does what it says, and is off unless asked for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cxrgaze_ray.errors import ConfigError
from cxrgaze_ray.models.gazenet import GazeNet
from cxrgaze_ray.models.settings import System, architecture
from cxrgaze_ray.models.unet import ResidualLevel, SaliencyHead, ZeroPadded, log_density
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.training.settings import TrainSettings

CONVOLVED_SHORTCUTS = sum(9 * i * o + o for i, o in ((1, 64), (64, 128), (128, 256), (256, 512), (512, 1024)))
HEAD_3X3 = 9 * 64 * 64 + 64 + 2 * 64


def size(system: System, **overrides: Any) -> int:
    """Count the parameters of a full network, chosen as a training's settings choose it."""
    with torch.device("meta"):
        network = build(TrainSettings.for_preset("full", system=system, architecture=overrides).network)
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("system", "overrides", "parameters"),
    [
        ("gazenet", {"tap": "transition3"}, 61_924_551),
        ("gazenet", {"shortcut": "identity"}, 66_643_143 - CONVOLVED_SHORTCUTS),
        ("gazenet", {"head": "conv1x1"}, 66_643_143 - HEAD_3X3),
        ("gazenet", {"input_size": (320, 256)}, 66_643_143),
        ("res-se-unet", {"shortcut": "identity"}, 41_006_977 - CONVOLVED_SHORTCUTS),
        ("res-se-unet", {"head": "conv1x1"}, 41_006_977 - HEAD_3X3),
        ("mt-unet", {"head": "conv1x1"}, 34_632_837 - HEAD_3X3),
        ("unet-s", {"batch_norm": True}, 34_562_945),
    ],
)
def test_a_switch_changes_the_parameters_that_it_should(
    system: System, overrides: dict[str, Any], parameters: int
) -> None:
    assert size(system, **overrides) == parameters


def tiny(**overrides: Any) -> GazeNet:
    network = build(architecture("gazenet", "tiny", overrides), seed=3).eval()
    assert isinstance(network, GazeNet)
    return network


def images(height: int = 64, width: int = 96) -> Tensor:
    return torch.rand(2, 1, height, width, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def test_the_identity_shortcut_is_the_input_beside_zeros() -> None:
    level = tiny(shortcut="identity").encoder.levels[2]
    assert isinstance(level, ResidualLevel)
    assert isinstance(level.shortcut, ZeroPadded)
    x = torch.rand(2, 16, 8, 8, generator=torch.Generator().manual_seed(1)) - 0.5
    carried = level.shortcut(x)
    assert torch.equal(carried, torch.cat([x, torch.zeros(2, 8, 8, 8)], 1))
    for parameter in level.residual.parameters():
        parameter.zero_()  # then only the shortcut is left, between ReLU and gate
    assert torch.equal(level(x), level.gate(torch.relu(carried)))


def test_channels_that_get_fewer_have_no_identity() -> None:
    with pytest.raises(ConfigError, match="identity needs widths that never decrease"):
        architecture("gazenet", "tiny", {"shortcut": "identity", "widths": (8, 16, 24, 32, 16)})


def test_a_gate_must_keep_a_channel() -> None:
    with pytest.raises(ConfigError, match="se_reduction 16 leaves no channel of 8"):
        architecture("res-se-unet", "tiny", {"se_reduction": 16})


def test_five_levels_are_five_levels() -> None:
    """DenseNet halves five times: with another number of widths decoder and skips would not meet."""
    with pytest.raises(ConfigError, match=r"architecture\.widths"):
        architecture("gazenet", "tiny", {"widths": (8, 16, 24, 32)})


@torch.inference_mode()
def test_the_paper_s_head_is_one_convolution_and_softmax() -> None:
    head = tiny(head="conv1x1").saliency_head
    assert isinstance(head, SaliencyHead)
    (convolution,) = head.layers
    assert isinstance(convolution, nn.Conv2d)
    x = torch.rand(2, 8, 16, 16, generator=torch.Generator().manual_seed(1))
    assert convolution.bias is not None
    scores = torch.einsum("bchw,c->bhw", x, convolution.weight[0, :, 0, 0]) + convolution.bias
    expected = torch.log_softmax(scores.flatten(1), 1).view(2, 1, 16, 16)
    torch.testing.assert_close(log_density(head(x)), expected)


@torch.inference_mode()
@pytest.mark.parametrize(
    "overrides", [{}, {"tap": "transition3"}, {"shortcut": "identity"}, {"head": "conv1x1"}], ids=str
)
def test_every_switch_answers(overrides: dict[str, Any]) -> None:
    output = tiny(**overrides)(images())
    assert output.log_saliency_B1HW.shape == (2, 1, 64, 96)
    assert output.logits_BK.isfinite().all()


def test_the_defaults_are_the_released_code_s() -> None:
    config = architecture("gazenet", "full").model_dump()
    chosen = {name: config[name] for name in ("tap", "shortcut", "head", "input_size", "contrastive_size", "joint")}
    assert chosen == {
        "tap": "denseblock4", "shortcut": "conv3x3", "head": "conv3x3", "input_size": (640, 512),
        "contrastive_size": (320, 256), "joint": False,
    }  # fmt: skip


def test_the_published_unet_s_normalises_on_the_way_up_and_in_the_head_alone() -> None:
    def norms(**overrides: Any) -> set[str]:
        network = build(architecture("unet-s", "tiny", overrides))
        return {name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}

    up_and_head = {f"unet.decoder.stages.{index}.up.2" for index in range(4)} | {"unet.saliency_head.layers.1"}
    assert norms() == up_and_head
    assert len(norms(batch_norm=True) - up_and_head) == 2 * (5 + 4)
