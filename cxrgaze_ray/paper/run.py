"""Train and test every system that is not there yet; whatever was finished before is used again."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from cxrgaze_ray.cluster.connection import Cluster, Connect
from cxrgaze_ray.errors import TrainingDiverged, UserError
from cxrgaze_ray.evaluation.answers import table_of_bundle
from cxrgaze_ray.evaluation.evaluate import evaluate
from cxrgaze_ray.evaluation.maps import Reference
from cxrgaze_ray.evaluation.reference import reference_of
from cxrgaze_ray.evaluation.table import EvaluationTable
from cxrgaze_ray.models.bundle import Bundle, read_bundle
from cxrgaze_ray.models.settings import WITH_DENSENET, System
from cxrgaze_ray.paper.estimate import PhaseEstimate, estimate
from cxrgaze_ray.paper.plan import Job, TablesSettings, lacking, plan_jobs, title_of
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.shards import Trainable
from cxrgaze_ray.storage import Store, check_writable, open_store
from cxrgaze_ray.training.rehearsal import measured_on
from cxrgaze_ray.training.run import check_store, run_stages, training_name, work_store

PUBLISHED = "published.json"
"""Written into a training's folder with the version that it became."""

_TESTING = 0.05
"""Share of a training's time that testing its model is taken to need."""

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class TrainedSystem:
    """A trained system and its answers for the test split."""

    job: Job
    pin: ModelPin
    answers: EvaluationTable


@dataclass
class Results:
    """What became of every job: tested, or left out for a reason."""

    settings: TablesSettings
    tested: list[TrainedSystem] = field(default_factory=list)
    left_out: dict[tuple[System, int], str] = field(default_factory=dict)
    """Why there is nothing of a system and a seed."""

    def left_out_by_title(self) -> dict[str, str]:
        """Return why there is nothing of a system and a seed, by the job's title."""
        return {title_of(*key): why for key, why in self.left_out.items()}

    def why_not(self, system: System) -> str:
        """Return why there is nothing of a system at all."""
        return next((why for (name, _), why in self.left_out.items() if name == system), "not trained")

    def of(self, system: System) -> list[TrainedSystem]:
        """Return a system's tested models, one a seed."""
        return [one for one in self.tested if one.job.system == system]


def train_and_test(
    store: Trainable,
    settings: TablesSettings,
    registry: Registry,
    out: Store,
    *,
    workers: int = 1,
    backbone_weights: str | None = None,
    connect: Connect = nullcontext,
    say: Callable[[str], None] = lambda _: None,
    on_progress: Progress = lambda *_: None,
) -> Results:
    """Train what is not trained yet, each system in a Ray Train run, and have all answer the same test split.

    The same call goes on where a killed one stopped. A training that diverges, or that the store has not enough for,
    leaves its system out of the tables, and the others go on.

    Parameters
    ----------
    store
        Shard store with all three splits.
    registry
        Where each system is published under its own name.
    out
        Where answers are kept.
    workers
        Ray Train workers of each training.
    backbone_weights
        URI of DenseNet's first weights, for the systems that have one.
    say
        Called with sentences.
    on_progress
        Called with seconds of work done and of all, both estimated, and the name of what is under way.

    Raises
    ------
    UserError
        If the store has no test split, or its profile is not this version's.
    """
    for place in (registry.store, out):
        check_writable(place)
    check_store(store.info)
    for split in ("train", "validation", "test"):
        if not store.rows(split):
            raise UserError(f"The store has no {split} split.", "Ingest more patients: a tenth of them are tested.")
    results = Results(settings)
    jobs = [job for job in plan_jobs(settings) if not _leave_out(job, store, results)]
    work = _Work(store, registry, out, workers, backbone_weights, say, results)
    with connect() as cluster:
        elsewhere = isinstance(cluster, Cluster) and not cluster.private
        clock = _Clock(estimate(work.unfinished(jobs), store, workers, elsewhere=elsewhere), on_progress)
        for job in jobs:
            work.do(job, clock)
    return results


@dataclass(frozen=True)
class Foretold:
    """What would be trained: a row for each phase of each job, and how long all of it takes at most."""

    rows: list[dict[str, Any]]
    seconds: float
    device: str


def foretell(
    store: Trainable,
    settings: TablesSettings,
    registry: Registry,
    workers: int = 1,
    backbone_weights: str | None = None,
    *,
    elsewhere: bool = False,
) -> Foretold:
    """Say what `train_and_test` would train, and how long at most, by a step of each phase measured on this machine.

    With `elsewhere` the workers are on a cluster of others.
    """
    results, planned = Results(settings), plan_jobs(settings)
    work = _Work(store, registry, registry.store, workers, backbone_weights, lambda _: None, results)
    todo = work.unfinished([job for job in planned if not _leave_out(job, store, results)])
    measured = {(id(one.job), one.phase): one for one in estimate(todo, store, workers, elsewhere=elsewhere)}
    rows: list[dict[str, Any]] = []
    for job in planned:
        for phase, stage in job.settings.stages.items():
            one = measured.get((id(job), phase))
            state = results.left_out.get((job.system, job.seed)) or ("to be trained" if one else "published")
            if not job.shown:
                state += ", for those that go on from it"
            rows.append(
                {
                    "system": job.system,
                    "seed": job.seed,
                    "phase": phase,
                    "epochs": stage.epochs,
                    "step_s": one.step_s if one else 0.0,
                    "seconds": one.seconds if one else 0.0,
                    "state": state,
                }
            )
    device = measured_on(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return Foretold(rows, sum(one.seconds for one in measured.values()), device)


def _leave_out(job: Job, store: Trainable, results: Results) -> bool:
    why = lacking(store.info, job.system)
    if why:
        results.left_out[job.system, job.seed] = why
    return bool(why)


class _Clock:
    """Turns finished epochs into estimated seconds of work done."""

    def __init__(self, estimates: list[PhaseEstimate], on_progress: Progress) -> None:
        self._on_progress = on_progress
        self._cost = {(id(one.job), str(one.phase)): (one.seconds, one.epochs) for one in estimates}
        self._total = sum(seconds for seconds, _ in self._cost.values())
        self._done = 0.0
        self._phase: tuple[int, str] | None = None
        self._within = 0.0

    def epoch(self, job: Job, metrics: dict[str, Any]) -> None:
        """Note a finished epoch; a phase that patience ended counts as whole once the next one begins."""
        phase = (id(job), metrics["stage"])
        if phase != self._phase:
            self._close()
            self._phase = phase
        seconds, epochs = self._cost.get(phase, (0.0, 1))
        self._within = seconds * metrics["epoch"] / epochs
        self._tell(f"{job.title}: {metrics['stage']}")

    def finished(self, job: Job) -> None:
        """Note a job that is trained and tested."""
        self._close()
        self._tell(f"{job.title}: tested")

    def testing(self, job: Job) -> None:
        """Say that a job is being tested."""
        self._tell(f"{job.title}: testing")

    def _close(self) -> None:
        if self._phase is not None:
            self._done += self._cost.get(self._phase, (0.0, 1))[0]
        self._phase, self._within = None, 0.0

    def _tell(self, note: str) -> None:
        total = self._total * (1 + _TESTING)
        self._on_progress(round(self._done + self._within), max(1, round(total)), note)


@dataclass
class _Work:
    """Everything that all jobs share."""

    store: Trainable
    registry: Registry
    out: Store
    workers: int
    backbone_weights: str | None
    say: Callable[[str], None]
    results: Results
    pins: dict[tuple[System, int], ModelPin] = field(default_factory=dict)
    reference: Reference | None = None
    """What all maps are measured beside; read when the first ones are."""

    def unfinished(self, jobs: list[Job]) -> list[Job]:
        """Return the jobs whose models are not published yet, and remember those that are."""
        left = []
        for job in jobs:
            parent = self._parent(job)
            pin = None if job.parent and parent is None else self._published(job, parent)
            if pin is None:
                left.append(job)
            else:
                self.pins[job.system, job.seed] = pin
        return left

    def do(self, job: Job, clock: _Clock) -> None:
        """Train and test a job, as far as that is not done."""
        if job.parent and self._parent(job) is None:
            self._leave_out(job, f"goes on from {job.parent}, which is not trained")
            return
        try:
            self._do(job, clock)
        except TrainingDiverged as error:
            self._leave_out(job, f"training diverged: {error.message}")
        except UserError as error:  # such as a split without what a phase learns from, or too small for it
            self._leave_out(job, error.message)

    def _leave_out(self, job: Job, why: str) -> None:
        self.results.left_out[job.system, job.seed] = why
        self.say(f"{job.title} is left out: {why}")

    def _do(self, job: Job, clock: _Clock) -> None:
        pin = self.pins.get((job.system, job.seed))
        bundle = self._train(job, clock) if pin is None else None
        clock.testing(job)
        sha256 = bundle.info.weights_sha256 if bundle else pin.weights_sha256 if pin else ""
        answers = self._answers(job, sha256, bundle, pin) if job.shown else None
        if bundle is not None:
            pin = self._publish(job, bundle if answers is None else self._with_metrics(bundle, answers))
        assert pin is not None
        self.pins[job.system, job.seed] = pin
        if answers is not None:
            self.results.tested.append(TrainedSystem(job, pin, answers))
        clock.finished(job)

    def _parent(self, job: Job) -> ModelPin | None:
        return self.pins.get((job.parent, job.seed)) if job.parent else None

    def _training(self, job: Job, parent: ModelPin | None) -> str:
        return training_name(self.store, job.settings, parent, self._weights(job))

    def _weights(self, job: Job) -> str | None:
        begins = job.parent is None and job.system in WITH_DENSENET
        return self.backbone_weights if begins else None

    def _published(self, job: Job, parent: ModelPin | None) -> ModelPin | None:
        folder = work_store(self.registry, job.system, self._training(job, parent))
        if not folder.exists(PUBLISHED):
            return None
        version = json.loads(folder.get(PUBLISHED))["version"]
        return self.registry.resolve(f"{job.system}@{version}")

    def _train(self, job: Job, clock: _Clock) -> Bundle:
        parent = self._parent(job)
        return run_stages(
            self.store,
            job.settings,
            self.registry,
            name=job.system,
            parent=f"{parent.name}@{parent.version}" if parent else None,
            backbone_weights=self._weights(job),
            workers=self.workers,
            say=lambda sentence: self.say(f"{job.title}: {sentence}"),
            on_epoch=lambda metrics: clock.epoch(job, metrics),
        )

    def _publish(self, job: Job, bundle: Bundle) -> ModelPin:
        pin = self.registry.publish(bundle, "trained for the tables")
        folder = work_store(self.registry, job.system, self._training(job, self._parent(job)))
        folder.put(PUBLISHED, json.dumps({"version": pin.version}).encode())
        return pin

    def _answers(self, job: Job, sha256: str, bundle: Bundle | None, pin: ModelPin | None) -> EvaluationTable:
        key = f"answers/{job.system}-{sha256[:16]}-{self.store.info.sha256()[:16]}.parquet"
        if self.out.exists(key):
            try:
                return EvaluationTable.from_table(pq.read_table(io.BytesIO(self.out.get(key))))
            except (pa.ArrowInvalid, KeyError):
                self.say(f"{job.title}: its kept answers cannot be read, and are asked for again.")
        if bundle is None:
            assert pin is not None
            bundle = read_bundle(open_store(pin.uri))
        self.registry.look(job.system, sha256, self.store.parts, reason="the paper's tables")
        if self.reference is None and "saliency" in bundle.info.predicts:
            self.reference = reference_of(self.store, "test")
        answers = table_of_bundle(bundle, self.store, "test", reference=self.reference)
        buffer = io.BytesIO()
        pq.write_table(answers.to_table(), buffer)
        self.out.put(key, buffer.getvalue())
        return answers

    def _with_metrics(self, bundle: Bundle, answers: EvaluationTable) -> Bundle:
        return bundle.with_metrics(evaluate(answers, note=self.store.info.caution()).summary())
