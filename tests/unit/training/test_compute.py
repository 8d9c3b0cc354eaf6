"""Precision, and torch.compile where it works and where it does not."""

from __future__ import annotations

from functools import partialmethod
from typing import Any

import pytest
import torch
from torch import nn

from cxrgaze_ray.training.compute import Compute
from cxrgaze_ray.training.settings import TrainSettings
from tests.unit.training.test_training import settings, train

CPU = torch.device("cpu")


def compute(**values: Any) -> Compute:
    return Compute(CPU, TrainSettings.build(**values))


def test_a_cpu_trains_in_float32_unless_asked_otherwise() -> None:
    linear, one = nn.Linear(2, 2), torch.ones(1, 2)
    for precision, expected in (("auto", torch.float32), ("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        asked = compute(precision=precision)
        with asked.autocast():
            assert linear(one).dtype == expected
        assert not asked.scaler().is_enabled()
    assert compute(precision="float16").scaler().is_enabled()


@pytest.mark.long
def test_half_precision_moves_losses_a_little() -> None:
    plain = settings("encoder", epochs=1)
    half = plain.model_copy(update={"precision": "bfloat16"})
    (exact,), (rounded,) = train(plain)[1], train(half)[1]
    for name in ("train_loss", "validation_loss"):
        assert rounded[name] != exact[name]
        assert rounded[name] == pytest.approx(exact[name], rel=0.05)


@pytest.mark.long
def test_a_module_that_cannot_be_compiled_is_computed_as_it_is_and_that_is_said_once() -> None:
    def broken(_graph: object, _inputs: object) -> Any:
        raise RuntimeError("There is no compiler.")

    told: list[str] = []
    plain = settings("encoder", "saliency")
    _, expected = train(plain)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend=broken))
        _, history = train(plain.model_copy(update={"compile": True}), tell=told.append)
    assert told == ["torch.compile does not work here (BackendCompilerFailed): going on without it."]
    for name in ("train_loss", "validation_loss"):
        assert [e[name] for e in history] == [e[name] for e in expected], "what was tried leaves no trace"


@pytest.mark.long
def test_a_compiled_phase_has_the_losses_of_one_that_is_not() -> None:
    """Through Dynamo's graphs, by the backend that needs no compiler; Inductor's are held to it on a GPU."""
    plain = settings("classifier", epochs=2)
    compiled = plain.model_copy(update={"compile": True})
    told: list[str] = []
    _, expected = train(plain)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="eager"))
        _, history = train(compiled, tell=told.append)
    assert told == []
    for name in ("train_loss", "validation_loss"):
        assert [e[name] for e in history] == pytest.approx([e[name] for e in expected], rel=1e-5)
