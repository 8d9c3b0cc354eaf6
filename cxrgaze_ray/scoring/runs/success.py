"""SUCCESS.json: a finished run's account of itself, sealed."""

from __future__ import annotations

import hashlib
import json

from pydantic import ValidationError

from cxrgaze_ray.config import Record
from cxrgaze_ray.errors import RunConflict, StoreNotFound
from cxrgaze_ray.storage import Store

NAME = "SUCCESS.json"


class CommittedShard(Record):
    """One live shard file."""

    name: str
    rows: int
    sha256: str


class Success(Record):
    """Contents of SUCCESS.json: what a complete run holds."""

    run_id: str
    rows: int
    counts: dict[str, int]
    reasons: dict[str, int]
    predictions: dict[str, int]
    seconds: float
    images_per_second: float
    shards: list[CommittedShard]
    finished_at: str
    spec_sha256: str = ""
    """Hash of run.json; empty where a version finished the run that wrote none."""

    seal: str = ""
    """`seal_of` the rest; empty as above."""

    def sealed(self) -> Success:
        """Return it with its seal."""
        return self.model_copy(update={"seal": seal_of(self.model_dump_json().encode())})


def seal_of(data: bytes) -> str:
    """Hash all that a SUCCESS.json says but its seal: an edit shows, another layout does not."""
    document = json.loads(data)
    document.pop("seal", None)
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def read_success(store: Store) -> Success | None:
    """Return a run's SUCCESS.json, None if there is none; RunConflict if it can't be read."""
    try:
        data = store.get(NAME)
    except StoreNotFound:
        return None
    try:
        return Success.model_validate_json(data)
    except ValidationError as error:
        raise RunConflict(
            f"{store.locate(NAME)} can't be read.",
            "Remove it and run the run's score command again: it checks the rows and writes a new one.",
        ) from error
