"""A bundle on a store's split, or a run against known labels and gaze: metrics with intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cxrgaze_ray import saliency
from cxrgaze_ray.bundle import Bundle
from cxrgaze_ray.errors import RadiographError, UserError
from cxrgaze_ray.gaze.egd import EgdTables
from cxrgaze_ray.gaze.heatmap import gaze_map
from cxrgaze_ray.metrics import (
    Evaluation,
    ImageScore,
    Interval,
    bootstrap,
    correlation,
    diagnosis_metrics,
    histogram_similarity,
    kl_divergence,
    saliency_metrics,
)
from cxrgaze_ray.predictor import Engine, Predictor, limit_threads
from cxrgaze_ray.runs import Run
from cxrgaze_ray.schemas import CLASSES, Affine
from cxrgaze_ray.shards import ShardStore
from cxrgaze_ray.shards.store import gaze_density, image_array

_CHUNK = 16


@dataclass
class _Seen:
    """One image: its answer, and what is known about it."""

    image_id: str
    patient: str
    probabilities_K: NDArray[np.float32]
    label: int | None
    maps: tuple[float, float | None, float] | None = None
    """KL, CC and HS, if somebody looked at the image."""


def _evaluation(images: list[_Seen], note: str = "") -> Evaluation:
    labelled = [one for one in images if one.label is not None]
    mapped = [one.maps for one in images if one.maps is not None]
    return Evaluation(
        images=len(images),
        diagnosis=diagnosis_metrics(*_arrays(labelled)) if labelled else None,
        saliency=saliency_metrics(mapped) if mapped else None,
        intervals=_label_intervals(labelled) | _map_interval(images),
        note=note,
        scores=tuple(_score(one) for one in images),
    )


def evaluate_bundle(
    bundle: Bundle,
    store: ShardStore,
    split: str,
    *,
    engine: Engine | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Evaluation:
    """Evaluate a bundle on a split of a shard store, with the predictor that scoring uses.

    Raises
    ------
    UserError
        If the split is empty.
    BundleError
        If the store's profile is not the bundle's, or has other settings.
    """
    limit_threads(None)
    predictor = Predictor.from_bundle(bundle, engine)
    bundle.info.check_profile(store.info.profile, store.info.profile_sha256)
    total, seen = store.rows(split), list[_Seen]()
    if not total:
        raise UserError(f"The store has no image in the split {split}.", "Splits are train, validation and test.")
    for table in store.tables(split):
        for start in range(0, table.num_rows, _CHUNK):
            seen += _predict(predictor, table.slice(start, _CHUNK))
            on_progress(len(seen), total)
    return _evaluation(seen)


def _predict(predictor: Predictor, table: pa.Table) -> Iterator[_Seen]:
    result = predictor.predict(image_array(table["image"]))
    rows = table.select(["image_id", "subject_id", "label", "gaze"]).to_pylist()
    for row, probabilities, density in zip(rows, result.probabilities_BK, result.saliency_BHW, strict=True):
        one = _Seen(row["image_id"], row["subject_id"] or row["image_id"], probabilities, row["label"])
        if row["gaze"] is not None:
            gaze = gaze_density(row["gaze"])
            one.maps = (
                kl_divergence(gaze, density), correlation(gaze, density), histogram_similarity(gaze, density)
            )  # fmt: skip
        yield one


def evaluate_run(run: Run, truth: EgdTables) -> Evaluation:
    """Compare a run's rows with labels and gaze that are known elsewhere, by image id.

    KL is left out: stored maps have 8 bits.
    """
    seen = []
    columns = ["image_id", "subject_id", "status", *[f"p_{name}" for name in CLASSES], "saliency_png", "affine"]
    for table in run.tables(columns):
        for row in table.filter(pc.equal(table["status"], "scored")).to_pylist():
            study = truth.studies.get(row["image_id"])
            probabilities = np.array([row[f"p_{name}"] for name in CLASSES], np.float32)
            patient = row["subject_id"] or row["image_id"]
            one = _Seen(row["image_id"], patient, probabilities, study.label if study else None)
            try:
                gaze = gaze_map(truth.samples(row["image_id"]), Affine(**row["affine"]))
            except RadiographError:
                pass  # nobody looked at this image, or only past it
            else:
                density = saliency.decode(row["saliency_png"])
                one.maps = (float("nan"), correlation(gaze, density), histogram_similarity(gaze, density))
            seen.append(one)
    return _evaluation(seen, "KL is not computed from a run: its stored maps have 8 bits.")


def _arrays(labelled: list[_Seen]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    return np.stack([one.probabilities_K for one in labelled]), np.array([one.label for one in labelled], np.int64)


def _score(one: _Seen) -> ImageScore:
    p_true = None if one.label is None else float(one.probabilities_K[one.label])
    return ImageScore(one.image_id, one.label, p_true, one.maps[1] if one.maps else None)


def _label_intervals(labelled: list[_Seen]) -> dict[str, Interval | None]:
    if not labelled:
        return {}
    probabilities, labels = _arrays(labelled)
    patients = [one.patient for one in labelled]
    hits = (probabilities.argmax(axis=1) == labels).astype(float)
    auc = bootstrap(
        lambda index: diagnosis_metrics(probabilities[index], labels[index]).auc_macro, patients, rounds=200
    )
    return {"auc_macro": auc, "accuracy": bootstrap(lambda index: float(hits[index].mean()), patients)}


def _map_interval(images: list[_Seen]) -> dict[str, Interval | None]:
    defined = [(one.maps[1], one.patient) for one in images if one.maps is not None and one.maps[1] is not None]
    if not defined:
        return {}
    values = np.array([value for value, _ in defined])
    return {"cc": bootstrap(lambda index: float(values[index].mean()), [patient for _, patient in defined])}
