"""What a training's phases cost here: each takes real steps over a few of its real rows, and keeps nothing.

The steps are those of the training (`Steps`), so that whatever would stop the first one stops the rehearsal too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cxrgaze_ray.models.losses import triplet_bytes, triplet_loss
from cxrgaze_ray.models.network import Network
from cxrgaze_ray.training.compute import Compute
from cxrgaze_ray.training.features import FeatureCache, room
from cxrgaze_ray.training.feed import Feed
from cxrgaze_ray.training.recipes import RECIPES, Stage, StageName
from cxrgaze_ray.training.rows import ChosenRows, Rows, usable
from cxrgaze_ray.training.settings import TrainSettings
from cxrgaze_ray.training.steps import Steps
from cxrgaze_ray.training.tally import Tally

CPU_IMAGES = 4
"""Rows of a measured step on a CPU, where a larger batch takes as many times as long; a GPU is given a whole batch."""

_LEAST_IMAGES = 4
"""Rows among which there is a triplet if the split holds any."""

_ROUNDS = 3
"""Measured steps, of which the fastest counts; one that nobody measures goes before them."""


@dataclass(frozen=True)
class PhaseCost:
    """What a phase costs on one device.

    Attributes
    ----------
    images, validated
        Rows of the train and of the validation split that take part.
    epochs, batch
        Most epochs, and rows of a step.
    step_s, validation_s, features_s
        Seconds an image of a training step, of validation, and of features that are computed once; 0 if none are.
    feature_bytes
        Bytes an image of those features.
    saved_bytes
        Bytes an image that layers keep between a step's forward and backward pass.
    loss_bytes
        Bytes of a loss that looks at all of a step's rows at once, whoever of the workers has them; 0 of any other.
    learning_bytes, network_bytes
        Bytes of the weights that learn, and of all.
    """

    phase: StageName
    images: int
    validated: int
    epochs: int
    batch: int
    step_s: float
    validation_s: float
    features_s: float
    feature_bytes: int
    saved_bytes: int
    loss_bytes: int
    learning_bytes: int
    network_bytes: int

    @property
    def rows(self) -> int:
        """Most rows that a step has."""
        return min(self.batch, self.images)

    @property
    def once_s(self) -> float:
        """Seconds of what one device computes once: features, and how good the weights are that it begins with."""
        return self.features_s * (self.images + self.validated) + self.validation_s * self.validated

    @property
    def epoch_s(self) -> float:
        """Seconds of an epoch and its validation, by one device."""
        return self.step_s * self.images + self.validation_s * self.validated

    @property
    def seconds(self) -> float:
        """Seconds of all epochs by one device, if patience ends none of them early."""
        return self.once_s + self.epoch_s * self.epochs

    @property
    def features_bytes(self) -> int:
        """Bytes of the features of both splits."""
        return self.feature_bytes * (self.images + self.validated)

    @property
    def checkpoint_bytes(self) -> int:
        """Bytes of a checkpoint: the weights, and of those that learn the best ones and the optimiser's two means."""
        return self.network_bytes + 3 * self.learning_bytes

    def step_bytes(self, rows: int) -> int:
        """Return bytes that a step takes on a device that has so many of its rows.

        They are of weights, gradients, optimiser, layers and loss.
        """
        return self.network_bytes + 3 * self.learning_bytes + self.saved_bytes * rows + self.loss_bytes


def sharing_devices(workers: int, device: torch.device, *, elsewhere: bool) -> int:
    """Return how many devices such as a measured one would share the work: workers on one CPU share its cores.

    Parameters
    ----------
    workers
        Workers of the training.
    device
        The measured device.
    elsewhere
        Whether the workers are on a cluster of others: then each is taken to have a device like this one.
    """
    if elsewhere:
        return workers
    return min(workers, torch.cuda.device_count()) if device.type == "cuda" else 1


def rehearse(
    network: Network,
    train: Rows,
    validation: Rows,
    settings: TrainSettings,
    phase: StageName,
    device: torch.device,
    *,
    workers: tuple[int, int] = (1, 1),
) -> PhaseCost:
    """Take some steps of a phase, and measure them; the network is not what it was afterwards.

    Without torch.compile, which would take minutes for what these steps are to show.

    Parameters
    ----------
    network
        The network with the weights that the training would start from.
    train, validation
        Rows of the two splits; see `check_rows`.
    settings
        Settings of the training.
    device
        Device to compute on.
    workers
        Workers that would share a batch, of which a GPU is given one's share, or what fits of that; and those of them
        that would share this machine's folder for temporary files.

    Raises
    ------
    TrainingDiverged
        If a loss, gradient or weight is not finite.
    EnvironmentFault
        If the rows can't be read.
    """
    plain = settings.model_copy(update={"compile": False})
    rehearsal = _Rehearsal(network, train, validation, phase, device, workers[0])
    with _every_core():
        cost = rehearsal.measure(plain)
        most = min(settings.cache_gib * 2**30, room(workers[1]))
        if cost.feature_bytes * max(cost.images, cost.validated) > most:  # then every step computes them
            cost = rehearsal.measure(plain.model_copy(update={"cache_features": False}))
    return cost


def measured_on(device: torch.device) -> str:
    """Say on what `rehearse` measures."""
    cores = torch.multiprocessing.cpu_count()
    return "a GPU" if device.type == "cuda" else f"{cores} core{'' if cores == 1 else 's'}"


@contextmanager
def _every_core() -> Iterator[None]:
    """Compute with as many threads as the workers of a machine have together, whatever OMP_NUM_THREADS says."""
    before = torch.get_num_threads()
    torch.set_num_threads(torch.multiprocessing.cpu_count())
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Rehearsal:
    """A phase, and the few rows that it is tried with."""

    def __init__(
        self, network: Network, train: Rows, validation: Rows, phase: StageName, device: torch.device, workers: int
    ) -> None:
        self._network, self._train, self._validation, self._phase, self._device, self._workers = (
            network, train, validation, phase, device, workers,
        )  # fmt: skip

    def measure(self, settings: TrainSettings) -> PhaseCost:
        batch = settings.stages[self._phase].batch
        most = -(-batch // self._workers) if self._device.type == "cuda" else min(CPU_IMAGES, batch)
        while most > _LEAST_IMAGES:
            try:
                return self._measured(settings, most)
            except torch.OutOfMemoryError:  # what a whole step would take is reckoned from a smaller one
                most = most // 2
        return self._measured(settings, most)

    def _measured(self, settings: TrainSettings, most: int) -> PhaseCost:
        stage, own = RECIPES[settings.system].stages[self._phase], settings.stages[self._phase]
        chosen = [ChosenRows(rows, _some(rows, stage, most)) for rows in (self._train, self._validation)]
        train, validation = (Feed(rows, seed=settings.seed) for rows in chosen)
        at_once = own.model_copy(update={"batch": max(len(rows.label_N) for rows in chosen)})
        settings = settings.model_copy(update={"stages": settings.stages | {stage.name: at_once}})
        compute = Compute(self._device, settings)
        compute.place(self._network)
        steps = Steps(self._network, stage, train, validation, settings, compute, lambda module: module, FeatureCache())
        with _saved(self._network) as saved:
            steps.train(1, [], Tally(), lambda _: None)
        trained = _fastest(lambda: steps.train(1, [], Tally(), lambda _: None), lambda: steps.waited_s)
        validated = _fastest(lambda: steps.validate(1, Tally(), lambda _: None), lambda: steps.validation.waited_s)
        caches = settings.caches(stage.name)
        features_s, feature_bytes = self._features(steps, train.select(stage)) if caches else (0, 0)
        count, judged = len(steps.training), len(steps.validation)
        images = int(usable(self._train, stage).sum())
        kept, loss_bytes = 0, 0
        if stage.objective == "triplet":
            kept, loss_bytes = self._mined(steps, chosen[0], settings, min(own.batch, images))
        return PhaseCost(
            phase=stage.name,
            images=images,
            validated=int(usable(self._validation, stage).sum()),
            epochs=own.epochs,
            batch=own.batch,
            step_s=trained / count,
            validation_s=validated / judged,
            features_s=features_s / count,
            feature_bytes=feature_bytes // count,
            saved_bytes=max(0, sum(saved.values()) - kept) // count,
            loss_bytes=loss_bytes,
            learning_bytes=sum(parameter.nbytes for parameter in steps.learning),
            network_bytes=sum(tensor.nbytes for tensor in self._network.state_dict().values()),
        )

    def _mined(self, steps: Steps, tried: Rows, settings: TrainSettings, rows: int) -> tuple[int, int]:
        """Return bytes that the triplet loss of the measured step kept, and those that it takes over so many rows."""
        (batch,) = steps.training.part(0, 1, 1, steps.size)
        steps.module.eval()
        with torch.no_grad():
            map_1CHW = steps.module.network.tap(batch.to(self._device).image_BCHW)
        label_B = torch.as_tensor(tried.label_N, device=self._device)
        maps_BCHW = map_1CHW.float().repeat(len(label_B), 1, 1, 1).requires_grad_()
        with _saved(self._network) as kept:
            _loss = triplet_loss(maps_BCHW, label_B, mining=settings.triplet)
        return sum(kept.values()), triplet_bytes(rows, map_1CHW.shape[1:], settings.triplet)

    def _features(self, steps: Steps, feed: Feed) -> tuple[float, int]:
        """Return seconds and bytes of the features of a feed's rows."""
        (batch,) = feed.part(0, len(feed), len(feed), steps.size)
        steps.module.eval()
        found: list[Tensor] = []

        def compute() -> None:
            with torch.no_grad():
                found[:] = [steps.frozen(batch).cpu()]

        return _fastest(compute), found[0].nbytes


def _some(rows: Rows, stage: Stage, most: int) -> NDArray[np.int64]:
    """Return places of some rows that take part in a phase, of all classes in turn: they hold triplets if any do."""
    place_N = np.flatnonzero(usable(rows, stage))
    label_N = rows.label_N[place_N]
    turn_N = np.empty(len(place_N), np.int64)
    for label in np.unique(label_N):
        (of_class,) = np.nonzero(label_N == label)
        turn_N[of_class] = np.arange(len(of_class))
    least = _LEAST_IMAGES if stage.objective == "triplet" else 1
    some_N: NDArray[np.int64] = np.sort(place_N[np.argsort(turn_N, kind="stable")[: max(most, least)]])
    return some_N


def _fastest(take: Callable[[], object], waited: Callable[[], float] = lambda: 0.0) -> float:
    """Return seconds of the fastest of some rounds; what a step waits for is read beside the one before, as a rule."""
    rounds = []
    for _ in range(_ROUNDS):
        before, began = waited(), time.perf_counter()
        take()
        reading = waited() - before
        rounds.append(max(time.perf_counter() - began - reading, reading))
    return min(rounds)


@contextmanager
def _saved(network: Network) -> Iterator[dict[int, int]]:
    """Yield the sizes of what layers keep for the backward pass while the block runs, by where it lies in memory."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in network.state_dict(keep_vars=True).values()}
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield found
