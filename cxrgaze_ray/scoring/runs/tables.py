"""A run's tables: to bytes and back, counted, and summed up by study."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cxrgaze_ray import schemas
from cxrgaze_ray.errors import RunConflict

STUDY_COLUMNS = ["study_id", "subject_id", "image_id", "status", *(f"p_{name}" for name in schemas.CLASSES)]
"""What `summarise_studies` reads."""

UNREADABLE = (pa.ArrowException, OSError)
"""What Arrow raises for a file that is cut, or is no Parquet."""


@contextmanager
def readable(uri: str, hint: str = "Remove it, and run the run's score command again.") -> Iterator[None]:
    """Raise RunConflict for a table that Arrow can't read."""
    try:
        yield
    except UNREADABLE as error:
        raise RunConflict(f"{uri} is cut, or is no table.", hint) from error


def table_bytes(table: pa.Table) -> bytes:
    """Return a table as Parquet; the same table gives the same bytes."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def count(column: pa.ChunkedArray) -> dict[str, int]:
    """Count a column's values, nulls left out."""
    return dict(sorted(Counter(value for value in column.to_pylist() if value is not None).items()))


def summarise_studies(summary: pa.Table) -> pa.Table:
    """Return one row a study (`schemas.STUDIES`) of rows with `STUDY_COLUMNS`; images without a study are left out."""
    scored = pc.if_else(pc.equal(summary["status"], str(schemas.Status.SCORED)), True, None)  # counted unless null
    known = summary.append_column("scored", scored).filter(pc.is_valid(summary["study_id"]))
    probabilities = [f"p_{name}" for name in schemas.CLASSES]
    grouped = known.group_by(["study_id", "subject_id"], use_threads=False).aggregate(
        [("image_id", "count"), ("scored", "count"), *[(name, "mean") for name in probabilities]]
    )
    means = np.stack([grouped[f"{name}_mean"].to_numpy() for name in probabilities], axis=1)
    seen = ~np.isnan(means).any(axis=1)
    best = np.where(seen, np.nan_to_num(means).argmax(axis=1), -1)
    columns = {
        "study_id": grouped["study_id"],
        "subject_id": grouped["subject_id"],
        "images": grouped["image_id_count"],
        "scored": grouped["scored_count"],
        **{name: grouped[f"{name}_mean"] for name in probabilities},
        "prediction": pa.array([schemas.CLASSES[i] if i >= 0 else None for i in best], pa.string()),
    }
    return pa.table(columns).cast(schemas.STUDIES)
