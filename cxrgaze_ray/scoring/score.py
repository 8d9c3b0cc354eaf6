"""Second stage: model images to result rows, through the Serve deployment. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cxrgaze_ray import saliency
from cxrgaze_ray.runs import RunSpec
from cxrgaze_ray.schemas import CLASSES, HEIGHT, RESULT, WIDTH, status_of
from cxrgaze_ray.scoring.decode import IMAGES, ROWS
from cxrgaze_ray.scoring.model_calls import ModelCalls


class ScoreChunk:
    """Send a chunk's images to the model deployment as one call, and make result rows of the answer."""

    def __init__(self, spec: RunSpec, application: str) -> None:
        self._spec = spec
        self._model = ModelCalls(application, spec.model, spec.engine)

    def __call__(self, batch: pa.Table) -> pa.Table:
        tables = [
            self._score(table_from_ipc(rows.as_buffer()), images.as_buffer())
            for rows, images in zip(batch[ROWS], batch[IMAGES], strict=True)
        ]
        return pa.concat_tables(tables)

    def _score(self, table: pa.Table, images: pa.Buffer) -> pa.Table:
        images_bhw = np.frombuffer(images, np.uint16).reshape(-1, HEIGHT, WIDTH)
        answers = iter(self._answers(images_bhw)) if len(images_bhw) else iter(())
        common = {
            "bundle_version": self._spec.model.version,
            "weights_sha256": self._spec.model.weights_sha256,
            "profile": self._spec.profile,
            "engine": self._spec.engine,
            "scored_at": datetime.now(UTC),
        }
        rows = []
        for row in table.to_pylist():
            answer = next(answers) if row["reason_code"] is None else {}
            rows.append(row | common | {"status": str(status_of(row["reason_code"]))} | answer)
        return pa.Table.from_pylist(rows, schema=RESULT)

    def _answers(self, images_bhw: NDArray[np.uint16]) -> Iterator[dict[str, Any]]:
        result = self._model.predict(images_bhw)
        for probabilities, logits, density in zip(
            result.probabilities_BK, result.logits_BK, result.saliency_BHW, strict=True
        ):
            png, peak = saliency.encode(density)
            yield {
                **{f"p_{name}": float(p) for name, p in zip(CLASSES, probabilities, strict=True)},
                "prediction": CLASSES[int(np.argmax(probabilities))],
                "logits": logits.tolist(),
                "saliency_png": png,
                "saliency_peak": peak,
            }


def table_from_ipc(buffer: pa.Buffer) -> pa.Table:
    """Read a table back from an Arrow IPC stream."""
    return pa.ipc.open_stream(buffer).read_all()
