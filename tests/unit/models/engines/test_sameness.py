"""Every engine gives the reference's answers, within what its name promises; for every network there is."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cxrgaze_ray.evaluation.maps import correlation
from cxrgaze_ray.models.bundle import Bundle, golden_image, make_bundle, read_bundle
from cxrgaze_ray.models.engines.engine import EXACT_CPU, FAST_CPU, REFERENCE_CPU, TORCH_BFLOAT16_CPU, Engine
from cxrgaze_ray.models.engines.rewrites import rewritten
from cxrgaze_ray.models.network import Network
from cxrgaze_ray.models.predictions import Predictions
from cxrgaze_ray.models.predictor import SAME_ANSWER, Predictor
from cxrgaze_ray.models.settings import SYSTEMS, System, architecture
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.phantoms import draw
from cxrgaze_ray.radiograph.preprocess import to_network
from cxrgaze_ray.storage import LocalStore

LEAST_CC = 0.999


TRAINED = Path(__file__).parents[3] / "artefacts" / "trained"
LEARNED: tuple[System, ...] = ("gazenet", "mt-unet", "dnet201-cl")
"""Systems that there are trained weights of: bfloat16 moves a fresh network's map by more."""


def seen(system: System) -> Network:
    """Return a fresh network whose batch norms have seen images."""
    network = build(architecture(system, "tiny"), seed=5).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    image_B1HW = to_network(images(), network.config.input_size)
    with torch.no_grad():
        network(image_B1HW, gaze(network))
    return network.eval()


def gaze(network: Network) -> Tensor | None:
    """Return even gaze, for a network that reads any."""
    size = network.config.input_size
    return torch.full((len(images()), *size), 1 / (size[0] * size[1])) if network.config.needs_gaze else None


@cache
def images() -> NDArray[np.uint16]:
    """Return phantoms and golden images, as a predictor takes them."""
    drawn = [
        np.rint(draw(np.random.default_rng(seed), seed, 640, 512).image * 65535).astype(np.uint16) for seed in range(3)
    ]
    return np.stack([*drawn, *(golden_image(seed) for seed in (1, 2))])


@cache
def bundle_of(system: System) -> Bundle:
    if system in LEARNED:
        return read_bundle(LocalStore(str(TRAINED / system)))
    return make_bundle(seen(system), system, trained=False)


@cache
def answers(system: System, engine: Engine) -> Predictions:
    even = np.full(images().shape, 1 / images()[0].size, np.float32)
    needs = bundle_of(system).info.network.needs_gaze
    return Predictor.from_bundle(bundle_of(system), engine).predict(images(), gaze_BHW=even if needs else None)


def moved(system: System, engine: Engine) -> tuple[float, float]:
    """Return the largest difference of a probability, and the lowest correlation of a map, from the reference's."""
    ours, reference = answers(system, engine), answers(system, REFERENCE_CPU)
    difference, lowest = 0.0, 1.0
    if reference.probabilities_BK is not None:
        assert ours.probabilities_BK is not None
        difference = float(np.abs(ours.probabilities_BK - reference.probabilities_BK).max())
    if reference.saliency_BHW is not None:
        assert ours.saliency_BHW is not None
        lowest = min(correlation(*pair) or 0 for pair in zip(ours.saliency_BHW, reference.saliency_BHW, strict=True))
    return difference, lowest


@pytest.mark.long
# a rounding gives a node of GazeGNN another neighbour: `predictor_for` sees by the golden images whether one did
@pytest.mark.parametrize("system", [system for system in SYSTEMS if system != "gazegnn"])
def test_openvino_in_float32_moves_nothing_that_could_be_seen(system: System) -> None:
    difference, lowest = moved(system, EXACT_CPU)
    assert difference <= 1e-5
    assert lowest >= 1 - 1e-5


@pytest.mark.parametrize("engine", [FAST_CPU, TORCH_BFLOAT16_CPU], ids=lambda engine: engine.name)
@pytest.mark.parametrize("system", LEARNED)
def test_bfloat16_stays_within_the_contract(system: System, engine: Engine) -> None:
    difference, lowest = moved(system, engine)
    assert difference <= SAME_ANSWER
    assert lowest >= LEAST_CC
    ours, reference = answers(system, engine), answers(system, REFERENCE_CPU)
    if ours.probabilities_BK is not None and reference.probabilities_BK is not None:
        two_best = np.sort(reference.probabilities_BK, axis=1)[:, -2:]
        assert np.ptp(reference.probabilities_BK, axis=0).max() > 0.1, "answers that are alike would show nothing"
        tied = np.diff(two_best, axis=1)[:, 0] <= SAME_ANSWER
        best = ours.probabilities_BK.argmax(axis=1) == reference.probabilities_BK.argmax(axis=1)
        assert (best | tied).all()


@pytest.mark.parametrize("system", SYSTEMS)
def test_rewrites_are_exact(system: System) -> None:
    network = bundle_of(system).network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    fewer = rewritten(network)
    image_B1HW = to_network(images(), network.config.input_size)
    with torch.no_grad():
        expected, found = network(image_B1HW, gaze(network)), fewer(image_B1HW, gaze(network))
    for one, other in zip(expected, found, strict=True):
        if one is not None:
            torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items()), "it was a copy"
    norms = [sum(isinstance(module, nn.BatchNorm2d) for module in one.modules()) for one in (network, fewer)]
    if system in ("gazenet", "mt-unet", "res-se-unet", "unet-s"):
        assert norms[1] <= norms[0] * 0.6
