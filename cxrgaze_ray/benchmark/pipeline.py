"""Scoring beside its parts: bare decode, bare model, Ray Data with direct actors, and our scoring through Serve.

Every contestant works on the same images, in turn, round after round. Rates of the pipelines are of their steady
middle: the workers' start, the filling of the pipeline and its running dry are left out. Commits are in: both pipelines
write and commit every shard.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from ray import serve

from cxrgaze_ray.archive.identities import Identities
from cxrgaze_ray.archive.manifest import list_archive
from cxrgaze_ray.benchmark import workload
from cxrgaze_ray.benchmark.bare import Bare, measure_bare
from cxrgaze_ray.benchmark.bounds import Steady, shared_cores, slower_stage, steady
from cxrgaze_ray.benchmark.processes import ROLES
from cxrgaze_ray.benchmark.stand_ins import NETWORK_BATCH, NoopDecode, NoopModel, WaitingModel, score_directly
from cxrgaze_ray.benchmark.timing import Timing
from cxrgaze_ray.cluster.connection import ClusterSettings, connect
from cxrgaze_ray.config import Settings, Text, Uri
from cxrgaze_ray.scoring.pipeline import Pools
from cxrgaze_ray.scoring.runs.contract import chunk_rows_on
from cxrgaze_ray.serving import ComputeSettings, Model

DECODE, PREDICT = "bare decode", "bare model"
DIRECT, SCORING = "direct actors", "our scoring"
WAITING, FEEDING = "accelerator, model-bound", "accelerator, decode-bound"
FIXED = "fixed cost"

MODEL_BOUND, DECODE_BOUND = 1.25, 0.8
"""Waits of the simulated accelerator, as multiples of what the cores take to decode an image."""

_SPARE_CPUS = 6
_APPLICATION = "bench-pipeline"
_SMALLEST = 96

_CHUNKS = 6
"""Least chunks of a run: fewer have no steady middle."""


Rows = Annotated[int, Field(ge=32, le=20_000)]


class PipelineSettings(Settings):
    """What is measured."""

    archive: Uri | None = None
    """Radiographs of one's own; None draws phantoms."""

    images: int = Field(384, ge=1, le=1_000_000)
    """Images of a run of each pipeline."""

    rows: tuple[Rows, Rows] = workload.HOSPITAL_ROWS
    """Least and most rows of a phantom."""

    preset: Literal["full", "small", "tiny"] = "tiny"
    """Size of the untrained network."""

    threads: int = Field(1, ge=1, le=4096)
    """CPU threads of a forward pass: the same in the bare model, the direct actors and the replica."""

    engine: Text = workload.ENGINE
    """Of the bare model, the direct actors and the replica; one of a GPU takes none of the cores."""

    rounds: int = Field(5, ge=1, le=1000)
    """Measured rounds; one more goes before them."""

    bare_images: int = Field(64, ge=1, le=1_000_000)
    """Images of a round of bare decode and of the bare model."""

    small_images: int = Field(3072, ge=1, le=1_000_000)
    """Images of a run that measures the fixed cost."""

    @model_validator(mode="after")
    def _measurable(self) -> Self:
        if self.rows[0] > self.rows[1]:
            raise ValueError("rows must be the least, then the most")
        least = _CHUNKS * chunk_rows_on(self.engine)
        if min(self.images, self.small_images) < least:
            raise ValueError(f"images and small_images must be at least {least} on {self.engine}: six chunks")
        return self

    @property
    def gpu(self) -> bool:
        """Whether a GPU computes."""
        return self.engine.endswith("-cuda")


@dataclass(frozen=True)
class PipelineReport:
    """What was measured; rates are images a second, shares are of 1.

    Attributes
    ----------
    timings
        Seconds an image, by contestant: medians over rounds.
    cpu
        Core-seconds an image by role, by pipeline: medians over rounds.
    bare
        Core-seconds an image of bare decode and bare model.
    waits
        Seconds an image that the simulated accelerator is busy, by contestant.
    bounds
        Images a second that the hardware allows, by pipeline: medians over rounds.
    reached
        Share of what the hardware allowed in the same round, by pipeline: medians over rounds, since a shared
        machine's speed drifts from round to round.
    beside_direct
        Our scoring's rate by the direct actors' of the same round: the median over rounds.
    """

    cores: int
    settings: PipelineSettings
    timings: dict[str, Timing]
    cpu: dict[str, dict[str, float]]
    bare: dict[str, float]
    waits: dict[str, float]
    bounds: dict[str, float]
    reached: dict[str, float]
    beside_direct: float

    def rate(self, name: str) -> float:
        """Images a second."""
        return 1 / self.timings[name].seconds

    def shares(self, name: str) -> dict[str, float]:
        """Share of each role in a pipeline's core-seconds."""
        total = sum(self.cpu[name].values()) or 1.0
        return {role: seconds / total for role, seconds in self.cpu[name].items()}


def bench_pipeline(settings: PipelineSettings, say: Callable[[str], None] = lambda _: None) -> PipelineReport:
    """Measure all contestants in turn."""
    cores = os.cpu_count() or 1
    with (
        tempfile.TemporaryDirectory(prefix="cxrgaze-bench-") as folder,
        connect(ClusterSettings(num_cpus=cores + _SPARE_CPUS)),
    ):
        return _Race(settings, Path(folder), cores, say).report()


@contextmanager
def _deployed(model: serve.Application | None) -> Iterator[None]:
    """Deploy one model and nothing beside it: what Serve does at rest would be counted in."""
    if model is None:
        yield
        return
    serve.start(proxy_location="Disabled")
    serve.run(model, name=_APPLICATION, route_prefix=None)
    try:
        yield
    finally:
        serve.shutdown()  # type: ignore[no-untyped-call]


class _Race:
    """The workload, the deployments, and the rounds."""

    def __init__(self, settings: PipelineSettings, folder: Path, cores: int, say: Callable[[str], None]) -> None:
        self._settings, self._folder, self._cores, self._say = settings, folder, cores, say
        self._archive = settings.archive or self._drawn("large", max(settings.images, _SMALLEST), settings.rows)
        self._small = self._drawn("small", max(settings.small_images, _SMALLEST), workload.TINY_ROWS)
        self._registry = workload.publish_untrained(folder, settings.preset)
        self._waits: dict[str, float] = {}
        self._bare: dict[str, list[Bare]] = defaultdict(list)
        self._steady: dict[str, list[Steady]] = defaultdict(list)

    def _drawn(self, name: str, images: int, rows: tuple[int, int]) -> str:
        (self._folder / name).mkdir()
        return workload.link_phantoms(self._folder / name, images, rows)

    def report(self) -> PipelineReport:
        """Run every round, the first one unmeasured but for the waits that follow from it."""
        self._round()
        self._choose_waits()
        for number in range(self._settings.rounds):
            self._round()
            for name in (DIRECT, SCORING, WAITING, FEEDING, FIXED):
                self._run(name)
            self._say(f"Round {number + 1} of {self._settings.rounds}: {self._standing()}")
        return self._reported()

    def _standing(self) -> str:
        return ", ".join(f"{name} {found[-1].images_per_second:.1f}/s" for name, found in self._steady.items())

    def _round(self) -> None:
        images, threads = str(self._settings.bare_images), str(self._settings.threads)
        self._bare[DECODE].append(measure_bare("decode", self._archive, images))
        self._bare[PREDICT].append(measure_bare("model", self._registry, images, threads, self._settings.engine))

    def _choose_waits(self) -> None:
        """The simulated accelerator's waits follow from what decoding took in the first round."""
        decode_s = self._bare.pop(DECODE)[0].core_seconds / self._cores
        del self._bare[PREDICT]
        self._waits = {WAITING: MODEL_BOUND * decode_s, FEEDING: DECODE_BOUND * decode_s}

    def _model(self, name: str) -> serve.Application | None:
        """Return what a pipeline asks, if it asks Serve."""
        if name in self._waits:
            return WaitingModel.bind(self._waits[name] * NETWORK_BATCH)  # type: ignore[attr-defined, no-any-return]
        if name == SCORING:
            on_gpu = Model.options(ray_actor_options={"num_gpus": int(self._settings.gpu)})  # type: ignore[attr-defined]
            return on_gpu.bind(ComputeSettings(threads=self._settings.threads))  # type: ignore[no-any-return]
        return NoopModel.bind() if name == FIXED else None  # type: ignore[attr-defined]

    def _pools(self, name: str) -> Pools:
        if name == DIRECT:
            scores = score_directly(self._settings.threads)
            return Pools(self._cores, score=scores, scorer_gpus=float(self._settings.gpu))
        return Pools(self._cores, decode=NoopDecode) if name == FIXED else Pools(self._cores)

    def _run(self, name: str) -> None:
        """Plan, score and commit one run, and forget its files."""
        archive, limit = (self._small, None) if name == FIXED else (self._archive, self._settings.images)
        out = str(self._folder / "run")
        manifest = list_archive(archive, Identities)
        run = workload.plan_run(manifest, out, self._registry, limit, self._settings.engine)
        with _deployed(self._model(name)):
            if name == SCORING:
                handle = serve.get_deployment_handle("Model", _APPLICATION)
                handle.warm.remote(run.spec.model, run.spec.engine).result()
            marks = workload.gather_marked(run, _APPLICATION, self._pools(name))
        self._steady[name].append(steady(marks, run.spec.rows))
        shutil.rmtree(self._folder / "run")

    def _reported(self) -> PipelineReport:
        bare = {name: median(one.core_seconds for one in found) for name, found in self._bare.items()}
        timings = {name: Timing.of([one.seconds for one in found]) for name, found in self._bare.items()}
        timings |= {
            name: Timing.of([1 / one.images_per_second for one in found]) for name, found in self._steady.items()
        }
        bounds = self._bounds()
        return PipelineReport(
            cores=self._cores,
            settings=self._settings,
            timings=timings,
            cpu={name: _median_cpu(found) for name, found in self._steady.items()},
            bare=bare,
            waits=self._waits,
            bounds={name: median(rates) for name, rates in bounds.items()},
            reached={name: paired(self._rates(name), rates) for name, rates in bounds.items()},
            beside_direct=paired(self._rates(SCORING), self._rates(DIRECT)),
        )

    def _rates(self, name: str) -> list[float]:
        return [one.images_per_second for one in self._steady[name]]

    def _bounds(self) -> dict[str, list[float]]:
        """Return what the hardware allowed each pipeline, round by round."""
        decode, predict = ([one.core_seconds for one in self._bare[name]] for name in (DECODE, PREDICT))
        if self._settings.gpu:
            busy = [one.seconds for one in self._bare[PREDICT]]
            hardware = [slower_stage(self._cores, *parts) for parts in zip(decode, busy, strict=True)]
        else:
            hardware = [shared_cores(self._cores, *parts) for parts in zip(decode, predict, strict=True)]
        slower = {
            name: [slower_stage(self._cores, seconds, wait_s) for seconds in decode]
            for name, wait_s in self._waits.items()
        }
        return {DIRECT: hardware, SCORING: hardware, **slower}


def paired(rates: list[float], others: list[float]) -> float:
    """Return the median over rounds of one rate by another of the same round."""
    return median(rate / other for rate, other in zip(rates, others, strict=True))


def _median_cpu(found: list[Steady]) -> dict[str, float]:
    return {role: median(one.cpu_seconds[role] for one in found) for role in ROLES}
