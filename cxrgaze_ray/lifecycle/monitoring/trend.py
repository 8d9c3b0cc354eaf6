"""Each run of a side by itself, so that a page can show since when something is as it is."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from cxrgaze_ray.lifecycle.monitoring.report import RunPoint
from cxrgaze_ray.schemas import CLASSES
from cxrgaze_ray.scoring.runs import Run


def trend_of(runs: Sequence[Run], rows: pa.Table) -> tuple[RunPoint, ...]:
    """Return a point for every run that has rows of its own: an image of several runs counts in the last one.

    Parameters
    ----------
    runs
        A side's runs, by time.
    rows
        Its rows, whose column ``run`` is an index into `runs`.
    """
    points = []
    for number, run in enumerate(runs):
        part = rows.filter(pc.equal(rows["run"], number))
        if part.num_rows:
            points.append(_point(run, part))
    return tuple(points)


def _point(run: Run, rows: pa.Table) -> RunPoint:
    statuses, predictions = (rows[name].cast(pa.string()) for name in ("status", "prediction"))
    scored = rows.filter(pc.is_valid(predictions))
    shares = {name: _share(predictions, name, scored.num_rows) for name in CLASSES} if scored.num_rows else {}
    sure = pc.max_element_wise(*(scored[f"p_{name}"] for name in CLASSES))
    return RunPoint(
        run_id=run.spec.run_id,
        at=run.spec.created_at,
        images=rows.num_rows,
        failed=_share(statuses, "failed", rows.num_rows),
        skipped=_share(statuses, "skipped", rows.num_rows),
        predicted=shares,
        confidence=pc.mean(sure).as_py() if scored.num_rows else None,
        brightness=pc.mean(rows["intensity_mean"]).as_py(),
    )


def _share(column: pa.ChunkedArray, value: str, of: int) -> float:
    return (pc.sum(pc.fill_null(pc.equal(column, value), False)).as_py() or 0) / of
