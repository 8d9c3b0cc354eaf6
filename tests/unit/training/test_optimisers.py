"""Learning rates, optimisers and the limit on gradients are PyTorch's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, ReduceLROnPlateau, SequentialLR

from cxrgaze_ray.errors import ConfigError
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.network import Network
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.training.checkpoint import load_optimiser_state, optimiser_state
from cxrgaze_ray.training.optimisers import learning_rate, make_optimiser, plateaus, shorten
from cxrgaze_ray.training.phase_settings import StageSettings
from tests.unit.training.test_training import settings, train

STEPS = 7
"""Steps of an epoch."""


def rates(**values: Any) -> list[float]:
    """Return the rate of every step of a phase."""
    chosen = StageSettings.build(**values)
    return [learning_rate(chosen, step / STEPS) for step in range(chosen.epochs * STEPS)]


def torch_rates(schedulers: Any, count: int) -> list[float]:
    optimiser = SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    scheduler, found = schedulers(optimiser), []
    for _ in range(count):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return found


def test_a_rate_is_constant_unless_asked_otherwise() -> None:
    assert set(rates(lr=0.1, epochs=3)) == {0.1}


def test_a_cosine_is_torch_s() -> None:
    expected = torch_rates(lambda optimiser: CosineAnnealingLR(optimiser, 4 * STEPS), 4 * STEPS)
    assert rates(lr=0.1, epochs=4, schedule="cosine") == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore:The epoch parameter")
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_a_warm_up_is_torch_s_and_the_cosine_comes_after_it(schedule: str) -> None:
    def schedulers(optimiser: SGD) -> SequentialLR:
        rise = LinearLR(optimiser, start_factor=0.01, total_iters=2 * STEPS)
        course = CosineAnnealingLR(optimiser, 3 * STEPS) if schedule == "cosine" else LinearLR(optimiser, 1.0)
        return SequentialLR(optimiser, [rise, course], [2 * STEPS])

    expected = torch_rates(schedulers, 5 * STEPS)
    assert rates(lr=0.1, epochs=5, schedule=schedule, warmup=2) == pytest.approx(expected)


@pytest.mark.parametrize("patience", [1, 2, 5])
@pytest.mark.parametrize("seed", range(4))
def test_a_plateau_is_torch_s(patience: int, seed: int) -> None:
    losses = torch.rand(60, generator=torch.Generator().manual_seed(seed)).tolist()
    optimiser = SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = ReduceLROnPlateau(optimiser, factor=0.1, patience=patience, eps=0.0)
    optimiser.step()
    chosen = StageSettings.build(lr=1.0, plateau=patience)
    for count, loss in enumerate(losses, 1):
        scheduler.step(loss)
        rate = optimiser.param_groups[0]["lr"]
        assert rate == pytest.approx(0.1 ** plateaus(losses[:count], patience), rel=1e-9)
        assert learning_rate(chosen, count, losses[:count]) == pytest.approx(rate, rel=1e-9)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"schedule": "cosine", "plateau": 3}, "schedule cosine and plateau both set the learning rate"),
        ({"warmup": 5, "epochs": 3}, "warmup lasts 5 epochs, and there are 3"),
        ({"schedule": "step"}, "It must be one of constant, cosine"),
        ({"clip": 0}, "clip: this is not allowed"),
        ({"betas": [0.9, 1.0]}, "betas"),
        ({"augment": {"degrees": 90}}, "augment.degrees: this is not allowed (90). It must be a number from 0 to 45"),
        ({"augment": {"turn": 9}}, "augment.turn: there is no such key"),
    ],
)
def test_settings_that_contradict_each_other_are_told(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        StageSettings.build(**values)
    assert message in str(error.value)


def test_an_optimiser_has_the_settings_of_its_phase() -> None:
    weights = [nn.Parameter(torch.zeros(2))]
    chosen = StageSettings.build(optimiser="adamw", weight_decay=0.02, betas=[0.8, 0.95], lr=0.5)
    made = make_optimiser(weights, chosen, torch.device("cpu"))
    assert type(made) is AdamW
    assert {name: made.defaults[name] for name in ("lr", "betas", "weight_decay")} == {
        "lr": 0.5,
        "betas": (0.8, 0.95),
        "weight_decay": 0.02,
    }
    assert type(make_optimiser(weights, StageSettings(), torch.device("cpu"))) is Adam


def test_gradients_are_shortened_to_the_norm_and_no_further() -> None:
    weights = nn.Parameter(torch.zeros(2))
    optimiser, scaler = Adam([weights]), torch.amp.GradScaler("cpu", enabled=False)
    for clip, expected in ((None, [3.0, 4.0]), (10.0, [3.0, 4.0]), (1.0, [0.6, 0.8])):
        weights.grad = torch.tensor([3.0, 4.0])
        shorten([weights], optimiser, scaler, clip)
        assert weights.grad.tolist() == pytest.approx(expected, rel=1e-5)


def test_scaled_gradients_are_shortened_at_their_own_length() -> None:
    weights = nn.Parameter(torch.zeros(2))
    optimiser, scaler = Adam([weights], lr=1.0), torch.amp.GradScaler("cpu", init_scale=1024.0)
    weights.grad = torch.tensor([3.0, 4.0]) * scaler.scale(torch.ones(()))
    shorten([weights], optimiser, scaler, 1.0)
    assert weights.grad.tolist() == pytest.approx([0.6, 0.8], rel=1e-5)
    scaler.step(optimiser)
    assert optimiser.state[weights]["exp_avg"].tolist() == pytest.approx([0.06, 0.08], rel=1e-5)


@pytest.mark.long
def test_what_is_learned_depends_on_each_of_the_settings() -> None:
    def losses(**values: Any) -> list[float]:
        return [epoch["train_loss"] for epoch in train(settings("encoder", epochs=1, lr=1e-3, **values))[1]]

    plain = losses()
    changes: list[dict[str, Any]] = [{"schedule": "cosine"}, {"warmup": 1}, {"clip": 0.01}, {"betas": [0.5, 0.9]}]
    for values in [*changes, {"augment": {}}]:
        assert losses(**values) != plain, values


def channels_last(network: Network) -> Network:
    placed: Network = network.to(memory_format=torch.channels_last)
    return placed


def test_an_optimiser_s_state_comes_back_in_the_layout_of_the_weights() -> None:
    """Fused Adam, with which a GPU steps, refuses moments that lie otherwise in memory than their weights."""
    weights = list(channels_last(build(PRESETS["tiny"], 0)).parameters())
    first, second = Adam(weights, fused=True), Adam(weights, fused=True)
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    first.step()
    flat = {name: tensor.contiguous() for name, tensor in optimiser_state(first).items()}
    load_optimiser_state(second, flat)
    for weight in weights:
        assert second.state[weight]["exp_avg"].stride() == weight.stride()
        assert torch.equal(second.state[weight]["exp_avg"], first.state[weight]["exp_avg"])
    second.step()
