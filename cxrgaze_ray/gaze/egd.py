"""Read EGD-CXR 1.0.0 (Karargyris 2021): gaze samples and labels by image id."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cxrgaze_ray.archive.identities import Identities
from cxrgaze_ray.archive.tables import Limits, TextTable, columns_of, read_rows
from cxrgaze_ray.errors import UserError
from cxrgaze_ray.gaze.ids import find_images, folded, numbered, without_repeats
from cxrgaze_ray.storage import Store

ID_LENGTH = 44
"""Length of a dicom_id; others are calibration rows or were cut short."""

_SHEET, _GAZE = "master_sheet.csv", "eye_gaze.csv"
_LABELS = ("Normal", "CHF", "pneumonia")
_PLACE = ("DICOM_ID", "X_ORIGINAL", "Y_ORIGINAL")
_MOMENTS = ("TIMETICK(f=10000000)", "Time (in secs)", "CNT")
"""Columns that tell two samples of one place from one sample written twice; the first that is there will do."""

_LIMITS = Limits(table_bytes=2**35, table_rows=2**27)
_KEEP = Identities()


@dataclass(frozen=True)
class Study:
    """A row of the master sheet.

    Attributes
    ----------
    subject_id
        None if the sheet does not say.
    label
        Index into `schemas.CLASSES`, or None unless exactly one is marked.
    """

    image_id: str
    subject_id: str | None
    study_id: str | None
    label: int | None


@dataclass(frozen=True)
class EgdTables:
    """Gaze samples and studies; image ids are in lower case, and match whatever theirs is.

    Attributes
    ----------
    studies
        Entries by image id.
    counts
        gaze_rows; of these gaze_rows_malformed (more or fewer cells than the header), gaze_rows_malformed_id,
        gaze_rows_repeated (said before: they count once) and gaze_rows_without_place; images_with_gaze; the same of the
        sheet: sheet_rows_malformed, sheet_rows_without_id, sheet_rows_repeated, images_in_sheet; gaze_without_study,
        study_without_gaze, studies_without_label.
    """

    studies: dict[str, Study]
    counts: dict[str, int]
    _places: dict[str, slice]
    _points: NDArray[np.float64]

    @property
    def images_with_gaze(self) -> set[str]:
        """Ids that have at least one sample."""
        return set(self._places)

    def samples_of(self, image_ids: pa.ChunkedArray | pa.Array, identities: Identities = _KEEP) -> pa.Array:
        """Return a list (y, x, y, x, ...) for each id, null where an image has no gaze: `samples` of a whole column.

        Parameters
        ----------
        identities
            What made the ids of those that the tables would name.
        """
        runs = list(self._places.values())
        ends = np.array([0, *(run.stop for run in runs)], np.int32)
        lists = pa.ListArray.from_arrays(pa.array(2 * ends), pa.array(self._points.ravel()))
        return lists.take(find_images(image_ids, list(self._places), identities))

    def labels_of(self, image_ids: pa.ChunkedArray | pa.Array, identities: Identities = _KEEP) -> pa.Array:
        """Return the master sheet's label for each id (int8), null where it has none."""
        labels = pa.array([study.label for study in self.studies.values()], pa.int8())
        return labels.take(find_images(image_ids, list(self.studies), identities))

    def patients_of(self, image_ids: pa.ChunkedArray | pa.Array, identities: Identities = _KEEP) -> pa.Array:
        """Return the master sheet's raw patient for each id, null where it names none."""
        patients = pa.array([study.subject_id for study in self.studies.values()], pa.string())
        return patients.take(find_images(image_ids, list(self.studies), identities))

    def study(self, image_id: str) -> Study | None:
        """Return what the sheet says of an image."""
        return self.studies.get(image_id.lower())

    def samples(self, image_id: str) -> NDArray[np.float64]:
        """Return an image's samples (N, 2), y and x in source pixels; some may lie off the image."""
        return self._points[self._places.get(image_id.lower(), slice(0, 0))]

    def know(self, image_ids: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
        """Say which images have a row in the sheet, or gaze (bool)."""
        known = pa.array(sorted(self.studies.keys() | self.images_with_gaze), pa.string())
        return pc.is_in(folded(image_ids), value_set=known)


def read_egd(store: Store) -> EgdTables:
    """Read ``master_sheet.csv`` and ``eye_gaze.csv`` from a store.

    Raises
    ------
    UserError
        If a file is missing, can't be read, or has not the expected columns; or the sheet says two things of an image.
    """
    sheet = read_rows(store, _SHEET, ("dicom_id", "study_id", "patient_id", *_LABELS), (), _LIMITS)
    studies, of_sheet = _studies(sheet)
    moments = columns_of(store, _GAZE, _MOMENTS, _LIMITS)[:1]
    places, points, of_gaze = _gaze(read_rows(store, _GAZE, _PLACE, moments, _LIMITS), moments)
    counts = {
        **of_gaze,
        **of_sheet,
        "images_with_gaze": len(places),
        "images_in_sheet": len(studies),
        "gaze_without_study": len(places.keys() - studies.keys()),
        "study_without_gaze": len(studies.keys() - places.keys()),
        "studies_without_label": sum(study.label is None for study in studies.values()),
    }
    return EgdTables(studies, counts, places, points)


def _gaze(table: TextTable, moments: tuple[str, ...]) -> tuple[dict[str, slice], NDArray[np.float64], dict[str, int]]:
    """Return where each image's samples lie, all samples, and counts."""
    ids = folded(table.rows["DICOM_ID"])
    sound = pc.equal(pc.utf8_length(ids), ID_LENGTH)
    numbers = {name: pa.array(table.numbers(name, sound)) for name in ("Y_ORIGINAL", "X_ORIGINAL")}
    more = {name: table.rows[name] for name in moments}
    encoded = ids.combine_chunks().dictionary_encode()  # a number takes a tenth of what an id takes
    named = pa.table({"id": encoded.indices, **numbers, **more}).filter(sound)
    # without a moment nobody can tell a sample that was written twice from an eye that stood still
    once, repeated = without_repeats(named) if moments else (named, 0)
    ordered = once.drop_columns(list(moments)).sort_by("id")
    points = np.stack([ordered[name].to_numpy() for name in numbers], axis=1)
    counts = {
        "gaze_rows": table.rows.num_rows + table.malformed,
        "gaze_rows_malformed": table.malformed,
        "gaze_rows_malformed_id": table.rows.num_rows - named.num_rows,
        "gaze_rows_repeated": repeated,
        "gaze_rows_without_place": int((~np.isfinite(points)).any(axis=1).sum()),
    }
    places = _places(ordered["id"])
    return {encoded.dictionary[code].as_py(): place for code, place in places.items()}, points, counts


def _studies(sheet: TextTable) -> tuple[dict[str, Study], dict[str, int]]:
    marks = np.stack([sheet.numbers(name) == 1 for name in _LABELS], axis=1)
    rows = pa.table(
        {
            "image_id": folded(sheet.rows["dicom_id"]),
            "subject_id": numbered(sheet.rows["patient_id"], "p"),
            "study_id": numbered(sheet.rows["study_id"], "s"),
            "label": pa.array(marks.argmax(axis=1), mask=marks.sum(axis=1) != 1),
        }
    )
    named = rows.filter(pc.not_equal(rows["image_id"], ""))
    once, repeated = without_repeats(named)
    studies = {row["image_id"]: Study(**row) for row in once.to_pylist()}
    if contradicted := once.num_rows - len(studies):
        raise UserError(
            f"{_SHEET} has {contradicted} rows that say of an image something else than another row does.",
            "Keep one row an image.",
        )
    counts = {
        "sheet_rows_malformed": sheet.malformed,
        "sheet_rows_without_id": rows.num_rows - named.num_rows,
        "sheet_rows_repeated": repeated,
    }
    return studies, counts


def _places(codes: pa.ChunkedArray) -> dict[int, slice]:
    """Return where each image's run of rows lies in a sorted column."""
    runs = pc.run_end_encode(codes.combine_chunks())
    ends = runs.run_ends.to_pylist()
    return {
        code: slice(start, end) for code, start, end in zip(runs.values.to_pylist(), [0, *ends], ends, strict=False)
    }
