"""What is drawn of an evaluation, from the figures that a bundle carries (`Evaluation.summary`)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from cxrgaze_ray.evaluation.curves import GRID, HISTOGRAM_BINS
from cxrgaze_ray.models.curves import Curve
from cxrgaze_ray.reports.svg import COLOURS, inline_svg

LINES = (("bar", "-"), ("bad", "--"), ("good", ":"))
"""Colour and stroke of each class, so that they can be told apart without colours too."""

FOREST = {"auc_macro": "macro AUC", "accuracy": "accuracy", "cc": "CC of gaze maps"}
"""Figures of subgroups, by name."""

_DRAWN = ("auc_macro", "cc")

GAZE_COLOURS = "transparent, #2a0c5580, #781c6d99, #bc375499, #ed692599, #fbb41a99, #fcffa4"
"""The colours of `gaze.saliency.overlay`, matplotlib's inferno, from little to most, as CSS."""


@dataclass(frozen=True)
class Plot:
    """One figure of a page; `wide` takes a row of its own."""

    title: str
    caption: str
    svg: Markup
    wide: bool = False


def evaluation_plots(metrics: dict[str, Any]) -> list[Plot]:
    """Draw what there is: bundles of earlier versions carry no curves, and nothing is drawn of them."""
    return [*_class_plots(metrics), *_forests(metrics)]


def learning_plots(curves: Sequence[Curve]) -> list[Plot]:
    """Draw the losses of every phase that has finite ones."""
    return [
        Plot(
            curve.phase,
            _learned(curve),
            inline_svg(
                partial(_losses, curve=curve), f"losses-{place}", f"Losses of phase {curve.phase}", height=2.2
            ),
        )
        for place, curve in enumerate(curves)
        if all(map(math.isfinite, (*curve.train, *curve.validation)))
    ]  # fmt: skip


def _learned(curve: Curve) -> str:
    kept = f"kept: {curve.kept_weights}, validation {curve.kept:.4g}"
    began = "" if curve.before is None else f"began with validation {curve.before:.4g}; "
    return f"{len(curve.train)} epochs; {began}{kept}."


def _losses(axes: Any, curve: Curve) -> None:
    epochs = np.arange(1, len(curve.train) + 1)
    axes.plot(epochs, curve.train, "--", color=COLOURS["soft"], label="training")
    before = [] if curve.before is None else [curve.before]
    axes.plot([*[0] * len(before), *epochs], [*before, *curve.validation], color=COLOURS["bar"], label="validation")
    axes.plot([curve.best], [curve.kept], "o", color=COLOURS["ink"], markersize=5)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="epoch", ylabel="mean loss")
    axes.legend(loc="best")


def _class_plots(metrics: dict[str, Any]) -> Iterator[Plot]:
    curves = metrics.get("curves") or {}
    classes = curves.get("classes") or {}
    intervals = metrics.get("intervals") or {}
    if any(one["roc"] for one in classes.values()):
        yield Plot(
            "ROC",
            "True positive rate over false positive rate, each class against the rest. Shaded: 95% by patient.",
            inline_svg(partial(_roc, classes=classes, intervals=intervals), "roc", "ROC curves of all classes"),
        )
        yield Plot(
            "Precision and recall",
            "Of those called so, how many are (precision); of those who are, how many are called so (recall).",
            inline_svg(partial(_precision, classes=classes), "precision", "Precision-recall curves of all classes"),
        )
    if curves:
        yield Plot(
            "Reliability",
            "How often the answer is right, by how sure the model is. On the line it says what it knows.",
            inline_svg(partial(_reliability, curves=curves), "reliability", "Reliability diagram"),
        )
    for place, (name, one) in enumerate(classes.items()):
        yield Plot(
            f"Probability of {_words(name)}",
            "Share of images, by truth.",
            inline_svg(
                partial(_histogram, one=one, name=name, colour=LINES[place][0]), f"histogram-{place}",
                f"Histogram of the probability of {_words(name)}, by truth", height=2.2,
            ),
        )  # fmt: skip


def _words(name: str) -> str:
    return name.replace("_", " ")


def _numbers(values: Any) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _roc(axes: Any, classes: dict[str, Any], intervals: dict[str, Any]) -> None:
    axes.plot([0, 1], [0, 1], color=COLOURS["line"], linewidth=1)
    for (colour, stroke), (name, one) in zip(LINES, classes.items(), strict=True):
        if one["roc"]:
            found = intervals.get(f"auc_{name}")
            told = f" {found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})" if found else ""
            _banded(axes, one["roc"], colour, stroke, f"{_words(name)}{told}")
    _square(axes, "false positive rate", "true positive rate", "lower right")


def _precision(axes: Any, classes: dict[str, Any]) -> None:
    for (colour, stroke), (name, one) in zip(LINES, classes.items(), strict=True):
        if one["precision_recall"]:
            share = sum(one["of_it"]) / (sum(one["of_it"]) + sum(one["of_others"]))
            _banded(axes, one["precision_recall"], colour, stroke, f"{_words(name)}, {100 * share:.0f}% of images")
    _square(axes, "recall", "precision", "lower left")


def _banded(axes: Any, band: dict[str, Any], colour: str, stroke: str, label: str) -> None:
    low, high = (_numbers(band[side]) for side in ("low", "high"))
    axes.fill_between(GRID, low, high, color=COLOURS[colour], alpha=0.14, linewidth=0)
    axes.plot(GRID, _numbers(band["value"]), stroke, color=COLOURS[colour], label=label)


def _square(axes: Any, across: str, up: str, legend: str) -> None:
    axes.set(xlabel=across, ylabel=up, xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.legend(loc=legend)


def _reliability(axes: Any, curves: dict[str, Any]) -> None:
    confidence, (value, low, high) = _numbers(curves["confidence"]), (
        _numbers(curves["reliability"][side]) for side in ("value", "low", "high")
    )  # fmt: skip
    counts = np.array(curves["counts"], np.float64)
    axes.plot([0, 1], [0, 1], color=COLOURS["line"], linewidth=1)
    axes.bar(
        (np.arange(len(counts)) + 0.5) / len(counts), 0.2 * counts / max(counts.max(), 1), 0.9 / len(counts),
        color=COLOURS["line"], label="images (not to scale)",
    )  # fmt: skip
    axes.vlines(confidence, low, high, color=COLOURS["bar"], linewidth=1)
    axes.plot(confidence, value, "o", color=COLOURS["bar"], markersize=4, label="right answers, 95% by patient")
    _square(axes, "probability of the answer", "share of right answers", "upper left")
    axes.set(ylim=(-0.01, 1.3), yticks=np.linspace(0, 1, 6))  # room for the legend above


def _histogram(axes: Any, one: dict[str, Any], name: str, colour: str) -> None:
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    for side, shade, label in (("of_others", "soft", f"not {_words(name)}"), ("of_it", colour, _words(name))):
        counts = np.array(one[side], np.float64)
        shares = 100 * counts / max(counts.sum(), 1)
        axes.stairs(shares, edges, fill=True, color=COLOURS[shade], alpha=0.25)
        axes.stairs(shares, edges, color=COLOURS[shade], label=f"{label}: {int(counts.sum()):,}")
    axes.set(xlabel=f"probability of {_words(name)}", ylabel="% of images", xlim=(0, 1))
    axes.legend(loc="upper center")


def _forests(metrics: dict[str, Any]) -> Iterator[Plot]:
    groups = metrics.get("subgroups") or ()
    for target, title in ((name, FOREST[name]) for name in _DRAWN):
        shown = [one for one in groups if target in one["figures"]]
        whole = (metrics.get("intervals") or {}).get(target)
        if len(shown) > 1 and whole:
            yield Plot(
                f"Subgroups: {title}",
                "With 95% intervals by patient. Where many are compared, some stand apart by chance alone.",
                inline_svg(
                    partial(_forest, groups=shown, whole=whole, target=target, title=title), f"forest-{target}",
                    f"{title} by subgroup", width=5.6, height=0.7 + 0.22 * (len(shown) + 1),
                ),
                wide=True,
            )  # fmt: skip


def _forest(axes: Any, groups: list[dict[str, Any]], whole: dict[str, Any], target: str, title: str) -> None:
    rows = [("all", whole), *((_group_name(one), one["figures"][target]) for one in groups)]
    axes.axvline(whole["value"], color=COLOURS["line"], linewidth=1)
    for place, (_, found) in enumerate(rows):
        colour = COLOURS["ink" if place == 0 else "bar"]
        axes.hlines(place, found["low"], found["high"], color=colour, linewidth=1.6)
        axes.plot([found["value"]], [place], "s" if place == 0 else "o", color=colour, markersize=4)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    right = axes.secondary_yaxis("right")
    right.set_yticks(
        range(len(rows)), [f"{one['value']:.3f} ({one['low']:.3f} to {one['high']:.3f})" for _, one in rows]
    )
    for side in (axes, right):
        side.tick_params(axis="y", length=0)
        side.spines[["left", "right"]].set_visible(False)
    axes.set(xlabel=title)
    axes.set_ylim(len(rows) - 0.5, -0.5)


def _group_name(one: dict[str, Any]) -> str:
    return f"{_words(one['facet'])}: {one['value']} (n {one['images']})"
