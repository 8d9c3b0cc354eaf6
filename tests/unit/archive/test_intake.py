"""Planned files to images: what is never fetched, and whose row it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cxrgaze_ray.archive.identities import Identities
from cxrgaze_ray.archive.intake import Intake
from cxrgaze_ray.errors import RadiographError, StoreDenied
from cxrgaze_ray.radiograph.reading import Reading
from cxrgaze_ray.schemas import Reason
from cxrgaze_ray.storage import LocalStore
from tests.dicom_files import CANARY, gradient, make_dicom

KEYED = Identities(b"k" * 32)


@pytest.fixture(scope="module")
def intake() -> Iterator[Intake]:
    with Intake("cxrgaze-v1", Reading(frontal_only=True), KEYED) as one:
        yield one


def planned(folder: Path, data: bytes | None, **values: Any) -> dict[str, Any]:
    """Return a plan row of a file, which is there unless it has no bytes."""
    store = LocalStore(str(folder))
    if data is not None:
        store.put("file", data)
    info = store.info("file")
    row = dict.fromkeys(["subject_id", "study_id", "repeated_id", "view_position", "view_source"])
    row |= {"image_id": "image", "uri": store.locate("file"), "size_bytes": 9, "etag": "gone"}
    if info is not None:
        row |= {"size_bytes": info.size_bytes, "etag": info.etag}
    return row | values


def test_what_the_tables_rule_out_is_never_fetched(intake: Intake, tmp_path: Path) -> None:
    with pytest.raises(RadiographError) as caught:
        intake.take(planned(tmp_path, None, view_position="LATERAL", view_source="metadata"))
    assert caught.value.reason == Reason.LATERAL_VIEW
    assert caught.value.facts == {"view_position": "LATERAL", "view_source": "metadata"}


def test_a_frontal_of_the_tables_is_fetched(intake: Intake, tmp_path: Path) -> None:
    with pytest.raises(RadiographError) as caught:
        intake.take(planned(tmp_path, None, view_position="AP", view_source="metadata"))
    assert caught.value.reason == Reason.MISSING
    assert caught.value.facts == {"view_position": "AP", "view_source": "metadata"}


def test_a_tag_corrects_what_a_procedure_text_suggests(intake: Intake, tmp_path: Path) -> None:
    row = planned(tmp_path, make_dicom(gradient()), view_position="LATERAL", view_source="procedure")
    assert intake.take(row).facts["view_source"] == "tag"


def test_a_suggested_lateral_without_a_tag_is_skipped(intake: Intake, tmp_path: Path) -> None:
    data = make_dicom(gradient(), ViewPosition=None)
    with pytest.raises(RadiographError) as caught:
        intake.take(planned(tmp_path, data, view_position="LATERAL", view_source="procedure"))
    assert caught.value.reason == Reason.LATERAL_VIEW
    assert caught.value.facts["view_source"] == "procedure"


def test_identifiers_of_the_tags_are_hashed_with_the_key(intake: Intake, tmp_path: Path) -> None:
    data = make_dicom(gradient(), StudyInstanceUID="1.2.3", IssuerOfPatientID=None)
    row = planned(tmp_path, data, repeated_id=False)
    ids = intake.ids(row, intake.take(row))
    assert ids == {
        "image_id": "image",
        "subject_id": KEYED.of("patient", CANARY),
        "study_id": KEYED.of("study", "1.2.3"),
        "repeated_id": False,
    }


def test_a_refused_file_is_still_its_patients(intake: Intake, tmp_path: Path) -> None:
    row = planned(tmp_path, make_dicom(gradient(), ViewPosition="LL"))
    with pytest.raises(RadiographError) as caught:
        intake.take(row)
    assert intake.ids(row, caught.value)["subject_id"] == KEYED.of("patient", CANARY)
    assert caught.value.facts["view_position"] == "LL"


def test_identifiers_of_the_plan_come_first(intake: Intake, tmp_path: Path) -> None:
    row = planned(tmp_path, make_dicom(gradient()), subject_id="10000032", study_id="5")
    ids = intake.ids(row, intake.take(row))
    assert (ids["subject_id"], ids["study_id"]) == ("10000032", "5")


def test_an_outage_is_no_refusal(intake: Intake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: Any) -> Any:
        raise StoreDenied("No permission.")

    monkeypatch.setattr("cxrgaze_ray.archive.intake.fetch_listed", denied)
    with pytest.raises(StoreDenied):
        intake.take(planned(tmp_path, make_dicom(gradient())))
