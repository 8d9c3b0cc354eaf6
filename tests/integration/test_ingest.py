"""Archive and gaze to a shard store, on real Ray Data."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cxrgaze_ray.archive.identities import Identities
from cxrgaze_ray.errors import UserError
from cxrgaze_ray.evaluation.maps import correlation
from cxrgaze_ray.gaze.egd import read_egd
from cxrgaze_ray.gaze.heatmap import gaze_map
from cxrgaze_ray.gaze.packed import gaze_density
from cxrgaze_ray.phantoms import GAZE_FOLDER, PhantomReport, make_archive
from cxrgaze_ray.radiograph.decoding import Decoder
from cxrgaze_ray.radiograph.reading import Reading
from cxrgaze_ray.schemas import Affine
from cxrgaze_ray.shards import (
    IngestSettings,
    ShardReader,
    ShardStore,
    ShardUnion,
    StoreInfo,
    StoreRows,
    index_store,
    ingest,
)
from cxrgaze_ray.shards.store import SPLITS, ShardInfo, image_array
from cxrgaze_ray.storage import LocalStore, open_store
from tests.integration.conftest import HEIGHT
from tests.reflacx_files import PhantomReading, write_reflacx

SETTINGS = IngestSettings(shard_rows=16, keep="all")

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture(scope="module")
def store(cluster: object, phantoms: tuple[str, PhantomReport], tmp_path_factory: pytest.TempPathFactory) -> ShardStore:
    out = str(tmp_path_factory.mktemp("store"))
    return ingest(phantoms[0], f"{phantoms[0]}/{GAZE_FOLDER}", out, settings=SETTINGS, workers=1)


def all_rows(store: ShardStore) -> pa.Table:
    return pa.concat_tables(table for split in SPLITS for table in store.tables(split))


def test_every_file_is_a_row_or_a_reject(store: ShardStore, phantoms: tuple[str, PhantomReport]) -> None:
    _, report = phantoms
    rejects = pa.concat_tables(
        pq.read_table(pa.BufferReader(store.store.get(info.key))) for info in store.store.list("rejects/")
    )
    planted = {fault.image_id: fault.reason for fault in report.planted}
    assert dict(zip(rejects["image_id"].to_pylist(), rejects["reason_code"].to_pylist(), strict=True)) == planted
    ids = all_rows(store)["image_id"].to_pylist()
    assert len(ids) == len(set(ids)) == report.counts["images"]
    assert not set(ids) & planted.keys()
    assert store.info.counts["images"] == report.counts["images"]
    assert store.info.counts["files"] == report.counts["images"] + report.counts["faults"]
    assert (
        store.info.counts["rejects"]
        == report.counts["faults"]
        == sum(count for name, count in store.info.counts.items() if name.startswith("reject_"))
    )
    assert store.info.counts["egd_gaze_rows_malformed_id"] == 5
    assert max(shard.rows for shard in store.info.shards) <= SETTINGS.shard_rows


def test_images_and_gaze_are_what_reading_the_files_gives(
    store: ShardStore, phantoms: tuple[str, PhantomReport]
) -> None:
    archive, truth = phantoms[0], read_egd(open_store(f"{phantoms[0]}/{GAZE_FOLDER}"))
    table = all_rows(store).slice(0, 6)
    files = {path.stem: path for path in Path(archive, "files").rglob("*") if path.is_file()}
    with Decoder("cxrgaze-v1", reading=Reading(frontal_only=True)) as decoder:
        for row, image in zip(table.to_pylist(), image_array(table["image"]), strict=True):
            decoded = decoder.decode(files[row["image_id"]].read_bytes())
            assert np.array_equal(decoded.pixels, image)
            assert row["label"] == truth.studies[row["image_id"]].label
            expected = gaze_map(truth.samples(row["image_id"]), Affine(**row["affine"]))
            assert correlation(gaze_density(row["gaze"]), expected) == pytest.approx(1, abs=1e-6)
            assert row["gaze_peak"] == pytest.approx(float(expected.max()))


def test_patients_are_never_split(store: ShardStore) -> None:
    table = all_rows(store)
    pairs = set(zip(table["subject_id"].to_pylist(), table["split"].to_pylist(), strict=True))
    assert len(pairs) == len({patient for patient, _ in pairs})
    assert len(pairs) < table.num_rows, "no patient has two images: this shows nothing"


def test_a_list_without_patients_is_split_by_those_of_the_master_sheet(
    store: ShardStore, phantoms: tuple[str, PhantomReport], tmp_path: Path
) -> None:
    """Though the list has its ids in capitals, and rows carry keyed hashes of them."""
    folder, tables = Path(phantoms[0]), read_egd(open_store(f"{phantoms[0]}/{GAZE_FOLDER}"))
    files = {path.stem: path for path in (folder / "files").rglob("*") if path.stem in tables.studies}
    rows = [f"{path},{name.upper()}" for name, path in files.items()]
    (tmp_path / "list.csv").write_text("\n".join(["uri,image_id", *rows]))
    key = Identities(b"k" * 32)
    made = ingest(
        f"{tmp_path}/list.csv", f"{folder}/{GAZE_FOLDER}", f"{tmp_path}/out", identities=lambda: key, workers=1
    )
    table = all_rows(made)
    whose = {key.of("image", name.upper()): study.subject_id for name, study in tables.studies.items()}
    found = {(row["image_id"], row["subject_id"]) for row in table.select(["image_id", "subject_id"]).to_pylist()}
    assert found == {(name, key.of("patient", whose[name])) for name in table["image_id"].to_pylist()}
    assert table.num_rows == store.info.counts["images"] == made.info.counts["images_with_gaze"]
    assert len(set(zip(table["subject_id"].to_pylist(), table["split"].to_pylist(), strict=True))) == len(
        set(whose.values())
    )
    assert (made.info.split_by, made.info.caution()) == ("patient", "")


def test_the_same_ingest_again_changes_nothing(store: ShardStore, phantoms: tuple[str, PhantomReport]) -> None:
    before = {info.key: info.etag for info in store.store.list()}
    again = ingest(phantoms[0], f"{phantoms[0]}/{GAZE_FOLDER}", store.store.uri, settings=SETTINGS, workers=1)
    assert again.info == store.info
    assert {info.key: info.etag for info in store.store.list()} == before


def test_a_store_is_never_mixed_with_another_archive(
    store: ShardStore, phantoms: tuple[str, PhantomReport], tmp_path: Path
) -> None:
    other = str(tmp_path / "other")
    make_archive(open_store(other), images=3, seed=5, height=HEIGHT)
    with pytest.raises(UserError, match="Another store"):
        ingest(other, None, store.store.uri, settings=SETTINGS, workers=1)


@pytest.fixture
def reflacx(store: ShardStore, tmp_path: Path) -> tuple[str, list[str]]:
    """Write two readings of one phantom, one of another, and one of an image that has another size."""
    rows = all_rows(store).select(["image_id", "subject_id", "rows", "columns"]).slice(0, 3).to_pylist()
    readings = []
    for name, row in zip(("R1", "R2", "R3", "R4"), [rows[0], *rows], strict=True):
        size = (row["rows"], row["columns"] + (name == "R4"))
        points = np.array([(0.3, 0.4), (0.6, 0.5)]) * size
        readings.append(PhantomReading(name, row["image_id"], row["subject_id"], size, points, np.array([0.4, 0.2])))
    write_reflacx(LocalStore(str(tmp_path / "reflacx")), [readings[:2], readings[2:]])
    return str(tmp_path / "reflacx"), [row["image_id"] for row in rows]


def test_reflacx_alone_gives_rows_for_the_saliency_phase(
    phantoms: tuple[str, PhantomReport], reflacx: tuple[str, list[str]], tmp_path: Path
) -> None:
    folder, ids = reflacx
    made = ingest(phantoms[0], [folder], str(tmp_path / "out"), workers=1)
    rows = all_rows(made).to_pylist()
    assert {row["image_id"] for row in rows} == set(ids[:2])
    assert all(row["label"] is None and row["gaze"] is not None for row in rows)
    counts = made.info.counts
    assert (counts["images_saliency_only"], counts["readings_used"], counts["readings_of_other_size"]) == (2, 3, 1)
    assert counts["archive_files"] == counts["left_out_unlabelled"] + counts["images"] + counts["rejects"]
    assert counts["reject_no_gaze_in_image"] == counts["rejects"] == 1


@pytest.mark.long
def test_an_error_of_a_worker_is_told_as_what_it_is_and_the_same_ingest_goes_on(
    phantoms: tuple[str, PhantomReport], reflacx: tuple[str, list[str]], tmp_path: Path
) -> None:
    table = tmp_path / "reflacx" / "main_data" / "R1" / "fixations.csv"
    sound = table.read_bytes()
    table.write_bytes(b"not,a\ntable,1\n")
    with pytest.raises(UserError, match="fixations"):
        ingest(phantoms[0], reflacx[0], str(tmp_path / "out"), workers=1)
    table.write_bytes(sound)
    assert ingest(phantoms[0], reflacx[0], str(tmp_path / "out"), workers=1).info.counts["images"] == 2


def test_a_grown_archive_moves_nobody(store: ShardStore, phantoms: tuple[str, PhantomReport], tmp_path: Path) -> None:
    """A part of the archive, ingested on its own into a bucket's stead, splits its patients the same way."""
    part = SETTINGS.model_copy(update={"keep": "labelled", "shard_rows": 8})
    smaller = ingest(phantoms[0], f"{phantoms[0]}/{GAZE_FOLDER}", str(tmp_path / "part"), settings=part, workers=1)
    split = {row["subject_id"]: row["split"] for row in all_rows(store).select(["subject_id", "split"]).to_pylist()}
    for row in all_rows(smaller).select(["subject_id", "split"]).to_pylist():
        assert split[row["subject_id"]] == row["split"]
    assert smaller.info.counts["left_out_unlabelled"] == phantoms[1].counts["faults"]


def newer_store(rows: pa.Table, info: StoreInfo, uri: str) -> ShardStore:
    """Write rows as a finished store of one shard."""
    store, name, buffer = open_store(uri), "shards/shard-00000.parquet", pa.BufferOutputStream()
    pq.write_table(rows, buffer)
    data = buffer.getvalue().to_pybytes()
    store.put(name, data)
    shard = ShardInfo(name=name, rows=rows.num_rows, sha256=hashlib.sha256(data).hexdigest())
    counts = Counter(f"split_{split}" for split in rows["split"].to_pylist())
    store.put("store.json", info.model_copy(update={"shards": [shard], "counts": counts}).model_dump_json().encode())
    return ShardStore.open(uri)


@pytest.mark.long
def test_a_folder_and_a_bucket_train_as_one_store(store: ShardStore, s3: str) -> None:
    """The bucket holds three of the folder's images, labelled anew: they come once, as the bucket has them."""
    rows = all_rows(store)
    place, few = rows.schema.get_field_index("label"), rows.slice(3, 3)
    relabelled = few.set_column(place, rows.schema.field("label"), pa.array([2, 2, 2], pa.int8()))
    union = ShardUnion([store, newer_store(relabelled, store.info, f"{s3}/newer")])
    labels = [2 if 3 <= number < 6 else label for number, label in enumerate(rows["label"].to_pylist())]
    index = index_store(union, SPLITS)
    found = pa.concat_tables(index.rows.values())
    pairs = Counter(zip(rows["image_id"].to_pylist(), labels, strict=True))
    assert Counter(zip(found["image_id"].to_pylist(), found["label"].to_pylist(), strict=True)) == pairs
    reader, images = ShardReader(), dict(zip(rows["image_id"].to_pylist(), rows["image"].to_pylist(), strict=True))
    for split in SPLITS:
        held = StoreRows(index, split, reader)
        for place, image_id in enumerate(held.image_ids.to_pylist()):
            assert held.read(place, gaze=True)[0].tobytes() == images[image_id]
    assert sum(table.num_rows for split in SPLITS for table in union.tables(split)) == rows.num_rows
    assert (union.info.counts["images"], union.superseded) == (rows.num_rows, 3)


def test_a_bucket_holds_a_store_as_well(phantoms: tuple[str, PhantomReport], store: ShardStore, s3: str) -> None:
    remote = ingest(phantoms[0], f"{phantoms[0]}/{GAZE_FOLDER}", f"{s3}/store", settings=SETTINGS, workers=1)
    assert remote.info.sha256() == store.info.sha256()
    assert ShardStore.open(f"{s3}/store").info == remote.info
