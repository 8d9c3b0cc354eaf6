"""The contracts that tables on disk and their readers rely on."""

from __future__ import annotations

import dataclasses

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrgaze_ray import schemas
from cxrgaze_ray.radiograph.reading import Facts
from cxrgaze_ray.schemas import Affine, Reason, Status, status_of

SKIPPED = {"lateral_view", "for_processing", "other_body_part", "other_modality", "no_pixel_data"}


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_a_status(reason: Reason) -> None:
    assert status_of(reason) is (Status.SKIPPED if reason.value in SKIPPED else Status.FAILED)
    assert status_of(reason.value) is status_of(reason)


def test_no_reason_is_scored_and_an_unknown_one_is_an_error() -> None:
    assert status_of(None) is Status.SCORED
    with pytest.raises(ValueError, match="no_such_reason"):
        status_of("no_such_reason")


_scale = st.floats(1e-3, 1e3)
_point = st.floats(-1e4, 1e4)


@given(_scale, _scale, st.floats(0, 640), st.floats(0, 512), _point, _point)
def test_affine_round_trip(
    scale_y: float, scale_x: float, offset_y: float, offset_x: float, y: float, x: float
) -> None:
    affine = Affine(scale_y, scale_x, offset_y, offset_x, rows=100, columns=80)
    assert affine.to_source(*affine.to_model(y, x)) == pytest.approx((y, x), rel=1e-9, abs=1e-3)


def test_affine_maps_corners_of_the_source_to_corners_of_the_content() -> None:
    affine = Affine(scale_y=0.5, scale_x=0.25, offset_y=20, offset_x=6, rows=1200, columns=2000)
    assert affine.to_model(0, 0) == (20, 6)
    assert affine.to_model(1200, 2000) == (620, 506)
    assert affine.content_size == (600, 500)


def test_affine_columns_are_the_fields_of_the_class() -> None:
    assert [field.name for field in schemas.AFFINE] == [field.name for field in dataclasses.fields(Affine)]


def test_fact_columns_are_the_facts_and_the_intensities() -> None:
    names = [name for name, _ in schemas.FACT_FIELDS]
    facts = [field.name for field in dataclasses.fields(Facts)]
    assert names == [*facts, "intensity_p1", "intensity_p50", "intensity_p99", "intensity_mean"]


def test_a_result_row_carries_the_whole_contract() -> None:
    contract = {
        "shard", "position", "image_id", "subject_id", "study_id", "repeated_id", "status", "reason_code", "detail",
        "p_normal", "p_heart_failure", "p_pneumonia", "prediction", "logits", "saliency_png", "saliency_peak", "affine",
        "bundle_version", "weights_sha256", "profile", "engine", "scored_at",
        *(name for name, _ in schemas.FACT_FIELDS),
    }  # fmt: skip
    assert set(schemas.RESULT.names) == contract
    assert set(schemas.SUMMARY.names) == contract - {"saliency_png", "logits", "affine"}


@pytest.mark.parametrize("name", ["MANIFEST", "PLAN", "STORE_SHARD", "REJECTS", "RESULT", "SUMMARY", "STUDIES"])
def test_no_table_names_a_column_twice(name: str) -> None:
    schema: pa.Schema = getattr(schemas, name)
    assert len(set(schema.names)) == len(schema.names)


def test_plan_rows_are_manifest_rows_with_a_place() -> None:
    joined = {"split", *(f"finding_{name}" for name in schemas.FINDINGS)}
    assert schemas.PLAN.names == ["shard", "position", *(name for name in schemas.MANIFEST.names if name not in joined)]
