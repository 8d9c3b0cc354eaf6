"""Training's phases beside the plain way of each, on one device, in one process without Ray."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from cxrgaze_ray.benchmark.network import phantoms
from cxrgaze_ray.benchmark.plain_training import PlainPhase, pairwise_triplets
from cxrgaze_ray.benchmark.timing import Timing, race
from cxrgaze_ray.models.losses import triplet_loss
from cxrgaze_ray.models.settings import Preset, architecture
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.schemas import CLASSES, HEIGHT, WIDTH
from cxrgaze_ray.training.ahead import Ahead, Item, Row
from cxrgaze_ray.training.compute import Compute
from cxrgaze_ray.training.features import FeatureCache
from cxrgaze_ray.training.feed import Feed
from cxrgaze_ray.training.recipes import RECIPES, StageName
from cxrgaze_ray.training.rows import HeldRows, StoredRow
from cxrgaze_ray.training.settings import TrainSettings
from cxrgaze_ray.training.stages import Batch, StageModule
from cxrgaze_ray.training.steps import Steps
from cxrgaze_ray.training.tally import Tally

Contestants = dict[str, Callable[[], object]]

PLAIN = "plain"
OURS = "ours"
TRIPLETS = 32
"""Images of the contrastive phase's batch, the paper's."""

EPOCHS = 10
"""Epochs of the classifier phase that are compared."""

DEVICE_RATE = 200.0
"""Images a second that a simulated device learns from."""

_FED_EPOCHS = 8
"""Epochs that the simulated device takes."""

_DRAWN = 12
"""Phantoms that are drawn; more images are these again."""


@dataclass(frozen=True)
class Compared:
    """One race: what was done the plain way, and what else did the same work.

    Attributes
    ----------
    key, what
        Its name in floors.yaml, and for people.
    images
        Images that a contestant learned from.
    timings
        Seconds by contestant; the first is the plain way.
    """

    key: str
    what: str
    images: int
    timings: Mapping[str, Timing]

    def ratio(self, name: str) -> float:
        """Return how many times as fast as the plain way a contestant is."""
        return self.timings[PLAIN].seconds / self.timings[name].seconds

    def ratios(self) -> dict[str, float]:
        """Return all ratios, by ``<key> <contestant>``."""
        return {f"{self.key} {name}": self.ratio(name) for name in self.timings if name != PLAIN}


@dataclass(frozen=True)
class TrainReport:
    """What `bench_train` measured.

    Attributes
    ----------
    preset, device
        What was measured, and where.
    phases
        The races.
    waiting
        Share of the time that a simulated device waited for its batches, by how it reads.
    peak_bytes
        Most memory that a GPU held; None on a CPU.
    """

    preset: str
    device: str
    phases: Sequence[Compared]
    waiting: Mapping[str, float]
    peak_bytes: int | None

    def ratios(self) -> dict[str, float]:
        """Return the ratios of all races by their names in floors.yaml."""
        return {name: ratio for one in self.phases for name, ratio in one.ratios().items()}


def bench_train(
    preset: Preset,
    device: str,
    *,
    images: int = 8,
    batch: int = 4,
    rounds: int = 3,
    compiled: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> TrainReport:
    """Race the phases of GazeNet against the plain way of each.

    Parameters
    ----------
    preset
        Size of the network, untrained.
    device
        ``cpu`` or ``cuda``.
    images, batch
        Images of an epoch, and of a step.
    rounds
        Measured rounds of each contestant, taken in turn.
    compiled
        Race torch.compile too, where a phase's layers learn.
    say
        Called with what is going on.
    """
    bench = _Bench(preset, torch.device(device), images, batch, rounds)
    phases = []
    races: dict[str, Callable[[], Compared]] = {
        "contrastive loss": bench.contrastive,
        "saliency phase": partial(bench.saliency, compiled),
        "classifier phase": bench.classifier,
    }
    for name, run in races.items():
        say(f"Racing the {name}.")
        phases.append(run())
    say("Feeding a simulated device.")
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else None
    return TrainReport(preset, device, phases, bench.waiting(), peak)


class _Bench:
    def __init__(self, preset: Preset, device: torch.device, images: int, batch: int, rounds: int) -> None:
        self._preset, self._device, self._batch, self._rounds = preset, device, batch, rounds
        rows = HeldRows(_rows(images))
        self._feed, self._unread = Feed(rows), Feed(rows, ahead=_OnTheStepsThread())

    def contrastive(self) -> Compared:
        """Race the loss of one batch, forwards and backwards from DenseNet's maps."""
        config = architecture("gazenet", self._preset)
        height, width = (length // config.stride for length in config.contrastive_size)  # type: ignore[attr-defined]
        depth: int = build(config, 0).densenet.classifier.in_features  # type: ignore[assignment, union-attr]
        generator = torch.Generator().manual_seed(0)
        drawn_BCHW = torch.randn(TRIPLETS, depth, height, width, generator=generator)
        maps_BCHW = drawn_BCHW.to(self._device).requires_grad_()
        label_B = (torch.arange(TRIPLETS) % len(CLASSES)).to(self._device)

        def ours(mining: Any) -> None:
            maps_BCHW.grad = None
            loss = triplet_loss(maps_BCHW, label_B, mining=mining)
            loss.backward()  # type: ignore[no-untyped-call]
            loss.item()  # waits for a GPU

        def plain() -> None:
            maps_BCHW.grad = None
            pairwise_triplets(maps_BCHW, label_B)

        contestants: Contestants = {PLAIN: plain, OURS: partial(ours, "batch_all")}
        contestants["the released sum, vectorised"] = partial(ours, "rowwise_sum")
        return Compared("contrastive", f"contrastive loss, batch {TRIPLETS}", TRIPLETS, race(contestants, self._rounds))

    def saliency(self, compiled: bool) -> Compared:
        """Race one training epoch: DenseNet in every step, against its features from the cache."""
        contestants: Contestants = {
            PLAIN: self._plain("saliency"),
            OURS: self._steps("saliency"),
            "channels last": self._steps("saliency", memory_format="channels_last"),
            "channels last, bfloat16": self._steps("saliency", memory_format="channels_last", precision="bfloat16"),
        }
        if compiled:
            contestants["compiled"] = self._steps("saliency", compile=True)
        return Compared("saliency", "saliency phase, an epoch", len(self._feed), race(contestants, self._rounds))

    def classifier(self) -> Compared:
        """Race ten training epochs; those of the plain ways, which are all alike, as ten times one.

        The released code's one script learns from both losses, through the saliency path; beside it stands a script
        that freezes the path and computes it in every epoch. Ours computes it once, which is counted.
        """
        contestants: Contestants = {
            PLAIN: self._plain("joint"),
            "frozen, computed in every epoch": self._plain("classifier"),
            OURS: partial(self._train, "classifier", EPOCHS),
        }
        timings = race(contestants, self._rounds)
        alike = {name: timing if name == OURS else timing.times(EPOCHS) for name, timing in timings.items()}
        return Compared("classifier", f"classifier phase, {EPOCHS} epochs", len(self._feed) * EPOCHS, alike)

    def waiting(self) -> dict[str, float]:
        """Return the share of a simulated device's time in which it waited for its next batch."""
        size, stage = architecture("gazenet", self._preset).input_size, RECIPES["gazenet"].stages["saliency"]
        found = {}
        for name, feed in (("read ahead of the step", self._feed), ("read on the step's thread", self._unread)):
            batches = [feed.select(stage).shuffled(epoch, self._batch, size) for epoch in range(_FED_EPOCHS)]
            found[name] = _waiting(itertools.chain(*batches))
        return found

    def _steps(self, phase: StageName, **settings: Any) -> Callable[[], object]:
        """Return a function that trains one epoch, with what is computed once computed before."""
        return partial(_epoch, self._phase(phase, **settings), 1)

    def _train(self, phase: StageName, epochs: int) -> None:
        """Train some epochs, what is computed once included."""
        steps = self._phase(phase)
        for epoch in range(1, epochs + 1):
            _epoch(steps, epoch)

    def _phase(self, phase: StageName, **settings: Any) -> Steps:
        chosen = self._settings(phase, **settings)
        network, compute = build(chosen.network, 0), Compute(self._device, chosen)
        compute.place(network)
        stage = RECIPES["gazenet"].stages[phase]
        return Steps(network, stage, self._feed, self._feed, chosen, compute, lambda module: module, FeatureCache())

    def _plain(self, phase: StageName) -> Callable[[], None]:
        chosen = self._settings(phase, memory_format="contiguous", cache_features=False)
        network, compute = build(chosen.network, 0), Compute(self._device, chosen)
        compute.place(network)
        stage = RECIPES["gazenet"].stages[phase]
        plain = PlainPhase(StageModule(network, stage, chosen), chosen.stages[phase].lr, compute)
        feed, size = self._unread.select(stage), stage.image_size(network.config)

        return lambda: plain.epoch(feed.shuffled(0, self._batch, size))

    def _settings(self, phase: StageName, **settings: Any) -> TrainSettings:
        stages = {phase: {"batch": self._batch}}
        return TrainSettings.for_preset(self._preset, [phase], backbone="fresh", stages=stages, **settings)


def _epoch(steps: Steps, epoch: int) -> None:
    steps.train(epoch, [], Tally(), lambda _: None)


class _OnTheStepsThread(Ahead):
    """Reads each batch when the step asks for it."""

    def __call__(self, make: Callable[[Item], Batch], items: Iterable[Item]) -> Iterator[Batch]:
        """Yield what `make` returns for each item, in order."""
        return map(make, items)

    def each(self, load: Callable[[int], Row], places: Iterable[int]) -> list[Row]:
        """Return what `load` returns for each place, in order."""
        return [load(place) for place in places]


def _waiting(batches: Iterable[Batch]) -> float:
    """Return the share of the time that a device of `DEVICE_RATE` waits for batches; the first one is its start."""
    dealt, waited = iter(batches), 0.0
    next(dealt)
    began = now = time.perf_counter()
    for batch in dealt:
        waited += time.perf_counter() - now
        time.sleep(len(batch.label_B) / DEVICE_RATE)
        now = time.perf_counter()
    return waited / (now - began)


def _rows(count: int) -> Iterator[StoredRow]:
    """Yield labelled phantoms with a map of gaze on each."""
    drawn = phantoms(min(count, _DRAWN))
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    for place in range(count):
        label = place % len(CLASSES)
        spot = np.exp(-(((y - 160 * (label + 1)) / 60) ** 2) - ((x - 256) / 60) ** 2)
        gaze = np.rint(65535 * spot).astype(np.uint16).tobytes()
        yield StoredRow(f"phantom-{place:05d}", label, drawn[place % len(drawn)].tobytes(), gaze)
