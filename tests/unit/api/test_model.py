"""Single files through the Python API and `cxrgaze predict`: a result for each, without Ray."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cxrgaze_ray as cxr
from cxrgaze_ray.api.result import Results
from cxrgaze_ray.errors import EXIT_STRICT, BundleError, ConfigError, RadiographError, RegistryError, UserError
from cxrgaze_ray.models.bundle import make_bundle, write_bundle
from cxrgaze_ray.models.gazenet import PRESETS, GazeNetConfig
from cxrgaze_ray.models.predictions import Predictions
from cxrgaze_ray.models.predictor import Predictor
from cxrgaze_ray.models.settings import Answer, architecture
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.radiograph.preprocess import prepare
from cxrgaze_ray.radiograph.reading import read_radiograph
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.schemas import CLASSES
from cxrgaze_ray.storage import LocalStore
from tests.answers import ONE
from tests.command import Cxrgaze, Ended
from tests.dicom_files import gradient, make_dicom
from tests.unit.scoring.test_runs import make_finished

BUNDLE = make_bundle(build(PRESETS["tiny"], 5), "cxrgaze", trained=False)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("registry")
    registry = Registry(LocalStore(str(folder)))
    registry.promote("cxrgaze", registry.publish(BUNDLE).version)
    return str(folder)


@pytest.fixture(scope="module")
def model(registry: str) -> cxr.Model:
    return cxr.load_model("cxrgaze@champion", registry=registry, engine="float32")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "chest.dcm").write_bytes(make_dicom(gradient(200, 300), ViewPosition="PA"))
    (tmp_path / "side.dcm").write_bytes(make_dicom(gradient(300, 200), ViewPosition="LL"))
    (tmp_path / "note.txt").write_text("not a radiograph")
    return tmp_path


def test_every_file_has_the_result_it_deserves_in_its_place(model: cxr.Model, files: Path) -> None:
    data = (files / "chest.dcm").read_bytes()
    wanted: list[str | Path | bytes] = [
        str(files / "note.txt"),
        files / "chest.dcm",
        str(files / "gone.dcm"),
        data,
        files / "side.dcm",
    ]
    seen: list[tuple[int, int]] = []
    results = model.predict(wanted, on_progress=lambda *counts: seen.append(counts))
    told = [(result.file, str(result.status), result.reason) for result in results]
    assert told == [
        (str(files / "note.txt"), "failed", "not_an_image"),
        (str(files / "chest.dcm"), "scored", None),
        (str(files / "gone.dcm"), "failed", "missing"),
        (None, "scored", None),
        (str(files / "side.dcm"), "skipped", "lateral_view"),
    ]
    assert results[1].probabilities == results[3].probabilities
    assert seen == [(5, 5)]
    (lateral,) = model.predict(files / "side.dcm", view="all")
    assert lateral.status == "scored"


def test_it_says_what_the_one_predictor_says_of_the_one_preprocessing(model: cxr.Model, files: Path) -> None:
    (result,) = model.predict(files / "chest.dcm")
    image = prepare(read_radiograph((files / "chest.dcm").read_bytes()), model.profile)
    wanted = Predictor.from_bundle(BUNDLE).predict(image.pixels[None])
    assert wanted.probabilities_BK is not None
    assert wanted.saliency_BHW is not None
    assert result.probabilities == dict(zip(CLASSES, map(float, wanted.probabilities_BK[0]), strict=True))
    assert result.prediction == CLASSES[int(wanted.probabilities_BK[0].argmax())]
    assert result.density_HW is not None
    assert np.array_equal(result.density_HW, wanted.saliency_BHW[0])


def test_saliency_lies_on_the_source_s_own_pixels(model: cxr.Model, files: Path) -> None:
    (result,) = model.predict([files / "chest.dcm"])
    assert result.saliency.shape == (200, 300)
    assert float(result.saliency.sum()) == pytest.approx(1, abs=1e-4)


def test_an_overlay_shows_the_radiograph_and_is_what_a_notebook_shows(model: cxr.Model, files: Path) -> None:
    (result,) = model.predict([files / "chest.dcm"])
    shown = result.overlay()
    assert shown.width > shown.height  # the radiograph's own shape, and a legend below it
    top = np.asarray(shown.convert("L"), dtype=float)[: shown.width * 200 // 300]
    assert np.ptp(top.mean(axis=0)) > 60  # the gradient is still to be seen
    assert result._repr_png_() == result.png()
    (files / "chest.dcm").write_bytes(make_dicom(gradient(220, 300)))
    with pytest.raises(RadiographError, match="not the one"):
        result.overlay()


def test_what_was_not_scored_has_no_picture_but_its_reason(model: cxr.Model, files: Path) -> None:
    (result,) = model.predict([files / "note.txt"])
    assert result._repr_png_() is None
    with pytest.raises(RadiographError) as refused:
        _ = result.saliency
    assert refused.value.reason == "not_an_image"


def test_results_become_a_data_frame(model: cxr.Model, files: Path) -> None:
    results = model.predict([files / "chest.dcm", files / "note.txt"])
    frame = results.to_pandas()
    assert list(frame["status"]) == ["scored", "failed"]
    assert frame.loc[0, [f"p_{name}" for name in CLASSES]].sum() == pytest.approx(1, abs=1e-5)
    assert frame.loc[1, "reason_code"] == "not_an_image"
    assert frame.loc[0, "weights_sha256"] == model.pin.weights_sha256
    assert "not_an_image" in results._repr_html_()
    assert len(results[:1]) == 1


def test_a_bundle_s_path_is_a_model_too(registry: str, model: cxr.Model) -> None:
    loaded = cxr.load_model(str(Path(registry, "cxrgaze", "versions", "v0001")), engine="float32")
    assert loaded.pin.weights_sha256 == model.pin.weights_sha256
    assert "untrained" in repr(loaded)


def test_errors_are_of_the_one_tree(registry: str) -> None:
    with pytest.raises(cxr.CxrgazeError) as refused:
        cxr.load_model("cxrgaze@v9", registry=registry)
    assert isinstance(refused.value, RegistryError)


def test_importing_it_loads_nothing_slow_and_predicting_needs_no_ray(registry: str, files: Path) -> None:
    code = (
        "import sys, cxrgaze_ray as cxr\n"
        "assert {*cxr.__all__} <= {*dir(cxr)}\n"
        "assert not {'torch', 'ray', 'pyarrow', 'pydantic'} & {*sys.modules}\n"
        f"assert cxr.load_model(registry={registry!r}).predict({str(files / 'chest.dcm')!r})[0].probabilities\n"
        "assert 'ray' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_command_says_a_line_a_file(cxrgaze: Cxrgaze, registry: str, files: Path) -> None:
    names = [str(files / "chest.dcm"), str(files / "note.txt")]
    told = cxrgaze(
        "predict", *names, "--registry", registry, "--overlays", str(files / "pictures"), "--strict", "--json"
    )
    assert told.code == EXIT_STRICT
    scored, failed = json.loads(told.out)["results"]
    assert Path(scored["overlay"]).read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in (files / "pictures").iterdir()] == ["0001.png"]
    assert (scored["status"], failed["reason_code"]) == ("scored", "not_an_image")
    people = cxrgaze("predict", *names, "--registry", registry)
    assert people.code == 0
    assert f"{names[1]}: failed, not_an_image." in people.out
    assert "untrained" in people.out


@pytest.mark.parametrize("wrong", [{"engine": "fastest"}, {"device": "gpu"}, {"device": "cuda:7"}])
def test_an_engine_or_device_that_does_not_exist_is_refused(registry: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        cxr.load_model(registry=registry, **wrong)


def test_a_view_that_does_not_exist_is_refused(model: cxr.Model, files: Path) -> None:
    with pytest.raises(ConfigError, match="view"):
        model.predict(files / "chest.dcm", view="lateral")  # type: ignore[arg-type]


def test_files_come_in_every_form_that_names_one(
    model: cxr.Model, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = files / "chest.dcm"
    monkeypatch.setenv("HOME", str(files))
    monkeypatch.chdir(files)
    data = path.read_bytes()
    with path.open("rb") as opened:
        results = model.predict(
            [path.as_uri(), "~/chest.dcm", "./chest.dcm", bytearray(data), memoryview(data), opened]
        )
    assert len({tuple((result.probabilities or {}).values()) for result in results}) == 1
    assert all(result.status == "scored" for result in results)
    with path.open("rb") as opened:
        assert len(model.predict(opened)) == 1
    assert [result.reason for result in model.predict(["http://x/a.dcm", "file:///gone"])] == ["invalid_uri", "missing"]
    with pytest.raises(TypeError, match="not int"):
        model.predict([3])  # type: ignore[list-item]


def test_paths_and_the_environment_name_a_registry_too(registry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Path(registry, "cxrgaze", "versions", "v0001")
    assert cxr.load_model(bundle).pin.weights_sha256 == cxr.load_model(registry=Path(registry)).pin.weights_sha256
    monkeypatch.setenv("CXRGAZE_REGISTRY", registry)
    assert cxr.load_model().pin.version == "v0001"


def test_results_can_be_compared_and_a_moved_file_shows_as_text(model: cxr.Model, files: Path) -> None:
    first, again = model.predict([files / "chest.dcm"] * 2)
    assert first != again
    assert len({first, again}) == 2
    (files / "chest.dcm").unlink()
    assert first._repr_png_() is None
    assert "chest.dcm" in repr(first)


def test_a_run_is_opened_by_its_path(tmp_path: Path) -> None:
    run = cxr.open_run(Path(make_finished(tmp_path, 5).store.uri))
    assert run.results.num_rows == 5
    assert run.success is not None
    assert run.files("scored").num_rows == run.success.counts["scored"]
    assert "scored" in repr(run)


class Part:
    """Stands for a predictor of a model that predicts one thing only: the answers of one that predicts both."""

    def __init__(self, predicts: tuple[Answer, ...]) -> None:
        self._both = Predictor.from_bundle(BUNDLE)
        self.info, self.engine = BUNDLE.info.model_copy(update={"predicts": predicts}), self._both.engine

    def predict(self, images_BHW: np.ndarray, *, cam: bool) -> Predictions:
        """Score images, and leave out what is not predicted."""
        whole = self._both.predict(images_BHW, cam=cam)
        if self.info.predicts == ("classes",):
            return replace(whole, saliency_BHW=None)
        return replace(whole, logits_BK=None, probabilities_BK=None)


def test_a_result_of_one_answer_lacks_the_other_and_says_so(model: cxr.Model, files: Path) -> None:
    wanted = [files / "chest.dcm", files / "note.txt"]
    (both, _), (classes, _), (saliency, refused) = (
        one.predict(wanted)
        for one in (model, *(cxr.Model(model.pin, Part(predicts)) for predicts in ONE))  # type: ignore[arg-type]
    )
    assert (classes.status, saliency.status, refused.status) == ("scored", "scored", "failed")
    assert classes.probabilities == both.probabilities
    assert (saliency.probabilities, saliency.prediction, classes.density_HW) == (None, None, None)
    assert np.array_equal(saliency.saliency, both.saliency)
    for ask in (lambda: classes.saliency, classes.overlay):
        with pytest.raises(UserError, match="cxrgaze v0001 predicts classes only"):
            ask()
    assert classes._repr_png_() is None
    assert saliency.overlay().size == both.overlay().size
    assert ("saliency only" in repr(saliency), "saliency only" in repr(refused)) == (True, False)
    table = Results([classes, saliency, refused]).to_pandas()
    assert list(table["status"]) == ["scored", "scored", "failed"]
    assert list(table["p_normal"].isna()) == [False, True, True]
    assert "scored" in Results([saliency])._repr_html_()


def test_the_command_leaves_out_what_is_not_predicted(
    cxrgaze: Cxrgaze, model: cxr.Model, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def predict(predicts: tuple[Answer, ...], *options: str) -> Ended:
        part = cxr.Model(model.pin, Part(predicts))  # type: ignore[arg-type]
        monkeypatch.setattr(cxr, "load_model", lambda *_, **__: part)
        return cxrgaze("predict", str(files / "chest.dcm"), *options)

    pictures = ["--overlays", str(files / "pictures")]
    assert "chest.dcm: scored, saliency only. Picture: " in predict(("saliency",), *pictures).out
    assert json.loads(predict(("saliency",), "--json").out)["model"]["predicts"] == ["saliency"]
    assert "heart_failure" in predict(("classes",)).out
    refused = predict(("classes",), *pictures)
    assert refused.code == 2
    assert "Pictures of predicted gaze were asked for, and cxrgaze v0001 predicts classes only." in refused.err


def test_a_model_that_reads_gaze_is_refused_before_its_weights_are_read(
    registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GazeNetConfig, "needs_gaze", True)
    monkeypatch.setattr("cxrgaze_ray.api.model.read_bundle", lambda _: pytest.fail("the weights are read"))
    with pytest.raises(BundleError, match="reads the reader's gaze") as refused:
        cxr.load_model(registry=registry)
    assert "cxrgaze evaluate STORE" in refused.value.hint


def test_grad_cam_comes_on_request_and_is_labelled_as_another_thing(model: cxr.Model, files: Path) -> None:
    plain, told = (model.predict(files / "chest.dcm", cam=cam)[0] for cam in (False, True))
    assert told.row() == plain.row()
    assert plain.cam_HW is None
    with pytest.raises(UserError, match=r"not asked for\. Ask for it: predict\(files, cam=True\)"):
        plain.cam_overlay()
    assert told.cam_HW is not None
    assert (told.cam_HW.shape, float(told.cam_HW.max())) == ((640, 512), 1)
    assert told.cam_target in CLASSES
    image = prepare(read_radiograph((files / "chest.dcm").read_bytes()), model.profile)
    wanted = Predictor.from_bundle(BUNDLE).predict(image.pixels[None], cam=True)
    assert wanted.cam_BHW is not None
    assert np.array_equal(told.cam_HW, wanted.cam_BHW[0])
    assert told.cam_overlay().size == told.overlay().size
    assert told.cam_png() != told.png()
    (failed,) = model.predict(files / "note.txt", cam=True)
    with pytest.raises(RadiographError):
        failed.cam_overlay()


def test_the_command_draws_grad_cam_beside_the_gaze(registry: str, files: Path, cxrgaze: Cxrgaze) -> None:
    names = [str(files / "chest.dcm"), str(files / "note.txt")]
    told = cxrgaze("predict", *names, "--registry", registry, "--cam", "--overlays", files / "pictures")
    assert told.code == 0, told.err
    assert "Grad-CAM for " in told.out
    assert "not where a reader would look" in told.out
    assert sorted(path.name for path in (files / "pictures").iterdir()) == ["0001-grad-cam.png", "0001.png"]
    refused = cxrgaze("predict", *names, "--registry", registry, "--cam")
    assert refused.code == 2
    assert "give --overlays too" in refused.err


def test_grad_cam_of_a_model_without_a_densenet_is_refused(tmp_path: Path, files: Path) -> None:
    write_bundle(
        LocalStore(str(tmp_path / "other")), make_bundle(build(architecture("mt-unet", "tiny")), "m", trained=True)
    )
    with pytest.raises(BundleError, match="has no DenseNet"):
        cxr.load_model(tmp_path / "other").predict(files / "note.txt", cam=True)
