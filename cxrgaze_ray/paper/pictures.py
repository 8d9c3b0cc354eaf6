"""ROC curves of all systems in one plot, and what each looks at: image, gaze, every map and Grad-CAM, a row a class."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrgaze_ray.evaluation.curves import roc_curve
from cxrgaze_ray.evaluation.table import EvaluationTable
from cxrgaze_ray.gaze import saliency
from cxrgaze_ray.schemas import CLASSES

_COLOURS = ("#b3443c", "#4a6fa5", "#2b7a78", "#b08a2e", "#7b5aa6", "#5d6b7c", "#c76f9b", "#3c8d40")


_PALE = 4.0
"""Multiple of an even density at which a map is drawn in full colour, if it does not reach higher."""


def roc_plot(answers: Mapping[str, EvaluationTable]) -> bytes:
    """Draw every system's curves as SVG: a panel for each class against the rest, and one for all pairs (micro).

    Parameters
    ----------
    answers
        Answers of systems that predict classes, by title.
    """
    figure = _figure(11, 3.4)
    panels = [*CLASSES, "micro"]
    for place, name in enumerate(panels, 1):
        axes = figure.add_subplot(1, len(panels), place)
        axes.plot([0, 1], [0, 1], color="#dde3ea", linewidth=1)
        for colour, (title, table) in zip(_COLOURS, answers.items(), strict=False):
            known = table.labelled()
            truth_NK = np.eye(len(CLASSES), dtype=bool)[known.labels_N]
            columns = slice(None) if name == "micro" else slice(CLASSES.index(name), CLASSES.index(name) + 1)
            false, true = roc_curve(known.probabilities_NK[:, columns].ravel(), truth_NK[:, columns].ravel())
            axes.plot(false, true, color=colour, linewidth=1.4, label=title)
        axes.set_title(name.replace("_", " "), fontsize=9)
        axes.set_xlabel("false positive rate", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.set_aspect("equal")
        if place == 1:
            axes.set_ylabel("true positive rate", fontsize=8)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="lower center", ncols=6, fontsize=7, frameon=False)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    return _saved(figure, "svg")


@dataclass(frozen=True)
class Example:
    """One image of the qualitative figure.

    Attributes
    ----------
    label
        Its class, for people.
    image_HW
        uint16 (640, 512).
    maps
        Densities by what they are: the readers' gaze, each system's map, Grad-CAM.
    captions
        What stands below a map, by the same names.
    """

    label: str
    image_HW: NDArray[np.uint16]
    maps: Mapping[str, NDArray[np.float32]]
    captions: Mapping[str, str] = field(default_factory=dict)


def qualitative_figure(examples: Sequence[Example]) -> bytes:
    """Draw examples as PNG, a row each: the image, then every map over it, each scaled to its own peak."""
    columns = list(dict.fromkeys(name for example in examples for name in example.maps))
    figure = _figure(1.35 * (len(columns) + 1), 1.8 * len(examples) + 0.3)
    for row, example in enumerate(examples):
        pictures = [np.repeat((example.image_HW >> 8).astype(np.uint8)[..., None], 3, axis=2)]
        pictures += [
            _warmed(example.image_HW, example.maps[name]) if name in example.maps else None  # type: ignore[misc]
            for name in columns
        ]
        for place, picture in enumerate(pictures):
            axes = figure.add_subplot(len(examples), len(columns) + 1, row * (len(columns) + 1) + place + 1)
            axes.set_xticks([])
            axes.set_yticks([])
            if picture is not None:
                axes.imshow(picture)
            if place and (caption := example.captions.get(columns[place - 1])):
                axes.set_xlabel(caption, fontsize=6)
            if row == 0:
                axes.set_title(["radiograph", *columns][place], fontsize=7)
            if place == 0:
                axes.set_ylabel(example.label, fontsize=8)
    figure.tight_layout(pad=0.4)
    return _saved(figure, "png")


def _warmed(image_HW: NDArray[np.uint16], map_HW: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Draw a map over its image; an almost even one stays pale, which its own peak alone would not show."""
    return saliency.overlay(image_HW, map_HW, hottest=max(float(map_HW.max()), _PALE / map_HW.size))


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure  # a second to import, which most commands don't need

    return Figure(figsize=(width, height), dpi=150)


def _saved(figure: Any, kind: str) -> bytes:
    from matplotlib import rc_context

    buffer = io.BytesIO()
    # no date and no random ids, so that the same figures give the same bytes
    with rc_context({"svg.hashsalt": "cxrgaze"}):
        figure.savefig(buffer, format=kind, metadata={"Date": None} if kind == "svg" else {"Software": None})
    return buffer.getvalue()
