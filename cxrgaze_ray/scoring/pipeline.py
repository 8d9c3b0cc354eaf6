"""The two stages between plan and rows, as Ray Data runs them: decode on CPU workers, score through Serve.

chunk numbers --DecodeChunk--> (plan rows, model images) --ScoreChunk--> result rows
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import ray.data

from cxrgaze_ray.identities import Identities
from cxrgaze_ray.runs import Run
from cxrgaze_ray.schemas import RESULT
from cxrgaze_ray.scoring.decode import DecodeChunk
from cxrgaze_ray.scoring.score import ScoreChunk


@dataclass(frozen=True)
class Pools:
    """How many actors each stage has, and the CPUs of a decoder."""

    decoders: int
    scorers: int = 1
    decoder_cpus: float = 1.0


def result_blocks(
    run: Run, wanted: dict[int, list[int]], application: str, pools: Pools, identities: Identities
) -> Iterator[pa.Table]:
    """Score the wanted positions of each shard; yield result rows (`schemas.RESULT`), a chunk at a time."""
    per_shard = run.spec.shard_rows // run.spec.chunk_rows
    chunks = [
        shard * per_shard + chunk
        for shard, positions in wanted.items()
        for chunk in sorted({position // run.spec.chunk_rows for position in positions})
    ]
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.raise_original_map_exception = True  # Ray's own wrapping loses the cause on its way here
    dataset = (
        ray.data.range(len(chunks), override_num_blocks=len(chunks))
        .map_batches(
            DecodeChunk,
            fn_constructor_args=(run.store.uri, identities, np.array(chunks, np.int64), _narrow(run, wanted)),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=pools.decoder_cpus,
            compute=ray.data.ActorPoolStrategy(size=pools.decoders, max_tasks_in_flight_per_actor=2),
        )
        .map_batches(
            ScoreChunk,
            fn_constructor_args=(run.spec, application),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=0.1,
            compute=ray.data.ActorPoolStrategy(
                size=pools.scorers, max_tasks_in_flight_per_actor=4, max_concurrent_calls_per_actor=2
            ),
        )
    )
    for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
        assert isinstance(batch, pa.Table)
        yield batch.cast(RESULT)


def _narrow(run: Run, wanted: dict[int, list[int]]) -> dict[int, list[int]]:
    """Keep the positions of those shards only that are not wanted whole: usually none."""
    return {shard: rows for shard, rows in wanted.items() if len(rows) < run.shard_rows(shard)}
