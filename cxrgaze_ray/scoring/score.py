"""Second stage: model images to result rows, through the Serve deployment. Loads no torch."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cxrgaze_ray.models.predictions import StoredMaps, StoredPredictions
from cxrgaze_ray.schemas import ANSWERS, CLASSES, HEIGHT, RESULT, WIDTH, status_of
from cxrgaze_ray.schemas.ipc import table_from_ipc
from cxrgaze_ray.scoring.decode import IMAGES, ROWS
from cxrgaze_ray.scoring.model_calls import ModelCalls
from cxrgaze_ray.scoring.runs import RunSpec
from cxrgaze_ray.telemetry import timed
from cxrgaze_ray.telemetry.logs import about, start_logging
from cxrgaze_ray.telemetry.table import STAGE_SECONDS

_ANSWER = pa.schema([RESULT.field(name) for columns in ANSWERS.values() for name in columns])


class ScoresChunks(Protocol):
    """What a chunk's images are given to."""

    def predict(self, images_bhw: NDArray[np.uint16]) -> StoredPredictions:
        """See `Predictor.predict_stored`."""


class ScoreChunk:
    """Send a chunk's images to the model deployment as one call, and make result rows of the answer."""

    def __init__(self, spec: RunSpec, application: str) -> None:
        start_logging()
        self._spec = spec
        self._model: ScoresChunks = ModelCalls(application, spec.model, spec.engine, cam=spec.request.options.cam)

    def __call__(self, batch: pa.Table) -> pa.Table:
        with about(run=self._spec.run_id):
            tables = [
                self._score(table_from_ipc(rows.as_buffer()), images.as_buffer())
                for rows, images in zip(batch[ROWS], batch[IMAGES], strict=True)
            ]
        return pa.concat_tables(tables)

    def _score(self, table: pa.Table, images: pa.Buffer) -> pa.Table:
        decoded = pc.is_null(table["reason_code"]).to_numpy()
        answers = self._answers(self._images(images, int(decoded.sum())))
        place = pa.array(np.cumsum(decoded) - 1, mask=~decoded)  # a row that was not decoded has no answer
        schema = self._spec.row_schema
        columns = {field.name: pa.nulls(len(table), field.type) for field in schema}
        columns |= {name: table[name] for name in table.column_names}
        columns |= {name: answers[name].take(place) for name in answers.column_names}
        columns |= {name: pa.repeat(value, len(table)) for name, value in self._common().items()}
        columns["status"] = pa.array([str(status_of(reason)) for reason in table["reason_code"].to_pylist()])
        return pa.table(columns).select(schema.names).cast(schema)

    def _common(self) -> dict[str, pa.Scalar]:
        """Return what every row of a chunk says alike."""
        texts = {
            "bundle_version": self._spec.model.version,
            "weights_sha256": self._spec.model.weights_sha256,
            "profile": self._spec.profile,
            "engine": self._spec.engine,
        }
        now = pa.scalar(datetime.now(UTC), RESULT.field("scored_at").type)
        return {name: pa.scalar(text, pa.string()) for name, text in texts.items()} | {"scored_at": now}

    def _images(self, buffer: pa.Buffer, count: int) -> NDArray[np.uint16]:
        return np.frombuffer(buffer, np.uint16).reshape(count, HEIGHT, WIDTH)

    def _answers(self, images_bhw: NDArray[np.uint16]) -> pa.Table:
        """Return the model's columns of the row, one row an image; null where it predicts nothing."""
        if not len(images_bhw):
            return _ANSWER.empty_table()
        with timed(STAGE_SECONDS, job="score", stage="model"):
            result = self._model.predict(images_bhw)
        columns: dict[str, Any] = dict.fromkeys(_ANSWER.names, [None] * len(images_bhw))
        if result.probabilities_BK is not None and result.logits_BK is not None:
            best = [CLASSES[index] for index in np.argmax(result.probabilities_BK, axis=1)]
            columns |= zip(ANSWERS["classes"], (*result.probabilities_BK.T, best, list(result.logits_BK)), strict=True)
        if result.saliency is not None:
            columns |= zip(ANSWERS["saliency"], zip(*self._maps(result.saliency), strict=True), strict=True)
        answers = pa.table([pa.array(columns[field.name], field.type) for field in _ANSWER], _ANSWER)
        if result.cam is None or result.cam_target_B is None:
            return answers
        pngs, targets = [png for png, _ in self._maps(result.cam)], [CLASSES[i] for i in result.cam_target_B]
        return answers.append_column("cam_png", pa.array(pngs)).append_column("cam_target", pa.array(targets))

    def _maps(self, maps: StoredMaps) -> list[tuple[bytes, float]]:
        return maps.pngs()
