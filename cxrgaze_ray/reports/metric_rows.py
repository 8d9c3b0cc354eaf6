"""The figures of an evaluation, as a bundle carries them (`Evaluation.summary`), for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cxrgaze_ray.evaluation.metrics import BESIDE, DIAGNOSIS_TITLES, SALIENCY_TITLES, TITLES

_UNBOUNDED = ("kl", "nss", "nll", "brier")
"""Figures that may be above 1, or below 0."""


@dataclass(frozen=True)
class MetricRow:
    """A metric with its 95% interval, as texts and in percent of [0,1]."""

    name: str
    value: str
    interval: str = ""
    share: float | None = None
    left: float = 0.0
    width: float = 0.0


def metric_rows(metrics: dict[str, Any]) -> list[MetricRow]:
    """Read figures leniently: bundles of other versions may hold more or less."""
    diagnosis, saliency = _part(metrics, "diagnosis"), _part(metrics, "saliency")
    intervals = _part(metrics, "intervals")
    found = [
        *(
            _metric_row(f"AUC {name.replace('_', ' ')}", value, intervals.get(f"auc_{name}"))
            for name, value in _part(diagnosis, "auc").items()
        ),
        *(
            _metric_row(title, diagnosis.get(name), intervals.get(name), bounded=name not in _UNBOUNDED)
            for name, title in DIAGNOSIS_TITLES.items()
        ),
        *_map_rows("saliency", saliency, intervals),
        *(row for name, title in BESIDE.items() for row in _map_rows(title, _part(metrics, name), {})),
    ]
    missing = [MetricRow(TITLES[name], str(why)) for name, why in _part(metrics, "missing").items() if name in TITLES]
    return [*_counts(diagnosis, saliency), *(one for one in found if one is not None), *missing]


def _map_rows(title: str, part: dict[str, Any], intervals: dict[str, Any]) -> list[MetricRow | None]:
    return [
        _metric_row(f"{title} {shown}", part.get(name), intervals.get(name), bounded=name not in _UNBOUNDED)
        for name, shown in SALIENCY_TITLES.items()
    ]


def _counts(diagnosis: dict[str, Any], saliency: dict[str, Any]) -> list[MetricRow]:
    named = (("labelled images", diagnosis), ("images with gaze", saliency))
    return [MetricRow(name, f"{part['images']}") for name, part in named if part.get("images") is not None]


def _metric_row(name: str, value: object, interval: object = None, *, bounded: bool = True) -> MetricRow | None:
    if not isinstance(value, int | float):
        return None
    low, high = (interval.get("low"), interval.get("high")) if isinstance(interval, dict) else (None, None)
    share = _share(value) if bounded else None
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        return MetricRow(name, f"{value:.3f}", share=share)
    return MetricRow(name, f"{value:.3f}", f"{low:.3f} to {high:.3f}", share, _share(low), _share(high) - _share(low))


def _share(value: float) -> float:
    return 100 * max(0.0, min(1.0, value))


def _part(whole: dict[str, Any], name: str) -> dict[str, Any]:
    part = whole.get(name)
    return part if isinstance(part, dict) else {}
