"""The paper's split by patient and the released code's by image, on tables as large as EGD-CXR's."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cxrgaze_ray.archive.identities import Identities
from cxrgaze_ray.errors import UserError
from cxrgaze_ray.gaze.egd import EgdTables, Study
from cxrgaze_ray.shards.published_splits import paper_split, released_split, torch_permutation
from cxrgaze_ray.shards.store import SplitSettings, StoreInfo

IMAGES, PATIENTS = 1083, 1038
"""Of EGD-CXR 1.0.0."""


def joined(images: int = IMAGES, patients: int = PATIENTS, labels: list[int | None] | None = None) -> pa.Table:
    return pa.table(
        {
            "image_id": pa.array([f"i{n}" for n in range(images)]),
            "subject_id": pa.array([f"p{n % patients}" for n in range(images)]),
            "label": pa.array(labels or [n % 3 for n in range(images)], pa.int8()),
            "samples": pa.array([[1.0, 2.0]] * images, pa.list_(pa.float64())),
            "readings": pa.nulls(images, pa.list_(pa.string())),
        }
    )


def sheet(labels: list[int | None]) -> EgdTables:
    studies = {f"i{n}": Study(f"i{n}", f"p{n}", None, label) for n, label in enumerate(labels)}
    return EgdTables(studies, {}, {}, np.empty((0, 2)))


def test_the_paper_s_split_has_its_hundred_test_images_and_tears_no_patient() -> None:
    table = joined()
    splits = paper_split(table, SplitSettings()).to_pylist()
    assert Counter(splits) == {"test": 100, "validation": 98, "train": 885}
    places = set(zip(table["subject_id"].to_pylist(), splits, strict=True))
    assert len(places) == PATIENTS
    assert splits != paper_split(table, SplitSettings(salt="another")).to_pylist()
    assert splits == paper_split(table, SplitSettings()).to_pylist()


def test_the_paper_s_split_counts_images_with_label_and_gaze_only() -> None:
    splits = paper_split(joined(labels=[0] * 541 + [None] * 542), SplitSettings()).to_pylist()
    assert Counter(splits[:541])["test"] == 50
    shared = {n % PATIENTS for n, split in enumerate(splits) if split == "test"}
    assert all(splits[n] == "test" for n in range(IMAGES) if n % PATIENTS in shared)


def test_the_paper_s_split_needs_patients_and_images_that_count() -> None:
    table = joined()
    nobody = table.set_column(1, "subject_id", pa.nulls(IMAGES, pa.string()))
    with pytest.raises(UserError, match="no table names the patients"):
        paper_split(nobody, SplitSettings())
    with pytest.raises(UserError, match="both a label and gaze"):
        paper_split(table.set_column(2, "label", pa.nulls(IMAGES, pa.int8())), SplitSettings())


@given(count=st.integers(0, 300), seed=st.integers(0, 2**32 - 1))
def test_the_shuffle_is_torch_s(count: int, seed: int) -> None:
    wanted = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    assert torch_permutation(count, seed) == wanted


def test_the_released_split_deals_each_class_by_its_own_counter() -> None:
    labels: list[int | None] = [n % 3 for n in range(IMAGES)]
    splits = released_split(joined(), sheet(labels), Identities()).to_pylist()
    # of every class's 361 images: 36 full tens, and the first of the next
    assert Counter(splits) == {"test": 3 * 73, "validation": 3 * 36, "train": 3 * 252}
    order = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(0)).tolist()
    first = [place for place in order if labels[place] == 1][:12]
    dealt = ["test", "validation", *["train"] * 7, "test", "test", "validation"]
    assert [splits[place] for place in first] == dealt


def test_the_released_split_leaves_out_what_the_sheet_does_not_label_and_needs_a_sheet() -> None:
    splits = released_split(joined(4), sheet([0, None, 2]), Identities()).to_pylist()
    assert [split is None for split in splits] == [False, True, False, True]
    with pytest.raises(UserError, match="master sheet"):
        released_split(joined(4), None, Identities())


def test_a_store_that_is_split_by_image_says_whom_it_tears() -> None:
    info = StoreInfo(
        profile="p", profile_sha256="", manifest_sha256="", split=SplitSettings(), split_by="released", shards=[],
        counts={"patients_in_several_splits": 17},
    )  # fmt: skip
    assert "17 patients lie in more than one split" in info.caution()
    assert info.model_copy(update={"split_by": "paper"}).caution() == ""
