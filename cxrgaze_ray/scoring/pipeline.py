"""The two stages between plan and rows, as Ray Data runs them: decode on CPU workers, score through Serve.

chunk numbers --DecodeChunk--> (plan rows, model images) --ScoreChunk--> result rows
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data
from ray.data import ActorPoolStrategy, DataContext

from cxrgaze_ray.archive.identities import Identities
from cxrgaze_ray.cluster.ray_data import job_context
from cxrgaze_ray.cluster.ray_internals import leave_out_statistics
from cxrgaze_ray.schemas import HEIGHT, SALIENCY_HEIGHT, SALIENCY_WIDTH, WIDTH
from cxrgaze_ray.scoring.decode import DecodeChunk
from cxrgaze_ray.scoring.runs import Run
from cxrgaze_ray.scoring.score import ScoreChunk

DECODER_CHUNKS, SCORER_CHUNKS, SCORER_CALLS = 2, 4, 2
"""Chunks an actor has in hand, queued ones included, and calls of a scorer to the model at a time."""


@dataclass(frozen=True)
class Pools:
    """The actors of the two stages.

    Attributes
    ----------
    decoders, scorers
        How many.
    decoder_cpus, scorer_gpus
        Logical CPUs of a decoder, and GPUs of a scorer: none, but where it computes itself.
    decode, score
        Their classes: made, and called with a chunk, as `DecodeChunk` and `ScoreChunk` are.
    """

    decoders: int
    scorers: int = 1
    decoder_cpus: float = 1.0
    scorer_gpus: float = 0.0
    decode: type[Any] = DecodeChunk
    score: type[Any] = ScoreChunk

    def object_bytes(self, chunk_rows: int) -> int:
        """Return how many bytes of chunks may lie in the object store between the stages: what actors have in hand.

        Ray Data never takes more than half of the cluster's store for them, if this is more.
        """
        chunks = self.decoders * DECODER_CHUNKS + self.scorers * SCORER_CHUNKS
        return chunks * chunk_bytes(chunk_rows)

    def call_bytes(self, chunk_rows: int) -> int:
        """Return how many bytes calls to the model take beside that: images, and 8-bit maps on their way back."""
        maps = chunk_rows * SALIENCY_HEIGHT * SALIENCY_WIDTH
        return self.scorers * SCORER_CALLS * (chunk_bytes(chunk_rows) + maps)


def chunk_bytes(rows: int) -> int:
    """Return how many bytes the model images of a chunk take."""
    return 2 * rows * HEIGHT * WIDTH


def result_blocks(
    run: Run, wanted: Mapping[int, Sequence[int]], application: str, pools: Pools, identities: Identities
) -> Iterator[pa.Table]:
    """Score the wanted positions of each shard; yield result rows (`schemas.RESULT`), a chunk at a time."""
    chunks = _chunks(run, wanted)
    with DataContext.current(job_context(pools.object_bytes(run.spec.chunk_rows))):
        dataset = (
            # a block is a chunk, all the way: what Ray Data retries after a death is one chunk, and it is never split
            ray.data.range(len(chunks), override_num_blocks=len(chunks))
            .map_batches(
                pools.decode,
                fn_constructor_args=(run.store.uri, identities, chunks, _narrow(run, wanted)),
                batch_size=None,
                batch_format="pyarrow",
                num_cpus=pools.decoder_cpus,
                compute=ActorPoolStrategy(size=pools.decoders, max_tasks_in_flight_per_actor=DECODER_CHUNKS),
            )
            .map_batches(
                pools.score,
                fn_constructor_args=(run.spec, application),
                batch_size=None,
                batch_format="pyarrow",
                num_cpus=0.1,  # it waits for the model nearly all the time
                num_gpus=pools.scorer_gpus or None,
                compute=ActorPoolStrategy(
                    size=pools.scorers,
                    max_tasks_in_flight_per_actor=SCORER_CHUNKS,
                    max_concurrent_calls_per_actor=SCORER_CALLS,
                ),
            )
        )
    leave_out_statistics()
    for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
        assert isinstance(batch, pa.Table)
        yield batch


def _chunks(run: Run, wanted: Mapping[int, Sequence[int]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Number the chunks that hold wanted positions, in the plan's order."""
    per_shard = run.spec.shard_rows // run.spec.chunk_rows
    return np.array(
        [
            shard * per_shard + chunk
            for shard, positions in wanted.items()
            for chunk in sorted({position // run.spec.chunk_rows for position in positions})
        ],
        np.int64,
    )


def _narrow(run: Run, wanted: Mapping[int, Sequence[int]]) -> dict[int, list[int]]:
    """Keep the positions of those shards only that are not wanted whole: usually none."""
    return {shard: list(rows) for shard, rows in wanted.items() if len(rows) < run.shard_rows(shard)}
