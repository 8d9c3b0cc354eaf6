"""Distributions as shares of bins: quantiles of numbers, and categories, of which rare ones are merged."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cxrgaze_ray.lifecycle.drift.effects import Patients, Shares, Shift
from cxrgaze_ray.schemas import NOT_STATED

OTHER = "other"
"""Name of the bin of rare categories."""

LEAST_IN_BIN = 5.0
"""Least patients expected in a bin on the smaller side: with fewer the noise bound is too low, so bins are merged."""

_WIDE_BIN = 20.0
"""Least patients of a quantile bin on the smaller side: more bins would show finer changes, and more noise."""

_SMOOTHING = 0.5
"""Patients added to every bin of each side, so that an empty bin has no infinite effect."""


def number_shift(
    baseline_N: NDArray[np.floating], current_M: NDArray[np.floating], patients: Patients, bins: int
) -> Shift:
    """Compare numbers by the quantile bins of the baseline; NaN is a bin of its own, `NOT_STATED`.

    Parameters
    ----------
    baseline_N, current_M
        Values; the two sides may differ in length.
    patients
        Patients of both sides; few patients get fewer bins.
    bins
        Most bins; repeated values (a constant, a peak at zero) have bins of their own.
    """
    known = baseline_N[~np.isnan(baseline_N)]
    edges = _edges(known, int(np.clip(patients.smaller / _WIDE_BIN, 2, bins))) if len(known) else np.empty(0)
    counts = [_counts(values, edges) for values in (baseline_N, current_M)]
    edges, counts = _merge_neighbours(edges, counts, patients)
    names = _bin_names(edges)
    sides = [dict(zip(names, (float(number) for number in count), strict=True)) for count in counts]
    for side, values in zip(sides, (baseline_N, current_M), strict=True):
        side[NOT_STATED] = float(np.isnan(values).sum())
    return _shift(sides[0], sides[1], patients)


def category_shift(baseline: Mapping[str | None, int], current: Mapping[str | None, int], patients: Patients) -> Shift:
    """Compare counts of categories; None is the category `NOT_STATED`, rare ones are merged into `OTHER`."""
    names = list(dict.fromkeys([*baseline, *current]))
    sides = [{_name(name): float(side.get(name, 0)) for name in names} for side in (baseline, current)]
    merged = _merge_rare(sides[0], sides[1], patients)
    return _shift(merged[0], merged[1], patients)


def _name(value: str | None) -> str:
    return NOT_STATED if value is None else value


def _shift(baseline: Shares, current: Shares, patients: Patients) -> Shift:
    kept = [name for name in baseline if baseline[name] or current[name]]
    p, q = (_shares({name: side[name] for name in kept}) for side in (baseline, current))
    smooth_p, smooth_q = _smooth(p, patients.baseline), _smooth(q, patients.current)
    effect = float(np.sum((smooth_q - smooth_p) * np.log(smooth_q / smooth_p))) if kept else 0.0
    return Shift(effect, p, q, patients)


def _shares(counts: Shares) -> Shares:
    total = sum(counts.values()) or 1.0
    return {name: count / total for name, count in counts.items()}


def _smooth(shares: Shares, patients: float) -> NDArray[np.float64]:
    counts = np.array(list(shares.values()), np.float64) * patients + _SMOOTHING
    smooth: NDArray[np.float64] = counts / counts.sum()
    return smooth


def _edges(values_N: NDArray[np.floating], bins: int) -> NDArray[np.float64]:
    """Return inner edges of quantile bins; a bin holds values above its lower edge, up to its upper one.

    A value that fills whole bins gets one of its own, with an edge just below it.
    """
    points = np.quantile(values_N.astype(np.float64), np.linspace(0, 1, bins + 1), method="inverted_cdf")
    repeated = points[1:][np.diff(points) == 0]
    return np.unique(np.concatenate([points[1:-1], repeated, np.nextafter(repeated, -np.inf)]))


def _counts(values_N: NDArray[np.floating], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    known = values_N[~np.isnan(values_N)]
    return np.bincount(np.searchsorted(edges, known, side="left"), minlength=len(edges) + 1)


def _merge_neighbours(
    edges: NDArray[np.float64], counts: list[NDArray[np.int64]], patients: Patients
) -> tuple[NDArray[np.float64], list[NDArray[np.int64]]]:
    """Drop edges until each bin is expected to hold `LEAST_IN_BIN` patients on the smaller side."""
    weight = patients.smaller * np.mean([count / max(1, count.sum()) for count in counts], axis=0)
    kept, mass, left = [], 0.0, float(weight.sum())
    for place in range(len(edges)):
        mass, left = mass + weight[place], left - weight[place]
        if mass >= LEAST_IN_BIN and left >= LEAST_IN_BIN:
            kept.append(place)
            mass = 0.0
    starts = np.array([0, *[place + 1 for place in kept]])
    return edges[kept], [np.add.reduceat(count, starts) for count in counts]


def _bin_names(edges: NDArray[np.float64]) -> list[str]:
    """Return a name for each bin, with enough digits to tell them apart."""
    if not len(edges):
        return ["any"]
    for digits in range(4, 18):
        texts = [
            np.format_float_positional(edge, precision=digits, unique=False, fractional=False, trim="-")
            for edge in edges
        ]
        if len(set(texts)) == len(texts):
            break
    between = [f"{low} to {high}" for low, high in pairwise(texts)]
    return [f"up to {texts[0]}", *between, f"above {texts[-1]}"]


def _merge_rare(baseline: Shares, current: Shares, patients: Patients) -> tuple[Shares, Shares]:
    p, q = _shares(baseline), _shares(current)
    weight = {name: patients.smaller * (p[name] + q[name]) / 2 for name in baseline}
    rarest = sorted(weight, key=lambda name: weight[name])
    rare = {name for name in rarest if weight[name] < LEAST_IN_BIN}
    while rare and sum(weight[name] for name in rare) < LEAST_IN_BIN and len(rare) < len(weight):
        rare.add(rarest[len(rare)])  # if the rare ones together are still rare, they take in the next rarest
    if len(rare) < 2:
        return baseline, current
    return _merged(baseline, rare), _merged(current, rare)


def _merged(counts: Shares, rare: set[str]) -> Shares:
    kept = {name: count for name, count in counts.items() if name not in rare}
    return kept | {OTHER: sum(counts[name] for name in rare)}
