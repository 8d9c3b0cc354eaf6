"""How long trainings will take: one step of each phase is measured here, the rest is multiplied."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import torch

from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.paper.plan import Job
from cxrgaze_ray.schemas import CLASSES
from cxrgaze_ray.training.recipes import RECIPES, Stage, StageName
from cxrgaze_ray.training.stages import Batch, StageModule, trainable_state

MEASURED_IMAGES, _ROUNDS = 4, 3
"""Images of a measured step, of which the fastest counts; a larger batch is taken to cost as many times more."""

_VALIDATED = 1.3
"""Work of an epoch over that of its training steps: a validation split an eighth as large, and reading."""


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


def estimate(jobs: list[Job], images: int, workers: int = 1) -> list[PhaseEstimate]:
    """Measure a training step of every phase of the first seed's jobs, on this machine, and multiply.

    Parameters
    ----------
    images
        Images of the training split.
    workers
        Workers that share the images; taken to scale perfectly.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    measured: dict[tuple[str, StageName], float] = {}
    found = []
    for job in jobs:
        for phase, stage in job.settings.stages.items():
            if (job.system, phase) not in measured:
                measured[job.system, phase] = _step_seconds(job, RECIPES[job.system].stages[phase], device)
            step = measured[job.system, phase]
            seconds = step * images * stage.epochs * _VALIDATED / workers
            found.append(PhaseEstimate(job, phase, stage.epochs, step, seconds))
    return found


def _step_seconds(job: Job, stage: Stage, device: torch.device) -> float:
    """Measure a step, per image; features that are computed once count as nothing."""
    network = build(job.settings.network, job.seed).to(device)
    module = StageModule(network, stage, job.settings).train()
    size = stage.image_size(network.config)
    rng = np.random.default_rng(0)
    batch = Batch(
        torch.from_numpy(rng.random((MEASURED_IMAGES, 1, *size), dtype=np.float32)),
        torch.arange(MEASURED_IMAGES) % len(CLASSES),
        torch.full((MEASURED_IMAGES, *size), 1 / (size[0] * size[1])),
    ).to(device)
    if job.settings.caches(stage.name):
        with torch.no_grad():
            features_BX = module.eval().frozen(batch.image_BCHW)
        batch = replace(batch, features_BX=features_BX)
    optimiser = torch.optim.Adam(trainable_state(module))
    return min(_timed(module, batch, optimiser, device) for _ in range(_ROUNDS)) / MEASURED_IMAGES


def _timed(module: StageModule, batch: Batch, optimiser: torch.optim.Optimizer, device: torch.device) -> float:
    started = time.perf_counter()
    loss = module.train()(batch).loss
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
