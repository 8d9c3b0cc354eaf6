"""A scoring run on disk: planned once, committed shard by shard, finished by SUCCESS.json."""

from cxrgaze_ray.scoring.runs.contract import (
    CHUNK_ROWS,
    SHARD_ROWS,
    Request,
    RunSpec,
    ScoreOptions,
    chunk_rows_on,
    make_plan,
    make_run_id,
)
from cxrgaze_ray.scoring.runs.files import files_of, uris_of
from cxrgaze_ray.scoring.runs.run import Run, find_runs
from cxrgaze_ray.scoring.runs.success import Success
from cxrgaze_ray.scoring.runs.tables import table_bytes
from cxrgaze_ray.scoring.runs.verify import Problem, mend, verify_run

__all__ = [
    "CHUNK_ROWS",
    "SHARD_ROWS",
    "Problem",
    "Request",
    "Run",
    "RunSpec",
    "ScoreOptions",
    "Success",
    "chunk_rows_on",
    "files_of",
    "find_runs",
    "make_plan",
    "make_run_id",
    "mend",
    "table_bytes",
    "uris_of",
    "verify_run",
]
