"""A bundle's answers to the images of a store: on the cluster that this process is on, else in this process.

Either way they come from `models.predictor`, a shard at a time, and are put in the store's order: the table is the same
to the byte, whoever made it, on hardware of one kind.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from cxrgaze_ray.cluster.connection import Connect, on_cluster
from cxrgaze_ray.config import Settings
from cxrgaze_ray.errors import UserError
from cxrgaze_ray.evaluation.maps import Reference, score_image
from cxrgaze_ray.evaluation.reference import reference_of
from cxrgaze_ray.evaluation.table import FACETS, EvaluationTable, EvaluationTableBuilder
from cxrgaze_ray.gaze.packed import GAZE_COLUMNS, gaze_density
from cxrgaze_ray.models.predictions import Predictions

if TYPE_CHECKING:
    from cxrgaze_ray.models.bundle import Bundle, BundleInfo
    from cxrgaze_ray.models.engines.engine import Engine
    from cxrgaze_ray.shards.store import Shard, StoreInfo

_CHUNK = 16
_COLUMNS = ("image_id", "subject_id", "label", *GAZE_COLUMNS, *FACETS)
READ = ("image", *_COLUMNS)
"""Columns of a store that are answered or kept; the others take as long to read as these."""


class Labelled(Protocol):
    """Images with known splits: a `ShardStore`, or several seen as one."""

    info: StoreInfo

    def rows(self, split: str) -> int:
        """Return how many images a split has."""

    def shards(self, split: str) -> tuple[Shard, ...]:
        """Return the shards where rows of a split may lie, in order."""

    def tables(self, split: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the rows of a split (`schemas.STORE_SHARD`), all columns or some."""


class PoolSettings(Settings):
    """The workers that predict on a cluster; they change how long it takes, and no answer."""

    workers: int | None = Field(None, ge=1, le=100_000)
    """Most workers; None takes one for every GPU, or for every node where the cluster has no GPU."""

    gpus: float | None = Field(None, ge=0, le=1000)
    """GPUs of a worker, 0.5 for two workers on one; None takes one where the cluster has any."""

    def size(self, shards: int, nodes: int, gpus: float) -> tuple[int, float]:
        """Return the number of workers, and the GPUs of each.

        On CPUs a worker takes every core of its node, as a replica does: further ones would only share them.

        Parameters
        ----------
        shards
            Shards to answer: more workers than that would have nothing to do.
        nodes, gpus
            Nodes with CPUs, and GPUs, of the whole cluster.
        """
        each = min(1.0, gpus) if self.gpus is None else self.gpus
        most = self.workers or (int(gpus // each) if each else nodes)
        return max(1, min(most, shards)), each


class Part(NamedTuple):
    """The answers to a shard's images of a split.

    Attributes
    ----------
    number
        Place of the shard among those of the split.
    images
        How many images were looked at; a network that reads gaze answers only those that have some.
    table
        `EvaluationTable.to_table` of the answers.
    """

    number: int
    images: int
    table: pa.Table


class Answers:
    """A bundle on this machine, asked for rows of a store."""

    def __init__(self, bundle: Bundle, engine: Engine | None = None, reference: Reference | None = None) -> None:
        from cxrgaze_ray.models.predictor import Predictor  # torch, which reading a run does not need

        self._info = bundle.info
        self._predictor = Predictor.from_bundle(bundle, engine)
        self._reference = reference

    def part(self, number: int, rows: pa.Table) -> Part:
        """Return the answers to a shard's rows, and the scores of the maps, which are let go at once."""
        builder, wanted = EvaluationTableBuilder(self._info.predicts), self._answerable(rows)
        for start in range(0, wanted.num_rows, _CHUNK):
            self._add(wanted.slice(start, _CHUNK), builder)
        return Part(number, rows.num_rows, builder.build().to_table())

    def predict(self, rows: pa.Table) -> Predictions:
        """Return the predictor's answers to rows of a store."""
        from cxrgaze_ray.models.predictor import limit_threads
        from cxrgaze_ray.shards.store import image_array

        limit_threads(None)  # in this thread, and always to every core: sums round otherwise with fewer
        gaze_BHW = None
        if self._info.network.needs_gaze:
            gaze_BHW = np.stack([gaze_density(gaze.as_py()) for gaze in rows["gaze"]])
        return self._predictor.predict(image_array(rows["image"]), gaze_BHW=gaze_BHW)

    def _answerable(self, rows: pa.Table) -> pa.Table:
        return rows.filter(pc.is_valid(rows["gaze"])) if self._info.network.needs_gaze else rows

    def _add(self, rows: pa.Table, builder: EvaluationTableBuilder) -> None:
        result = self.predict(rows)
        for place, row in enumerate(rows.select(_COLUMNS).to_pylist()):
            probabilities = None if result.probabilities_BK is None else result.probabilities_BK[place]
            maps, reference = result.saliency_BHW, self._reference
            scores = None if maps is None or reference is None else score_image(row, maps[place], reference)
            seen = row["gaze"] is not None
            builder.add(row["image_id"], row["subject_id"], row["label"], probabilities, scores, row, seen=seen)


def answerable(info: BundleInfo, store: Labelled, split: str) -> int:
    """Return how many images of a split a bundle can answer: of one that reads gaze, those that somebody looked at."""
    if not info.network.needs_gaze:
        return store.rows(split)
    return sum(table.num_rows - table["gaze_peak"].null_count for table in store.tables(split, ["gaze_peak"]))


def table_of_bundle(
    bundle: Bundle,
    store: Labelled,
    split: str,
    *,
    engine: Engine | None = None,
    reference: Reference | None = None,
    maps: bool = True,
    connect: Connect = nullcontext,
    pool: PoolSettings | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> EvaluationTable:
    """Have a bundle predict a split of a shard store, with the predictor that scoring uses.

    Parameters
    ----------
    engine
        How it is computed; the float32 reference by default, on a GPU where there is one.
    reference
        `reference_of` the split, for a bundle that predicts saliency; None reads it.
    maps
        Score maps too; without, who needs diagnoses only is spared reading the gaze.
    connect
        Returns a context manager that joins a Ray cluster; entered once all else is checked. On a cluster its workers
        predict; otherwise this process does.
    pool
        Those workers.
    on_progress
        Called with the number of images answered, and of all, after every shard.

    Returns
    -------
    EvaluationTable
        In the store's order. That of a network that reads gaze holds only images that somebody looked at.

    Raises
    ------
    UserError
        If the split is empty, or nobody looked at any image of it and the network reads gaze.
    BundleError
        If the store's profile is not the bundle's, or has other settings; or an answer is not finite.
    EnvironmentFault
        If the store can't be reached.
    """
    bundle.info.check_profile(store.info.profile, store.info.profile_sha256)
    total = store.rows(split)
    if not total:
        raise UserError(f"The store has no image in the {split} split.", "The splits are train, validation and test.")
    with connect():
        on_progress(0, total)
        if reference is None and maps and "saliency" in bundle.info.predicts:
            reference = reference_of(store, split)
        parts: dict[int, Part] = {}
        with closing(_parts(bundle, store.shards(split), split, engine, reference, pool)) as answered:
            for part in answered:
                parts[part.number] = part
                on_progress(sum(one.images for one in parts.values()), total)
    table = pa.concat_tables([parts[number].table for number in sorted(parts)])
    if not table.num_rows:
        raise UserError(
            f"Nobody looked at an image of the {split} split, and {bundle.info.name} reads gaze beside the image.",
            "Ingest the archive with --gaze.",
        )
    return EvaluationTable.from_table(table)


def _parts(
    bundle: Bundle,
    shards: Sequence[Shard],
    split: str,
    engine: Engine | None,
    reference: Reference | None,
    pool: PoolSettings | None,
) -> Generator[Part]:
    """Yield the answers to every shard, in any order."""
    if on_cluster():
        from cxrgaze_ray.evaluation.pool import pooled_parts

        yield from pooled_parts(bundle, shards, split, engine, reference, pool or PoolSettings())
        return
    answers = Answers(bundle, engine, reference)
    for number, shard in enumerate(shards):
        yield answers.part(number, shard.read(split, READ))


def rows_of(store: Labelled, split: str, image_ids: Sequence[str]) -> pa.Table:
    """Return the rows of some images (`schemas.STORE_SHARD`) in the order of their ids; UserError if one is not there.

    Pixels are read only of shards that hold one of them.
    """
    wanted, found = pa.array(image_ids, pa.string()), []
    for shard in store.shards(split):
        if pc.any(pc.is_in(shard.read(split, ["image_id"])["image_id"], wanted)).as_py():
            table = shard.read(split)
            found.append(table.filter(pc.is_in(table["image_id"], wanted)))
    rows = pa.concat_tables(found) if found else None
    places = pc.index_in(wanted, rows["image_id"]) if rows is not None else None
    if rows is None or places is None or places.null_count:
        raise UserError(f"The {split} split does not hold all of {len(image_ids)} images.", "Name images of the split.")
    return rows.take(places)


def answers_to(bundle: Bundle, rows: pa.Table, engine: Engine | None = None) -> Predictions:
    """Return a bundle's answers to a few rows of a store, whole maps included, predicted in this process."""
    return Answers(bundle, engine).predict(rows)
