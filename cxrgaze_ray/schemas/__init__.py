"""The data contracts: classes, reason codes, the affine, and the Arrow schema of every table on disk.

Everything is imported from here; `reasons`, `affine` and `tables` hold it, `orientation` turns pictures.
Knows of nothing but Arrow.
"""

from __future__ import annotations

from cxrgaze_ray.schemas.affine import AFFINE, HEIGHT, WIDTH, Affine
from cxrgaze_ray.schemas.reasons import (
    ODDITY_HELP,
    REASON_HELP,
    SKIPS,
    Oddity,
    Reason,
    Status,
    join_oddities,
    split_oddities,
    status_of,
)
from cxrgaze_ray.schemas.tables import (
    ANSWERS,
    CAM_FIELDS,
    CAM_MEANING,
    CAM_RESULT,
    CLASSES,
    FACT_FIELDS,
    FINDINGS,
    ID_FIELDS,
    MANIFEST,
    NOT_STATED,
    PLAN,
    READERS,
    REJECTS,
    RESEARCH_ONLY,
    RESULT,
    SALIENCY_HEIGHT,
    SALIENCY_WIDTH,
    SCHEMA_VERSION,
    STORE_SHARD,
    STUDIES,
    SUMMARY,
)

__all__ = [
    "AFFINE",
    "ANSWERS",
    "CAM_FIELDS",
    "CAM_MEANING",
    "CAM_RESULT",
    "CLASSES",
    "FACT_FIELDS",
    "FINDINGS",
    "HEIGHT",
    "ID_FIELDS",
    "MANIFEST",
    "NOT_STATED",
    "ODDITY_HELP",
    "PLAN",
    "READERS",
    "REASON_HELP",
    "REJECTS",
    "RESEARCH_ONLY",
    "RESULT",
    "SALIENCY_HEIGHT",
    "SALIENCY_WIDTH",
    "SCHEMA_VERSION",
    "SKIPS",
    "STORE_SHARD",
    "STUDIES",
    "SUMMARY",
    "WIDTH",
    "Affine",
    "Oddity",
    "Reason",
    "Status",
    "join_oddities",
    "split_oddities",
    "status_of",
]
