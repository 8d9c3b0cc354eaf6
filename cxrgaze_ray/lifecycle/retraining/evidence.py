"""The gate's facts besides predictions: golden outputs, latency and size of the bundles."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median

import numpy as np

from cxrgaze_ray.evaluation.gate import ModelFacts
from cxrgaze_ray.models.bundle import Bundle, golden_image
from cxrgaze_ray.models.predictor import Predictor

GOLDEN_TOLERANCE = 1e-3
"""Largest tolerated difference of a golden answer: float32 rounds differently on other processors, but by no more."""

_ROUNDS = 5


def golden_difference(bundle: Bundle) -> float | None:
    """Return the largest difference of a bundle's answers now from its recorded golden ones; None if none are."""
    predictor = Predictor.from_bundle(bundle)
    return max((golden.difference(predictor.golden(golden.seed)) for golden in bundle.info.golden), default=None)


def latency_ratio(champion: Bundle, candidate: Bundle, rounds: int = _ROUNDS) -> float:
    """Return the candidate's time for a network batch over the champion's, run in turn: the median of rounds."""
    predictors = [Predictor.from_bundle(bundle) for bundle in (champion, candidate)]
    for predictor in predictors:
        _seconds(predictor)
    return median(
        later / before for before, later in ([_seconds(predictor) for predictor in predictors] for _ in range(rounds))
    )


def _seconds(predictor: Predictor) -> float:
    images = np.stack([golden_image(seed) for seed in range(2)]).repeat(max(1, predictor.batch // 2), axis=0)
    start = time.perf_counter()
    predictor.predict(images)
    return time.perf_counter() - start


def size_mib(bundle: Bundle) -> float:
    """Return the size of a bundle's weights in MiB."""
    return sum(tensor.numel() * tensor.element_size() for tensor in bundle.state.values()) / 2**20


def gather_facts(champion: Bundle, published: Bundle, looks: Sequence[int]) -> ModelFacts:
    """Return what the gate must know about the published bundle.

    Parameters
    ----------
    champion
        Bundle in service.
    published
        The candidate as it was read back from the registry.
    looks
        Number of looks used, and allowed.
    """
    gap = golden_difference(published)
    return ModelFacts(
        golden_reproduced=gap is not None and gap <= GOLDEN_TOLERANCE,
        golden_difference=float("inf") if gap is None else gap,
        latency_ratio=round(latency_ratio(champion, published), 3),
        size_mib=round(size_mib(published), 2),
        looks_used=looks[0],
        looks_of=looks[1],
    )
