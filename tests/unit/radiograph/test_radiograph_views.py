"""The view: tag, then metadata, then procedure text; nothing is guessed."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom import Dataset

from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.radiograph.reading import Reading, read_radiograph, read_view, view_of_procedure
from cxrgaze_ray.schemas import Reason
from tests.dicom_files import gradient, make_dicom


@pytest.mark.parametrize(
    ("text", "view"),
    [
        ("CHEST (PORTABLE AP)", "AP"),
        ("CHEST PA", "PA"),
        ("W033 Chest PA", "PA"),
        ("thorax_pa", "PA"),
        ("Thorax p.a.", "PA"),
        ("Chest antero-posterior", "AP"),
        ("CHEST LAT", "LATERAL"),
        ("LEFT LATERAL CHEST", "LATERAL"),
        ("CHEST PA AND LATERAL", None),
        ("CHEST (PA AND LAT)", None),
        ("CHEST PA/LAT", None),
        ("CHEST 2 VIEWS", None),
        ("CHEST PA 2V", None),
        ("TRAUMA #2 (AP CXR & PELVIS PORT)", None),
        ("BILATERAL RIBS", None),
        ("PA CATHETER PLACEMENT", None),
        ("LATERAL DECUBITUS", None),
        ("CHEST", None),
        ("", None),
        (None, None),
        ("x" * 10000 + " PA", None),
    ],
)
def test_view_of_procedure(text: str | None, view: str | None) -> None:
    assert view_of_procedure(text) == view


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("PA", ("PA", False)),
        ("AP AXIAL", ("AP", False)),
        ("postero-anterior", ("PA", False)),
        ("left lateral", ("LL", True)),
        ("XTABLE_LATERAL", ("XTABLE LATERAL", True)),
        ("Erect", (None, False)),
        (None, (None, False)),
    ],
)
def test_read_view(text: str | None, read: tuple[str | None, bool]) -> None:
    assert read_view(text) == read


def code(value: str | None = None, meaning: str | None = None) -> list[Dataset]:
    item = Dataset()
    if value:
        item.CodeValue = value
    if meaning:
        item.CodeMeaning = meaning
    return [item]


METADATA = Reading(known_view="AP", known_view_source="metadata")
PROCEDURE = Reading(known_view="AP", known_view_source="procedure")
PLAIN = Reading()


@pytest.mark.parametrize(
    ("tags", "reading", "found"),
    [
        ({"ViewPosition": "PA", "ViewCodeSequence": code("399067008")}, METADATA, ("PA", "tag")),
        ({"ViewCodeSequence": code("R-10206")}, METADATA, ("AP", "tag")),
        ({"ViewCodeSequence": code("1", "left lateral")}, PLAIN, ("LL", "tag")),
        ({"ViewCodeSequence": code("1", "erect"), "SeriesDescription": "CHEST PA"}, METADATA, ("AP", "metadata")),
        ({"SeriesDescription": "CHEST PA"}, PROCEDURE, ("AP", "procedure")),
        ({"ProtocolName": "W033 Chest PA"}, PLAIN, ("PA", "procedure")),
        ({"SeriesDescription": "CHEST PA", "ProtocolName": "CHEST LAT"}, PLAIN, (None, "unknown")),
        ({"SeriesDescription": "CHEST PA AND LATERAL"}, PLAIN, (None, "unknown")),
        ({"ViewPosition": "ODD"}, Reading(known_view="ODD", known_view_source="metadata"), (None, "unknown")),
    ],
)
def test_sources_in_their_order(tags: dict[str, Any], reading: Reading, found: tuple[str | None, str]) -> None:
    facts = read_radiograph(make_dicom(gradient(), **({"ViewPosition": None} | tags)), reading).facts
    assert (facts.view_position, facts.view_source) == found


@pytest.mark.parametrize(
    ("tags", "reading", "source"),
    [
        ({"ViewCodeSequence": code("399067008")}, Reading(frontal_only=True), "tag"),
        ({}, Reading(frontal_only=True, known_view="LATERAL", known_view_source="metadata"), "metadata"),
        ({"SeriesDescription": "CHEST LAT"}, Reading(frontal_only=True), "procedure"),
    ],
)
def test_a_lateral_is_refused_whatever_says_so(tags: dict[str, Any], reading: Reading, source: str) -> None:
    with pytest.raises(RadiographError) as caught:
        read_radiograph(make_dicom(gradient(), **({"ViewPosition": None} | tags)), reading)
    assert (caught.value.reason, caught.value.facts["view_source"]) == (Reason.LATERAL_VIEW, source)
