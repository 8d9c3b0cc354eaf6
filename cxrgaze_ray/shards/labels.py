"""Where an image's label comes from."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cxrgaze_ray.errors import UserError
from cxrgaze_ray.schemas import CLASSES

CHEXPERT = {"normal": "no_finding", "heart_failure": "edema", "pneumonia": "pneumonia"}
"""The finding that stands for each class. Edema is a proxy: CheXpert has no heart failure."""


def chexpert_labels(manifest: pa.Table) -> pa.Array:
    """Return an index into `CLASSES` for each file, null unless exactly one of the three findings is present.

    Uncertain (-1) is not present. Irvin et al., CheXpert, AAAI 2019, name the findings.

    Raises
    ------
    UserError
        If the archive has no findings at all.
    """
    columns = [manifest[f"finding_{CHEXPERT[name]}"] for name in CLASSES]
    if all(column.null_count == manifest.num_rows for column in columns):
        raise UserError("The archive has no CheXpert findings.", "Leave out --labels chexpert, or add its table.")
    present = np.stack([pc.fill_null(pc.equal(column, 1), False).to_numpy() for column in columns])
    return pa.array(present.argmax(axis=0).astype(np.int8), mask=present.sum(axis=0) != 1)
