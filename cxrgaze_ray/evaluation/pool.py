"""A split's shards through a pool of Ray Data actors, each with one predictor.

shard numbers --AnswerShard--> answers and scores. Workers read their shards themselves: neither pixels nor maps travel.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
from numpy.typing import NDArray
from ray.data import ActorPoolStrategy, DataContext

from cxrgaze_ray.cluster.connection import translated
from cxrgaze_ray.cluster.ray_data import job_context
from cxrgaze_ray.evaluation.answers import READ, Answers, Part, PoolSettings
from cxrgaze_ray.evaluation.maps import Reference
from cxrgaze_ray.models.bundle import Bundle, BundleInfo
from cxrgaze_ray.models.engines.engine import Engine
from cxrgaze_ray.schemas.ipc import table_from_ipc, table_to_ipc
from cxrgaze_ray.shards import Shard

IN_HAND = 2
"""Shards a worker has in hand: one is read while the other is predicted."""

_NUMBER, _IMAGES, _TABLE = "number", "images", "table"


@dataclass(frozen=True)
class Job:
    """All that a worker needs beside the shards: put into the object store once, where workers of a node share it."""

    info: BundleInfo
    weights: NDArray[np.uint8]
    """The weights as safetensors, in an array: workers map it instead of copying it."""

    engine: Engine | None
    reference: Reference | None

    @classmethod
    def of(cls, bundle: Bundle, engine: Engine | None, reference: Reference | None) -> Job:
        """Pack a bundle, published or not."""
        from safetensors.torch import save

        return cls(bundle.info, np.frombuffer(save(bundle.state), np.uint8), engine, reference)

    def answers(self) -> Answers:
        """Put the bundle on this machine."""
        from safetensors.torch import load

        return Answers(Bundle(self.info, load(self.weights.tobytes())), self.engine, self.reference)


class AnswerShard:
    """Read a shard and have the bundle answer its images of a split; one is answered while another is read."""

    def __init__(self, job: ray.ObjectRef[Job], shards: Sequence[Shard], split: str) -> None:
        self._job, self._shards, self._split = job, shards, split
        self._predicting = threading.Lock()

    def __call__(self, batch: dict[str, Any]) -> pa.Table:
        (number,) = batch[_NUMBER].tolist()
        rows = self._shards[number].read(self._split, READ)
        with self._predicting:
            part = self._answers.part(number, rows)
        return pa.table({_NUMBER: [number], _IMAGES: [part.images], _TABLE: [table_to_ipc(part.table).to_pybytes()]})

    @cached_property
    def _answers(self) -> Answers:
        """Load with the first shard: what an actor raises when it is made would not come out as itself."""
        job: Job = ray.get(self._job)
        return job.answers()


def pooled_parts(
    bundle: Bundle,
    shards: Sequence[Shard],
    split: str,
    engine: Engine | None,
    reference: Reference | None,
    settings: PoolSettings,
) -> Iterator[Part]:
    """Yield the answers to every shard of a split, as they are made; see `answers.table_of_bundle`."""
    job = ray.put(Job.of(bundle, engine, reference))
    workers, gpus = settings.size(len(shards), *_there())
    with DataContext.current(job_context()):
        # blocks that are there already: no task has to make them, for which the pool might leave no CPU
        dataset = ray.data.from_arrow([pa.table({_NUMBER: [number]}) for number in range(len(shards))]).map_batches(
            AnswerShard,
            fn_constructor_args=(job, tuple(shards), split),
            batch_size=1,
            num_cpus=1,
            num_gpus=gpus or None,
            # one is enough to go on with, where others hold the rest of the cluster
            compute=ActorPoolStrategy(
                min_size=1,
                max_size=workers,
                initial_size=workers,
                max_tasks_in_flight_per_actor=IN_HAND,
                max_concurrent_calls_per_actor=IN_HAND,
                enable_true_multi_threading=True,
            ),
        )
    with translated():
        for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
            assert isinstance(batch, pa.Table)
            for row in batch.to_pylist():
                yield Part(row[_NUMBER], row[_IMAGES], table_from_ipc(pa.py_buffer(row[_TABLE])))


def _there() -> tuple[int, float]:
    """Return how many nodes with CPUs the cluster has, and how many GPUs."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    return sum(node.get("CPU", 0) >= 1 for node in nodes), sum(node.get("GPU", 0.0) for node in nodes)
