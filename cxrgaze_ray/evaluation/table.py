"""A model's predictions for a set of images beside the known facts: the input of evaluation, gate and monitor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cxrgaze_ray.schemas import CLASSES

UNKNOWN = -1
"""Label of an image whose diagnosis is not known."""

Facet = Literal["sex", "age_band", "view_position", "manufacturer"]
FACETS: tuple[Facet, ...] = get_args(Facet)
"""Facts by which images are grouped, as named in `schemas.FACT_FIELDS`."""

Target = Literal["auc_macro", "auc_normal", "auc_heart_failure", "auc_pneumonia", "accuracy", "ece", "cc"]
"""Targets on which two models can be compared; the AUC of a class is one against the rest."""

_MAPS = ("kl", "cc", "hs")
MapScores = tuple[float | None, float | None, float | None]
"""KL, CC and HS of one image's saliency against gaze; None where undefined or not known."""


@dataclass(frozen=True)
class EvaluationTable:
    """Predictions for N images beside their labels and gaze, one entry per image.

    Attributes
    ----------
    image_ids, patients
        Ids of images and of their patients; where no patient is known, the image stands for one.
    labels_N
        int64, index into CLASSES or `UNKNOWN`.
    probabilities_NK
        float32, in the order of CLASSES.
    kl_N, cc_N, hs_N
        float64, saliency against the reader's gaze; NaN where nobody looked, or the figure is undefined.
    seen_N
        bool, whether somebody looked at the image.
    facets
        Value of each of `FACETS` for each image; None where the file does not state it.
    """

    image_ids: tuple[str, ...]
    patients: tuple[str, ...]
    labels_N: NDArray[np.int64]
    probabilities_NK: NDArray[np.float32]
    kl_N: NDArray[np.float64]
    cc_N: NDArray[np.float64]
    hs_N: NDArray[np.float64]
    seen_N: NDArray[np.bool_]
    facets: dict[str, tuple[str | None, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.image_ids)

    def take(self, index: NDArray[np.integer] | NDArray[np.bool_]) -> EvaluationTable:
        """Return the rows at some indices, or where a mask is true."""
        places = np.flatnonzero(index) if index.dtype == np.bool_ else index
        return EvaluationTable(
            tuple(self.image_ids[place] for place in places),
            tuple(self.patients[place] for place in places),
            self.labels_N[places],
            self.probabilities_NK[places],
            self.kl_N[places],
            self.cc_N[places],
            self.hs_N[places],
            self.seen_N[places],
            {name: tuple(values[place] for place in places) for name, values in self.facets.items()},
        )

    def labelled(self) -> EvaluationTable:
        """Return the images whose diagnosis is known."""
        return self.take(self.labels_N != UNKNOWN)

    def to_table(self) -> pa.Table:
        """Return one row per image, to be stored."""
        return pa.table(
            {
                "image_id": pa.array(self.image_ids, pa.string()),
                "patient": pa.array(self.patients, pa.string()),
                "label": pa.array(self.labels_N, pa.int64()),
                **{f"p_{name}": pa.array(self.probabilities_NK[:, k]) for k, name in enumerate(CLASSES)},
                **{name: pa.array(getattr(self, f"{name}_N")) for name in _MAPS},
                "seen": pa.array(self.seen_N),
                **{f"facet_{name}": pa.array(self.facets[name], pa.string()) for name in self.facets},
            }
        )

    @classmethod
    def from_table(cls, table: pa.Table) -> EvaluationTable:
        """Return the table that `to_table` stored."""
        facets = {name: name.removeprefix("facet_") for name in table.schema.names if name.startswith("facet_")}
        return cls(
            tuple(table["image_id"].to_pylist()),
            tuple(table["patient"].to_pylist()),
            table["label"].to_numpy(),
            np.stack([table[f"p_{name}"].to_numpy() for name in CLASSES], axis=1),
            table["kl"].to_numpy(),
            table["cc"].to_numpy(),
            table["hs"].to_numpy(),
            table["seen"].to_numpy(),
            {facet: tuple(table[name].to_pylist()) for name, facet in facets.items()},
        )


@dataclass
class EvaluationTableBuilder:
    """Collects an evaluation table one image at a time."""

    rows: list[tuple[str, str, int, NDArray[np.float32], MapScores | None]] = field(default_factory=list)
    facets: dict[str, list[str | None]] = field(default_factory=lambda: {name: [] for name in FACETS})

    def __len__(self) -> int:
        return len(self.rows)

    def add(
        self,
        image_id: str,
        patient: str | None,
        label: int | None,
        probabilities_K: NDArray[np.float32],
        maps: MapScores | None,
        facts: dict[str, str | None],
    ) -> None:
        """Add one image; `maps` are KL, CC and HS, None where undefined, if somebody looked at it."""
        self.rows.append((image_id, patient or image_id, UNKNOWN if label is None else label, probabilities_K, maps))
        for name, values in self.facets.items():
            values.append(facts.get(name))

    def build(self) -> EvaluationTable:
        """Return the collected table."""
        maps = [row[4] or (None,) * len(_MAPS) for row in self.rows]
        kl, cc, hs = np.array(maps, np.float64).reshape(-1, len(_MAPS)).T  # None becomes NaN
        return EvaluationTable(
            tuple(row[0] for row in self.rows),
            tuple(row[1] for row in self.rows),
            np.array([row[2] for row in self.rows], np.int64),
            _stack([row[3] for row in self.rows]),
            kl, cc, hs,
            np.array([row[4] is not None for row in self.rows], np.bool_),
            {name: tuple(values) for name, values in self.facets.items()},
        )  # fmt: skip


def _stack(rows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.stack(rows).astype(np.float32) if rows else np.empty((0, len(CLASSES)), np.float32)
