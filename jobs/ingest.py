"""Ray job: archive and gaze to a shard store.  python jobs/ingest.py --config jobs/ingest.yaml"""

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from cxrgaze_ray.archive.identities import Identities, open_key
from cxrgaze_ray.cli.job import run_job
from cxrgaze_ray.cluster.connection import ClusterSettings, connect
from cxrgaze_ray.config import Settings, Uri
from cxrgaze_ray.shards import IngestSettings, ingest


class IngestJob(Settings):
    """Contents of ingest.yaml."""

    archive: Uri
    gaze: Uri | Annotated[list[Uri], Field(min_length=1, max_length=1000)] | None = None
    out: Uri
    identities: Literal["keyed", "keep"] = "keyed"
    pseudonyms: Path | None = None
    follow_links: bool = False
    workers: int = Field(2, ge=1, le=10_000)
    cluster: ClusterSettings = ClusterSettings()
    settings: IngestSettings = IngestSettings()


def work(job: IngestJob) -> dict[str, Any]:
    chosen = Identities if job.identities == "keep" else partial(open_key, job.pseudonyms)
    how = job.model_dump(include={"follow_links", "workers"}) | {"settings": job.settings, "identities": chosen}
    store = ingest(job.archive, job.gaze, job.out, connect=partial(connect, job.cluster, quiet=False), **how)
    return {"store": job.out, "sha256": store.info.sha256(), "split_by": store.info.split_by, **store.info.counts}


if __name__ == "__main__":
    run_job(IngestJob, work)
