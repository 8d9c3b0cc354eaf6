"""Every system by name: its size, what it answers, what it refuses, and that it is published like any other."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from cxrgaze_ray.errors import BundleError, ConfigError
from cxrgaze_ray.models.bundle import BundleInfo, golden_image, make_bundle, read_bundle, read_info, write_bundle
from cxrgaze_ray.models.engines.engine import TORCH_BFLOAT16_CPU
from cxrgaze_ray.models.network import Network, NetworkOutput
from cxrgaze_ray.models.predictor import Predictor, with_golden
from cxrgaze_ray.models.settings import CONFIGS, SYSTEMS, Preset, System, architecture, overrides_of
from cxrgaze_ray.models.unet import DecoderStage, UNet
from cxrgaze_ray.models.unets import MTUNet
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.storage import LocalStore

SIZES: dict[System, int] = {
    "gazenet": 66_643_143,
    "mt-unet": 34_632_836,
    "gazegnn": 11_464_391,
    "inception-resnet-v2": 54_311_075,
    "unet-s": 34_551_169,
    "res-se-unet": 41_006_977,
    "dnet201": 18_098_691,
    "dnet201-cl": 18_098_691,
}
SALIENCY: tuple[System, ...] = ("gazenet", "mt-unet", "unet-s", "res-se-unet")
UNETS: tuple[System, ...] = ("mt-unet", "unet-s", "res-se-unet")


def outline(system: System, preset: Preset = "full", **overrides: Any) -> Network:
    """Build a network without memory."""
    with torch.device("meta"):
        return build(architecture(system, preset, overrides))


def size(network: nn.Module) -> int:
    """Count what a system's stated size counts: what is learned, and GazeGNN's fixed tables of places."""
    tables = [tensor for name, tensor in network.named_buffers() if name.endswith("nearness_NM")]
    return sum(tensor.numel() for tensor in [*network.parameters(), *tables])


@cache
def tiny(system: System) -> Network:
    return build(architecture(system, "tiny"), seed=3).eval()


def inputs(network: Network, count: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return random images, and densities of gaze."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(count, 1, *network.config.input_size, generator=generator)
    gaze = torch.rand(count, *network.config.input_size, generator=generator)
    return image, gaze / gaze.sum(dim=(1, 2), keepdim=True)


@torch.inference_mode()
def answer(network: Network) -> NetworkOutput:
    output: NetworkOutput = network(*inputs(network))
    return output


def test_every_system_has_its_size_stated_here() -> None:
    assert set(SIZES) == set(CONFIGS) == set(SYSTEMS)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_system_has_the_size_of_the_paper(system: System) -> None:
    network = outline(system)
    learned_weight = 1 if system == "mt-unet" else 0  # the joint loss's s, which the stated size leaves out
    assert size(network) - learned_weight == SIZES[system]


def test_gazegnn_s_stated_size_holds_tables_that_are_not_learned() -> None:
    network = outline("gazegnn")
    assert sum(parameter.numel() for parameter in network.parameters()) == 9_692_453
    assert size(network) - 9_692_453 == 2 * 3136 * 196 + 2 * 784 * 196 + 6 * 196**2 + 2 * 49**2


@pytest.mark.parametrize("preset", ["full", "small"])
@pytest.mark.parametrize("system", SYSTEMS[1:-1])
def test_larger_presets_answer_what_the_system_predicts(system: System, preset: Preset) -> None:
    """GazeNet's are walked through in test_models, and dnet201-cl's network is dnet201's."""
    config = architecture(system, preset)
    assert (config.system, config.preset) == (system, preset)
    with FakeTensorMode():  # shapes only
        network = build(config).eval()
        with torch.inference_mode():
            output = network(torch.empty(2, 1, *config.input_size), torch.empty(2, *config.input_size))
    predicted = {"saliency": output.log_saliency_B1HW, "classes": output.logits_BK}
    assert {name for name, tensor in predicted.items() if tensor is not None} == set(config.predicts)
    shapes = {"saliency": (2, 1, *config.input_size), "classes": (2, 3)}
    assert {name: tuple(t.shape) for name, t in predicted.items() if t is not None} == {
        name: shapes[name] for name in config.predicts
    }


@pytest.mark.parametrize("system", SYSTEMS)
def test_smaller_presets_are_smaller(system: System) -> None:
    full, small, tiny = (size(outline(system, preset)) for preset in get_args(Preset))
    assert full > 1.5 * small > 2 * tiny


@pytest.mark.parametrize("system", SYSTEMS)
def test_answers_are_finite_float32_under_autocast_too(system: System) -> None:
    for lower in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=lower):
            output = answer(tiny(system))
        found = [tensor for tensor in output if tensor is not None]
        assert {tensor.dtype for tensor in found} == {torch.float32}
        assert all(tensor.isfinite().all() for tensor in found)


@pytest.mark.parametrize("system", SALIENCY)
def test_saliency_is_a_density(system: System) -> None:
    log_saliency = answer(tiny(system)).log_saliency_B1HW
    assert log_saliency is not None
    torch.testing.assert_close(log_saliency.exp().sum(dim=(1, 2, 3)), torch.ones(2), atol=1e-4, rtol=0)
    assert log_saliency.std() > 0


@pytest.mark.parametrize("system", SYSTEMS)
def test_answers_are_of_their_images(system: System) -> None:
    for tensor in answer(tiny(system)):
        assert tensor is None or not torch.equal(tensor[0], tensor[1])


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("change", [(0, 8), (8, 0)])
def test_wrong_sizes_are_refused(system: System, change: tuple[int, int]) -> None:
    network = tiny(system)
    height, width = (length + more for length, more in zip(network.config.input_size, change, strict=True))
    with pytest.raises(ValueError, match=f"{height}x{width}"):
        network(torch.zeros(1, 1, height, width), torch.zeros(1, height, width))
    with pytest.raises(ConfigError, match=f"{height}x{width} is not a multiple of"):
        architecture(system, "tiny", {"input_size": (height, width)})


@pytest.mark.parametrize("system", UNETS)
def test_a_u_net_takes_multiples_of_16(system: System) -> None:
    image = torch.rand(1, 1, 48, 80)
    output = tiny(system)(image)
    assert output.log_saliency_B1HW.shape == image.shape


@pytest.mark.parametrize("system", SALIENCY)
def test_the_skip_comes_before_what_comes_up(system: System) -> None:
    """Every stage joins cat([skip, up]); where both are as wide, the other order would fit as well."""
    stages = [module for module in tiny(system).modules() if isinstance(module, DecoderStage)]
    assert len(stages) == (5 if system == "gazenet" else 4)
    stage = stages[-1]
    up = stage.up[1]
    assert isinstance(up, nn.Conv2d)
    generator = torch.Generator().manual_seed(2)
    deep = torch.rand(1, up.in_channels, 4, 4, generator=generator)
    skip = torch.rand(1, up.out_channels, 8, 8, generator=generator)
    with torch.inference_mode():
        found, risen = stage(deep, skip), stage.up(deep)
        torch.testing.assert_close(found, stage.merge(torch.cat([skip, risen], 1)))
        assert not torch.allclose(found, stage.merge(torch.cat([risen, skip], 1)), atol=1e-4)


@pytest.mark.parametrize("system", UNETS)
def test_a_u_net_has_the_widths_of_the_paper(system: System) -> None:
    unet = outline(system).unet
    assert isinstance(unet, UNet)
    stages = [stage for stage in unet.decoder.stages if isinstance(stage, DecoderStage)]
    named = [pair for stage in stages for pair in ((stage.up, "1.weight"), (stage.merge, "0.weight"))]
    weights = [part.get_parameter(name) for part, name in named]
    shapes = [tuple(weight.shape[:2]) for weight in weights]
    assert shapes == [
        (512, 1024), (512, 1024), (256, 512), (256, 512), (128, 256), (128, 256), (64, 128), (64, 128),
    ]  # fmt: skip
    if system == "res-se-unet":
        levels = [sum(parameter.numel() for parameter in level.parameters()) for level in unet.encoder.levels]
        assert levels == [38_976, 297_856, 1_189_632, 4_754_944, 19_012_608]


@torch.inference_mode()
def test_mt_unet_s_classifier_reads_bottleneck_and_decoder() -> None:
    network = tiny("mt-unet")
    image = inputs(network)[0]
    assert isinstance(network, MTUNet)
    unet, deep = network.unet, image
    skips: list[Tensor] = []
    for level in unet.encoder.levels:
        deep = level(deep if not skips else nn.functional.max_pool2d(deep, 2))
        skips.append(deep)
    decoded = deep
    for stage, skip in zip(unet.decoder.stages, reversed(skips[:-1]), strict=True):
        decoded = stage(decoded, skip)
    vector = torch.cat([deep.mean((2, 3)), decoded.mean((2, 3))], 1)
    assert vector.shape[1] == 48 + 8
    torch.testing.assert_close(answer(network).logits_BK, network.classifier(vector))


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_seed_gives_the_same_weights_whatever_was_drawn_before(system: System) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    again = build(tiny(system).config, seed=3).state_dict()
    assert torch.equal(torch.rand(3), expected), "building leaves the caller's random numbers alone"
    assert all(torch.equal(tensor, again[name]) for name, tensor in tiny(system).state_dict().items())


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_system_is_published_and_read_back(system: System, tmp_path: Path) -> None:
    bundle = with_golden(make_bundle(tiny(system), "net", trained=True))
    store = LocalStore(str(tmp_path))
    write_bundle(store, bundle)
    assert read_info(store) == bundle.info
    read = read_bundle(store)
    assert read.info.network == architecture(system, "tiny")
    assert read.info.predicts == CONFIGS[system].predicts
    assert overrides_of(read.info.network) == {}
    state = read.network().state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in tiny(system).state_dict().items())
    for golden in read.info.golden:
        assert bool(golden.logits) == ("classes" in read.info.predicts)
        assert bool(golden.saliency) == ("saliency" in read.info.predicts)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_predictor_answers_what_the_system_predicts(system: System) -> None:
    network = build(architecture(system, "tiny"), seed=3)
    bundle = make_bundle(network, "net", trained=False)
    predictor = Predictor.from_bundle(bundle)
    images = np.stack([golden_image(seed) for seed in (1, 2)])
    gaze = np.stack([np.roll(images[0], 100, axis=0), images[1]]).astype(np.float32)
    found = predictor.predict(images, gaze_BHW=gaze)
    assert (found.logits_BK is None) == (found.probabilities_BK is None) == ("classes" not in network.config.predicts)
    assert (found.saliency_BHW is None) == ("saliency" not in network.config.predicts)
    fast = Predictor.from_bundle(bundle, TORCH_BFLOAT16_CPU).predict(images, gaze_BHW=gaze)
    if found.probabilities_BK is not None:
        np.testing.assert_allclose(found.probabilities_BK.sum(axis=1), 1, atol=1e-6)
        assert fast.probabilities_BK is not None
        np.testing.assert_allclose(fast.probabilities_BK, found.probabilities_BK, atol=0.02)
    if found.saliency_BHW is not None:
        assert found.saliency_BHW.shape == (2, 640, 512)
        np.testing.assert_allclose(found.saliency_BHW.sum(axis=(1, 2), dtype=np.float64), 1, atol=1e-4)
        assert fast.saliency_BHW is not None
        np.testing.assert_allclose(fast.saliency_BHW, found.saliency_BHW, rtol=0.05)
    none = predictor.predict(images[:0], gaze_BHW=gaze[:0])
    assert (none.logits_BK is None, none.saliency_BHW is None) == (found.logits_BK is None, found.saliency_BHW is None)


def test_a_bundle_that_names_no_system_is_gazenet_s() -> None:
    info = make_bundle(tiny("gazenet"), "net", trained=False).info
    written = json.loads(info.model_dump_json())
    later = ("system", "shortcut", "head", "joint")
    assert set(later) <= written["network"].keys()
    written["network"] = {name: value for name, value in written["network"].items() if name not in later}
    del written["predicts"]
    assert BundleInfo.model_validate_json(json.dumps(written)) == info


def test_a_bundle_of_an_unknown_system_is_refused(tmp_path: Path) -> None:
    info = make_bundle(tiny("dnet201"), "net", trained=False).info
    (tmp_path / "bundle.json").write_text(info.model_dump_json().replace('"dnet201"', '"resnet"'))
    with pytest.raises(BundleError, match=r"This version can't read bundle\.json"):
        read_info(LocalStore(str(tmp_path)))


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError) as error:
        architecture("resnet", "tiny")  # type: ignore[arg-type]
    assert all(system in str(error.value) for system in SYSTEMS)
    with pytest.raises(ConfigError, match="The presets are full, small, tiny"):
        architecture("unet-s", "huge")  # type: ignore[arg-type]
