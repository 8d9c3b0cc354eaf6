"""The whole line on phantoms: what `cxrgaze demo` runs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from cxrgaze_ray.cluster.connection import connect
from cxrgaze_ray.demo.steps import MODEL, DemoHooks, clear, draw, ingest_phantoms, score_phantoms, train_first
from cxrgaze_ray.evaluation.evaluate import evaluate_run
from cxrgaze_ray.evaluation.metrics import Evaluation
from cxrgaze_ray.gaze.egd import read_egd
from cxrgaze_ray.phantoms import GAZE_FOLDER
from cxrgaze_ray.reports.run_report import run_report
from cxrgaze_ray.schemas import RESEARCH_ONLY
from cxrgaze_ray.scoring.driver import Outcome
from cxrgaze_ray.storage import open_store

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


def run_demo(directory: str, *, images: int, unseen: int, seed: int, hooks: DemoHooks) -> DemoResult:
    """Draw, ingest, train, publish, host, score an unseen archive with broken files among it, report.

    Parameters
    ----------
    directory
        Local folder; what an earlier demo left there is replaced.
    images, unseen
        Phantoms to learn from, and to score.
    seed
        Seed of phantoms and training.

    Raises
    ------
    UserError
        If the folder holds something else.
    """
    started = time.monotonic()
    root = clear(directory, _PARTS)
    known, new = root / "archive", root / "unseen"
    hooks.say("1/5 Drawing phantom radiographs and their readers' gaze.")
    draw(known, images, seed, hooks)
    planted = draw(new, unseen, seed + 1, hooks, faults=1)
    with connect() as _:
        hooks.say("2/5 Ingesting them into a shard store on Ray Data.")
        store = ingest_phantoms(known, root / "store", hooks)
        hooks.say("3/5 Training four phases on Ray Train, preset tiny.")
        registry = str(root / "registry")
        version = train_first(store, registry, seed, hooks)
        hooks.say(
            f"4/5 {MODEL}@{version} is the champion; Ray Serve hosts it to score {planted.counts['images']} unseen "
            f"phantoms and {planted.counts['faults']} broken files."
        )
        outcome = score_phantoms(new, root / "run", registry, hooks)
    hooks.say("5/5 Comparing with the truth, and writing the report.")
    truth = read_egd(open_store(str(new / GAZE_FOLDER)))
    evaluation = evaluate_run(outcome.run, truth)
    report = root / "report.html"
    open_store(str(root)).put(report.name, run_report(outcome.run, evaluation, truth).encode())
    return _result(root, report, outcome, evaluation, time.monotonic() - started)


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
