"""The figures of an evaluation, as a bundle carries them (`Evaluation.summary`), for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """A metric; `low` and `high` are its 95% interval, as texts and in percent of [0,1]."""

    name: str
    value: str
    interval: str = ""
    share: float | None = None
    left: float = 0.0
    width: float = 0.0


def figures(metrics: dict[str, Any]) -> list[Figure]:
    """Read figures leniently: bundles of other versions may hold more or less."""
    diagnosis, saliency = _part(metrics, "diagnosis"), _part(metrics, "saliency")
    intervals = _part(metrics, "intervals")
    found = [
        *(_figure(f"AUC {name.replace('_', ' ')}", value) for name, value in _part(diagnosis, "auc").items()),
        _figure("AUC macro", diagnosis.get("auc_macro"), intervals.get("auc_macro")),
        _figure("AUC micro", diagnosis.get("auc_micro")),
        _figure("accuracy", diagnosis.get("accuracy"), intervals.get("accuracy")),
        _figure("calibration error", diagnosis.get("ece"), intervals.get("ece")),
        _figure("saliency CC", saliency.get("cc"), intervals.get("cc")),
        _figure("saliency HS", saliency.get("hs")),
        _figure("saliency KL", saliency.get("kl"), bounded=False),
    ]
    return [*_counts(diagnosis, saliency), *(one for one in found if one is not None)]


def _counts(diagnosis: dict[str, Any], saliency: dict[str, Any]) -> list[Figure]:
    named = (("labelled images", diagnosis), ("images with gaze", saliency))
    return [Figure(name, f"{part['images']}") for name, part in named if part.get("images") is not None]


def _figure(name: str, value: object, interval: object = None, *, bounded: bool = True) -> Figure | None:
    if not isinstance(value, int | float):
        return None
    low, high = (interval.get("low"), interval.get("high")) if isinstance(interval, dict) else (None, None)
    share = _share(value) if bounded else None
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        return Figure(name, f"{value:.3f}", share=share)
    return Figure(name, f"{value:.3f}", f"{low:.3f} to {high:.3f}", share, _share(low), _share(high) - _share(low))


def _share(value: float) -> float:
    return 100 * max(0.0, min(1.0, value))


def _part(whole: dict[str, Any], name: str) -> dict[str, Any]:
    part = whole.get(name)
    return part if isinstance(part, dict) else {}
