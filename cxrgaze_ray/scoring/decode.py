"""First stage: plan rows to rows with facts, and the model images of those that can be read. Loads no torch."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cxrgaze_ray.archive.identities import Identities
from cxrgaze_ray.archive.intake import Intake
from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.radiograph.reading import Reading
from cxrgaze_ray.schemas import HEIGHT, RESULT, WIDTH
from cxrgaze_ray.schemas.ipc import table_to_ipc
from cxrgaze_ray.scoring.runs import Run
from cxrgaze_ray.storage import open_store
from cxrgaze_ray.telemetry.logs import event, start_logging

_LOG = logging.getLogger(__name__)

ROWS, IMAGES = "rows", "images"
"""Columns between the stages, one row a chunk: result rows so far as Arrow IPC, and uint16 pixels, image by image."""


class DecodeChunk:
    """Fetch and decode the images of a chunk, one at a time; what can't be decoded becomes a row with a reason."""

    def __init__(
        self, run_uri: str, identities: Identities, chunks: NDArray[np.int64], narrow: dict[int, list[int]]
    ) -> None:
        start_logging()
        run = Run.open(open_store(run_uri))
        self._spec = run.spec
        self._plan = run.plan()
        self._chunks = chunks
        self._narrow = narrow
        options = run.spec.request.options
        reading = Reading(frontal_only=options.view == "frontal", reduced=options.decode == "reduced")
        self._intake = Intake(run.spec.profile, reading, identities, job="score")

    def __call__(self, batch: pa.Table) -> pa.Table:
        out = [self._decode_chunk(int(self._chunks[index])) for index in batch["id"].to_pylist()]
        rows, images = zip(*out, strict=True)
        return pa.table({ROWS: _binary(rows), IMAGES: _binary(images)})

    def _decode_chunk(self, chunk: int) -> tuple[pa.Buffer, pa.Buffer]:
        planned = self._plan.slice(chunk * self._spec.chunk_rows, self._spec.chunk_rows).to_pylist()
        images_bhw = np.empty((len(planned), HEIGHT, WIDTH), np.uint16)  # filled in place: pixels are copied once
        rows, count, began = [], 0, time.perf_counter()
        for one in planned:
            if one["position"] not in self._narrow.get(one["shard"], (one["position"],)):
                continue
            row, image = self._decode_row(one)
            rows.append(row)
            if image is not None:
                images_bhw[count] = image
                count += 1
        event(
            _LOG, "chunk decoded", run=self._spec.run_id, shard=planned[0]["shard"], chunk=chunk, images=count,
            failed=len(rows) - count, seconds=round(time.perf_counter() - began, 4),
        )  # fmt: skip
        return table_to_ipc(pa.Table.from_pylist(rows, schema=RESULT)), pa.py_buffer(images_bhw[:count])

    def _decode_row(self, planned: dict[str, Any]) -> tuple[dict[str, Any], NDArray[np.uint16] | None]:
        place = {"shard": planned["shard"], "position": planned["position"]}
        try:
            decoded = self._intake.take(planned)
        except RadiographError as error:
            refusal = {"reason_code": str(error.reason), "detail": error.message}
            return place | self._intake.ids(planned, error) | error.facts | refusal, None
        row = place | self._intake.ids(planned, decoded) | decoded.facts
        return row | {"affine": asdict(decoded.affine)}, decoded.pixels


def _binary(values: Sequence[pa.Buffer]) -> pa.ChunkedArray:
    """Return a column of buffers, without copying them."""
    lengths = [pa.py_buffer(np.array([0, value.size], np.int32)) for value in values]
    arrays = [
        pa.Array.from_buffers(pa.binary(), 1, [None, offsets, value])
        for offsets, value in zip(lengths, values, strict=True)
    ]
    return pa.chunked_array(arrays, pa.binary())
