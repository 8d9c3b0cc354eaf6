"""Drifted phantom archives: each kind changes what it is named for and nothing else, and none changes no byte."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.csv as pacsv
import pydicom
import pytest
from numpy.typing import NDArray

from cxrgaze_ray.errors import ConfigError
from cxrgaze_ray.phantoms import Drift, PhantomReport, make_archive
from cxrgaze_ray.phantoms.drift import Shot, drifted, drifted_label
from cxrgaze_ray.phantoms.files import choose_recipe
from cxrgaze_ray.phantoms.film import USUAL
from cxrgaze_ray.radiograph.preprocess import ModelImage, prepare
from cxrgaze_ray.radiograph.reading import Facts, read_radiograph
from cxrgaze_ray.schemas import CLASSES
from cxrgaze_ray.storage import LocalStore

IMAGES, HEIGHT = 10, (200, 260)
PIXELS = ("PixelData",)
TAGS_SHA256 = "e802ab006354849b962a2f96ee758a5abf8b573dcd4a3588f9a302fb815afdd8"
MEANS = [0.5753, 0.5677, 0.6130, 0.6312, 0.5562, 0.5396, 0.6070, 0.6048, 0.6135, 0.5727]
MEDIANS = [0.6248, 0.6292, 0.6946, 0.6879, 0.6161, 0.5925, 0.6957, 0.6704, 0.6844, 0.6233]
"""Of the archive without drift, as they were before there was any."""


@dataclass(frozen=True)
class Archive:
    """An archive as it lies on disk."""

    folder: Path
    report: PhantomReport

    @cached_property
    def images(self) -> dict[str, bytes]:
        """Bytes of the images, by path."""
        files = sorted((self.folder / "files").rglob("*.*"))
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in files}

    @cached_property
    def decoded(self) -> dict[str, tuple[Facts, ModelImage]]:
        """Facts and model image of each."""
        read = {name: read_radiograph(data) for name, data in self.images.items()}
        return {name: (one.facts, prepare(one)) for name, one in read.items()}

    @cached_property
    def labels(self) -> dict[str, int]:
        """Label of each, by path."""
        sheet = pacsv.read_csv(self.folder / "egd-cxr" / "master_sheet.csv").to_pylist()
        names = ("Normal", "CHF", "pneumonia")
        return {row["path"]: [row[name] for name in names].index(1) for row in sheet}


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Archive]:
    """The same archive without drift, and with each kind."""

    def make(*kinds: str) -> Archive:
        folder = tmp_path_factory.mktemp("drift")
        store, drift = LocalStore(str(folder)), Drift.of(kinds)
        return Archive(folder, make_archive(store, images=IMAGES, seed=5, drift=drift, height=HEIGHT))

    return {"none": make()} | {kind: make(kind) for kind in Drift.model_fields}


def tags(data: bytes, *leave_out: str) -> dict[str, Any]:
    """Return what a DICOM file says but for some elements; an empty mapping for JPEG."""
    if data.startswith(b"\xff\xd8"):
        return {}
    dataset = pydicom.dcmread(io.BytesIO(data))
    found = {element.keyword: element.value for element in dataset}
    found["transfer_syntax"] = dataset.file_meta.TransferSyntaxUID
    return {name: value for name, value in found.items() if name not in leave_out}


def test_without_drift_an_archive_is_what_it_always_was(archives: dict[str, Archive]) -> None:
    """What no arithmetic on pixels touches is held to the bit; greys, which depend on the CPU, to 1 in 1,000."""
    digest = hashlib.sha256((archives["none"].folder / "cxr-record-list.csv.gz").read_bytes())
    for data in archives["none"].images.values():
        digest.update(json.dumps({name: str(value) for name, value in tags(data, *PIXELS).items()}).encode())
    assert digest.hexdigest() == TAGS_SHA256
    shown = [image for _, image in archives["none"].decoded.values()]
    assert [one.intensity_mean for one in shown] == pytest.approx(MEANS, abs=1e-3)
    assert [one.intensity_p50 for one in shown] == pytest.approx(MEDIANS, abs=1e-3)


@pytest.mark.parametrize("kind", Drift.model_fields)
def test_patients_and_diagnoses_stay_and_what_was_asked_for_is_written_down(
    archives: dict[str, Archive], kind: str
) -> None:
    before, after = archives["none"], archives[kind]
    assert list(after.images) == list(before.images)
    assert (after.labels == before.labels) is (kind != "prevalence")
    note = json.loads((after.folder / "phantoms.json").read_text())
    assert note["drift"] == {name: float(name == kind) for name in Drift.model_fields}


def grain(image: NDArray[np.uint16]) -> float:
    shown = image.astype(np.float32) / 65535
    return float(np.median(np.abs(shown - cv2.medianBlur(shown, 5))))


def test_exposure_brightens_every_image_of_the_same_devices(archives: dict[str, Archive]) -> None:
    before, after = archives["none"], archives["exposure"]
    assert [tags(data, *PIXELS) for data in after.images.values()] == [
        tags(data, *PIXELS) for data in before.images.values()
    ]
    pairs = [(before.decoded[name][1], shown) for name, (_, shown) in after.decoded.items()]
    assert all(late.intensity_p50 > early.intensity_p50 + 0.05 for early, late in pairs)
    assert all(late.intensity_mean > early.intensity_mean + 0.05 for early, late in pairs)
    assert all(grain(late.pixels) > 1.3 * grain(early.pixels) for early, late in pairs)
    assert {facts.photometric_check for facts, _ in after.decoded.values()} == {"agrees"}


def test_polarity_turns_one_tag_of_dicom_files(archives: dict[str, Archive]) -> None:
    before, after = archives["none"].images, archives["polarity"].images
    for name, data in after.items():
        left_out = "PhotometricInterpretation"
        assert tags(data, left_out) == tags(before[name], left_out)
        assert (data == before[name]) is name.endswith(".jpg")
    checks = {name: facts.photometric_check for name, (facts, _) in archives["polarity"].decoded.items()}
    assert checks == {name: "agrees" if name.endswith(".jpg") else "disagrees" for name in after}


def test_another_site_has_other_devices_and_greys_and_the_same_patients(archives: dict[str, Archive]) -> None:
    before, after = archives["none"].decoded, archives["site"].decoded
    facts = [one for one, _ in after.values()]
    dicom = [one for name, (one, _) in after.items() if name.endswith(".dcm")]
    assert {one.manufacturer for one in dicom} == {"Helio Systems"}
    assert {(one.bits_stored, one.transfer_syntax) for one in dicom} == {(15, "1.2.840.10008.1.2.4.90")}
    assert {(one.rows, one.columns) for one in facts} == {(184, 158)}
    assert views(after)["AP"] > views(before)["AP"]
    assert {one.photometric_check for one in facts} == {"agrees"}
    same = ("photometric", "sex", "age_band")
    for name, (one, _) in after.items():
        assert [getattr(one, fact) for fact in same] == [getattr(before[name][0], fact) for fact in same]


def views(decoded: dict[str, tuple[Facts, ModelImage]]) -> dict[str | None, int]:
    found = [facts.view_position for facts, _ in decoded.values()]
    return {view: found.count(view) for view in ("AP", "PA", None)}


def test_prevalence_changes_diagnoses_and_no_device(archives: dict[str, Archive]) -> None:
    before, after = archives["none"], archives["prevalence"]
    pneumonia = CLASSES.index("pneumonia")
    turned = {name for name, label in after.labels.items() if label != before.labels[name]}
    assert {after.labels[name] for name in turned} == {pneumonia}
    assert after.report.counts["pneumonia"] == list(after.labels.values()).count(pneumonia)
    for name, data in after.images.items():
        assert tags(data, *PIXELS) == tags(before.images[name], *PIXELS)
        assert (data == before.images[name]) is (name not in turned)


def shots(drift: Drift) -> list[Shot]:
    usual = [Shot("PA", 240, 200, choose_recipe(np.random.default_rng(seed), "PA")) for seed in range(300)]
    return [drifted(shot, drift, np.random.default_rng([9, seed]), HEIGHT) for seed, shot in enumerate(usual)]


def test_a_weaker_drift_reaches_fewer_images_or_less_far() -> None:
    usual, half = shots(Drift()), shots(Drift(polarity=0.5, site=0.25, exposure=0.5))
    assert sum(shot.recipe.mislabelled for shot in half) == pytest.approx(150, abs=30)
    elsewhere = [shot.recipe.vendor[0] == "Helio Systems" for shot in half]
    assert sum(elsewhere) == pytest.approx(75, abs=25)
    full = shots(Drift(exposure=1))
    for ladder in zip(usual, half, full, strict=True):
        if ladder[1].recipe.vendor == ladder[0].recipe.vendor:
            doses, gammas, grains = zip(
                *((shot.technique.dose, shot.technique.gamma, shot.technique.grain) for shot in ladder), strict=True
            )
            assert doses[0] < doses[1] < doses[2]
            assert gammas[0] > gammas[1] > gammas[2]
            assert grains[0] < grains[1] < grains[2]


def test_no_drift_changes_no_shot_and_no_label() -> None:
    assert {shot.technique for shot in shots(Drift())} == {USUAL}
    assert not any(shot.recipe.mislabelled or shot.recipe.vendor[0] == "Helio Systems" for shot in shots(Drift()))
    assert [drifted_label(1, Drift(), np.random.default_rng(seed)) for seed in range(50)] == [1] * 50


@pytest.mark.parametrize(("strength", "share"), [(1.0, 0.8), (0.5, 0.57)])
def test_an_outbreak_is_mostly_pneumonia(strength: float, share: float) -> None:
    drift = Drift(prevalence=strength)
    labels = [drifted_label(study % 3, drift, np.random.default_rng([3, study])) for study in range(600)]
    assert labels.count(CLASSES.index("pneumonia")) / 600 == pytest.approx(share, abs=0.05)
    assert labels.count(0) > 30 < labels.count(1)


@pytest.mark.parametrize(("kinds", "strength", "words"), [(["weather"], 1, "weather"), (["site"], 1.5, "site")])
def test_what_can_not_drift_is_told(kinds: list[str], strength: float, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Drift.of(kinds, strength)
