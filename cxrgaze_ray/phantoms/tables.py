"""EGD-CXR's tables for phantoms, with the columns of the real ones."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from cxrgaze_ray.phantoms.scanpath import RATE_HZ, Scanpath
from cxrgaze_ray.schemas import CLASSES

_EMPTY_COLUMNS = ("LPCX", "LPCY", "LPD", "LPS", "LPV", "RPCX", "RPCY", "RPD", "RPS", "RPV", "BKID", "BKDUR", "BKPMIN")
_REPORTS = (
    "Heart size is normal.\nLungs are clear, no effusion.",
    "Enlarged cardiac silhouette, blunted angles.\nFindings fit heart failure.",
    "Focal consolidation.\nFindings fit pneumonia.",
)


def gaze_table(image_id: str, path: Scanpath, size: tuple[int, int], session: int) -> pa.Table:
    """Return one image's rows of eye_gaze.csv."""
    return _table(image_id, path.samples, path.fixation, size, session, 1 / RATE_HZ)


def fixation_table(image_id: str, path: Scanpath, size: tuple[int, int], session: int) -> pa.Table:
    """Return one image's rows of fixations.csv: each fixation's mean place and duration."""
    numbers = np.unique(path.fixation)
    seen = [path.samples[path.fixation == number] for number in numbers]
    usable = [not np.isnan(samples).all() for samples in seen]
    centres = np.array([np.nanmean(samples, axis=0) for samples, ok in zip(seen, usable, strict=True) if ok])
    durations = np.array([len(samples) / RATE_HZ for samples, ok in zip(seen, usable, strict=True) if ok])
    return _table(image_id, centres, numbers[usable], size, session, durations)


def _table(
    image_id: str,
    points: NDArray[np.float64],
    fixation: NDArray[np.int64],
    size: tuple[int, int],
    session: int,
    duration: float | NDArray[np.float64],
) -> pa.Table:
    count = len(points)
    seconds = np.cumsum(np.broadcast_to(duration, count))
    shut = np.isnan(points[:, 0])
    y, x = (np.where(shut, 0.0, points[:, axis]) for axis in (0, 1))
    steps = np.hypot(np.diff(x, prepend=x[:1]), np.diff(y, prepend=y[:1]))
    columns: dict[str, object] = {
        "SESSION_ID": np.full(count, session),
        "MEDIA_ID": np.zeros(count, int),
        "DICOM_ID": [image_id] * count,
        "CNT": np.arange(count),
        "Time (in secs)": np.round(seconds, 4),
        "TIMETICK(f=10000000)": (seconds * 1e7).astype(np.int64),
        "FPOGX": np.round(x / size[1], 5),
        "FPOGY": np.round(y / size[0], 5),
        "FPOGS": np.round(seconds, 4),
        "FPOGD": np.round(np.broadcast_to(duration, count), 4),
        "FPOGID": fixation,
        "FPOGV": (~shut).astype(int),
        "BPOGX": np.round(x / size[1], 5),
        "BPOGY": np.round(y / size[0], 5),
        "BPOGV": (~shut).astype(int),
        **{name: np.zeros(count, int) for name in _EMPTY_COLUMNS},
        "LPMM": np.full(count, 3.1),
        "LPMMV": (~shut).astype(int),
        "RPMM": np.full(count, 3.2),
        "RPMMV": (~shut).astype(int),
        "SACCADE_MAG": np.round(steps, 2),
        "SACCADE_DIR": np.zeros(count, int),
        "VID_FRAME": np.arange(count),
        # shut eyes are written as a place off the image, as the tracker does
        "X_ORIGINAL": np.where(shut, -1.0, np.round(x, 1)),
        "Y_ORIGINAL": np.where(shut, -1.0, np.round(y, 1)),
    }
    return pa.table(columns)


def calibration_rows(template: pa.Table) -> pa.Table:
    """Return rows as the tracker's calibration leaves them: with an id that was cut short."""
    rows = template.slice(0, 5)
    place = rows.schema.names.index("DICOM_ID")
    return rows.set_column(place, "DICOM_ID", pa.array(["calibration"] * rows.num_rows))


def master_row(image_id: str, subject: str, study: str, label: int, path: str, sex: str, age: int) -> dict[str, object]:
    """Return one image's row of master_sheet.csv; the report spans lines, as real ones do."""
    return {
        "dicom_id": image_id,
        "path": path,
        "study_id": f"s{study}",
        "patient_id": subject,
        "stay_id": "",
        "gender": sex,
        "anchor_age": age,
        "image_top_pad": 0,
        "image_bottom_pad": 0,
        "image_left_pad": 0,
        "image_right_pad": 0,
        "Normal": int(label == CLASSES.index("normal")),
        "CHF": int(label == CLASSES.index("heart_failure")),
        "pneumonia": int(label == CLASSES.index("pneumonia")),
        "dx1": CLASSES[label],
        "exam_indication": 'Phantom, "simulated"',
        "impression": _REPORTS[label],
    }


def csv_bytes(table: pa.Table) -> bytes:
    """Return a table as CSV with quoted strings."""
    buffer = io.BytesIO()
    pacsv.write_csv(table, buffer)
    return buffer.getvalue()
