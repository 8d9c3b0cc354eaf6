"""A model's predictions for a set of images beside the known facts: the input of evaluation, gate and monitor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cxrgaze_ray.models.settings import BOTH, Answer
from cxrgaze_ray.schemas import CLASSES

UNKNOWN = -1
"""Label of an image whose diagnosis is not known."""

Facet = Literal["sex", "age_band", "view_position", "manufacturer"]
FACETS: tuple[Facet, ...] = get_args(Facet)
"""Facts by which images are grouped, as named in `schemas.FACT_FIELDS`."""

Target = Literal[
    "auc_macro", "auc_normal", "auc_heart_failure", "auc_pneumonia", "accuracy", "ece", "cc", "hs", "nss", "sauc"
]  # fmt: skip
"""Targets on which two models can be compared; the AUC of a class is one against the rest."""


class MapScores(NamedTuple):
    """Figures of one map against what readers of the image looked at: see `maps`; None where undefined or not known."""

    kl: float | None = None
    cc: float | None = None
    hs: float | None = None
    nss: float | None = None
    sauc: float | None = None


MAP_SCORES = MapScores._fields


def answer_of(target: Target) -> Answer:
    """Return what a model must predict for a target."""
    return "saliency" if target in MAP_SCORES else "classes"


class ImageScores(NamedTuple):
    """The model's map, the mean gaze map of the training split, and the readers' maps among themselves.

    Attributes
    ----------
    centre
        Scores of the centre-bias baseline, which answers every image with that mean; None if it is not known.
    readers
        Mean over ordered pairs of readers, one's map against what the other looked at; None unless there are several.
    """

    model: MapScores
    centre: MapScores | None = None
    readers: MapScores | None = None


def score_columns(images: int, **columns: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return scores of N images, (N,M) in the order of `MAP_SCORES`; NaN where a column is not given."""
    scores_NM = np.full((images, len(MAP_SCORES)), np.nan)
    for name, values_N in columns.items():
        scores_NM[:, MAP_SCORES.index(name)] = values_N
    return scores_NM


_PREFIXES = {"maps_NM": "", "centre_NM": "centre_", "readers_NM": "readers_"}
"""What the columns of a block of scores are called in a stored table."""

_ARRAYS = ("labels_N", "probabilities_NK", "seen_N", *_PREFIXES)
_PREDICTS = b"predicts"


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
        float32, in the order of CLASSES; NaN if the model predicts no classes.
    maps_NM
        float64, saliency against the readers' gaze in the order of `MAP_SCORES`; NaN where nobody looked, or a figure
        is undefined or not known.
    seen_N
        bool, whether somebody looked at the image.
    facets
        Value of each of `FACETS` for each image; None where the file does not state it.
    predicts
        What the model predicts.
    centre_NM, readers_NM
        As `maps_NM`, of the centre-bias baseline and of the readers among themselves: see `ImageScores`. NaN where
        nobody computed them, as in tables of earlier versions.
    """

    image_ids: tuple[str, ...]
    patients: tuple[str, ...]
    labels_N: NDArray[np.int64]
    probabilities_NK: NDArray[np.float32]
    maps_NM: NDArray[np.float64]
    seen_N: NDArray[np.bool_]
    facets: dict[str, tuple[str | None, ...]] = field(default_factory=dict)
    predicts: tuple[Answer, ...] = BOTH
    centre_NM: NDArray[np.float64] = field(default_factory=lambda: score_columns(0))
    readers_NM: NDArray[np.float64] = field(default_factory=lambda: score_columns(0))

    def __post_init__(self) -> None:
        for name in ("centre_NM", "readers_NM"):
            if not len(getattr(self, name)):
                object.__setattr__(self, name, score_columns(len(self)))

    def __len__(self) -> int:
        return len(self.image_ids)

    def scores(self, name: str) -> NDArray[np.float64]:
        """Return one of `MAP_SCORES` of the model's maps, (N,)."""
        return self.maps_NM[:, MAP_SCORES.index(name)]

    def centre(self) -> EvaluationTable:
        """Return the answers of the centre-bias baseline for the same images, which is a model of saliency alone."""
        nothing_NK = np.full_like(self.probabilities_NK, np.nan)
        return replace(self, probabilities_NK=nothing_NK, maps_NM=self.centre_NM, predicts=("saliency",))

    def take(self, index: NDArray[np.integer] | NDArray[np.bool_]) -> EvaluationTable:
        """Return the rows at some indices, or where a mask is true."""
        places = np.flatnonzero(index) if index.dtype == np.bool_ else index
        return replace(
            self,
            image_ids=tuple(self.image_ids[place] for place in places),
            patients=tuple(self.patients[place] for place in places),
            facets={name: tuple(values[place] for place in places) for name, values in self.facets.items()},
            **{name: getattr(self, name)[places] for name in _ARRAYS},
        )

    def labelled(self) -> EvaluationTable:
        """Return the images whose diagnosis is known."""
        return self.take(self.labels_N != UNKNOWN)

    def to_table(self) -> pa.Table:
        """Return one row per image, to be stored."""
        table = pa.table(
            {
                "image_id": pa.array(self.image_ids, pa.string()),
                "patient": pa.array(self.patients, pa.string()),
                "label": pa.array(self.labels_N, pa.int64()),
                **{f"p_{name}": pa.array(self.probabilities_NK[:, k]) for k, name in enumerate(CLASSES)},
                **{
                    f"{prefix}{name}": pa.array(getattr(self, block)[:, m])
                    for block, prefix in _PREFIXES.items()
                    for m, name in enumerate(MAP_SCORES)
                },
                "seen": pa.array(self.seen_N),
                **{f"facet_{name}": pa.array(self.facets[name], pa.string()) for name in self.facets},
            }
        )
        return table.replace_schema_metadata({_PREDICTS: ",".join(self.predicts)})

    @classmethod
    def from_table(cls, table: pa.Table) -> EvaluationTable:
        """Return the table that `to_table` stored; one of an earlier version knows fewer scores."""
        facets = {name: name.removeprefix("facet_") for name in table.schema.names if name.startswith("facet_")}
        said = (table.schema.metadata or {}).get(_PREDICTS)
        return cls(
            tuple(table["image_id"].to_pylist()),
            tuple(table["patient"].to_pylist()),
            table["label"].to_numpy(),
            np.stack([table[f"p_{name}"].to_numpy() for name in CLASSES], axis=1),
            seen_N=table["seen"].to_numpy(),
            facets={facet: tuple(table[name].to_pylist()) for name, facet in facets.items()},
            predicts=BOTH if said is None else tuple(one for one in BOTH if one in said.decode().split(",")),
            **{block: _stored_scores(table, prefix) for block, prefix in _PREFIXES.items()},
        )


def _stored_scores(table: pa.Table, prefix: str) -> NDArray[np.float64]:
    known = {name: table[prefix + name].to_numpy() for name in MAP_SCORES if prefix + name in table.schema.names}
    return score_columns(table.num_rows, **known)


@dataclass(frozen=True)
class _Row:
    """One image of a table in the making."""

    image_id: str
    patient: str
    label: int
    probabilities_K: NDArray[np.float32]
    scores: ImageScores | None
    seen: bool


@dataclass
class EvaluationTableBuilder:
    """Collects an evaluation table one image at a time.

    Attributes
    ----------
    predicts
        What the model predicts, for every image alike.
    """

    predicts: tuple[Answer, ...] = BOTH
    rows: list[_Row] = field(default_factory=list)
    facets: dict[str, list[str | None]] = field(default_factory=lambda: {name: [] for name in FACETS})

    def __len__(self) -> int:
        return len(self.rows)

    def add(
        self,
        image_id: str,
        patient: str | None,
        label: int | None,
        probabilities_K: NDArray[np.float32] | None,
        scores: ImageScores | None,
        facts: Mapping[str, str | None],
        *,
        seen: bool | None = None,
    ) -> None:
        """Add one image.

        Parameters
        ----------
        probabilities_K
            None if the model predicts no classes.
        scores
            None if nobody looked at the image, or the model predicts no saliency.
        seen
            Whether somebody looked; by default, whether there are scores.
        """
        known = np.full(len(CLASSES), np.nan, np.float32) if probabilities_K is None else probabilities_K
        self.rows.append(
            _Row(
                image_id, patient or image_id, UNKNOWN if label is None else label, known, scores,
                scores is not None if seen is None else seen,
            )
        )  # fmt: skip
        for name, values in self.facets.items():
            values.append(facts.get(name))

    def build(self) -> EvaluationTable:
        """Return the collected table."""
        scores = [row.scores or ImageScores(MapScores()) for row in self.rows]
        return EvaluationTable(
            tuple(row.image_id for row in self.rows),
            tuple(row.patient for row in self.rows),
            np.array([row.label for row in self.rows], np.int64),
            np.array([row.probabilities_K for row in self.rows], np.float32).reshape(-1, len(CLASSES)),
            _stack([one.model for one in scores]),
            np.array([row.seen for row in self.rows], np.bool_),
            {name: tuple(values) for name, values in self.facets.items()},
            self.predicts,
            _stack([one.centre for one in scores]),
            _stack([one.readers for one in scores]),
        )


def _stack(rows: Sequence[MapScores | None]) -> NDArray[np.float64]:
    # None becomes NaN
    return np.array([row or MapScores() for row in rows], np.float64).reshape(-1, len(MAP_SCORES))
