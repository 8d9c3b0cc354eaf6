"""A scoring run on disk: planned once, committed shard by shard, finished by SUCCESS.json."""

from cxrgaze_ray.runs.contract import (
    CHUNK_ROWS,
    SHARD_ROWS,
    ModelPin,
    Request,
    RunSpec,
    ScoreOptions,
    make_plan,
    make_run_id,
)
from cxrgaze_ray.runs.files import files_of, uris_of
from cxrgaze_ray.runs.lease import Lease
from cxrgaze_ray.runs.run import Run, find_runs
from cxrgaze_ray.runs.success import Success
from cxrgaze_ray.runs.tables import table_bytes
from cxrgaze_ray.runs.verify import Problem, mend, verify_run

__all__ = [
    "CHUNK_ROWS",
    "SHARD_ROWS",
    "Lease",
    "ModelPin",
    "Problem",
    "Request",
    "Run",
    "RunSpec",
    "ScoreOptions",
    "Success",
    "files_of",
    "find_runs",
    "make_plan",
    "make_run_id",
    "mend",
    "table_bytes",
    "uris_of",
    "verify_run",
]
