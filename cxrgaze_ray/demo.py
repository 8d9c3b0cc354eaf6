"""The whole line on phantoms: what `cxrgaze demo` runs."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cxrgaze_ray.cluster import connect
from cxrgaze_ray.errors import UserError
from cxrgaze_ray.evaluation import evaluate_run
from cxrgaze_ray.gaze.egd import read_egd
from cxrgaze_ray.metrics import Evaluation
from cxrgaze_ray.phantoms import GAZE_FOLDER, PhantomReport, make_archive
from cxrgaze_ray.publishing import train_and_publish
from cxrgaze_ray.registry import Registry
from cxrgaze_ray.report import run_report
from cxrgaze_ray.runs import Request
from cxrgaze_ray.schemas import RESEARCH_ONLY
from cxrgaze_ray.scoring.driver import Outcome, score_archive
from cxrgaze_ray.scoring.gather import Progress
from cxrgaze_ray.shards import IngestSettings, ShardStore, SplitSettings, ingest
from cxrgaze_ray.storage import open_store
from cxrgaze_ray.training.settings import TrainSettings

MODEL = "cxrgaze"
_MARK = "demo.json"
_PARTS = ("archive", "unseen", "store", "registry", "run")


@dataclass(frozen=True)
class DemoResult:
    """What a demo came to: counts of the unseen archive, and metrics of the run on it, None where undefined."""

    directory: str
    report: str
    scored: int
    skipped: int
    failed: int
    images_per_second: float
    auc_macro: float | None
    saliency_cc: float | None
    seconds: float

    def lines(self) -> list[str]:
        """Return the result for people."""
        auc, cc = (("undefined" if value is None else f"{value:.3f}") for value in (self.auc_macro, self.saliency_cc))
        return [
            f"Unseen archive: {self.scored} scored, {self.skipped} skipped, {self.failed} failed, "
            f"{self.images_per_second:.1f} images/s.",
            f"On its phantoms: macro AUC {auc}, saliency CC {cc}.",
            f"Report: {self.report} (the whole demo took {self.seconds:.0f} s; {RESEARCH_ONLY.lower()[:-1]})",
        ]


@dataclass(frozen=True)
class DemoHooks:
    """Where a demo tells how it goes: sentences, and steps of the part it is at."""

    say: Callable[[str], None] = lambda _: None
    on_progress: Callable[[str, int, int], None] = lambda _part, _done, _total: None


def run_demo(directory: str, *, images: int, unseen: int, seed: int, hooks: DemoHooks) -> DemoResult:
    """Draw, ingest, train, publish, host, score an unseen archive with broken files among it, report.

    Parameters
    ----------
    directory
        Local folder; what an earlier demo left there is replaced.
    images, unseen
        Phantoms to learn from, and to score.
    seed
        Of phantoms and training.

    Raises
    ------
    UserError
        If the folder holds something else.
    """
    started = time.monotonic()
    root = _clear(directory)
    known, new = root / "archive", root / "unseen"
    hooks.say("1/5 Drawing phantom radiographs and their readers' gaze.")
    _draw(known, images, seed, 0, hooks)
    planted = _draw(new, unseen, seed + 1, 1, hooks)
    with connect() as _:
        hooks.say("2/5 Ingesting them into a shard store on Ray Data.")
        store = _ingest(known, root / "store", hooks)
        hooks.say("3/5 Training four phases on Ray Train, preset tiny.")
        registry = str(root / "registry")
        version = _train(store, registry, seed, hooks)
        hooks.say(
            f"4/5 {MODEL}@{version} is the champion; Ray Serve hosts it to score {planted.counts['images']} unseen "
            f"phantoms and {planted.counts['faults']} broken files."
        )
        outcome = _score(new, root / "run", registry, hooks)
    hooks.say("5/5 Comparing with the truth, and writing the report.")
    truth = read_egd(open_store(str(new / GAZE_FOLDER)))
    evaluation = evaluate_run(outcome.run, truth)
    report = root / "report.html"
    report.write_text(run_report(outcome.run, evaluation, truth), encoding="utf-8")
    return _result(root, report, outcome, evaluation, time.monotonic() - started)


def _clear(directory: str) -> Path:
    """Make the folder ready: remove an earlier demo's parts, and nothing else."""
    root = Path(directory).expanduser().absolute()
    if root.exists() and any(root.iterdir()) and not (root / _MARK).exists():
        raise UserError(f"{root} holds something that is no demo's.", "Name another folder: cxrgaze demo --dir DIR.")
    for part in _PARTS:
        shutil.rmtree(root / part, ignore_errors=True)
    root.mkdir(parents=True, exist_ok=True)
    (root / _MARK).write_text(json.dumps({"made_by": "cxrgaze demo"}))
    return root


def _draw(folder: Path, images: int, seed: int, faults: int, hooks: DemoHooks) -> PhantomReport:
    progress = partial(hooks.on_progress, "drawing")
    return make_archive(open_store(str(folder)), images=images, seed=seed, faults=faults, on_progress=progress)


def _ingest(archive: Path, store: Path, hooks: DemoHooks) -> ShardStore:
    # a tenth of a few hundred phantoms is too few to stop early by
    split = SplitSettings(train=0.75, validation=0.15)
    return ingest(
        str(archive),
        str(archive / GAZE_FOLDER),
        str(store),
        settings=IngestSettings(split=split),
        workers=2,
        on_progress=lambda state: hooks.on_progress("ingesting", state.done, state.total),
    )


def _train(store: ShardStore, registry: str, seed: int, hooks: DemoHooks) -> str:
    settings = TrainSettings.for_preset("tiny", seed=seed, backbone="fresh")
    return train_and_publish(
        store, settings, Registry(open_store(registry)), name=MODEL, promote=True, say=hooks.say
    ).version


def _score(archive: Path, out: Path, registry: str, hooks: DemoHooks) -> Outcome:
    def advance(state: Progress) -> None:
        hooks.on_progress("scoring", state.done, state.total)

    request = Request(archive=str(archive), model=f"{MODEL}@champion", engine="auto")
    return score_archive(request, str(out), registry, connect, on_progress=advance)


def _result(root: Path, report: Path, outcome: Outcome, evaluation: Evaluation, seconds: float) -> DemoResult:
    success = outcome.success
    scored, skipped, failed = (success.counts.get(status, 0) for status in ("scored", "skipped", "failed"))
    return DemoResult(
        directory=str(root),
        report=str(report),
        scored=scored,
        skipped=skipped,
        failed=failed,
        images_per_second=success.images_per_second,
        auc_macro=evaluation.diagnosis.auc_macro if evaluation.diagnosis else None,
        saliency_cc=evaluation.saliency.cc if evaluation.saliency else None,
        seconds=round(seconds, 1),
    )
