"""What `cxrgaze ingest` makes of its options, and tells beside the counts."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cxrgaze_ray.archive.identities import Identities
from cxrgaze_ray.cli.ingest import ingest_notes
from cxrgaze_ray.cli.main import app
from cxrgaze_ray.errors import ConfigError
from cxrgaze_ray.shards import IngestSettings, SplitSettings, StoreInfo, ingest


class Asked(Exception):
    """Stands for the ingest itself."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Note what the command asks the library for, and stop there."""
    seen: dict[str, Any] = {}

    def note(archive: str, gaze: list[str] | None, out: str, **options: Any) -> None:
        seen.update(options, archive=archive, gaze=gaze, out=out)
        raise Asked

    monkeypatch.setattr("cxrgaze_ray.shards.ingest", note)
    monkeypatch.setattr("cxrgaze_ray.cluster.connection.connect", lambda *_: nullcontext())
    return seen


def run(*arguments: str) -> BaseException | None:
    return CliRunner().invoke(app, ["ingest", "archive", "--out", "store", *arguments]).exception


def test_options_reach_the_ingest(asked: dict[str, Any], tmp_path: Path) -> None:
    options = ["--labels", "chexpert", "--split", "archive", "--keep", "all", "--pseudonymise", str(tmp_path / "key")]
    assert isinstance(run("--gaze", "egd", "--gaze", "reflacx", *options), Asked)
    assert (asked["archive"], asked["gaze"], asked["out"]) == ("archive", ["egd", "reflacx"], "store")
    assert asked["settings"] == IngestSettings(labels="chexpert", split_by="archive", keep="all")
    assert asked["identities"]().name.startswith("keyed-")
    assert (tmp_path / "key").exists()


def test_links_that_lead_out_are_followed_only_if_that_is_asked_for(asked: dict[str, Any]) -> None:
    assert isinstance(run(), Asked)
    assert asked["follow_links"] is False
    assert isinstance(run("--follow-links"), Asked)
    assert asked["follow_links"] is True


def test_a_store_says_how_many_folders_it_could_not_look_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "archive/closed").mkdir(parents=True)
    (tmp_path / "archive/x.dcm").write_bytes(b"-")
    scandir = os.scandir

    def refuse(folder: str) -> Any:
        if str(folder).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(sys.modules["cxrgaze_ray.shards.ingest"], "_run", lambda *_: iter(()))
    counts = [ingest(str(tmp_path / "archive"), None, str(tmp_path / "one"), identities=Identities).info.counts]
    monkeypatch.setattr(os, "scandir", refuse)
    counts += [ingest(str(tmp_path / "archive"), None, str(tmp_path / "two"), identities=Identities).info.counts]
    assert [one.get("closed_folders") for one in counts] == [None, 1]


def test_identities_are_kept_only_if_that_is_asked_for(asked: dict[str, Any]) -> None:
    assert isinstance(run("--identities", "keep"), Asked)
    assert asked["identities"]().name == "keep"


@pytest.mark.parametrize("option", ["--split", "--split-by"])
def test_a_split_by_image_is_asked_for_by_name(asked: dict[str, Any], option: str) -> None:
    assert isinstance(run(option, "image"), Asked)
    assert asked["settings"] == IngestSettings(split_by="image")


def test_a_split_can_be_that_of_another_store(asked: dict[str, Any]) -> None:
    assert isinstance(run("--split-salt", "ward", "--split-shares", "0.6,0.25"), Asked)
    assert asked["settings"].split == SplitSettings(salt="ward", train=0.6, validation=0.25)
    assert isinstance(run(), Asked)
    assert asked["settings"].split == SplitSettings()


@pytest.mark.parametrize("shares", ["0.8", "0.8,0.1,0.1", "most,few", "0.8,0.3", "-0.1,0.5", "nan,0.1", ""])
def test_shares_that_are_none_are_a_config_error(asked: dict[str, Any], shares: str) -> None:
    assert isinstance(run("--split-shares", shares), ConfigError)
    assert not asked


@pytest.mark.parametrize("option", ["--labels", "--split", "--keep"])
def test_a_value_that_is_none_of_an_option_s_is_told(asked: dict[str, Any], option: str) -> None:
    result = CliRunner().invoke(app, ["ingest", "archive", "--out", "store", option, "else"])
    assert result.exit_code == 2
    assert f"'{option}'" in result.output
    assert "'else' is not one of" in result.output
    assert not asked


def test_there_are_two_ways_to_treat_identities(asked: dict[str, Any]) -> None:
    result = CliRunner().invoke(app, ["ingest", "archive", "--out", "store", "--identities", "else"])
    assert result.exit_code == 2
    assert not asked


ENOUGH = {"images": 300, "split_train": 200, "split_validation": 50, "split_test": 50}


def test_overlap_and_proxies_are_told() -> None:
    assert "3 patients and 2 images" in notes(patients_in_both_sources=3, images_in_both_sources=2)
    assert "edema" in notes(labels_from_chexpert=1)
    assert notes(**ENOUGH) == ""


def test_a_split_that_is_too_small_for_its_purpose_is_told() -> None:
    assert "the test split has 8 images, too few to tell a good model from a bad one" in notes(
        **ENOUGH | {"split_test": 8}
    )
    assert "no image is in the validation split" in notes(**ENOUGH | {"split_validation": 0})


def test_what_is_wrong_with_gaze_tables_is_told() -> None:
    malformed = {"egd_gaze_rows_malformed": 2, "egd_sheet_rows_malformed": 1, "fixation_rows_malformed": 4}
    assert "7 rows of the gaze tables could not be read" in notes(**malformed)
    assert "3 rows of the gaze tables were there twice" in notes(egd_gaze_rows_repeated=2, reflacx_readings_repeated=1)
    found = {"egd_images_with_gaze": 4, "reflacx_images": 3, "images_in_both_sources": 2}
    assert "no image of the gaze tables is in the archive" in notes(**found, gaze_without_file=5)
    assert "no image of the gaze tables" not in notes(**found, gaze_without_file=4)


def test_images_without_a_patient_are_told() -> None:
    assert "the patients of 3 of 9 images" in notes(images=9, images_without_patient=3)


def notes(**counts: int) -> str:
    info = StoreInfo(profile="", profile_sha256="", manifest_sha256="", split=SplitSettings(), shards=[], counts=counts)
    return " ".join(ingest_notes(info))
