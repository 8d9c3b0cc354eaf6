"""Runs with Grad-CAM have columns of their own; runs without it stay what they were."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from cxrgaze_ray.errors import BundleError
from cxrgaze_ray.gaze import saliency
from cxrgaze_ray.models.bundle import golden_image, make_bundle
from cxrgaze_ray.models.predictions import StoredPredictions
from cxrgaze_ray.models.predictor import Predictor
from cxrgaze_ray.models.settings import PRESETS, architecture
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.schemas import CAM_RESULT, CLASSES, RESULT, SUMMARY
from cxrgaze_ray.schemas.ipc import table_to_ipc
from cxrgaze_ray.scoring import score
from cxrgaze_ray.scoring.decode import IMAGES, ROWS
from cxrgaze_ray.scoring.planning import pin_requested
from cxrgaze_ray.scoring.runs import Request, Run, RunSpec, ScoreOptions, make_run_id, table_bytes, verify_run
from cxrgaze_ray.storage import LocalStore
from tests.unit.scoring.test_runs import PIN, make_run, make_spec, results

WITH_CAM = Request(archive="/archive", model="m@champion", engine="auto", options=ScoreOptions(cam=True))
BUNDLE = make_bundle(build(PRESETS["tiny"], 3), "m", trained=True)
FIRST = "results/shard-00000.parquet"
PNG = saliency.encode(np.eye(640, 512, dtype=np.float32))[0]


def with_cams(rows: pa.Table, **changes: Any) -> pa.Table:
    """Give every scored row a map, the first one with changes."""
    scored = [status == "scored" for status in rows["status"].to_pylist()]
    columns = {"cam_png": PNG, "cam_target": "pneumonia"}
    made = [{**row, **(columns if one else {})} for row, one in zip(rows.to_pylist(), scored, strict=True)]
    made[0] |= changes
    return pa.Table.from_pylist(made, schema=CAM_RESULT)


def finished(folder: Path, rows: int = 7) -> Run:
    run = make_run(folder, rows, request=WITH_CAM)
    run.commit(0, with_cams(results(run.plan(), 0)))
    run.finish(1.0, rows, "2026-01-01T00:01:00+00:00")
    return run


class InProcess:
    """Stands for the model deployment."""

    def __init__(self, application: str, pin: ModelPin, engine: str, *, cam: bool = False) -> None:
        self._predictor, self._cam = Predictor.from_bundle(BUNDLE), cam

    def predict(self, images_bhw: NDArray[np.uint16]) -> StoredPredictions:
        return self._predictor.predict_stored(images_bhw, cam=self._cam)


def scored(monkeypatch: pytest.MonkeyPatch, spec: RunSpec, images: list[NDArray[np.uint16]]) -> pa.Table:
    """Score a chunk of one row that failed to decode, and some that did not."""
    monkeypatch.setattr(score, "ModelCalls", InProcess)
    rows = [{"shard": 0, "position": 0, "reason_code": "truncated"}]
    rows += [{"shard": 0, "position": 1 + index} for index in range(len(images))]
    table = pa.Table.from_pylist(rows, schema=RESULT)
    pixels = np.stack(images).tobytes() if images else b""
    batch = pa.table({ROWS: [table_to_ipc(table).to_pybytes()], IMAGES: [pixels]})
    return score.ScoreChunk(spec, "app")(batch)


def test_only_a_run_that_asks_for_it_has_another_id() -> None:
    plain = make_run_id("m", PIN, "p", "e", ScoreOptions())
    assert plain == make_run_id("m", PIN, "p", "e", ScoreOptions(cam=False))
    assert plain != make_run_id("m", PIN, "p", "e", ScoreOptions(cam=True))


def test_only_a_run_that_asks_for_it_has_the_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [golden_image(1), golden_image(2)]
    plain = scored(monkeypatch, make_spec(), images)
    found = scored(monkeypatch, make_spec(request=WITH_CAM), images)
    assert plain.schema == RESULT
    assert found.schema == CAM_RESULT
    assert found.select(RESULT.names).drop_columns("scored_at").equals(plain.drop_columns("scored_at"))
    assert "cam_png" not in SUMMARY.names
    assert found["cam_png"].to_pylist()[0] is found["cam_target"].to_pylist()[0] is None
    expected = Predictor.from_bundle(BUNDLE).predict(np.stack(images), cam=True)
    assert expected.cam_BHW is not None
    assert expected.cam_target_B is not None
    for row, cam, target in zip(found.to_pylist()[1:], expected.cam_BHW, expected.cam_target_B, strict=True):
        assert row["cam_png"] == saliency.encode(cam)[0] != row["saliency_png"]
        assert row["cam_target"] == CLASSES[target]
        np.testing.assert_allclose(saliency.decode_relative(row["cam_png"]), cam, atol=0.02)


def test_a_chunk_without_an_image_has_the_columns_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert scored(monkeypatch, make_spec(request=WITH_CAM), []).schema == CAM_RESULT


def test_a_map_of_nothing_stays_nothing() -> None:
    assert not saliency.decode_relative(saliency.encode(np.zeros((640, 512), np.float32))[0]).any()


def test_a_run_keeps_its_columns_and_verifies(tmp_path: Path) -> None:
    run = finished(tmp_path)
    assert verify_run(run) == []
    assert run.read_shard(0).schema == CAM_RESULT
    assert run.summary().schema == SUMMARY
    (table,) = run.tables()
    assert table["cam_target"].to_pylist().count("pneumonia") == 6


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"cam_png": None}, "A scored row has no Grad-CAM, which the run was asked for."),
        ({"cam_target": None}, "A scored row's Grad-CAM explains no class."),
        ({"cam_target": "oedema"}, "A scored row's Grad-CAM explains no class."),
    ],
)
def test_verify_names_a_map_that_is_gone(tmp_path: Path, changes: dict[str, Any], found: str) -> None:
    run = finished(tmp_path)
    rows = pq.read_table(io.BytesIO(run.store.get(FIRST)))
    run.store.put(FIRST, table_bytes(with_cams(rows.select(RESULT.names), **changes)))
    assert (FIRST, found) in [(one.file, one.what) for one in verify_run(run)]


def test_a_model_without_a_densenet_is_refused_before_anything_is_listed(
    tmp_path: Path,
) -> None:
    registry = Registry(LocalStore(str(tmp_path)))
    registry.promote("m", registry.publish(BUNDLE).version)
    assert pin_requested(WITH_CAM, str(tmp_path))[1].name == "m"
    other = make_bundle(build(architecture("mt-unet", "tiny")), "m", trained=True)
    registry.promote("m", registry.publish(other).version)
    with pytest.raises(BundleError, match="m is a mt-unet, which has no DenseNet"):
        pin_requested(WITH_CAM, str(tmp_path))
    pin_requested(WITH_CAM.model_copy(update={"options": ScoreOptions()}), str(tmp_path))
