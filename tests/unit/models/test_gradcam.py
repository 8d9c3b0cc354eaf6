"""Grad-CAM: the method itself, written by hand, and a map that depends on its image alone."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cxrgaze_ray.errors import BundleError
from cxrgaze_ray.models.bundle import Lineage, golden_image, make_bundle
from cxrgaze_ray.models.engines.engine import TORCH_BFLOAT16_CPU, Engine
from cxrgaze_ray.models.gradcam import grad_cam
from cxrgaze_ray.models.network import DenseNetNetwork
from cxrgaze_ray.models.predictor import Predictor
from cxrgaze_ray.models.settings import SYSTEMS, WITH_DENSENET, architecture
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.radiograph.preprocess import to_network

IMAGES = np.stack([golden_image(seed) for seed in range(3)])


def network_of(system: str = "gazenet", seed: int = 4) -> DenseNetNetwork:
    network = build(architecture(system, "tiny"), seed).eval()  # type: ignore[arg-type]
    assert isinstance(network, DenseNetNetwork)
    return network


def predictor_of(network: DenseNetNetwork, engine: Engine | None = None) -> Predictor:
    return Predictor.from_bundle(make_bundle(network, "net", trained=True), engine)


def by_hand(network: DenseNetNetwork, image_HW: NDArray[np.uint16]) -> tuple[NDArray[np.float32], int]:
    """Return Grad-CAM after the paper: through the whole DenseNet, with hooks, one image alone."""
    kept: dict[str, Tensor] = {}
    densenet = network.densenet
    hook = densenet.features.denseblock4.register_forward_hook(lambda *got: kept.update(raw=got[2]))
    logits = densenet(to_network(image_HW[None], network.config.input_size).expand(-1, 3, -1, -1))[0]
    hook.remove()
    target = int(logits.argmax())
    (gradient,) = torch.autograd.grad(logits[target], kept["raw"])
    weights_C = gradient[0].mean(dim=(1, 2))
    cam_HW = torch.relu(torch.einsum("c,chw->hw", weights_C, kept["raw"][0]))
    large = functional.interpolate(cam_HW[None, None], (640, 512), mode="bilinear")[0, 0].detach().numpy()
    return large / large.max(), target


@pytest.mark.parametrize("system", ["gazenet", "dnet201", "dnet201-cl"])
def test_the_map_is_grad_cam_as_the_paper_has_it(system: str) -> None:
    network = network_of(system)
    maps, logits = grad_cam(network, IMAGES)
    for image, cam, target in zip(IMAGES, maps.numpy(), logits.argmax(dim=1).tolist(), strict=True):
        expected, wanted = by_hand(network, image)
        assert target == wanted
        np.testing.assert_allclose(cam, expected, atol=1e-4)
        assert expected.std() > 0.05


def test_the_target_is_the_densenets_own_arg_max() -> None:
    network = network_of()
    for wanted in range(3):
        with torch.no_grad():
            network.densenet.classifier.bias.copy_(torch.eye(3)[wanted] * 100)
        found = predictor_of(network).predict(IMAGES, cam=True)
        assert found.cam_target_B is not None
        assert found.cam_target_B.tolist() == [wanted] * 3


def test_another_class_gives_another_map() -> None:
    network = network_of()
    first = grad_cam(network, IMAGES[:1])[0]
    with torch.no_grad():
        network.densenet.classifier.weight.copy_(network.densenet.classifier.weight.flip(0))
        network.densenet.classifier.bias.copy_(network.densenet.classifier.bias.flip(0) + torch.tensor([5.0, 0, 0]))
    assert float((first - grad_cam(network, IMAGES[:1])[0]).abs().max()) > 0.1


def test_what_speaks_for_no_class_is_a_map_of_zeros() -> None:
    network = network_of()
    with torch.no_grad():
        network.densenet.classifier.weight.zero_()
    assert not grad_cam(network, IMAGES)[0].any()


def test_a_map_depends_on_its_image_alone_and_repeats() -> None:
    predictor = predictor_of(network_of())
    whole, single = predictor.predict(IMAGES, cam=True), predictor.predict(IMAGES[1:2], cam=True)
    assert whole.cam_BHW is not None
    assert single.cam_BHW is not None
    assert np.array_equal(whole.cam_BHW[1], single.cam_BHW[0])
    assert whole.cam_BHW.dtype == np.float32
    assert whole.cam_BHW.min() >= 0
    np.testing.assert_array_equal(whole.cam_BHW.max(axis=(1, 2)), 1)


def test_the_other_answers_are_what_they_are_without_it() -> None:
    network = network_of()
    before = {name: hashlib.sha256(t.numpy().tobytes()).digest() for name, t in network.state_dict().items()}
    predictor = predictor_of(network)
    plain, told = predictor.predict(IMAGES), predictor.predict(IMAGES, cam=True)
    assert (plain.cam_BHW, plain.cam_target_B) == (None, None)
    for name in ("logits_BK", "probabilities_BK", "saliency_BHW"):
        assert np.array_equal(getattr(plain, name), getattr(told, name))
    grad_cam(network, IMAGES)
    after = {name: hashlib.sha256(t.numpy().tobytes()).digest() for name, t in network.state_dict().items()}
    assert after == before
    assert all(parameter.grad is None for parameter in network.parameters())


def test_it_is_float32_on_a_reduced_engine() -> None:
    network = network_of()
    fast = predictor_of(network, TORCH_BFLOAT16_CPU).predict(IMAGES, cam=True)
    assert fast.cam_BHW is not None
    np.testing.assert_allclose(fast.cam_BHW, grad_cam(network, IMAGES)[0].numpy(), atol=1e-4)


def test_threads_do_not_change_it() -> None:
    network, threads = network_of(), torch.get_num_threads()
    one = grad_cam(network, IMAGES[:1])[0]
    try:
        torch.set_num_threads(2)
        two = grad_cam(network, IMAGES[:1])[0]
    finally:
        torch.set_num_threads(threads)
    assert float((one - two).abs().max()) < 1e-5


def test_no_image_has_no_map() -> None:
    empty = predictor_of(network_of()).predict(IMAGES[:0], cam=True)
    assert empty.cam_BHW is not None
    assert empty.cam_BHW.shape == (0, 640, 512)


def test_a_map_that_is_not_finite_is_an_error() -> None:
    network = network_of()
    with torch.no_grad():
        network.densenet.classifier.weight.fill_(3e38)
    with pytest.raises(BundleError, match="not finite"):
        predictor_of(network).predict(IMAGES[:1], cam=True)


def test_a_network_in_training_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="eval mode"):
        grad_cam(network_of().train(), IMAGES)


def test_a_system_without_a_densenet_is_refused_with_those_that_have_one() -> None:
    assert set(WITH_DENSENET) == {"gazenet", "dnet201", "dnet201-cl"} <= set(SYSTEMS)
    make_bundle(network_of(), "net", trained=True).info.check_cam()
    other = Predictor.from_bundle(make_bundle(build(architecture("unet-s", "tiny")), "net", trained=True))
    with pytest.raises(BundleError, match=r"net is a unet-s, which has no DenseNet.*gazenet, dnet201 or dnet201-cl"):
        other.predict(IMAGES[:0], cam=True)


def trained_in(*phases: str, **lineage: object) -> Lineage:
    return Lineage(settings={"stages": {phase: {} for phase in phases}}, **lineage)


@pytest.mark.parametrize(
    "lineage",
    [
        trained_in("saliency", "classifier"),
        trained_in("contrastive"),
        trained_in("classifier", parent="cl@v0001", parent_phases=("contrastive", "saliency")),
        trained_in("saliency", parent="net@v0001", parent_phases=()),
    ],
)
def test_a_head_that_no_phase_trained_is_not_explained(lineage: Lineage) -> None:
    fresh = Predictor.from_bundle(make_bundle(network_of(), "net", trained=True, lineage=lineage))
    with pytest.raises(BundleError, match=r"net was trained without phase encoder: the head .* never learned"):
        fresh.predict(IMAGES[:0], cam=True)


@pytest.mark.parametrize(
    "lineage",
    [
        trained_in("encoder"),
        trained_in("saliency", parent="cl@v0001", parent_phases=("contrastive", "encoder")),
        trained_in("saliency", parent="cl@v0001"),
        Lineage(imported_format="cxrgazelearn"),
        Lineage(settings={"seed": 1}),
    ],
    ids=["trained", "parent", "parent-of-earlier-version", "imported", "unrecorded"],
)
def test_a_head_that_is_not_known_to_be_fresh_is_explained(lineage: Lineage) -> None:
    make_bundle(network_of(), "net", trained=True, lineage=lineage).info.check_cam()


def test_an_untrained_model_s_head_is_explained_for_plumbing_s_sake() -> None:
    make_bundle(network_of(), "net", trained=False, lineage=trained_in()).info.check_cam()
