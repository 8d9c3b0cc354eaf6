"""Read EGD-CXR 1.0.0 (Karargyris 2021): gaze samples and labels by image id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cxrgaze_ray.errors import UserError
from cxrgaze_ray.gaze.columns import as_numbers, read_columns
from cxrgaze_ray.storage import Store

ID_LENGTH = 44
"""Length of a dicom_id; others are calibration rows or were cut short."""

_LABELS = ("Normal", "CHF", "pneumonia")


@dataclass(frozen=True)
class Study:
    """A row of the master sheet; label is an index into `schemas.CLASSES`, or None unless exactly one is marked."""

    image_id: str
    subject_id: str
    study_id: str
    label: int | None


@dataclass(frozen=True)
class EgdTables:
    """Gaze samples and studies.

    Attributes
    ----------
    studies
        By image id.
    counts
        gaze_rows, gaze_rows_malformed_id, images_with_gaze, images_in_sheet, gaze_without_study, study_without_gaze,
        studies_without_label.
    """

    studies: dict[str, Study]
    counts: dict[str, int]
    _places: dict[str, slice]
    _points: NDArray[np.float64]

    @property
    def images_with_gaze(self) -> set[str]:
        """Ids that have at least one sample."""
        return set(self._places)

    def samples_of(self, image_ids: pa.ChunkedArray | pa.Array) -> pa.Array:
        """Return a list (y, x, y, x, ...) for each id, null where an image has no gaze: `samples` of a whole column."""
        runs = list(self._places.values())
        ends = np.array([0, *(run.stop for run in runs)], np.int32)
        lists = pa.ListArray.from_arrays(pa.array(2 * ends), pa.array(self._points.ravel()))
        return lists.take(pc.index_in(image_ids, pa.array(list(self._places), pa.string())))

    def labels_of(self, image_ids: pa.ChunkedArray | pa.Array) -> pa.Array:
        """Return the master sheet's label for each id (int8), null where it has none."""
        labels = pa.array([study.label for study in self.studies.values()], pa.int8())
        return labels.take(pc.index_in(image_ids, pa.array(list(self.studies), pa.string())))

    def samples(self, image_id: str) -> NDArray[np.float64]:
        """Return an image's samples (N, 2), y and x in source pixels; some may lie off the image."""
        return self._points[self._places.get(image_id, slice(0, 0))]


def read_egd(store: Store) -> EgdTables:
    """Read ``master_sheet.csv`` and ``eye_gaze.csv`` from a store.

    Raises
    ------
    UserError
        If a file is missing or has not the expected columns.
    """
    studies = _studies(_read(store, "master_sheet.csv", ["dicom_id", "study_id", "patient_id", *_LABELS]))
    gaze = _read(store, "eye_gaze.csv", ["DICOM_ID", "X_ORIGINAL", "Y_ORIGINAL"])
    sound = gaze.filter(pc.equal(pc.utf8_length(pc.fill_null(gaze["DICOM_ID"], "")), ID_LENGTH))
    ordered = sound.sort_by("DICOM_ID")
    points = np.stack([as_numbers(ordered[name], "eye_gaze.csv") for name in ("Y_ORIGINAL", "X_ORIGINAL")], axis=1)
    places = _places(ordered["DICOM_ID"])
    counts = {
        "gaze_rows": gaze.num_rows,
        "gaze_rows_malformed_id": gaze.num_rows - sound.num_rows,
        "images_with_gaze": len(places),
        "images_in_sheet": len(studies),
        "gaze_without_study": len(places.keys() - studies.keys()),
        "study_without_gaze": len(studies.keys() - places.keys()),
        "studies_without_label": sum(study.label is None for study in studies.values()),
    }
    return EgdTables(studies, counts, places, points)


def _read(store: Store, name: str, columns: list[str]) -> pa.Table:
    return read_columns(store.get(name), name, columns, "Give the folder of EGD-CXR.")


def _studies(sheet: pa.Table) -> dict[str, Study]:
    return {row["dicom_id"]: _study(row) for row in sheet.to_pylist() if row["dicom_id"]}


def _study(row: dict[str, Any]) -> Study:
    try:
        marked = [index for index, name in enumerate(_LABELS) if row[name] and float(row[name]) == 1]
    except ValueError as error:
        raise UserError("master_sheet.csv marks a class with something else than 0 or 1.", "Check the file.") from error
    return Study(
        image_id=row["dicom_id"],
        subject_id=str(row["patient_id"]).lstrip("p"),
        study_id=str(row["study_id"]).lstrip("s"),
        label=marked[0] if len(marked) == 1 else None,
    )


def _places(ids: pa.ChunkedArray) -> dict[str, slice]:
    """Return where each id's run of rows lies in a sorted column."""
    runs = pc.run_end_encode(ids.combine_chunks())
    ends = runs.run_ends.to_pylist()
    return {
        name: slice(start, end) for name, start, end in zip(runs.values.to_pylist(), [0, *ends], ends, strict=False)
    }
