"""REFLACX's tables for phantoms: metadata and fixations with the columns of the real ones that matter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cxrgaze_ray.phantoms.tables import csv_bytes
from cxrgaze_ray.storage import Store

_DEGREE = (47.0, 52.0)
"""Source pixels of one degree, y and x, on a phantom's screen."""


@dataclass(frozen=True)
class PhantomReading:
    """One reader's look at an image.

    Attributes
    ----------
    points_N2, seconds_N
        Fixations, y and x in source pixels, and how long they lasted.
    size
        Rows and columns of the image.
    discarded
        Whether the tracker failed.
    """

    reading: str
    image_id: str
    subject_id: str
    size: tuple[int, int]
    points_N2: NDArray[np.float64]
    seconds_N: NDArray[np.float64]
    discarded: bool = False


def write_reflacx(store: Store, phases: list[list[PhantomReading]]) -> None:
    """Write the metadata of up to three phases, and the fixations of every reading that was not discarded."""
    for phase, readings in enumerate(phases, 1):
        rows = [_metadata_row(one) for one in readings]
        store.put(f"main_data/metadata_phase_{phase}.csv", csv_bytes(pa.Table.from_pylist(rows)))
        for one in readings:
            if not one.discarded:
                store.put(f"main_data/{one.reading}/fixations.csv", csv_bytes(_fixations(one)))


def _metadata_row(one: PhantomReading) -> dict[str, object]:
    return {
        "id": one.reading,
        "split": "train",
        "eye_tracking_data_discarded": str(one.discarded),
        "image": f"files/p{one.subject_id[:2]}/p{one.subject_id}/{one.image_id}.dcm",
        "dicom_id": one.image_id,
        "subject_id": int(one.subject_id),
        "image_size_x": one.size[1],
        "image_size_y": one.size[0],
    }


def _fixations(one: PhantomReading) -> pa.Table:
    ends = np.cumsum(one.seconds_N + 0.03)  # a saccade takes about 30 ms
    count = len(ends)
    return pa.table(
        {
            "timestamp_start_fixation": ends - one.seconds_N,
            "timestamp_end_fixation": ends,
            "average_pupil_area_normalized": np.full(count, 0.9),
            "x_position": one.points_N2[:, 1],
            "y_position": one.points_N2[:, 0],
            "angular_resolution_x_pixels_per_degree": np.full(count, _DEGREE[1]),
            "angular_resolution_y_pixels_per_degree": np.full(count, _DEGREE[0]),
        }
    )
