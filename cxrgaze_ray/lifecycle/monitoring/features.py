"""Turn columns of two sides into comparisons: which features there are, and how each is compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cxrgaze_ray.lifecycle.drift import Difference, Drop, Patients, Shift, category_shift, number_shift, rate_difference
from cxrgaze_ray.lifecycle.monitoring.feature_columns import (
    CATEGORIES,
    INTENSITIES,
    MAP_STATISTICS,
    PROBABILITIES,
    SIZES,
    FeatureTable,
    SideFeatures,
)
from cxrgaze_ray.lifecycle.monitoring.report import Bin, Family, Finding
from cxrgaze_ray.lifecycle.monitoring.settings import MonitorSettings
from cxrgaze_ray.models.settings import Answer
from cxrgaze_ray.schemas import Reason

BEST_PROBABILITY = "p_highest"
"""Probability of the predicted class."""

RATES = (
    "status=failed", "status=skipped", *(f"reason_code={reason}" for reason in Reason),
    "photometric_check=disagrees", "view_source=unknown",
)  # fmt: skip
"""Rates of column=value: the last two among scored rows, all others among all rows."""

_OF_SCORED = ("photometric_check", "view_source")

FEATURES: dict[Family, tuple[str, ...]] = {
    "acquisition": (*CATEGORIES, *SIZES),
    "intensity": INTENSITIES,
    "scores": (*PROBABILITIES, BEST_PROBABILITY),
    "predictions": ("prediction",),
    "saliency": MAP_STATISTICS,
    "outcomes": RATES,
    "performance": ("auc_macro", "ece", "cc", "kl", "hs"),
}
"""Every feature that a report can name: a closed list, so its names can be labels of metrics."""

OF_THE_MODEL: dict[Family, Answer] = {"scores": "classes", "predictions": "classes", "saliency": "saliency"}
"""Families that other weights change by themselves, and what a model must predict to have them."""


@dataclass(frozen=True)
class Comparison:
    """A feature compared on both sides, before the number of other comparisons is known.

    Attributes
    ----------
    patients
        Number of patients on the smaller side.
    least
        Least patients for a finding.
    """

    family: Family
    feature: str
    change: Shift | Difference | Drop
    threshold: float
    patients: int
    least: int
    detail: str
    subgroup: str | None = None

    @property
    def enough(self) -> bool:
        """Whether there are enough patients for a finding."""
        return self.patients >= self.least

    def judge(self, alpha: float) -> Finding:
        """Return the finding, with a noise bound that chance exceeds with probability `alpha`."""
        noise = self.change.noise(alpha) if self.enough else None
        size = abs(self.change.effect) if isinstance(self.change, Difference) else self.change.effect
        beyond = noise is not None and size >= self.threshold and size > noise
        few = f" Only {self.patients} patients on the smaller side; {self.least} are needed."
        return Finding(
            family=self.family,
            feature=self.feature,
            measure="psi" if isinstance(self.change, Shift) else "difference",
            effect=self.change.effect,
            threshold=self.threshold,
            noise=noise,
            status="alert" if beyond else "ok" if self.enough else "too_few",
            subgroup=self.subgroup,
            detail=self.detail + ("" if self.enough else few),
            baseline=None if isinstance(self.change, Shift) else self.change.baseline,
            current=None if isinstance(self.change, Shift) else self.change.current,
            bins=_bins(self.change),
        )


def _bins(change: Shift | Difference | Drop) -> tuple[Bin, ...]:
    if not isinstance(change, Shift):
        return ()
    return tuple(Bin(name=name, baseline=p, current=change.current[name]) for name, p in change.baseline.items())


def absent(family: Family, feature: str, threshold: float, why: str) -> Finding:
    """Return the finding for a feature that can't be compared."""
    psi = family not in ("outcomes", "performance")
    return Finding(
        family=family,
        feature=feature,
        measure="psi" if psi else "difference",
        effect=None,
        threshold=threshold,
        noise=None,
        status="absent",
        detail=why,
    )


def compare_features(baseline: SideFeatures, current: SideFeatures, settings: MonitorSettings) -> Iterator[Comparison]:
    """Yield the comparisons that need no labels, family by family."""
    pair = _Pair(baseline.scored, current.scored, settings)
    for name in CATEGORIES:
        yield pair.categories("acquisition", name)
    for family, names in (("acquisition", SIZES), ("intensity", INTENSITIES), ("scores", PROBABILITIES)):
        for name in names:
            yield pair.numbers(family, name)  # type: ignore[arg-type]
    yield pair.numbers("scores", BEST_PROBABILITY)
    yield pair.categories("predictions", "prediction")
    maps = _Pair(baseline.maps, current.maps, settings)
    for name in MAP_STATISTICS:
        yield maps.numbers("saliency", name)
    every = _Pair(baseline.everything, current.everything, settings)
    for rate in RATES:
        comparison = (pair if rate.startswith(_OF_SCORED) else every).rate(rate)
        if comparison is not None:
            yield comparison


class _Pair:
    """The same rows of both sides."""

    def __init__(self, baseline: FeatureTable, current: FeatureTable, settings: MonitorSettings) -> None:
        self._sides, self._settings = (baseline, current), settings
        self._patients = Patients(baseline.effective, current.effective)

    def categories(self, family: Family, name: str) -> Comparison:
        baseline, current = (_counts(rows.table[name]) for rows in self._sides)
        return self._comparison(family, name, category_shift(baseline, current, self._patients))

    def numbers(self, family: Family, name: str) -> Comparison:
        baseline, current = (_numbers(rows.table, name) for rows in self._sides)
        return self._comparison(family, name, number_shift(baseline, current, self._patients, self._settings.bins))

    def rate(self, rate: str) -> Comparison | None:
        """Compare the share of rows with column=value; None if neither side has any."""
        column, _, value = rate.partition("=")
        if not any(_counts(rows.table[column]).get(value) for rows in self._sides):
            return None
        baseline, current = ((_having(rows, column, value), rows.images_P) for rows in self._sides)
        return self._comparison("outcomes", rate, rate_difference(baseline, current))

    def _comparison(self, family: Family, name: str, change: Shift | Difference) -> Comparison:
        return Comparison(
            family=family,
            feature=name,
            change=change,
            threshold=float(getattr(self._settings.thresholds, family)),
            patients=min(rows.patients for rows in self._sides),
            least=self._settings.least_patients,
            detail=_largest(change)
            if isinstance(change, Shift)
            else f"{change.baseline:.1%} and now {change.current:.1%}.",
        )


def _largest(change: Shift) -> str:
    """Say which bin's share moved most."""
    if not change.baseline:
        return "Nothing to compare."
    name = max(change.baseline, key=lambda bin_name: abs(change.current[bin_name] - change.baseline[bin_name]))
    return f"Most in {name}: {change.baseline[name]:.1%} and now {change.current[name]:.1%}."


def _counts(column: pa.ChunkedArray) -> dict[str | None, int]:
    entries = column.cast(pa.string()).value_counts().to_pylist()
    return {entry["values"]: entry["counts"] for entry in entries}


def _having(rows: FeatureTable, column: str, value: str) -> NDArray[np.int64]:
    """Return how many rows of each patient have column=value."""
    having_N = pc.fill_null(pc.equal(rows.table[column].cast(pa.string()), value), False).to_numpy()
    return np.bincount(rows.group_N[having_N], minlength=rows.patients)


def _numbers(table: pa.Table, name: str) -> NDArray[np.float64]:
    """Return a column of numbers, NaN where it is null."""
    if name == BEST_PROBABILITY:
        return np.max([_numbers(table, column) for column in PROBABILITIES], axis=0)  # type: ignore[no-any-return]
    values: NDArray[np.float64] = pc.fill_null(table[name].cast(pa.float64()), np.nan).to_numpy()
    return values
