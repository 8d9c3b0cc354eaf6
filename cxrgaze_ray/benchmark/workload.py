"""Archives, models and runs for the benchmarks: a few phantoms under many names, an untrained model, a planned run."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from cxrgaze_ray.archive.identities import Identities
from cxrgaze_ray.archive.manifest import Manifest
from cxrgaze_ray.benchmark.bounds import FIRST, LOOK, Mark
from cxrgaze_ray.benchmark.processes import own_processes, run_apart
from cxrgaze_ray.phantoms import make_archive
from cxrgaze_ray.scoring.gather import Gatherer, Progress
from cxrgaze_ray.scoring.pipeline import Pools
from cxrgaze_ray.scoring.planning import ToPlan, make_planned, pin_requested
from cxrgaze_ray.scoring.runs import Request, Run
from cxrgaze_ray.scoring.runs.contract import ScoreOptions
from cxrgaze_ray.storage import LocalStore
from cxrgaze_ray.storage.lease import Lease

HOSPITAL_ROWS = (2544, 3056)
"""Least and most rows of a phantom, as most detectors make them."""

TINY_ROWS = (180, 220)
"""Rows of phantoms that are drawn and decoded in a moment."""

ENGINE = "reference-float32-cpu"


def link_phantoms(folder: Path, images: int, rows: tuple[int, int], drawn: int = 8) -> str:
    """Draw a few phantoms and link them under so many names, in turn; return the archive's URI.

    Every format comes as often in each chunk. The files stay in the page cache, so reading them costs next to nothing.
    """
    make_archive(LocalStore(str(folder / "drawn")), images=drawn, seed=3, height=rows)
    sources = sorted(path for path in (folder / "drawn" / "files").rglob("*") if path.is_file())
    archive = folder / "archive"
    archive.mkdir()
    for number in range(images):
        source = sources[number % len(sources)]
        os.link(source, archive / f"{number:07d}{source.suffix}")
    return str(archive)


def publish_untrained(folder: Path, preset: str) -> str:
    """Publish an untrained network as cxrgaze@champion; return the registry's URI.

    In a process of its own: who scores loads no torch, and its memory is measured here.
    """
    registry = str(folder / "registry")
    run_apart("-m", "cxrgaze_ray", "models", "init", "--preset", preset, "--seed", "5", "--registry", registry)
    return registry


def request_for(archive: str, limit: int | None = None) -> Request:
    """Return the request to score all of an archive's views, with identifiers as they are."""
    options = ScoreOptions(identities="keep", view="all", limit=limit)
    return Request(archive=archive, model="cxrgaze@champion", engine="float32", options=options)


def plan_run(manifest: Manifest, out: str, registry: str, limit: int | None = None, engine: str = ENGINE) -> Run:
    """Plan a run on an engine as `cxrgaze score` does once it has listed the archive."""
    request = request_for(manifest.uri, limit)
    to_plan = ToPlan(manifest, *pin_requested(request, registry))
    return make_planned(request, out, to_plan, engine, new=False).run


def gather(run: Run, application: str, pools: Pools, on_progress: Callable[[Progress], None]) -> None:
    """Score and commit a run, as `cxrgaze score` does between planning and the audit."""
    with Lease(run.store) as lease:
        gatherer = Gatherer(run, Identities(), lease, threading.Event(), on_progress)
        gatherer.work(application, pools, retry_failed=False)


def gather_marked(run: Run, application: str, pools: Pools) -> list[Mark]:
    """Gather a run, noting the time after every chunk, and the processes at `FIRST` and at `LOOK`."""
    marks: list[Mark] = []

    def note(progress: Progress) -> None:
        share = progress.received / progress.total
        before = marks[-1].rows / progress.total if marks else 0.0
        edge = before < FIRST <= share or before < LOOK <= share
        marks.append(Mark(time.perf_counter(), progress.received, own_processes() if edge else None))

    gather(run, application, pools, note)
    return marks
