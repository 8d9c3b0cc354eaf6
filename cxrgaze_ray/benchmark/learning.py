"""Whether training learns: each phase's own validation loss, before and after, over several seeds on phantoms."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cxrgaze_ray.cluster.connection import Connect, kept
from cxrgaze_ray.models.curves import Curve
from cxrgaze_ray.models.families import Preset
from cxrgaze_ray.phantoms import GAZE_FOLDER, make_archive
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.shards import IngestSettings, ShardStore, SplitSettings, ingest
from cxrgaze_ray.storage import LocalStore
from cxrgaze_ray.training.run import run_stages
from cxrgaze_ray.training.settings import TrainSettings

_SPLIT = SplitSettings(train=0.7, validation=0.3)
"""Nothing is tested here."""

_ARCHIVE_SEED = 17


@dataclass(frozen=True)
class Learned:
    """One phase of one training.

    Attributes
    ----------
    before, best
        Mean validation loss of the weights that the phase began with, and at its lowest.
    best_epoch, epochs
        When that was, from 1, and how many there were.
    seconds
        Of the whole training that the phase is part of.
    """

    seed: int
    phase: str
    before: float
    best: float
    best_epoch: int
    epochs: int
    seconds: float

    @property
    def improved(self) -> bool:
        """Whether any epoch was better than what it began with."""
        return self.best < self.before


def bench_learning(
    preset: Preset, images: int, seeds: int, epochs: int, connect: Connect, say: Callable[[str], None]
) -> Iterator[Learned]:
    """Train a fresh GazeNet on the same phantoms from each seed, and yield what each of its phases learned.

    Parameters
    ----------
    preset
        Size of the network; everything but the number of epochs is the paper's recipe for it.
    images
        Phantoms, of which 70% are learned from.
    seeds
        Trainings, with seeds 1, 2 and so on: weights, order and dropout differ, images do not.
    epochs
        Epochs of each phase.
    """
    with tempfile.TemporaryDirectory() as folder, kept(connect) as join:
        with join():
            store = _store(Path(folder), images)
        registry = Registry(LocalStore(str(Path(folder) / "registry")))
        for seed in range(1, seeds + 1):
            base = TrainSettings.for_preset(preset, seed=seed, backbone="fresh")
            settings = TrainSettings.for_preset(
                preset, seed=seed, backbone="fresh", stages={name: {"epochs": epochs} for name in base.stages}
            )
            began = time.perf_counter()
            bundle = run_stages(store, settings, registry, name="learning", connect=join, say=say)
            yield from map(partial(learned, seed, time.perf_counter() - began), bundle.info.curves)


def _store(folder: Path, images: int) -> ShardStore:
    archive = folder / "archive"
    make_archive(LocalStore(str(archive)), images=images, seed=_ARCHIVE_SEED)
    return ingest(
        str(archive),
        str(archive / GAZE_FOLDER),
        str(folder / "store"),
        settings=IngestSettings(split=_SPLIT),
        workers=2,
    )


def learned(seed: int, seconds: float, curve: Curve) -> Learned:
    """Return what a phase's curve says of it."""
    best = min(curve.validation)
    return Learned(
        seed, curve.phase, curve.started, best, curve.validation.index(best) + 1, len(curve.validation), seconds
    )
