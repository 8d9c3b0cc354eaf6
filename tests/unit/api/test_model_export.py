"""Models for other programs give the answers that they give here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cxrgaze_ray as cxr
from cxrgaze_ray.api import mlflow_model
from cxrgaze_ray.api.mlflow_model import save_mlflow
from cxrgaze_ray.config import EXTRAS, check_extra
from cxrgaze_ray.errors import BundleError, ConfigError
from cxrgaze_ray.gaze import saliency
from cxrgaze_ray.models.bundle import golden_image, make_bundle, read_bundle, write_bundle
from cxrgaze_ray.models.onnx_export import export_onnx
from cxrgaze_ray.models.predictor import Predictor, with_golden
from cxrgaze_ray.models.settings import System, architecture
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.phantoms import make_archive
from cxrgaze_ray.registry.mlflow_tracking import import_quietly
from cxrgaze_ray.storage import LocalStore
from tests.command import Cxrgaze
from tests.dicom_files import gradient, make_dicom


def bundle_at(folder: Path, system: System = "gazenet") -> LocalStore:
    store = LocalStore(str(folder))
    made = make_bundle(build(architecture(system, "tiny"), 5), "cxrgaze", trained=False)
    write_bundle(store, with_golden(made) if not made.info.network.needs_gaze else made)
    return store


@pytest.fixture
def load(tmp_path: Path) -> Callable[[], Any]:
    """MLflow's own way to a model: it knows nothing of ours but the folder."""
    return lambda: import_quietly().pyfunc.load_model(str(tmp_path / "mlflow"))


@pytest.mark.long
def test_mlflow_answers_each_file_as_we_do(tmp_path: Path, load: Callable[[], Any]) -> None:
    import pandas

    save_mlflow(bundle_at(tmp_path / "bundle"), tmp_path / "mlflow", "cxrgaze@v0001")
    files = [make_dicom(gradient(200, 300), ViewPosition=view) for view in ("PA", "LL")] + [b"not a radiograph"]
    told = load().predict(pandas.DataFrame({"radiograph": files}))
    ours = cxr.load_model(tmp_path / "bundle").predict(files)
    assert list(told["status"]) == ["scored", "skipped", "failed"]
    for name in ours.to_arrow().column_names:
        if name != "file":
            assert told[name].equals(ours.to_pandas()[name]), name
    assert told["saliency_png"][0] == saliency.encode(ours[0].density_HW)[0]  # type: ignore[arg-type]
    assert list(load().predict(pandas.DataFrame({"radiograph": files}), params={"view": "all"})["status"]) == [
        "scored", "scored", "failed",
    ]  # fmt: skip


@pytest.mark.long
def test_mlflow_answers_64_images_with_our_bytes_from_a_file_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pandas

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    save_mlflow(bundle_at(tmp_path / "bundle"), tmp_path / "mlflow", "cxrgaze@v0001")
    make_archive(LocalStore(str(tmp_path / "archive")), images=64, height=(200, 260))
    files = [file.read_bytes() for file in sorted((tmp_path / "archive" / "files").rglob("*.*")) if file.is_file()]
    mlflow = import_quietly()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    with mlflow.start_run() as run:
        mlflow.log_artifacts(str(tmp_path / "mlflow"), "model")
    told = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model").predict(pandas.DataFrame({"radiograph": files}))
    ours = cxr.load_model(tmp_path / "bundle").predict(files)
    assert len(files) == 64
    assert list(told["status"]) == [str(one.status) for one in ours]
    for name in ("p_normal", "p_heart_failure", "p_pneumonia"):
        assert told[name].to_numpy().tobytes() == ours.to_pandas()[name].to_numpy().tobytes()
    maps = [None if one.density_HW is None else saliency.encode(one.density_HW)[0] for one in ours]
    assert list(told["saliency_png"]) == maps


def test_a_model_for_mlflow_holds_no_pickles_and_describes_itself(tmp_path: Path) -> None:
    save_mlflow(bundle_at(tmp_path / "bundle"), tmp_path / "mlflow", "cxrgaze@v0001")
    kinds = {file.suffix for file in (tmp_path / "mlflow").rglob("*") if file.is_file()}
    assert kinds == {"", ".json", ".yaml", ".txt", ".safetensors"}
    about = (tmp_path / "mlflow" / "MLmodel").read_text()
    assert f"loader_module: {mlflow_model.__name__}" in about
    assert "Research only, not for clinical use." in about
    assert str(tmp_path) not in about


@pytest.mark.long
@pytest.mark.parametrize("system", ["gazenet", "mt-unet", "dnet201"])
def test_onnx_gives_the_reference_s_answers(tmp_path: Path, system: System) -> None:
    import onnxruntime

    store = bundle_at(tmp_path / "bundle", system)
    model = cxr.load_model(tmp_path / "bundle", engine="float32")
    bundle = read_bundle(store)
    export_onnx(bundle, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    reference = Predictor.from_bundle(bundle)
    for seed in (1, 2, 3):
        image = golden_image(seed)
        told = session.run(None, {"image": (image[None, None] / 65535).astype(np.float32)})
        answers = dict(zip([one.name for one in session.get_outputs()], told, strict=True))
        ours = reference.predict(image[None])
        if "classes" in model.predicts:
            assert ours.probabilities_BK is not None
            np.testing.assert_allclose(answers["probabilities"], ours.probabilities_BK, atol=1e-5)
        if "saliency" in model.predicts:
            assert ours.saliency_BHW is not None
            peak = float(ours.saliency_BHW.max())
            np.testing.assert_allclose(answers["saliency"] / peak, ours.saliency_BHW / peak, atol=5e-4)
    about = session.get_modelmeta().custom_metadata_map
    assert about["profile"] == bundle.info.profile
    assert json.loads(about["classes"]) == ["normal", "heart_failure", "pneumonia"]


def test_a_model_that_reads_gaze_is_not_written_for_others(tmp_path: Path) -> None:
    store = bundle_at(tmp_path / "bundle", "gazegnn")
    with pytest.raises(BundleError, match="reads the reader's gaze"):
        save_mlflow(store, tmp_path / "mlflow", "cxrgaze@v0001")
    assert not (tmp_path / "mlflow").exists()


@pytest.mark.parametrize("extra", EXTRAS)
def test_what_is_not_installed_is_said_with_the_line_that_installs_it(
    extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, EXTRAS[extra][0], None)
    with pytest.raises(ConfigError) as told:
        check_extra(extra)
    assert f"pip install 'cxrgaze[{extra}]'" in told.value.hint


def test_the_command_writes_where_nothing_is(cxrgaze: Cxrgaze, tmp_path: Path) -> None:
    cxrgaze("models", "init", "--registry", str(tmp_path / "registry"))
    (tmp_path / "there").write_text("")
    ended = cxrgaze(
        "models", "export", "cxrgaze", "--to", "mlflow", "--out", str(tmp_path / "there"),
        "--registry", str(tmp_path / "registry"),
    )  # fmt: skip
    assert ended.code == 2
    assert "Something is at" in ended.err
