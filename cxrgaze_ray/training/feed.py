"""Turn rows of a shard store into batches: which rows take part, in which order, on which rank."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import copy
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from cxrgaze_ray.radiograph.preprocess import gaze_to_network, to_network
from cxrgaze_ray.schemas import HEIGHT, WIDTH
from cxrgaze_ray.training.ahead import Ahead
from cxrgaze_ray.training.augment import augmented, changed, draws_of
from cxrgaze_ray.training.features import Features
from cxrgaze_ray.training.phase_settings import Augmentation
from cxrgaze_ray.training.ranks import World
from cxrgaze_ray.training.recipes import Stage
from cxrgaze_ray.training.rows import Rows, usable
from cxrgaze_ray.training.stages import Batch


class Share(NamedTuple):
    """A rank's part of one batch.

    Attributes
    ----------
    numbers_B
        Numbers of its rows among those that take part, as many on every rank.
    repeats
        How many of them, at the end, only make it so.
    weight
        The rows that count, as a share of the batch's, times the number of ranks: what the mean over this part's rows
        counts for where DDP averages over ranks.
    rows
        Rows of the batch, over all ranks.
    """

    numbers_B: NDArray[np.int64]
    repeats: int
    weight: float
    rows: int


class _Form(NamedTuple):
    """How rows become tensors."""

    size: tuple[int, int]
    epoch: int = 0
    augment: bool | Augmentation = False


def order_of(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """Return the order (N,) in which an epoch, counted from 0, takes so many rows."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def in_batches(order_N: NDArray[np.int64], batch: int, start: int = 0) -> Iterator[NDArray[np.int64]]:
    """Yield the parts of an order that are batches, from one on."""
    return (order_N[first : first + batch] for first in range(start * batch, len(order_N), batch))


class Feed:
    """Deals out a split's rows, the same way every time, reading them ahead of the step that learns from them.

    Every rank knows all ids, sorted. An epoch's order is one shuffle of those that take part, by seed and epoch; a
    batch is the same rows in the same order however many ranks share it, and each takes every `world.size`-th of them.
    No row is left out or learned from twice. Where a batch does not divide, ranks that would have a row less get one
    that only fills the place (`Batch.repeats`), since collective operations need equal shapes.

    Parameters
    ----------
    rows
        Images of one split.
    world
        This worker's rank, and the number of workers.
    seed
        Seed of the shuffles, and of random moves.
    ahead
        What reads ahead of the steps.
    """

    def __init__(self, rows: Rows, world: World | None = None, seed: int = 0, *, ahead: Ahead | None = None) -> None:
        self.rows = rows
        self.world, self._seed = world or World(), seed
        self._ahead = ahead or Ahead()
        self._chosen_N = np.arange(len(rows.image_ids))
        self._gaze = True
        self._features: Features | None = None
        self._pixels = True

    def __len__(self) -> int:
        return len(self._chosen_N)

    @property
    def waited_s(self) -> float:
        """Seconds that the steps have waited for their batches so far."""
        return self._ahead.waited_s

    def select(self, stage: Stage) -> Feed:
        """Return a feed of the rows that can take part in a stage."""
        feed = copy(self)
        feed._chosen_N, feed._gaze = np.flatnonzero(usable(self.rows, stage)), stage.needs_gaze
        return feed

    def steps(self, batch: int) -> int:
        """Return how many steps an epoch has."""
        return -(-len(self) // batch)

    def shuffled(
        self, epoch: int, batch: int, size: tuple[int, int], *, augment: bool | Augmentation = False, start: int = 0
    ) -> Iterator[Batch]:
        """Yield this rank's part of an epoch's training batches.

        Parameters
        ----------
        epoch
            Number of the epoch from 0: it and the seed give the order.
        batch
            Rows of a batch, over all ranks.
        size
            Height and width of the network's input.
        augment
            Change images and their gaze at random: True as GazeGNN's authors do, or by amounts.
        start
            Step to begin at, from 0: nothing of the ones before is read.
        """
        order_N = order_of(self._seed, epoch, len(self))
        return self._batches(order_N, batch, _Form(size, epoch, augment), start)

    def in_order(self, batch: int, size: tuple[int, int], *, start: int = 0) -> Iterator[Batch]:
        """Yield this rank's part of the validation batches from one on; they are the same however many ranks share."""
        return self._batches(np.arange(len(self)), batch, _Form(size), start)

    def part(self, first: int, last: int, batch: int, size: tuple[int, int]) -> Iterator[Batch]:
        """Yield batches of the rows from one number to before another, in the order of their ids, whatever the rank."""
        numbers = (np.arange(start, min(start + batch, last)) for start in range(first, last, batch))
        shares = (Share(some, 0, 1.0, len(some)) for some in numbers)
        return self._made(shares, _Form(size))

    def image_ids(self) -> list[str]:
        """Return the ids of the rows that take part, in order."""
        ids: list[str] = self.rows.image_ids.take(pa.array(self._chosen_N)).to_pylist()
        return ids

    def with_features(self, features: Features, *, pixels: bool = False) -> Feed:
        """Return this feed with features of its rows, instead of images and gaze or beside them (`pixels`)."""
        feed = copy(self)
        feed._features, feed._pixels = features, pixels
        return feed

    def _batches(self, order_N: NDArray[np.int64], batch: int, form: _Form, start: int = 0) -> Iterator[Batch]:
        return self._made((self._share(part) for part in in_batches(order_N, batch, start)), form)

    def _made(self, shares: Iterable[Share], form: _Form) -> Iterator[Batch]:
        make = partial(self._batch, form=form)
        return self._ahead(make, shares) if self._pixels else map(make, shares)

    def _share(self, part: NDArray[np.int64]) -> Share:
        """Return this rank's share of a batch."""
        ranks, rank = self.world.size, self.world.rank
        rows = -(-len(part) // ranks)
        own = len(part[rank::ranks])
        return Share(np.resize(part, rows * ranks)[rank::ranks], rows - own, own * ranks / len(part), len(part))

    def _batch(self, share: Share, form: _Form) -> Batch:
        places_B = self._chosen_N[share.numbers_B]
        label_B = torch.from_numpy(self.rows.label_N[places_B].astype(np.int64))
        image_BCHW = gaze_BHW = torch.empty(len(label_B), 0)
        if self._pixels:
            loaded = self._ahead.each(partial(self._load, form=form), places_B)
            image_BCHW = torch.stack([image for image, _ in loaded])
            gaze_BHW = torch.stack([gaze for _, gaze in loaded]) if self._gaze else gaze_BHW
        features_BX = None if self._features is None else self._features.take(share.numbers_B)
        return Batch(image_BCHW, label_B, gaze_BHW, features_BX, share.repeats, share.weight, share.rows)

    def _load(self, place: int, form: _Form) -> tuple[Tensor, Tensor]:
        """Return a row's image (1, H, W) and gaze (H, W) at the network's size."""
        image, gaze = self.rows.read(int(place), gaze=self._gaze)
        image_1HW, gaze_HW = to_network(image[None], form.size)[0], torch.empty(0)
        if self._gaze:
            density = np.zeros((HEIGHT, WIDTH), np.float32) if gaze is None else gaze.astype(np.float32)
            gaze_HW = gaze_to_network(density[None], form.size)[0]
        if not form.augment:
            return image_1HW, gaze_HW
        draws = draws_of(self._seed, form.epoch, self.rows.image_ids[place].as_py())
        seen_HW = gaze_HW if self._gaze else None
        if isinstance(form.augment, Augmentation):
            image_1HW, seen_HW = changed(image_1HW, seen_HW, form.augment, draws)
        else:
            image_1HW, seen_HW = augmented(image_1HW, seen_HW, draws)
        return image_1HW, gaze_HW if seen_HW is None else seen_HW
