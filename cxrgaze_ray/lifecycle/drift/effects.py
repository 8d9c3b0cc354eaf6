"""Effects, the noise bounds they must exceed, and the number of patients that a sample stands for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri, ndtri
from scipy.stats import hypergeom

Shares = dict[str, float]


@dataclass(frozen=True)
class Patients:
    """The number of patients that each side stands for: see `effective_patients`."""

    baseline: float
    current: float

    @property
    def smaller(self) -> float:
        """Number of patients that the smaller side stands for."""
        return min(self.baseline, self.current)


@dataclass(frozen=True)
class Shift:
    """The distance between two distributions.

    Attributes
    ----------
    effect
        Population stability index: sum of (q - p) ln(q / p) over bins, p and q the shares of baseline and current. By
        custom in credit scoring, 0.1 is small and 0.25 is large.
    baseline, current
        Share of each bin before smoothing, by name, in the bins' order.
    patients
        What the noise bound goes by.
    """

    effect: float
    baseline: Shares
    current: Shares
    patients: Patients

    def noise(self, alpha: float) -> float:
        """Return the effect that two samples of one population exceed with probability `alpha`.

        Without drift the index is about (1/n + 1/m) times a chi-squared variable with one degree of freedom less than
        there are bins, n and m patients on the two sides.
        """
        if len(self.baseline) < 2:
            return 0.0
        scale = 1 / self.patients.baseline + 1 / self.patients.current
        return float(scale * chdtri(len(self.baseline) - 1, alpha))


@dataclass(frozen=True)
class Difference:
    """The difference of two rates.

    Attributes
    ----------
    baseline, current
        Rate on either side, in [0,1].
    patients
        What the noise bound goes by.
    """

    baseline: float
    current: float
    patients: Patients

    @property
    def effect(self) -> float:
        """Current rate minus the baseline's, in [-1,1]."""
        return self.current - self.baseline

    def noise(self, alpha: float) -> float:
        """Return the absolute difference that two samples of one population exceed with probability `alpha`.

        Given how many patients have the property on both sides together, chance deals them out by the hypergeometric
        distribution (Fisher's exact test), which also holds for rates near 0 and for sides of unequal size. Numbers of
        patients are not whole here, so the bound lies half a patient further out.
        """
        n, m = max(1, int(self.patients.baseline)), max(1, int(self.patients.current))
        having = min(n + m, round(self.baseline * n + self.current * m))
        tail, beyond = (hypergeom.isf, 0.5) if self.effect >= 0 else (hypergeom.ppf, -0.5)
        dealt = float(tail(alpha / 2, n + m, having, m)) + beyond
        return abs(dealt / m - (having - dealt) / n)


@dataclass(frozen=True)
class Drop:
    """The amount by which a figure of quality got worse.

    Attributes
    ----------
    baseline, current
        Value of the figure on either side.
    sign
        1 if lower is worse, -1 if higher is.
    error
        Standard error of the effect, by bootstrap over patients.
    """

    baseline: float
    current: float
    sign: int
    error: float

    @property
    def effect(self) -> float:
        """Amount by which the current figure is worse: positive is worse, whichever way the figure goes."""
        return self.sign * (self.baseline - self.current)

    def noise(self, alpha: float) -> float:
        """Return the effect that must be exceeded for its one-sided interval of level 1 - `alpha` to exclude zero."""
        return float(-ndtri(alpha)) * self.error


def effective_patients(images_P: NDArray[np.integer]) -> float:
    """Return how many patients with one image each carry as much information as these P (Kish's sample size).

    (sum n)^2 / sum n^2 over patients with n images: the number of patients if all have equally many, and less if a few
    have most, because the images of one patient are taken to be all alike.
    """
    images = images_P.astype(np.float64)
    return float(images.sum() ** 2 / np.square(images).sum()) if images.any() else 0.0


def rate_difference(
    baseline: tuple[NDArray[np.integer], NDArray[np.integer]], current: tuple[NDArray[np.integer], NDArray[np.integer]]
) -> Difference:
    """Compare rates of images, given how many of each patient's images have the property, and how many there are.

    A patient all of whose images failed is one piece of bad luck, not forty: if the images with the property come from
    a few patients, the sides count as still fewer patients, in the ratio of the rate's variance by patients to its
    variance by images.
    """
    sides = [(having.astype(np.float64), images.astype(np.float64)) for having, images in (baseline, current)]
    rates = [float(having.sum() / max(1.0, images.sum())) for having, images in sides]
    by_patients = sum(
        float(np.square(having - rate * images).sum()) for (having, images), rate in zip(sides, rates, strict=True)
    )
    by_images = sum(float(images.sum()) * rate * (1 - rate) for (_, images), rate in zip(sides, rates, strict=True))
    alike = max(1.0, by_patients / by_images) if by_images else 1.0
    sizes = [min(effective_patients(images), images.sum() / alike) for _, images in (baseline, current)]
    return Difference(rates[0], rates[1], Patients(float(sizes[0]), float(sizes[1])))
