"""A whole job on two replicas, each on a GPU that is declared and not there: run as a script by a test."""

from __future__ import annotations

import json
import sys

import psutil
import ray
from ray import serve

from cxrgaze_ray.scoring.driver import ScoreSettings, score_archive
from cxrgaze_ray.scoring.gather import Progress
from cxrgaze_ray.scoring.runs import Request
from cxrgaze_ray.serving import ModelSettings
from cxrgaze_ray.serving.batch import BATCH_PREFIX
from tests.integration.conftest import same_cluster
from tests.integration.serving_load import processes


def main(archive: str, registry: str, out: str) -> None:
    """Score an archive; print the run, and the share that each replica had in the model's CPU time."""
    ray.init(num_cpus=6, num_gpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=300 * 2**20)
    settings = ScoreSettings(decoders=2, model=ModelSettings(min_replicas=2, max_replicas=2, gpus=1.0))
    before: dict[int, float] = {}
    after: dict[int, float] = {}

    def look(progress: Progress) -> None:
        found = before if not progress.received else after if progress.done == progress.total else None
        if found is not None:
            (name,) = [one for one in serve.status().applications if one.startswith(BATCH_PREFIX)]
            found.update({process: _seconds(process) for process in processes(name)})

    request = Request(archive=archive, model="cxrgaze@champion", engine="float32")
    outcome = score_archive(request, out, registry, same_cluster, settings=settings, on_progress=look)
    assert len(before) == 2, "both replicas are ready before the first chunk"
    assert after.keys() == before.keys()
    used = [after[process] - before[process] for process in before]
    print(json.dumps({"run": outcome.run.store.uri, "shares": [seconds / sum(used) for seconds in used]}))


def _seconds(process: int) -> float:
    used = psutil.Process(process).cpu_times()
    return float(used.user + used.system)


if __name__ == "__main__":
    main(*sys.argv[1:])
