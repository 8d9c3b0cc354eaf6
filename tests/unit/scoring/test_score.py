"""Result rows of a chunk hold what the model predicts, and null where it predicts nothing or no image was decoded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from cxrgaze_ray.models.predictions import Predictions, StoredPredictions, stored
from cxrgaze_ray.models.settings import BOTH, Answer
from cxrgaze_ray.schemas import ANSWERS, HEIGHT, RESULT, WIDTH
from cxrgaze_ray.schemas.ipc import table_to_ipc
from cxrgaze_ray.scoring.decode import IMAGES, ROWS
from cxrgaze_ray.scoring.runs import RunSpec
from cxrgaze_ray.scoring.score import ScoreChunk
from tests.answers import ONE
from tests.unit.scoring.test_runs import make_spec


class Answers:
    """Stands for the model: the first image is pneumonia, and every other one normal."""

    def __init__(self, predicts: tuple[Answer, ...]) -> None:
        self._predicts = predicts

    def predict(self, images_bhw: NDArray[np.uint16]) -> StoredPredictions:
        """Answer with what is predicted."""
        chances = np.tile(np.array([[0.7, 0.2, 0.1]], np.float32), (len(images_bhw), 1))
        chances[0] = chances[0, ::-1]
        maps = np.full((len(images_bhw), 320, 256), 1 / (320 * 256), np.float32)
        whole = stored(Predictions(np.log(chances), chances, maps))
        if "classes" not in self._predicts:
            whole = replace(whole, logits_BK=None, probabilities_BK=None)
        return whole if "saliency" in self._predicts else replace(whole, saliency=None)


class Scores(ScoreChunk):
    """Scores with a stand-in for the model deployment."""

    def __init__(self, spec: RunSpec) -> None:
        self._spec, self._model = spec, Answers(spec.predicts)


@pytest.mark.parametrize("predicts", [*ONE, BOTH], ids=" ".join)
def test_rows_hold_what_is_predicted(predicts: tuple[Answer, ...]) -> None:
    reasons = [None, "truncated", None]
    rows = [{"shard": 0, "position": at, "reason_code": reason} for at, reason in enumerate(reasons)]
    images = pa.array([np.zeros((2, HEIGHT, WIDTH), np.uint16).tobytes()], pa.binary())
    table = pa.Table.from_pylist(rows, schema=RESULT)
    chunk = pa.table({ROWS: pa.array([table_to_ipc(table).to_pybytes()], pa.binary()), IMAGES: images})
    found = Scores(make_spec(predicts=predicts))(chunk)
    assert found.schema == RESULT
    assert found["status"].to_pylist() == ["scored", "failed", "scored"]
    for answer, columns in ANSWERS.items():
        empty = [answer not in predicts, True, answer not in predicts]
        assert all([value is None for value in found[name].to_pylist()] == empty for name in columns)
    if "classes" in predicts:
        assert found["prediction"].to_pylist() == ["pneumonia", None, "normal"]
