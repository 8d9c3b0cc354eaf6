"""How long trainings will take: each phase is rehearsed here, on the store's own rows, and the rest is multiplied."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from cxrgaze_ray.errors import UserError
from cxrgaze_ray.models.settings import System
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.paper.plan import Job
from cxrgaze_ray.shards import ShardReader, StoreRows, Trainable, index_store
from cxrgaze_ray.training.beforehand import check_rows
from cxrgaze_ray.training.recipes import StageName
from cxrgaze_ray.training.rehearsal import PhaseCost, rehearse, sharing_devices


@dataclass(frozen=True)
class PhaseEstimate:
    """How long a phase of a job may take.

    Attributes
    ----------
    step_s
        Measured seconds of a training step over one image.
    seconds
        Seconds of all its epochs, if patience ends none of them early.
    """

    job: Job
    phase: StageName
    epochs: int
    step_s: float
    seconds: float


def estimate(jobs: list[Job], store: Trainable, workers: int = 1, *, elsewhere: bool = False) -> list[PhaseEstimate]:
    """Rehearse every phase of the first seed's jobs on this machine, and multiply.

    A job that the store has not enough for has no estimate: it will be left out, and its error said.

    Parameters
    ----------
    workers
        Workers that share the images, and those of one CPU its cores; devices are taken to scale perfectly.
    elsewhere
        Whether the workers are on a cluster of others.
    """
    if not jobs:
        return []
    device, reader = torch.device("cuda" if torch.cuda.is_available() else "cpu"), ShardReader()
    index = index_store(store, ("train", "validation"))
    train, validation = (StoreRows(index, split, reader) for split in ("train", "validation"))
    measured: dict[System, dict[StageName, PhaseCost]] = {}
    sharing = sharing_devices(workers, device, elsewhere=elsewhere)
    found = []
    for job in jobs:
        if job.system not in measured:
            try:
                check_rows(train, validation, job.settings, job.settings.stages)
                network = build(job.settings.network, job.seed)
                measured[job.system] = {
                    phase: rehearse(network, train, validation, job.settings, phase, device)
                    for phase in job.settings.stages
                }
            except UserError:
                measured[job.system] = {}
        for phase, cost in measured[job.system].items():
            found.append(PhaseEstimate(job, phase, cost.epochs, cost.step_s, cost.seconds / sharing))
    return found
