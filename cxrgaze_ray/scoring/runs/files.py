"""Which file a row is of: rows joined with the plan, the only table of a run that holds places.

A path may name a patient. Whoever asks for paths gets them; nothing else shows them.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cxrgaze_ray import schemas
from cxrgaze_ray.errors import ConfigError
from cxrgaze_ray.schemas import CLASSES, Reason, Status
from cxrgaze_ray.scoring.runs.run import Run

_KINDS = {
    **dict.fromkeys(CLASSES, "prediction"),
    **dict.fromkeys(map(str, Status), "status"),
    **dict.fromkeys(map(str, Reason), "reason_code"),
}
"""What rows can be asked for by, and the column that says it. No class, status or reason shares its name."""

_TOLD = [
    "image_id", "study_id", "subject_id", "status", "reason_code", "detail", "prediction",
    *[f"p_{name}" for name in CLASSES],
]  # fmt: skip


def uris_of(rows: pa.Table, plan: pa.Table) -> pa.ChunkedArray:
    """Return the place of every row's file, by its shard and position.

    Parameters
    ----------
    rows
        Any rows of a run.
    plan
        Its `schemas.PLAN`, in order.
    """
    starts = np.searchsorted(plan["shard"].to_numpy(), rows["shard"].to_numpy())
    return plan["uri"].take(pa.array(starts + rows["position"].to_numpy()))


def files_of(run: Run, kind: str) -> pa.Table:
    """Return the rows of one class, status or reason with their places: of a class the surest first, else as planned.

    Returns
    -------
    pa.Table
        uri, and what a row says of its file; no maps.

    Raises
    ------
    ConfigError
        If there is no such class, status or reason.
    UserError
        If it is a class, and the run's model predicts none.
    """
    column = _KINDS.get(kind)
    if column is None:
        raise ConfigError(f"There is no class, status or reason {kind}.", f"Choose among {', '.join(_KINDS)}.")
    if kind in CLASSES:
        run.spec.check_predicts("classes", f"Files of class {kind} were asked for", "Ask by a status or a reason.")
    found = [table.filter(pc.equal(table[column], kind)) for table in run.tables(["shard", "position", *_TOLD])]
    rows = pa.concat_tables([_EMPTY, *found])
    rows = rows.append_column("uri", uris_of(rows, run.plan()))
    if kind in CLASSES:
        rows = rows.sort_by([(f"p_{kind}", "descending"), ("shard", "ascending"), ("position", "ascending")])
    return rows.select(["uri", *_TOLD])


_EMPTY = pa.schema([schemas.RESULT.field(name) for name in ("shard", "position", *_TOLD)]).empty_table()
