"""The engine for GPUs, as far as a CPU can tell: its arithmetic, its capture's buffers, its way out of full memory."""

from __future__ import annotations

import logging
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cxrgaze_ray.models import predictor as predictors
from cxrgaze_ray.models.engines.engine import REFERENCE_CPU, Engine
from cxrgaze_ray.models.engines.folded import FoldedForward, Layers
from cxrgaze_ray.models.engines.forward import Forward, TorchForward
from cxrgaze_ray.models.network import Network, NetworkOutput
from cxrgaze_ray.models.predictor import Predictor
from cxrgaze_ray.models.settings import System
from tests.unit.models.engines.test_sameness import bundle_of, images

EXACT = Engine("folded", "float32", "cpu")
HALF = Engine("folded", "bfloat16", "cpu")


class Captured:
    """Stands for a CUDA graph: it runs on buffers of its own, and gives the same tensors every time."""

    def __init__(self) -> None:
        self.launches = 0

    def __call__(self, layers: Layers, held: tuple[Tensor, ...]) -> Layers:
        answers = tuple(answer.clone() for answer in layers(*held))

        def replayed(*inputs: Tensor) -> tuple[Tensor, ...]:
            self.launches += 1
            for buffer, values in zip(held, inputs, strict=True):
                assert buffer.shape == values.shape, "a graph has one size"
                buffer.copy_(values)
            for kept, fresh in zip(answers, layers(*held), strict=True):
                kept.copy_(fresh)
            return answers

        return replayed


def with_folded(monkeypatch: pytest.MonkeyPatch, capture: Captured) -> None:
    def forward(network: Network, engine: Engine, batch: int, _weights: str) -> Forward:
        return FoldedForward(network, engine, batch, capture)

    monkeypatch.setattr(predictors, "_forward", forward)


@pytest.mark.long
@pytest.mark.parametrize("system", ["gazenet", "mt-unet", "res-se-unet", "dnet201"])
def test_it_answers_as_the_reference_does(monkeypatch: pytest.MonkeyPatch, system: System) -> None:
    reference = Predictor.from_bundle(bundle_of(system), REFERENCE_CPU).predict(images())
    capture = Captured()
    with_folded(monkeypatch, capture)
    folded = Predictor.from_bundle(bundle_of(system), EXACT).predict(images())
    assert capture.launches == 2, "five images are two batches of four"
    for ours, expected in ((folded.logits_BK, reference.logits_BK), (folded.saliency_BHW, reference.saliency_BHW)):
        assert (ours is None) == (expected is None)
        if ours is not None and expected is not None:
            np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def test_convolutions_alone_are_halved() -> None:
    network = bundle_of("gazenet").network()
    folded = FoldedForward(network, HALF, 1, lambda layers, _: layers)
    types = {type(module): module.weight.dtype for module in folded._fewer.modules() if hasattr(module, "weight")}
    assert types[nn.Conv2d] == torch.bfloat16
    assert types[nn.Linear] == types[nn.BatchNorm2d] == torch.float32
    assert {tensor.dtype for tensor in network.parameters()} == {torch.float32}, "Grad-CAM reads the network as it was"
    output = folded(torch.rand(1, 1, *network.config.input_size), None)
    assert output.logits_BK is not None
    assert output.log_saliency_B1HW is not None
    assert output.logits_BK.dtype == output.log_saliency_B1HW.dtype == torch.float32
    assert float(output.log_saliency_B1HW.exp().sum()) == pytest.approx(1, abs=1e-5)


class Small(TorchForward):
    """A device with room for so many images at a time."""

    room = 2
    fails_at = 0
    calls = 0

    def __call__(self, image_B1HW: Tensor, gaze_BHW: Tensor | None) -> NetworkOutput:
        type(self).calls += 1
        if len(image_B1HW) > self.room or type(self).calls == self.fails_at:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().__call__(image_B1HW, gaze_BHW)


def with_room(monkeypatch: pytest.MonkeyPatch, **limits: Any) -> None:
    kind = type("Limited", (Small,), {"calls": 0, **limits})
    monkeypatch.setattr(predictors, "_forward", lambda network, engine, *_: kind(network, engine))


@pytest.mark.long
def test_full_memory_halves_the_batch_and_loses_no_image(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reference = Predictor.from_bundle(bundle_of("gazenet"), REFERENCE_CPU).predict(images())
    with_room(monkeypatch, room=1)
    predictor = Predictor.from_bundle(bundle_of("gazenet"), REFERENCE_CPU)
    with caplog.at_level(logging.WARNING):
        found = predictor.predict(images())
    assert predictor.batch == 1
    assert [message.partition(": ")[0] for message in caplog.messages] == ["The device is out of memory"] * 2
    assert found.logits_BK is not None
    assert reference.logits_BK is not None
    np.testing.assert_allclose(found.logits_BK, reference.logits_BK, atol=1e-5)
    caplog.clear()
    predictor.predict(images())
    assert caplog.messages == [], "it stays at what there was memory for"


@pytest.mark.long
def test_memory_that_fills_up_in_the_middle_is_met_in_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = Predictor.from_bundle(bundle_of("gazenet"), REFERENCE_CPU).predict(images())
    with_room(monkeypatch, room=4, fails_at=2)
    found = Predictor.from_bundle(bundle_of("gazenet"), REFERENCE_CPU).predict(images())
    assert found.logits_BK is not None
    assert reference.logits_BK is not None
    np.testing.assert_allclose(found.logits_BK, reference.logits_BK, atol=1e-5)


def test_a_device_without_room_for_one_image_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with_room(monkeypatch, room=0)
    with pytest.raises(torch.OutOfMemoryError):
        Predictor.from_bundle(bundle_of("gazenet"), REFERENCE_CPU).predict(images())


def test_the_old_way_and_the_error_are_gone_before_a_smaller_one_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph's buffers, and the layers' tensors that an error's frames hold, would leave no room for it."""
    held: list[weakref.ref[Any]] = []
    left: list[bool] = []

    class Full(Small):
        def __init__(self, network: Network, engine: Engine) -> None:
            left.append(any(one() is not None for one in held))
            super().__init__(network, engine)
            held.append(weakref.ref(self))

        def __call__(self, image_B1HW: Tensor, gaze_BHW: Tensor | None) -> NetworkOutput:
            layer = torch.ones(1)
            held.append(weakref.ref(layer))
            if len(image_B1HW) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().__call__(image_B1HW, gaze_BHW)

    monkeypatch.setattr(predictors, "_forward", lambda network, engine, *_: Full(network, engine))
    predictor = Predictor.from_bundle(bundle_of("gazenet"), REFERENCE_CPU)
    predictor.predict(images()[:1])
    assert predictor.batch == 1
    assert left == [False] * 3
