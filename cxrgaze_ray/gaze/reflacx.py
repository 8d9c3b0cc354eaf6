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

from cxrgaze_ray.errors import UserError
from cxrgaze_ray.gaze.columns import as_numbers, read_columns
from cxrgaze_ray.gaze.heatmap import Fixations
from cxrgaze_ray.storage import Store

METADATA = tuple(f"main_data/metadata_phase_{phase}.csv" for phase in (1, 2, 3))

READING = pa.struct([("reading", pa.string()), ("rows", pa.int32()), ("columns", pa.int32())])
"""A reading's name, and the size in pixels of the image as the reader saw it."""

_COLUMNS = ["id", "eye_tracking_data_discarded", "dicom_id", "subject_id", "image_size_x", "image_size_y"]
_FIXATION_COLUMNS = [
    "timestamp_start_fixation", "timestamp_end_fixation", "x_position", "y_position",
    "angular_resolution_x_pixels_per_degree", "angular_resolution_y_pixels_per_degree",
]  # fmt: skip
_READING_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
_IMAGE_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")
_HINT = "Give the folder of REFLACX, the one that holds main_data."
_MAX_METADATA_BYTES, _MAX_FIXATIONS_BYTES = 2**27, 2**24
_LARGEST_SIDE = 2**15


@dataclass(frozen=True)
class ReflacxIndex:
    """The readings with eye tracking; their fixations are read one reading at a time.

    Attributes
    ----------
    table
        image_id, subject_id, and the fields of `READING`, ordered by image_id; a reading stands once.
    counts
        readings, readings_discarded (no eye tracking), readings_malformed (an id or a size that can't be one),
        readings_repeated, images, images_read_more_than_once.
    """

    table: pa.Table
    counts: dict[str, int] = field(default_factory=dict)

    def readings_of(self, image_ids: pa.ChunkedArray | pa.Array) -> pa.Array:
        """Return a list of `READING` for each id, null where an image has none."""
        table = self.table.combine_chunks()
        names, starts = np.unique(table["image_id"].to_numpy(zero_copy_only=False), return_index=True)
        ends = pa.array(np.append(starts, table.num_rows).astype(np.int32))
        parts = [table[name].combine_chunks() for name in ("reading", "rows", "columns")]
        lists = pa.ListArray.from_arrays(ends, pa.StructArray.from_arrays(parts, fields=list(READING)))
        return lists.take(pc.index_in(image_ids, pa.array(names, pa.string())))


def read_index(store: Store) -> ReflacxIndex:
    """Read the metadata of every phase that is there.

    Raises
    ------
    UserError
        If there is none, or one has not the expected columns.
    """
    names = [name for name in METADATA if store.exists(name)]
    if not names:
        raise UserError(f"{store.uri} holds no {METADATA[0]}.", _HINT)
    phases = [read_columns(_read(store, name, _MAX_METADATA_BYTES), name, _COLUMNS, _HINT) for name in names]
    listed = pa.concat_tables(phases)
    tracked = listed.filter(pc.equal(_lower(listed["eye_tracking_data_discarded"]), "false"))
    sound, repeated = _distinct(_sound(tracked))
    counts = {
        "readings": sound.num_rows,
        "readings_discarded": listed.num_rows - tracked.num_rows,
        "readings_malformed": tracked.num_rows - sound.num_rows - repeated,
        "readings_repeated": repeated,
        "images": len(pc.unique(sound["image_id"])),
        "images_read_more_than_once": sum(count > 1 for count in Counter(sound["image_id"].to_pylist()).values()),
    }
    return ReflacxIndex(sound.sort_by([("image_id", "ascending"), ("reading", "ascending")]), counts)


def read_fixations(store: Store, reading: str) -> Fixations:
    """Read one reading's fixations.

    Raises
    ------
    StoreNotFound
        If it has no table.
    UserError
        If the name is no reading's, or the table has not the expected columns.
    """
    if not _READING_ID.fullmatch(reading):
        raise UserError("A reading's name is malformed.", _HINT)
    name = f"main_data/{reading}/fixations.csv"
    table = read_columns(_read(store, name, _MAX_FIXATIONS_BYTES), "A fixations.csv", _FIXATION_COLUMNS, _HINT)
    start, end, x, y, width_x, width_y = (as_numbers(table[column], "A fixations.csv") for column in _FIXATION_COLUMNS)
    return Fixations(np.stack([y, x], axis=1), end - start, np.stack([width_y, width_x], axis=1))


def _read(store: Store, name: str, limit: int) -> bytes:
    data = store.head(name, limit + 1)
    if len(data) > limit:
        raise UserError("A table of REFLACX is larger than any can be.", "Check the files of main_data.")
    return data


def _lower(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.utf8_lower(pc.utf8_trim_whitespace(pc.fill_null(column, "")))


def _sound(listed: pa.Table) -> pa.Table:
    """Return the readings whose ids may name something, and whose image has a size."""
    readings, images = (pc.fill_null(listed[name], "") for name in ("id", "dicom_id"))
    sizes = [_side(listed[name]) for name in ("image_size_y", "image_size_x")]
    table = pa.table(
        {
            "image_id": images,
            "subject_id": pc.replace_substring_regex(pc.fill_null(listed["subject_id"], ""), r"^p|\.0$", ""),
            "reading": readings,
            "rows": sizes[0],
            "columns": sizes[1],
        }
    )
    named = [
        pc.match_substring_regex(column, f"^(?:{pattern.pattern})$")
        for column, pattern in ((readings, _READING_ID), (images, _IMAGE_ID))
    ]
    sized = pc.and_(pc.greater(table["rows"], 0), pc.greater(table["columns"], 0))
    return table.filter(pc.and_(pc.and_(*named), sized))


def _side(column: pa.ChunkedArray) -> pa.Array:
    """Return a side in pixels, 0 where it can't be one."""
    values = as_numbers(column, "A metadata_phase_*.csv")
    usable = (values >= 1) & (values <= _LARGEST_SIDE) & (values == np.floor(values))
    return pa.array(np.where(usable, values, 0).astype(np.int32))


def _distinct(table: pa.Table) -> tuple[pa.Table, int]:
    """Keep a reading's first row; the phases do not overlap, but their tables may have been copied twice."""
    _, first = np.unique(table["reading"].to_numpy(zero_copy_only=False), return_index=True)
    return table.take(pa.array(np.sort(first))), table.num_rows - len(first)
