"""What a training publishes: calibrated, measured on the test split, and told how often that was looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from cxrgaze_ray.evaluation import calibration
from cxrgaze_ray.models.bundle import Bundle, make_bundle, read_bundle
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.predictor import Predictor
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.reports.model_card import model_card
from cxrgaze_ray.shards.store import image_array
from cxrgaze_ray.storage import LocalStore, open_store
from cxrgaze_ray.training import publishing
from cxrgaze_ray.training.settings import TrainSettings
from tests.labelled_store import write_store


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry, and trainings that end at once with weights of the settings' seed."""

    def trained(_store: object, settings: TrainSettings, *_: object, name: str, **__: object) -> Bundle:
        return make_bundle(build(settings.network, settings.seed), name, trained=True)

    monkeypatch.setattr(publishing, "run_stages", trained)
    monkeypatch.setattr(calibration, "LEAST_IMAGES", 3)
    monkeypatch.setattr("cxrgaze_ray.models.predictor.limit_threads", lambda _: None)
    return Registry(LocalStore(str(tmp_path / "registry")))


def test_what_is_published_answers_with_the_temperature_that_was_fitted(tmp_path: Path, registry: Registry) -> None:
    store = write_store(tmp_path / "store", {"train": 1, "validation": 6, "test": 3})
    said: list[str] = []
    pin = publishing.train_and_publish(store, TrainSettings.for_preset("tiny", seed=3), registry, say=said.append)
    bundle = read_bundle(open_store(pin.uri))
    found = bundle.info.lineage.calibration
    assert found is not None
    assert (found.split, found.images) == ("validation", 6)
    assert found.told() in said
    assert bundle.info.temperature == found.temperature == pin.temperature
    assert bundle.info.metrics["curves"]["classes"].keys() == {"normal", "heart_failure", "pneumonia"}
    assert bundle.info.metrics["reach"]
    (rows,) = store.tables("test")
    answer = Predictor.from_bundle(bundle).predict(image_array(rows["image"]))
    plain = Predictor.from_bundle(make_bundle(build(PRESETS["tiny"], 3), "net", trained=True))
    raw = plain.predict(image_array(rows["image"]))
    assert answer.logits_BK is not None
    assert raw.logits_BK is not None
    assert answer.logits_BK.tobytes() == raw.logits_BK.tobytes(), "golden answers stay what they were"
    card = model_card(registry, "cxrgaze@v1").text
    assert found.told() in card
    assert ">Reliability</h3>" in card


def test_each_further_model_is_told_how_many_saw_the_test_split(tmp_path: Path, registry: Registry) -> None:
    store = write_store(tmp_path / "store", {"train": 1, "validation": 3, "test": 3})
    said: list[str] = []
    for seed in (1, 2, 2):
        publishing.train_and_publish(store, TrainSettings.for_preset("tiny", seed=seed), registry, say=said.append)
    told = [sentence for sentence in said if "has been shown to" in sentence]
    assert told == ["It has been shown to 2 models named cxrgaze: the best of many is partly the luckiest."] * 2
    assert [entry.action for entry in registry.history("cxrgaze")].count("look") == 2


def test_a_model_that_reads_gaze_is_published_though_nobody_looked_at_the_test_split(
    tmp_path: Path, registry: Registry
) -> None:
    store = write_store(tmp_path / "store", {"train": 1, "validation": 3, "test": 2}, unseen="test")
    pin = publishing.train_and_publish(store, TrainSettings.for_preset("tiny", system="gazegnn"), registry)
    info = read_bundle(open_store(pin.uri)).info
    assert (info.network.system, info.metrics) == ("gazegnn", {})
    assert info.lineage.calibration is not None
    assert registry.looks("cxrgaze", store.parts) == 0
