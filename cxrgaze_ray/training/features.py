"""What frozen layers make of a split's images: computed once in all by all workers, and kept for the next start.

The one cache of features, whatever phase reads them. Blocks of rows lie as safetensors beside the training's
checkpoints, so that a training that goes on computes none of them again; each worker maps them from a file of its
machine's temporary folder, whose pages the system lets go of when memory is short.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor, nn

from cxrgaze_ray.errors import StoreNotFound, StoreUnavailable
from cxrgaze_ray.storage import Store
from cxrgaze_ray.storage.read_ahead import read_ahead
from cxrgaze_ray.training.ranks import of_the_first, wait_for_all
from cxrgaze_ray.training.sealed import load_sealed, save_sealed

if TYPE_CHECKING:
    from cxrgaze_ray.training.feed import Feed
    from cxrgaze_ray.training.stages import Batch

FOLDER = "features/"
"""Where blocks lie below a training's folder."""

BLOCK_BYTES = 8 * 2**20
"""Size of a block, unless one row is more."""

_TENSOR = "features"
_TELL_S = 30.0


@dataclass(frozen=True)
class _Row:
    """Type and shape of a row's features."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return self.dtype.itemsize * int(np.prod(self.shape))


class Features:
    """Features of a split's rows, mapped from a file that ends with this process."""

    def __init__(self, rows: int, row: _Row) -> None:
        self._row = row
        size = rows * row.bytes
        with tempfile.TemporaryFile(prefix="cxrgaze-features-") as file:  # the map keeps it open
            try:
                _reserve(file.fileno(), size)
            except OSError as error:
                raise StoreUnavailable(
                    f"The features of {rows} images do not fit into the folder for temporary files: "
                    f"{size / 2**30:.1f} GiB.",
                    "Make room, name another folder (TMPDIR), or set cache_features to false.",
                ) from error
            self._values = np.memmap(file, np.uint8, "r+", shape=(rows, row.bytes))

    def put(self, first: int, features_BX: Tensor) -> None:
        """Fill in rows from a number on."""
        data = features_BX.contiguous().view(torch.uint8).reshape(len(features_BX), -1)
        self._values[first : first + len(features_BX)] = data.numpy()

    def take(self, numbers_B: NDArray[np.int64]) -> Tensor:
        """Return the features (B, ...) of some rows."""
        return torch.from_numpy(self._values[numbers_B]).view(self._row.dtype).reshape(-1, *self._row.shape)


def room(workers: int = 1) -> float:
    """Return the bytes that a split's features may take here: a quarter of what is free, which others need too.

    Every worker of a machine keeps its own.
    """
    return shutil.disk_usage(tempfile.gettempdir()).free / 4 / workers


def _reserve(file: int, size: int) -> None:
    """Take room on the disk: a page of a map that finds none would end the process with a bus error."""
    if sys.platform == "linux":
        os.posix_fallocate(file, 0, size)
    else:
        os.truncate(file, size)


class FeatureCache:
    """Computes features, or finds them where an earlier start left them.

    Parameters
    ----------
    store
        The training's folder, the same for all workers; None keeps nothing, and every worker computes all.
    tell
        Called with sentences for the user while features are computed.
    between
        Called between two batches, where there is nothing to save that is not saved yet, or soon made again.
    """

    def __init__(
        self,
        store: Store | None = None,
        tell: Callable[[str], None] = lambda _: None,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        self._store, self._tell, self._between = store, tell, between

    def features(
        self,
        feed: Feed,
        make: Callable[[Batch], Tensor],
        *,
        of: tuple[object, ...],
        batch: int,
        size: tuple[int, int],
        most_bytes: int | None = None,
    ) -> Features | None:
        """Return the features of a feed's rows, in its order; every worker must call this.

        Parameters
        ----------
        make
            Returns features (B, ...) of a batch, on any device; a row's depend on nothing but the row.
        of
            What they depend on beside the rows: `digest` of the frozen weights, the precision, and so on.
        batch, size
            Rows that are computed at once, and the network's input size.
        most_bytes
            Most bytes that they may take in all; any number by default.

        Returns
        -------
        Features or None
            None if they would take more.

        Raises
        ------
        StoreUnavailable
            If they don't fit on the disk.
        """
        example = make(next(feed.part(0, 1, batch, size)))[0]
        row = _Row(example.dtype, tuple(example.shape))
        if most_bytes is not None and row.bytes * len(feed) > most_bytes:
            return None
        computing = _Computing(feed, make, batch, size, self._between)
        found = Features(len(feed), row)
        if self._store is None:
            for first, features_BX in computing.rows(0, len(feed)):
                found.put(first, features_BX)
            return found
        rows = max(1, BLOCK_BYTES // row.bytes)
        folder = f"{FOLDER}{_key(feed, (*of, batch, size, row))}/"
        names = {
            f"{folder}block-{number:06d}.safetensors": first for number, first in enumerate(range(0, len(feed), rows))
        }
        blocks = _Blocks(self._store, names, rows, computing)
        blocks.complete(self._tell)
        wait_for_all()
        for first, features_BX in blocks.read():
            found.put(first, features_BX)
        return found

    def clear(self) -> None:
        """Remove all blocks: the phase that read them is over. Only one worker needs to."""
        if self._store is not None:
            for info in list(self._store.list(FOLDER)):
                self._store.delete(info.key)


def digest(network: nn.Module, learning: list[nn.Module]) -> str:
    """Return a hash of the weights that do not learn: all of a network's but those of some of its modules."""
    learned = {id(tensor) for module in learning for tensor in module.state_dict(keep_vars=True).values()}
    total = hashlib.sha256()
    for name, tensor in network.state_dict(keep_vars=True).items():
        if id(tensor) not in learned:
            total.update(name.encode() + b"\0" + save({_TENSOR: tensor.detach().cpu().contiguous()}))
    return total.hexdigest()


@dataclass(frozen=True)
class _Computing:
    """Makes features of a feed's rows."""

    feed: Feed
    make: Callable[[Batch], Tensor]
    batch: int
    size: tuple[int, int]
    between: Callable[[], None]

    def rows(self, first: int, last: int) -> Iterator[tuple[int, Tensor]]:
        """Yield features of the rows from one number to before another, each batch with its first row's number."""
        for number, dealt in enumerate(self.feed.part(first, last, self.batch, self.size)):
            yield first + number * self.batch, self.make(dealt).cpu()
            self.between()


@dataclass(frozen=True)
class _Blocks:
    """Features as blocks of rows on a store: names, with the number of each block's first row."""

    store: Store
    names: dict[str, int]
    rows: int
    computing: _Computing

    def complete(self, tell: Callable[[str], None]) -> None:
        """Compute the blocks that are missing: each worker its share of them."""
        world, folder = self.computing.feed.world, next(iter(self.names)).rpartition("/")[0]
        # the first one has cleared the phase before, and a worker of a killed group may still be writing
        there = of_the_first(lambda: {info.key for info in self.store.list(f"{folder}/")})
        missing = [name for name in self.names if name not in there]
        began = told = time.monotonic()
        for done, name in enumerate(missing[world.rank :: world.size]):
            if done and (now := time.monotonic()) - told >= _TELL_S:
                told, share = now, done * world.size / len(missing)
                left = (now - began) * (1 - share) / share / 60
                tell(f"What the frozen layers make of the images is computed once: {share:.0%}, {left:.0f} min left.")
            self._make(name)

    def read(self) -> Iterator[tuple[int, Tensor]]:
        """Yield the features of all blocks, each with its first row's number; a damaged block is made anew."""
        try:
            for (name, first), data in zip(self.names.items(), read_ahead(self.store.get, self.names), strict=True):
                try:
                    yield first, load_sealed(data)[_TENSOR]
                except SafetensorError:
                    yield first, self._make(name)
        except StoreNotFound as error:  # told as a fault: a user's error would be all workers'
            raise StoreUnavailable(
                "Cached features were removed while they were read.", "Run the same command again."
            ) from error

    def _make(self, name: str) -> Tensor:
        first = self.names[name]
        last = min(first + self.rows, len(self.computing.feed))
        features_BX = torch.cat([part for _, part in self.computing.rows(first, last)])
        self.store.put(name, save_sealed({_TENSOR: features_BX.contiguous()}))
        return features_BX


def _key(feed: Feed, of: tuple[object, ...]) -> str:
    """Name features by the rows they are of and by all that they depend on."""
    return hashlib.sha256("\0".join([*feed.image_ids(), *map(str, of)]).encode()).hexdigest()[:32]
