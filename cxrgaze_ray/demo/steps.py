"""The steps that both demos take: phantoms into a folder of their own, a store, a first model, a run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cxrgaze_ray.cluster.connection import connect
from cxrgaze_ray.errors import UserError
from cxrgaze_ray.phantoms import GAZE_FOLDER, Drift, PhantomReport, make_archive
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.reports.evaluation_page import training_page
from cxrgaze_ray.scoring.driver import Outcome, score_archive
from cxrgaze_ray.scoring.gather import Progress
from cxrgaze_ray.scoring.runs import Request
from cxrgaze_ray.shards import IngestSettings, ShardStore, SplitSettings, ingest
from cxrgaze_ray.storage import check_writable, open_store
from cxrgaze_ray.training.publishing import train_and_publish
from cxrgaze_ray.training.settings import TrainSettings

MODEL = "cxrgaze"
SPLIT = SplitSettings(train=0.75, validation=0.15)
"""A tenth of a few hundred phantoms is too few to stop early by."""

_MARK = "demo.json"


@dataclass(frozen=True)
class DemoHooks:
    """Where a demo tells how it goes: sentences, and steps of the part it is at."""

    say: Callable[[str], None] = lambda _: None
    on_progress: Callable[[str, int, int], None] = lambda _part, _done, _total: None


def clear(directory: str, parts: Sequence[str]) -> Path:
    """Make the folder ready: remove an earlier demo's parts, and nothing else.

    Raises
    ------
    UserError
        If the folder holds something that is no demo's.
    """
    check_writable(open_store(directory))
    root = Path(directory).expanduser().absolute()
    if root.exists() and any(root.iterdir()) and not (root / _MARK).exists():
        raise UserError(f"{root} holds something that is no demo's.", "Name another folder: cxrgaze demo --dir DIR.")
    for part in parts:
        shutil.rmtree(root / part, ignore_errors=True)
    root.mkdir(parents=True, exist_ok=True)
    (root / _MARK).write_text(json.dumps({"made_by": "cxrgaze demo"}))
    return root


def draw(
    folder: Path, images: int, seed: int, hooks: DemoHooks, *, faults: int = 0, drift: Drift | None = None
) -> PhantomReport:
    """Draw phantoms into a folder."""
    return make_archive(
        open_store(str(folder)),
        images=images,
        seed=seed,
        faults=faults,
        drift=drift or Drift(),
        on_progress=partial(hooks.on_progress, "drawing"),
    )


def ingest_phantoms(archive: Path, store: Path, hooks: DemoHooks) -> ShardStore:
    """Make a shard store of an archive of phantoms."""
    return ingest(
        str(archive),
        str(archive / GAZE_FOLDER),
        str(store),
        settings=IngestSettings(split=SPLIT),
        workers=2,
        on_progress=lambda state: hooks.on_progress("ingesting", state.done, state.total),
    )


def train_first(store: ShardStore, registry: str, seed: int, hooks: DemoHooks) -> str:
    """Train all phases from nothing, make the model the champion, and return its version."""
    settings = TrainSettings.for_preset("tiny", seed=seed, backbone="fresh")
    opened = Registry(open_store(registry))
    pin = train_and_publish(store, settings, opened, name=MODEL, promote=True, say=hooks.say)
    hooks.say(f"How it learned and how good it is: {training_page(opened, pin, store.info.sha256())}")
    return pin.version


def score_phantoms(archive: Path, out: Path, registry: str, hooks: DemoHooks) -> Outcome:
    """Score an archive with the champion."""

    def advance(state: Progress) -> None:
        hooks.on_progress("scoring", state.done, state.total)

    request = Request(archive=str(archive), model=f"{MODEL}@champion", engine="auto")
    return score_archive(request, str(out), registry, connect, on_progress=advance)
