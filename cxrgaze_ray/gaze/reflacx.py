"""Read REFLACX 1.0.0 (Lanfredi et al., Sci Data 2022): which readings there are, and one reading's fixations.

Its folder holds ``main_data/metadata_phase_{1,2,3}.csv`` and a folder a reading. It has no label of ours: its images
serve the saliency phase only.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cxrgaze_ray.archive.identities import Identities
from cxrgaze_ray.archive.tables import Limits, TextTable, read_rows
from cxrgaze_ray.errors import UserError
from cxrgaze_ray.gaze.heatmap import Fixations
from cxrgaze_ray.gaze.ids import find_images, folded, numbered, without_repeats
from cxrgaze_ray.storage import Store

METADATA = tuple(f"main_data/metadata_phase_{phase}.csv" for phase in (1, 2, 3))

READING = pa.struct([("reading", pa.string()), ("rows", pa.int32()), ("columns", pa.int32())])
"""A reading's name, and the size in pixels of the image as the reader saw it."""

_COLUMNS = ("id", "eye_tracking_data_discarded", "dicom_id", "subject_id", "image_size_x", "image_size_y")
_FIXATION_COLUMNS = (
    "timestamp_start_fixation", "timestamp_end_fixation", "x_position", "y_position",
    "angular_resolution_x_pixels_per_degree", "angular_resolution_y_pixels_per_degree",
)  # fmt: skip
_READING_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
_IMAGE_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")
_HINT = "Give the folder of REFLACX, the one that holds main_data."
_METADATA_LIMITS, _FIXATION_LIMITS = Limits(table_bytes=2**27), Limits(table_bytes=2**24)
_LARGEST_SIDE = 2**15
_TRUE, _FALSE = (pa.array(values) for values in (("true", "1"), ("false", "0")))


_KEEP = Identities()


@dataclass(frozen=True)
class ReflacxIndex:
    """The readings with eye tracking; their fixations are read one reading at a time.

    Attributes
    ----------
    table
        image_id (in lower case: it matches whatever the archive's is), subject_id (null where the table does not say),
        and the fields of `READING`, ordered by image_id; a reading stands once.
    counts
        readings, readings_discarded (no eye tracking), readings_malformed (more or fewer cells than the header, an id
        or a size that can't be one, or two rows that say different things), readings_repeated (said before), images,
        images_read_more_than_once.
    """

    table: pa.Table
    counts: dict[str, int] = field(default_factory=dict)

    def readings_of(self, image_ids: pa.ChunkedArray | pa.Array, identities: Identities = _KEEP) -> pa.Array:
        """Return a list of `READING` for each id, null where an image has none.

        Parameters
        ----------
        identities
            What made the ids of those that the tables would name.
        """
        table, names, starts = self._runs()
        ends = pa.array(np.append(starts, table.num_rows).astype(np.int32))
        parts = [table[name].combine_chunks() for name in ("reading", "rows", "columns")]
        lists = pa.ListArray.from_arrays(ends, pa.StructArray.from_arrays(parts, fields=list(READING)))
        return lists.take(find_images(image_ids, names, identities))

    def patients_of(self, image_ids: pa.ChunkedArray | pa.Array, identities: Identities = _KEEP) -> pa.Array:
        """Return the raw patient of each id, null where the tables name none; of several readings the first counts."""
        table, names, starts = self._runs()
        return (
            table["subject_id"].combine_chunks().take(pa.array(starts)).take(find_images(image_ids, names, identities))
        )

    def _runs(self) -> tuple[pa.Table, list[str], NDArray[np.int64]]:
        """Return the table whole, its images, and where the rows of each begin."""
        table = self.table.combine_chunks()
        names, starts = np.unique(table["image_id"].to_numpy(zero_copy_only=False), return_index=True)
        return table, names.tolist(), starts


def read_index(store: Store) -> ReflacxIndex:
    """Read the metadata of every phase that is there.

    Raises
    ------
    UserError
        If there is none, one can't be read or has not the expected columns, or readings of an image are of several
        patients.
    """
    names = [name for name in METADATA if store.exists(name)]
    if not names:
        raise UserError(f"{store.uri} holds no {METADATA[0]}.", _HINT)
    phases = [read_rows(store, name, _COLUMNS, (), _METADATA_LIMITS) for name in names]
    named = [_named(phase) for phase in phases]
    listed = pa.concat_tables(named)
    tracked = listed.filter(pc.equal(listed["discarded"], "false")).drop_columns("discarded")
    discarded = pc.sum(pc.equal(listed["discarded"], "true"), min_count=0).as_py()
    once, repeated = without_repeats(_sound(tracked))
    sound = _uncontradicted(once)
    _check_patients(sound)
    counts = {
        "readings": sound.num_rows,
        "readings_discarded": discarded,
        "readings_malformed": sum(phase.malformed + phase.rows.num_rows for phase in phases)
        - discarded
        - repeated
        - sound.num_rows,
        "readings_repeated": repeated,
        "images": len(pc.unique(sound["image_id"])),
        "images_read_more_than_once": sum(count > 1 for count in Counter(sound["image_id"].to_pylist()).values()),
    }
    return ReflacxIndex(sound.sort_by([("image_id", "ascending"), ("reading", "ascending")]), counts)


def read_fixations(store: Store, reading: str) -> tuple[Fixations, dict[str, int]]:
    """Read one reading's fixations.

    Returns
    -------
    Fixations
        Every row once.
    dict of str to int
        fixation_rows_malformed (more or fewer cells than the header), fixation_rows_repeated (said before),
        fixations_unusable (no place, or no length or width above zero); those that there are.

    Raises
    ------
    StoreNotFound
        If it has no table.
    UserError
        If the name is no reading's, or the table can't be read or has not the expected columns.
    """
    if not _READING_ID.fullmatch(reading):
        raise UserError("A reading's name is malformed.", _HINT)
    table = read_rows(store, f"main_data/{reading}/fixations.csv", _FIXATION_COLUMNS, (), _FIXATION_LIMITS)
    numbers = pa.table({name: table.numbers(name) for name in _FIXATION_COLUMNS})
    once, repeated = without_repeats(numbers)
    start, end, x, y, width_x, width_y = (once[name].to_numpy() for name in _FIXATION_COLUMNS)
    found = Fixations(np.stack([y, x], axis=1), end - start, np.stack([width_y, width_x], axis=1))
    counts = {
        "fixation_rows_malformed": table.malformed,
        "fixation_rows_repeated": repeated,
        "fixations_unusable": len(start) - int(found.usable().sum()),
    }
    return found, {name: count for name, count in counts.items() if count}


def _named(phase: TextTable) -> pa.Table:
    """Return the columns of a phase in one spelling; discarded is true, false or empty."""
    rows = phase.rows
    said = folded(rows["eye_tracking_data_discarded"])
    discarded = pc.case_when(pc.make_struct(pc.is_in(said, _TRUE), pc.is_in(said, _FALSE)), "true", "false", "")
    tracked = pc.equal(discarded, "false")
    return pa.table(
        {
            "discarded": discarded,
            "image_id": folded(rows["dicom_id"]),
            "subject_id": numbered(rows["subject_id"], "p"),
            "reading": pc.fill_null(rows["id"], ""),
            "rows": _sides(phase.numbers("image_size_y", tracked)),
            "columns": _sides(phase.numbers("image_size_x", tracked)),
        }
    )


def _sides(values: NDArray[np.float64]) -> pa.Array:
    """Return sides in pixels, 0 where a value can't be one."""
    usable = (values >= 1) & (values <= _LARGEST_SIDE) & (values == np.floor(values))
    return pa.array(np.where(usable, values, 0).astype(np.int32))


def _sound(table: pa.Table) -> pa.Table:
    """Return the readings whose ids may name something, and whose image has a size."""
    named = [
        pc.match_substring_regex(table[name], f"^(?:{pattern.pattern})$")
        for name, pattern in (("reading", _READING_ID), ("image_id", _IMAGE_ID))
    ]
    sized = pc.and_(pc.greater(table["rows"], 0), pc.greater(table["columns"], 0))
    return table.filter(pc.and_(pc.and_(*named), sized))


def _check_patients(table: pa.Table) -> None:
    patients = table.group_by("image_id").aggregate([("subject_id", "count_distinct")])
    several = pc.greater(patients["subject_id_count_distinct"], 1)
    if count := pc.sum(several, min_count=0).as_py():
        raise UserError(f"REFLACX names several patients for {count} images.", "Correct the column subject_id.")


def _uncontradicted(table: pa.Table) -> pa.Table:
    """Return the readings that have one row: of two that differ, nobody knows which is right."""
    readings = table["reading"].to_numpy(zero_copy_only=False)
    _, codes, counts = np.unique(readings, return_inverse=True, return_counts=True)
    return table.filter(pa.array(counts[codes] == 1))
