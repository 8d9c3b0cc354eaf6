"""Several stores seen as one: newer rows win, no patient is torn, and what is new since a training is counted."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cxrgaze_ray.errors import StoreNotFound, StoreUnavailable, UserError
from cxrgaze_ray.schemas import STORE_SHARD
from cxrgaze_ray.shards import LabelCount, ShardStore, ShardUnion, SplitSettings, StoreInfo, label_counts
from cxrgaze_ray.shards.store import SPLITS, ShardInfo
from cxrgaze_ray.storage import LocalStore

Row = tuple[str, str | None, str, int | None]
"""Image, patient, split and label of a row."""

OLD: list[Row] = [
    ("a1", "ann", "train", 0),
    ("a2", "ann", "train", None),
    ("b1", "bob", "test", 1),
    ("c1", None, "validation", 2),
]


def make(folder: Path, rows: list[Row], *, shard_rows: int = 2, **about: Any) -> ShardStore:
    """Write a finished store."""
    store, shards = LocalStore(str(folder)), list[ShardInfo]()
    for start in range(0, len(rows), shard_rows):
        name = f"shards/shard-{len(shards):05d}.parquet"
        store.put(name, data := _shard(rows[start : start + shard_rows], folder.name))
        shards.append(
            ShardInfo(name=name, rows=len(rows[start : start + shard_rows]), sha256=hashlib.sha256(data).hexdigest())
        )
    splits = [split for _, _, split, _ in rows]
    known = {"profile": "cxrgaze-v1", "profile_sha256": "1", "manifest_sha256": folder.name, "split": SplitSettings()}
    info = StoreInfo(
        shards=shards, counts={f"split_{split}": splits.count(split) for split in set(splits)}, **{**known, **about}
    )
    store.put("store.json", info.model_dump_json().encode())
    return ShardStore.open(str(folder))


def _shard(rows: list[Row], origin: str) -> bytes:
    """Return a shard whose images tell where they are from; the first image of a shard has gaze."""
    table = [
        {"image_id": image, "subject_id": patient, "split": split, "label": label, "image": origin.encode()}
        | ({"gaze": b"gaze", "gaze_peak": 1.0} if place == 0 else {})
        for place, (image, patient, split, label) in enumerate(rows)
    ]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(table, schema=STORE_SHARD), buffer)
    return buffer.getvalue()


def told(union: ShardUnion, split: str) -> list[tuple[str, int | None, str]]:
    """Return image, label and the store it is from of a split's rows."""
    rows = [row for table in union.tables(split) for row in table.to_pylist()]
    return [(row["image_id"], row["label"], row["image"].decode()) for row in rows]


def test_rows_of_all_stores_are_there_and_the_last_one_s_count(tmp_path: Path) -> None:
    old = make(tmp_path / "old", OLD)
    new = make(tmp_path / "new", [("a2", "ann", "train", 2), ("d1", "dan", "train", 1), ("c1", None, "validation", 2)])
    union = ShardUnion([old, new])
    assert told(union, "train") == [("a1", 0, "old"), ("a2", 2, "new"), ("d1", 1, "new")]
    assert told(union, "validation") == [("c1", 2, "new")]
    assert told(union, "test") == [("b1", 1, "old")]
    assert {split: union.rows(split) for split in SPLITS} == {"train": 3, "validation": 1, "test": 1}
    assert union.superseded == 2
    assert union.info.counts == {
        "images": 5, "images_with_gaze": 4, "patients": 4, "stores": 2, "superseded": 2, "split_train": 3,
        "images_without_patient": 1,
        "split_validation": 1, "split_test": 1, "label_normal": 1, "label_heart_failure": 2, "label_pneumonia": 2,
    }  # fmt: skip
    assert told(ShardUnion([new, old]), "train") == [("d1", 1, "new"), ("a1", 0, "old"), ("a2", None, "old")]


def test_tables_are_those_of_a_store(tmp_path: Path) -> None:
    stores = [make(tmp_path / "old", OLD), make(tmp_path / "new", [("a1", "ann", "train", 1)])]
    for split in SPLITS:
        assert all(table.schema.equals(STORE_SHARD) for table in ShardUnion(stores).tables(split))
        part = pa.concat_tables(ShardUnion(stores).tables(split, ["label", "readers"]))
        assert part.equals(pa.concat_tables(ShardUnion(stores).tables(split)).select(["label", "readers"]))


def test_one_store_is_itself(tmp_path: Path) -> None:
    store = make(tmp_path / "old", OLD)
    union = ShardUnion.open([str(tmp_path / "old")])
    assert union.info == store.info
    assert union.locked_tests == (store.info.sha256(),)
    assert told(union, "train") == [("a1", 0, "old"), ("a2", None, "old")]


def test_files_of_one_store_that_share_an_id_are_never_merged(tmp_path: Path) -> None:
    twins: list[Row] = [("x", "ann", "train", 0), ("x", "bob", "train", 1)]
    union = ShardUnion([make(tmp_path / "old", twins), make(tmp_path / "new", OLD[:2])])
    assert [label for _, label, _ in told(union, "train")] == [0, 1, 0, None]
    assert union.superseded == 0


def test_the_hash_is_that_of_the_stores_in_order(tmp_path: Path) -> None:
    old, new, other = (make(tmp_path / name, OLD) for name in ("old", "new", "other"))
    pairs = ([old, new], [new, old], [old, other], [old, new, other])
    hashes = [ShardUnion(stores).info.sha256() for stores in pairs]
    assert len(set(hashes)) == 4
    assert ShardUnion.open([str(tmp_path / "old"), str(tmp_path / "new")]).info.sha256() == hashes[0]
    # the same rows in other shards are other bytes, and another store
    assert ShardUnion([old, make(tmp_path / "cut", OLD, shard_rows=1)]).info.sha256() not in hashes


@pytest.mark.parametrize("about", [{"profile": "voi-v1"}, {"profile_sha256": "2"}])
def test_stores_of_two_profiles_are_refused_by_name(tmp_path: Path, about: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"/new are of another profile .*--profile cxrgaze-v1"):
        ShardUnion([make(tmp_path / "old", OLD), make(tmp_path / "new", OLD, **about)])


def test_a_patient_in_two_splits_is_refused(tmp_path: Path) -> None:
    old = make(tmp_path / "old", OLD)
    new: list[Row] = [("a9", "ann", "test", 0), ("b9", "bob", "train", 0), ("d1", "dan", "train", 0)]
    with pytest.raises(UserError, match=r"^2 patients .* one split\. .*--split-salt"):
        ShardUnion([old, make(tmp_path / "new", new)])


def test_a_row_that_no_longer_counts_still_tears_its_patient(tmp_path: Path) -> None:
    """A champion may have learned from the old row of the image that it would be tested on now."""
    old, new = make(tmp_path / "old", OLD[:1]), make(tmp_path / "new", [("a1", "ann", "test", 0)])
    with pytest.raises(UserError, match="1 patients"):
        ShardUnion([old, new])


def test_an_image_of_two_patients_in_two_splits_is_refused(tmp_path: Path) -> None:
    twins: list[Row] = [("x", "ann", "train", 0), ("x", "bob", "test", 1)]
    with pytest.raises(UserError, match=r"^1 images of several patients"):
        ShardUnion([make(tmp_path / "old", twins)])


def test_images_without_a_patient_are_counted_whatever_their_store_says_and_how_it_was_split(tmp_path: Path) -> None:
    """A store of an earlier version says nothing; the rows of a later store stand for those of an earlier one."""
    old = make(tmp_path / "old", OLD)
    new = make(tmp_path / "new", [("d1", None, "train", 0), ("e1", "eve", "test", 0)], split_by="image")
    both = ShardUnion([old, new])
    assert (both.info.split_by, both.info.counts["images_without_patient"]) == (None, 2)
    assert "the patients of 2 of 6 images" in both.info.caution()
    assert ShardUnion([new, make(tmp_path / "newer", [OLD[1]], split_by="image")]).info.split_by == "image"
    named = ShardUnion([make(tmp_path / "a", OLD[:2]), make(tmp_path / "b", OLD[1:3])])
    assert named.info.caution() == ""


def test_other_split_settings_are_fine_while_nobody_is_torn(tmp_path: Path) -> None:
    new = make(tmp_path / "new", [("d1", "dan", "test", 0)], split=SplitSettings(salt="other"))
    assert ShardUnion([make(tmp_path / "old", OLD), new]).rows("test") == 2


@pytest.mark.parametrize("patient", ["eve", None])
def test_an_image_of_two_patients_is_refused(tmp_path: Path, patient: str | None) -> None:
    """Ids that mean other images elsewhere, or pseudonyms of another key, would drop rows and tear patients unseen."""
    new = make(tmp_path / "new", [("a1", patient, "train", 1)])
    with pytest.raises(UserError, match=r"1 images are of one patient .*key"):
        ShardUnion([make(tmp_path / "old", OLD), new])


def test_errors_name_no_patient_and_no_image(tmp_path: Path) -> None:
    old = make(tmp_path / "old", [("image-of-ann", "secret-ann", "train", 0)])
    for row in (("image-2", "secret-ann", "test", 0), ("image-of-ann", "secret-eve", "train", 0)):
        with pytest.raises(UserError) as refused:
            ShardUnion([old, make(tmp_path / "new", [row])])
        assert "secret" not in str(refused.value)
        assert "image-" not in str(refused.value)


def test_a_store_locks_its_test_split_only_if_it_gives_rows_to_it(tmp_path: Path) -> None:
    old = make(tmp_path / "old", OLD)
    grown = make(tmp_path / "grown", [*OLD, ("e1", "eve", "test", 2)])
    training = make(tmp_path / "training", [("d1", "dan", "train", 0)])
    tests = make(tmp_path / "tests", [("f1", "fay", "test", 0)])
    assert ShardUnion([old, training, tests]).locked_tests == (old.info.sha256(), tests.info.sha256())
    assert ShardUnion([old, grown]).locked_tests == (grown.info.sha256(),)


def test_only_labels_that_a_model_has_not_seen_are_new(tmp_path: Path) -> None:
    old = make(tmp_path / "old", OLD)
    # a1 again as it was; a2 labelled and b1 corrected, of patients it had; d has two images; the last has no label yet
    rows: list[Row] = [
        OLD[0], ("a2", "ann", "train", 1), ("b1", "bob", "test", 2), ("d1", "dan", "train", 0),
        ("d2", "dan", "train", 0), ("e1", "eve", "train", None),
    ]  # fmt: skip
    new = make(tmp_path / "new", rows)
    union = ShardUnion([old, new])
    none = LabelCount(0, 0)
    assert label_counts(union, [old.info.sha256()]) == {
        "train": LabelCount(images=3, patients=1),
        "validation": none,
        "test": LabelCount(images=1, patients=0),
    }
    assert label_counts(union, [old.info.sha256(), new.info.sha256()]) == dict.fromkeys(SPLITS, none)
    assert label_counts(union, [])["train"] == LabelCount(images=4, patients=2)


def test_empty_stores_are_harmless(tmp_path: Path) -> None:
    empty = make(tmp_path / "empty", [])
    assert ShardUnion([empty, make(tmp_path / "old", OLD)]).rows("train") == 2
    both = ShardUnion([empty, make(tmp_path / "empty-too", [])])
    assert (both.rows("test"), both.locked_tests, list(both.tables("test"))) == (0, (), [])


def test_a_union_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="No shard store"):
        ShardUnion([])


def test_what_is_not_finished_is_named(tmp_path: Path) -> None:
    make(tmp_path / "old", OLD)
    with pytest.raises(UserError, match=r"no finished shard store at .*/half"):
        ShardUnion.open([str(tmp_path / "old"), str(tmp_path / "half")])


def test_a_shard_that_is_gone_is_no_silence(tmp_path: Path) -> None:
    store = make(tmp_path / "old", OLD)
    store.store.delete("shards/shard-00001.parquet")
    with pytest.raises((StoreNotFound, StoreUnavailable)):
        ShardUnion([store])


def test_pixels_are_read_a_shard_at_a_time_and_never_for_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = [make(tmp_path / "old", OLD), make(tmp_path / "new", [("d1", "dan", "train", 1), ("e1", "e", "train", 0)])]
    read, original = list[str](), pq.ParquetFile.read_row_groups

    def counted(shard: pq.ParquetFile, groups: list[int], columns: list[str]) -> pa.Table:
        read.extend(["pixels"] if "image" in columns else [])
        return original(shard, groups, columns)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", counted)
    union = ShardUnion(stores)
    assert read == []
    tables = union.tables("train")
    next(tables)
    assert len(read) == 1
    list(tables)
    assert len(read) == 2, "one shard has no row of the split"


@pytest.mark.parametrize(
    ("names", "refused"),
    [
        (("keyed-00000001", "keyed-00000002"), True),
        (("keyed-00000001",) * 2, False),
        (("keep", "keyed-00000001"), False),
    ],
)
def test_patients_hashed_with_two_keys_are_refused(tmp_path: Path, names: tuple[str, str], refused: bool) -> None:
    stores = [make(tmp_path / one, [(one, f"p{one}", "train", 0)]) for one in ("a", "b")]
    for store, name in zip(stores, names, strict=True):
        store.store.put("ingest.json", json.dumps({"identities": name}).encode())
    if not refused:
        assert ShardUnion(stores).rows("train") == 2
        return
    with pytest.raises(UserError, match=r"hashed with 2 keys.*--pseudonymise"):
        ShardUnion(stores)
