"""Turn rows of a shard store into batches: which rows take part, in which order, on which rank."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from cxrgaze_ray.errors import UserError
from cxrgaze_ray.radiograph.preprocess import gaze_to_network, to_network
from cxrgaze_ray.schemas import HEIGHT, WIDTH
from cxrgaze_ray.training.augment import augmented, changed, draws_of
from cxrgaze_ray.training.phase_settings import Augmentation
from cxrgaze_ray.training.recipes import Stage
from cxrgaze_ray.training.stages import Batch

COLUMNS = ["image_id", "label", "image", "gaze"]


@dataclass(frozen=True)
class StoredRow:
    """A stored row as it is held in memory: 0.65 MB of image, and as much of gaze if there is any."""

    image_id: str
    label: int | None
    image: bytes
    gaze: bytes | None


@dataclass(frozen=True)
class World:
    """The workers of a training as one of them sees them: its rank, and their number."""

    rank: int = 0
    size: int = 1


class Feed:
    """Holds a split's rows in memory and deals them out, the same way every time.

    Every rank holds all ids in one order and takes each `world.size`-th row of a shared shuffle; the last rows wrap
    around, as in torch's DistributedSampler, so that all ranks take equally many steps. Batches count images over all
    ranks.

    Parameters
    ----------
    rows
        Rows of one split.
    world
        This worker's rank, and the number of workers.
    seed
        Seed of the shuffles.
    gaze
        Whether batches carry gaze maps: only the saliency phase needs the work of resizing them.
    """

    def __init__(self, rows: Iterable[StoredRow], world: World = World(), seed: int = 0, *, gaze: bool = True) -> None:
        self._rows = sorted(rows, key=lambda row: row.image_id)
        self._world = world
        self._seed = seed
        self._gaze = gaze
        self._fused: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def select(self, stage: Stage) -> Feed:
        """Return a feed of the rows that can take part in a stage.

        Raises
        ------
        UserError
            If there is no such row.
        """
        usable = [
            row
            for row in self._rows
            if (row.label is not None or not stage.needs_label) and (row.gaze is not None or not stage.needs_gaze)
        ]
        if not usable:
            missing = " and ".join(["a label"] * stage.needs_label + ["gaze"] * stage.needs_gaze)
            raise UserError(
                f"No image of the split has {missing}, which phase {stage.name} learns from.",
                "Ingest more, or leave the phase out: --phases.",
            )
        return Feed(usable, self._world, self._seed, gaze=stage.needs_gaze)

    def steps(self, batch: int) -> int:
        """Return the number of an epoch's training batches, on every rank."""
        return -(-self._share_size(len(self._rows)) // max(1, batch // self._world.size))

    def shuffled(
        self, epoch: int, batch: int, size: tuple[int, int], *, augment: bool | Augmentation = False
    ) -> Iterator[Batch]:
        """Yield an epoch's training batches of this rank, if asked for with images and gaze changed at random."""
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._rows))
        own, repeats = self._share(order)
        step = max(1, batch // self._world.size)
        for start in range(0, len(own), step):
            part = own[start : start + step]
            dealt = self._batch(part, size, repeats if start + step >= len(own) else 0)
            if isinstance(augment, Augmentation):
                yield self._changed(dealt, augment, epoch, part)
            else:
                yield augmented(dealt) if augment else dealt

    def _changed(self, batch: Batch, amounts: Augmentation, epoch: int, part: NDArray[np.int64]) -> Batch:
        pairs = []
        for place, index in enumerate(part):
            gaze = batch.gaze_BHW[place] if self._gaze else None
            draws = draws_of(self._seed, epoch, self._rows[index].image_id)
            pairs.append(changed(batch.image_BCHW[place], gaze, amounts, draws))
        maps = [gaze for _, gaze in pairs if gaze is not None]
        return replace(
            batch,
            image_BCHW=torch.stack([image for image, _ in pairs]),
            gaze_BHW=torch.stack(maps) if maps else batch.gaze_BHW,
        )

    def in_order(self, batch: int, size: tuple[int, int]) -> Iterator[Batch]:
        """Yield this rank's part of every validation batch; the batches are the same however many ranks there are."""
        for start in range(0, len(self._rows), batch):
            own, repeats = self._share(np.arange(start, min(start + batch, len(self._rows))))
            yield self._batch(own, size, repeats)

    def _share(self, order: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
        """Return this rank's share of some rows, as large as every other's, and how many at its end are repeats."""
        share = self._share_size(len(order))
        own = np.resize(order, share * self._world.size)[self._world.rank :: self._world.size]
        return own, share - len(order[self._world.rank :: self._world.size])

    def _share_size(self, rows: int) -> int:
        return -(-rows // self._world.size)

    def with_ids(self, batch: int, size: tuple[int, int]) -> Iterator[tuple[list[str], Batch]]:
        """Yield every row of the split once, whatever the rank, with its image ids."""
        for start in range(0, len(self._rows), batch):
            order = np.arange(start, min(start + batch, len(self._rows)))
            yield [self._rows[index].image_id for index in order], self._batch(order, size)

    def with_fused(self, fused: dict[str, Tensor]) -> Feed:
        """Return this feed with cached fused features, keyed by image id."""
        feed = Feed(self._rows, self._world, self._seed)
        feed._fused = fused
        return feed

    def _batch(self, order: NDArray[np.int64], size: tuple[int, int], repeats: int = 0) -> Batch:
        rows = [self._rows[index] for index in order]
        labels = torch.tensor([-1 if row.label is None else row.label for row in rows])
        if self._fused:
            empty = torch.empty(len(rows), 0)
            return Batch(empty, labels, empty, torch.stack([self._fused[row.image_id] for row in rows]), repeats)
        images = np.stack([np.frombuffer(row.image, np.uint16).reshape(HEIGHT, WIDTH) for row in rows])
        gaze = gaze_to_network(np.stack([_stored_gaze(row.gaze) for row in rows]), size) if self._gaze else None
        return Batch(
            to_network(images, size), labels, gaze if gaze is not None else torch.empty(len(rows), 0), repeats=repeats
        )


def _stored_gaze(gaze: bytes | None) -> NDArray[np.float32]:
    if gaze is None:
        return np.zeros((HEIGHT, WIDTH), np.float32)
    return np.frombuffer(gaze, np.uint16).reshape(HEIGHT, WIDTH).astype(np.float32)


def rows_of(tables: Iterable[pa.Table]) -> Iterator[StoredRow]:
    """Read rows from tables that hold `COLUMNS`; a gaze map of zeros, for which no loss is defined, counts as none."""
    for table in tables:
        for row in table.select(COLUMNS).to_pylist():
            looked = row["gaze"] is not None and np.frombuffer(row["gaze"], np.uint16).any()
            yield StoredRow(**row if looked else row | {"gaze": None})
