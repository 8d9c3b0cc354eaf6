"""Losses against plain loops and NumPy."""

from __future__ import annotations

from itertools import product
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from cxrgaze_ray.models.losses import classification_loss, saliency_loss, triplet_bytes, triplet_loss, triplet_weight
from cxrgaze_ray.models.settings import TripletMining

MININGS: tuple[TripletMining, ...] = get_args(TripletMining)
LABELS = [
    [0, 0, 1, 1, 2, 2],
    [0, 0, 0, 1],
    [2, 1, 0, 0, 1, 2, 2, 0],
    [1, 0, 2, 2],
    [0, 1, 1, 1, 1, 1, 1],
]
"""Some classes have a single member."""
NO_TRIPLET = [[0, 1, 2], [1, 1, 1], [0], [0, 1]]


def maps(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 5, 3, 2, generator=torch.Generator().manual_seed(seed))


def triplets(labels: list[int]) -> list[tuple[int, int, int]]:
    return [
        (a, p, n)
        for a, p, n in product(range(len(labels)), repeat=3)
        if a != p and labels[a] == labels[p] and labels[a] != labels[n]
    ]


def hinges(features: np.ndarray, labels: list[int], margin: float) -> list[float]:
    """Return the hinge of every valid triplet of vectors."""
    return [
        max(0.0, float(np.linalg.norm(features[a] - features[p]) - np.linalg.norm(features[a] - features[n]) + margin))
        for a, p, n in triplets(labels)
    ]


@pytest.mark.parametrize("labels", LABELS, ids=str)
@pytest.mark.parametrize("margin", [1.0, 0.2])
def test_batch_all_is_the_mean_over_valid_triplets_of_pooled_maps(labels: list[int], margin: float) -> None:
    features = maps(len(labels))
    expected = np.mean(hinges(features.double().mean(dim=(2, 3)).numpy(), labels, margin))
    assert expected > 0
    assert triplet_loss(features, torch.tensor(labels), margin=margin).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("labels", LABELS, ids=str)
def test_batch_hard_takes_the_farthest_positive_and_the_nearest_negative(labels: list[int]) -> None:
    features = maps(len(labels), seed=1)
    vectors = features.double().mean(dim=(2, 3)).numpy()
    distance = np.linalg.norm(vectors[:, None] - vectors[None], axis=-1)
    losses = []
    for anchor, label in enumerate(labels):
        positives = [i for i, other in enumerate(labels) if other == label and i != anchor]
        negatives = [i for i, other in enumerate(labels) if other != label]
        if positives and negatives:
            losses.append(max(0.0, distance[anchor, positives].max() - distance[anchor, negatives].min() + 1))
    found = triplet_loss(features, torch.tensor(labels), mining="batch_hard")
    assert found.item() == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.parametrize("labels", LABELS, ids=str)
def test_rowwise_sum_is_the_released_triple_loop(labels: list[int]) -> None:
    features = maps(len(labels), seed=2)
    loop = torch.nn.TripletMarginLoss(margin=1.0, eps=0.0)
    expected = sum(loop(features[a], features[p], features[n]).item() for a, p, n in triplets(labels))
    found = triplet_loss(features, torch.tensor(labels), mining="rowwise_sum")
    assert found.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("labels", [*LABELS, *NO_TRIPLET], ids=str)
def test_a_batch_weighs_by_what_it_was_mined_from(labels: list[int]) -> None:
    found = {mining: triplet_weight(torch.tensor(labels), mining) for mining in MININGS}
    mined = triplets(labels)
    anchors = len({anchor for anchor, _, _ in mined})
    assert found == {"batch_all": len(mined), "batch_hard": anchors, "rowwise_sum": int(bool(mined))}


@pytest.mark.parametrize(
    ("mining", "rows", "shape"),
    [
        ("batch_all", 96, (16,)),
        ("batch_all", 48, (512,)),
        ("batch_all", 96, (16, 3, 2)),
        ("batch_hard", 64, (128,)),
        ("rowwise_sum", 16, (64, 10, 8)),
        ("rowwise_sum", 24, (32, 5, 4)),
    ],
)
def test_the_bytes_of_a_batch_are_those_that_are_taken(
    mining: TripletMining, rows: int, shape: tuple[int, ...]
) -> None:
    features = torch.randn(rows, *shape, generator=torch.Generator().manual_seed(4), requires_grad=True)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        triplet_loss(features, torch.arange(rows) % 3, mining=mining).backward()  # type: ignore[no-untyped-call]
    assert profiled.profiler is not None
    taken = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    most = int(np.cumsum([event.nbytes() for event in sorted(taken, key=lambda event: event.start_ns())]).max())
    between = 1.4 if mining == "rowwise_sum" else 1.0
    assert triplet_bytes(rows, shape, mining) / between == pytest.approx(most, rel=0.15)


@pytest.mark.parametrize("mining", ["batch_all", "batch_hard"])
def test_maps_are_pooled_first(mining: TripletMining) -> None:
    features, labels = maps(6), torch.tensor([0, 0, 1, 1, 2, 2])
    pooled = triplet_loss(features.mean(dim=(2, 3)), labels, mining=mining)
    torch.testing.assert_close(triplet_loss(features, labels, mining=mining), pooled)


@pytest.mark.parametrize("mining", MININGS)
@pytest.mark.parametrize("labels", NO_TRIPLET, ids=str)
def test_a_batch_without_a_valid_triplet_contributes_nothing(mining: TripletMining, labels: list[int]) -> None:
    features = maps(len(labels)).requires_grad_()
    loss = triplet_loss(features, torch.tensor(labels), mining=mining)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert features.grad is not None
    assert not features.grad.any()


@pytest.mark.parametrize("mining", MININGS)
def test_gradients_are_finite_where_images_are_equal(mining: TripletMining) -> None:
    features = torch.ones(5, 3, 2, 2, requires_grad=True)
    loss = triplet_loss(features, torch.tensor([0, 0, 1, 1, 2]), mining=mining)
    loss.backward()  # type: ignore[no-untyped-call]
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()
    assert loss.item() > 0


@pytest.mark.parametrize("mining", MININGS)
def test_descending_pulls_a_class_together(mining: TripletMining) -> None:
    features = maps(6, seed=3).requires_grad_()
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    losses = []
    for _ in range(30):
        loss = triplet_loss(features, labels, mining=mining)
        (gradient,) = torch.autograd.grad(loss, features)
        assert torch.isfinite(gradient).all()
        features = (features - 0.3 * gradient).detach().requires_grad_()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("mining", MININGS)
def test_well_separated_classes_cost_nothing(mining: TripletMining) -> None:
    labels = torch.tensor([0, 0, 1, 1])
    features = (100.0 * labels)[:, None, None, None] + torch.zeros(4, 2, 2, 2)
    assert triplet_loss(features, labels, mining=mining).item() == 0


@pytest.mark.parametrize("mining", MININGS)
def test_half_precision_features_give_a_float32_loss(mining: TripletMining) -> None:
    loss = triplet_loss(maps(4).bfloat16(), torch.tensor([0, 0, 1, 1]), mining=mining)
    assert loss.dtype == torch.float32


def log_saliency(count: int = 3) -> Tensor:
    scores = torch.randn(count, 1, 4, 6, generator=torch.Generator().manual_seed(4))
    return scores.flatten(1).log_softmax(1).view_as(scores)


def test_saliency_loss_is_the_divergence_of_numpy() -> None:
    log_p = log_saliency()
    gaze = (
        torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(5)) * torch.tensor([1.0, 9.0, 0.01])[:, None, None]
    )
    gaze[0, :2] = 0
    divergences = []
    for one, log_one in zip(gaze.double().numpy(), log_p.double().numpy(), strict=True):
        q, log_q_less_p = one / one.sum(), 0.0
        for (y, x), weight in np.ndenumerate(q):
            log_q_less_p += weight * (np.log(weight) - log_one[0, y, x]) if weight else 0.0
        divergences.append(log_q_less_p)
    assert saliency_loss(log_p, gaze).item() == pytest.approx(np.mean(divergences), rel=1e-5)


def test_saliency_loss_of_the_gaze_itself_is_zero() -> None:
    log_p = log_saliency()
    assert saliency_loss(log_p, 7 * log_p.exp()[:, 0]).item() == pytest.approx(0, abs=1e-6)


def test_a_gaze_map_without_mass_takes_no_part_in_the_loss() -> None:
    log_p, gaze = log_saliency(), torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(6))
    gaze[1] = 0
    expected = saliency_loss(log_p[[0, 2]], gaze[[0, 2]])
    log_p.requires_grad_()
    loss = saliency_loss(log_p, gaze)
    torch.testing.assert_close(loss, expected)
    loss.backward()  # type: ignore[no-untyped-call]
    assert log_p.grad is not None
    assert torch.isfinite(log_p.grad).all()
    assert not log_p.grad[1].any()


def test_a_batch_without_gaze_is_not_perfect_but_unknown() -> None:
    assert saliency_loss(log_saliency(), torch.zeros(3, 4, 6)).isnan()


def test_saliency_gradients_are_finite_where_nobody_looked() -> None:
    scores = torch.zeros(1, 24, requires_grad=True)
    gaze = torch.zeros(1, 4, 6)
    gaze[0, 2, 3] = 5
    saliency_loss(scores.log_softmax(1).view(1, 1, 4, 6), gaze).backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    assert scores.grad[0, 2 * 6 + 3] < 0
    assert (scores.grad[0].sort().values[1:] > 0).all()


def test_classification_loss_is_the_mean_negative_log_probability() -> None:
    logits, labels = np.array([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]]), np.array([0, 1])
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = -np.log(p[[0, 1], labels]).mean()
    found = classification_loss(torch.tensor(logits, dtype=torch.float32), torch.tensor(labels))
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_classification_loss_of_half_precision_logits_is_float32() -> None:
    loss = classification_loss(torch.tensor([[30.0, 0.0, 0.0]]).bfloat16(), torch.tensor([1]))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(30)
