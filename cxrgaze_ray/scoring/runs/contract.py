"""What a run is: the request, the pinned model, the plan, and the id that follows from them."""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from cxrgaze_ray import schemas
from cxrgaze_ray.config import EngineKind, Record, Settings, Uri, Uris
from cxrgaze_ray.models.predictions import check_predicted
from cxrgaze_ray.models.settings import BOTH, Answer
from cxrgaze_ray.registry.pin import ModelPin

SHARD_ROWS = 128
"""Plan rows of a shard: the unit of commit and resume."""

CHUNK_ROWS = 16
"""Plan rows of a chunk: the unit of flow and retry. Divides SHARD_ROWS, so no chunk crosses a shard."""

ACCELERATOR_CHUNK_ROWS = 64
"""The same where a GPU scores: what Ray, Serve and the driver take for a chunk would be too much for sixteen images."""


class ScoreOptions(Settings):
    """What a user may choose about a run; part of its id."""

    view: Literal["frontal", "all"] = "frontal"
    """frontal skips laterals with a reason; all scores every view."""

    limit: int | None = Field(None, ge=1, le=1_000_000_000)
    """Score the first N files of the archive only."""

    decode: Literal["full", "reduced"] = "full"
    """reduced decodes JPEG and JPEG 2000 at the lowest resolution that still fills the model image."""

    identities: Literal["keyed", "keep"] = "keyed"
    """keyed replaces identifiers by keyed hashes, except in known de-identified archives; keep never does."""

    cam: bool = False
    """Add Grad-CAM of DenseNet's own head to every scored row."""

    def identity(self) -> str:
        """Return the text that a run's id hashes; without Grad-CAM it is what it was before there was any."""
        return self.model_dump_json(exclude=None if self.cam else {"cam"})


class Request(Settings):
    """What the command asked for: the same request continues an unfinished run."""

    archive: Uri
    model: Uri
    engine: EngineKind
    options: ScoreOptions = ScoreOptions()

    not_in: Uris = ()
    """Runs, or parents of runs: inputs that a finished one of them has a row for are left out of the plan."""

    follow_links: bool = False
    """Follow links that lead out of the archive. What came of it shows in the plan, and so in the run's id."""


class RunSpec(Record):
    """Contents of run.json."""

    run_id: str
    request: Request
    model: ModelPin
    predicts: tuple[Answer, ...] = BOTH
    """What the model predicts; earlier runs do not say, and predict both."""

    profile: str
    engine: str
    layout: str
    identities: str
    manifest_sha256: str
    plan_sha256: str
    rows: int
    left_out: int = 0
    """Inputs of the archive that the runs of `not_in` have rows for."""

    closed_folders: int = 0
    """Folders of the archive that could not be listed: what lies in them has no row."""

    shards: int
    shard_rows: int = SHARD_ROWS
    chunk_rows: int = CHUNK_ROWS
    schema_version: int = schemas.SCHEMA_VERSION
    code_version: str
    created_at: str

    @property
    def row_schema(self) -> pa.Schema:
        """Schema of the run's rows: `schemas.RESULT`, with Grad-CAM's columns if the request is for them."""
        return schemas.CAM_RESULT if self.request.options.cam else schemas.RESULT

    def check_predicts(self, answer: Answer, what: str, hint: str) -> None:
        """Raise UserError if the run's model does not predict what is asked for: see `check_predicted`."""
        check_predicted(answer, self.predicts, f"{self.model.name} {self.model.version}", what, hint)


def chunk_rows_on(engine: str) -> int:
    """Return the plan rows of a chunk of a run on an engine, fixed when it is planned."""
    return ACCELERATOR_CHUNK_ROWS if engine.endswith("-cuda") else CHUNK_ROWS


def make_run_id(
    manifest_sha256: str,
    model: ModelPin,
    profile_sha256: str,
    engine: str,
    options: ScoreOptions,
    identities: str = "keep",
) -> str:
    """Hash what determines the rows of a run, and nothing else (never worker counts): 16 hex digits."""
    parts = [
        manifest_sha256,
        model.answers,
        profile_sha256,
        engine,
        options.identity(),
        identities,
        str(schemas.SCHEMA_VERSION),
        str(schemas.RESULT.names),
        f"{SHARD_ROWS}/{CHUNK_ROWS}",
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def make_plan(manifest: pa.Table, limit: int | None = None) -> pa.Table:
    """Number a manifest's rows by shard and position.

    Returns
    -------
    pa.Table
        `schemas.PLAN`, in manifest order.
    """
    table = manifest if limit is None else manifest.slice(0, limit)
    index = np.arange(table.num_rows, dtype=np.int32)
    columns = [
        pa.array(index // SHARD_ROWS),
        pa.array(index % SHARD_ROWS),
        *table.select(schemas.PLAN.names[2:]).columns,
    ]
    return pa.Table.from_arrays(columns, schema=schemas.PLAN)
