"""Patient-clustered bootstrap: how far a difference of two models could be chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrgaze_ray.evaluation.statistics import Statistic, Values, Weights

_CELLS = 1 << 19
"""Weights at a time: 2 MiB, which stay in a core's cache."""

UNDEFINED_SHARE = 0.1
"""Share of draws that may leave a statistic undefined before its bounds mean nothing."""


@dataclass(frozen=True)
class Draws:
    """R draws of P patients with replacement, and whose each of N images is.

    Attributes
    ----------
    times_PR
        float32: how often a draw holds a patient. All images of a patient come along as often, for either model and
        for every criterion: that keeps the two models paired, and the images of a patient together.
    patient_N
        int64, row of `times_PR` an image.
    """

    times_PR: NDArray[np.float32]
    patient_N: NDArray[np.int64]

    def take(self, mask_N: NDArray[np.bool_]) -> Draws:
        """Return the same draws for some of the images."""
        return Draws(self.times_PR, self.patient_N[mask_N])

    @property
    def patients(self) -> int:
        """How many patients the images are of."""
        return len(np.unique(self.patient_N))

    def apply(self, statistic: Statistic) -> Values:
        """Return a statistic of the images under each draw, (R,)."""
        rounds, step = self.times_PR.shape[1], max(16, _CELLS // max(1, len(self.patient_N)))
        values = [statistic(self._weights(slice(start, start + step))) for start in range(0, rounds, step)]
        return np.concatenate(values)

    def _weights(self, draws: slice) -> Weights:
        weights_NR: Weights = self.times_PR[:, draws][self.patient_N]
        return weights_NR


def draw_patients(patients: Sequence[str], rounds: int, seed: int) -> Draws:
    """Draw patients `rounds` times; the same patients and seed give the same draws."""
    names, patient_N = np.unique(np.array(patients, dtype=str), return_inverse=True)
    rng, count = np.random.default_rng(seed), len(names)
    times_RP = np.zeros((rounds, count), np.float32)
    for times_P in times_RP if count else ():
        times_P[:] = np.bincount(rng.integers(0, count, count), minlength=count)
    return Draws(np.ascontiguousarray(times_RP.T), patient_N.astype(np.int64))


def bounds(draws_R: Values, alpha: float) -> tuple[float, float] | None:
    """Return one-sided bounds of a difference, each with confidence 1 - alpha; None if too many draws are undefined.

    They are plain quantiles of the draws. Differences of AUC, accuracy and CC have no bias to speak of, and in
    simulations neither the basic nor the bias-corrected interval was closer to its confidence. Calibration error, which
    is biased, is freed of it draw by draw: see `statistics.without_chance`.
    """
    defined_R = draws_R[np.isfinite(draws_R)]
    if len(defined_R) < (1 - UNDEFINED_SHARE) * len(draws_R):
        return None
    low, high = np.quantile(defined_R, [alpha, 1 - alpha])
    return float(low), float(high)
