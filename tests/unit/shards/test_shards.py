"""Plans and shards of an ingest, without Ray: every file becomes a row or a reject, and counts say which."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cxrgaze_ray.archive.identities import Identities
from cxrgaze_ray.errors import RadiographError, StoreUnavailable, UserError
from cxrgaze_ray.gaze.egd import EgdTables, read_egd
from cxrgaze_ray.gaze.heatmap import gaze_map, mean_map
from cxrgaze_ray.gaze.packed import Seen, gaze_density
from cxrgaze_ray.gaze.reflacx import ReflacxIndex, read_fixations, read_index
from cxrgaze_ray.gaze.sources import GazeSources, GazeTables, find_gaze
from cxrgaze_ray.radiograph.decoding import Decoded, Decoder
from cxrgaze_ray.radiograph.preprocess import fit
from cxrgaze_ray.schemas import FINDINGS, HEIGHT, MANIFEST, WIDTH, Affine, Reason
from cxrgaze_ray.shards import IngestSettings, SplitSettings, split_of
from cxrgaze_ray.shards.build import BuildShard
from cxrgaze_ray.shards.footer import read_row_index
from cxrgaze_ray.shards.ingest import claim
from cxrgaze_ray.shards.plan import INGEST_PLAN, has_plan, make_plan, write_plan
from cxrgaze_ray.storage import LocalStore, ObjectInfo
from tests.labelled_store import write_store
from tests.reflacx_files import PhantomReading, write_reflacx

SIZE = (1280, 1024)
AFFINE = fit(*SIZE)
ONE, TWO, THREE, FOUR = (letter * 44 for letter in "abcd")
ALL = IngestSettings(keep="all")
NO_GAZE, KEEP = GazeTables(), Identities()


def listed(*rows: dict[str, Any]) -> pa.Table:
    defaults = {"view_source": "unknown", "repeated_id": False, "format": "dicom"}
    return pa.Table.from_pylist([defaults | row for row in rows], schema=MANIFEST)


def egd(folder: Path, sheet: dict[str, int | None], looked: dict[str, list[tuple[int, int]]]) -> EgdTables:
    store = LocalStore(str(folder / "egd"))
    marks = {None: "0,0,0", 0: "1,0,0", 1: "0,1,0", 2: "0,0,1"}
    rows = "".join(f"{name},s1,p10000032,{marks[label]}\n" for name, label in sheet.items())
    store.put("master_sheet.csv", f"dicom_id,study_id,patient_id,Normal,CHF,pneumonia\n{rows}".encode())
    gaze = "".join(f"{name},{x},{y}\n" for name, points in looked.items() for y, x in points)
    store.put("eye_gaze.csv", f"DICOM_ID,X_ORIGINAL,Y_ORIGINAL\n{gaze}".encode())
    return read_egd(store)


def look(name: str, image_id: str, *places: tuple[float, float, float], size: tuple[int, int] = SIZE) -> PhantomReading:
    table = np.array(places or [(500, 400, 0.4)], np.float64)
    return PhantomReading(name, image_id, "10000032", size, table[:, :2], table[:, 2])


def reflacx(folder: Path, *readings: PhantomReading) -> ReflacxIndex:
    store = LocalStore(str(folder / "reflacx"))
    write_reflacx(store, [list(readings)])
    return read_index(store)


def findings(**values: int) -> dict[str, int]:
    return {f"finding_{name}": value for name, value in values.items()}


def test_the_master_sheet_comes_before_chexpert(tmp_path: Path) -> None:
    gaze = GazeTables(egd(tmp_path, {ONE: 2, TWO: None}, {}))
    files = listed(*({"image_id": name} | findings(no_finding=1) for name in (ONE, TWO, THREE)), {"image_id": FOUR})
    plan, counts = make_plan(files, gaze, IngestSettings(labels="chexpert"), KEEP)
    assert dict(zip(plan["image_id"].to_pylist(), plan["label"].to_pylist(), strict=True)) == {ONE: 2, TWO: 0, THREE: 0}
    assert (counts["labels_from_sheet"], counts["labels_from_chexpert"], counts["left_out_unlabelled"]) == (1, 2, 1)
    plan, counts = make_plan(files, gaze, IngestSettings(), KEEP)
    assert plan["image_id"].to_pylist() == [ONE]
    assert (counts["archive_files"], counts["left_out_unlabelled"]) == (4, 3)


@pytest.mark.parametrize(
    ("found", "label"),
    [
        ({"no_finding": 1}, 0),
        ({"edema": 1}, 1),
        ({"pneumonia": 1}, 2),
        ({"edema": 1, "pneumonia": 0, "no_finding": 0}, 1),
        ({"edema": 1, "pneumonia": -1}, 1),
        ({"edema": 1, "pneumonia": 1}, None),
        ({"edema": -1}, None),
        ({"cardiomegaly": 1}, None),
        ({"pneumonia": 1, "cardiomegaly": 1}, 2),
        ({}, None),
    ],
)
def test_exactly_one_finding_gives_a_label(found: dict[str, int], label: int | None) -> None:
    other = {"image_id": TWO} | findings(**dict.fromkeys(FINDINGS, 0))
    files = listed({"image_id": ONE} | findings(**found), other)
    plan, _ = make_plan(files, GazeTables(), IngestSettings(labels="chexpert", keep="all"), KEEP)
    assert plan["label"].to_pylist() == [label, None]


def test_the_archive_s_own_split_is_taken_whole_or_not_at_all() -> None:
    rows = [(ONE, "7", "train"), (TWO, "8", "validate"), (THREE, "9", "test"), (FOUR, "9", None), ("e", "9", "test")]
    files = listed(*({"image_id": name, "subject_id": who, "split": split} for name, who, split in rows))
    plan, counts = make_plan(files, GazeTables(), IngestSettings(split_by="archive", keep="all"), KEEP)
    splits = dict(zip(plan["image_id"].to_pylist(), plan["split"].to_pylist(), strict=True))
    assert splits == {ONE: "train", TWO: "validation", THREE: "test", "e": "test"}
    assert counts["left_out_without_split"] == 1
    assert make_plan(files, GazeTables(), ALL, KEEP)[0]["split"].null_count == 5


@pytest.mark.parametrize("settings", [IngestSettings(split_by="archive"), IngestSettings(labels="chexpert")])
def test_what_the_archive_has_not_is_a_user_error(settings: IngestSettings) -> None:
    with pytest.raises(UserError, match="The archive has no"):
        make_plan(listed({"image_id": ONE}), GazeTables(), settings, KEEP)


def test_where_both_saw_an_image_egd_s_gaze_is_taken(tmp_path: Path) -> None:
    gaze = GazeTables(
        egd(tmp_path, {ONE: 0}, {ONE: [(10, 20), (30, 40)], FOUR: [(1, 1)]}),
        reflacx(tmp_path, look("R1", ONE), look("R2", TWO), look("R3", TWO), look("R4", "x" * 44)),
    )
    files = listed(*({"image_id": name} for name in (ONE, TWO, THREE, TWO)))
    plan, counts = make_plan(files, gaze, ALL, KEEP)
    assert plan["samples"].to_pylist() == [[10, 20, 30, 40], None, None, None]
    names = [[one["reading"] for one in found or []] for found in plan["readings"].to_pylist()]
    assert names == [[], ["R2", "R3"], [], ["R2", "R3"]]
    assert (counts["images_with_both_gaze"], counts["gaze_without_file"], counts["file_without_gaze"]) == (1, 2, 1)
    assert counts["images_in_both_sources"] == counts["patients_in_both_sources"] == 1
    kept, counts = make_plan(files, gaze, IngestSettings(), KEEP)
    assert kept["image_id"].to_pylist() == [ONE, TWO, TWO], "gaze alone keeps a file: it serves the saliency phase"
    assert kept["label"].to_pylist() == [0, None, None]


def test_a_plan_is_read_a_shard_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxrgaze_ray.shards.plan._PART_SHARDS", 2)
    store = LocalStore(str(tmp_path))
    table, counts = make_plan(listed(*({"image_id": f"{index:03d}"} for index in range(10))), GazeTables(), ALL, KEEP)
    assert not has_plan(store)
    plan = write_plan(store, table, counts, shard_rows=4)
    assert has_plan(store)
    assert (plan.info.rows, plan.info.shards, plan.info.counts) == (10, 3, counts)
    assert [plan.read(shard).num_rows for shard in (2, 0, 1)] == [2, 4, 4]
    assert plan.read(1)["image_id"].to_pylist() == ["004", "005", "006", "007"]
    assert plan.read(2).schema.equals(INGEST_PLAN)
    parts = [pq.read_metadata(io.BytesIO(store.get(info.key))).num_row_groups for info in store.list("plan/")]
    assert parts == [2, 1]


def test_a_plan_that_can_t_be_read_is_an_outage_and_no_row(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    plan = write_plan(store, *make_plan(listed({"image_id": ONE}), GazeTables(), ALL, KEEP), shard_rows=4)
    store.delete("plan/part-00000.parquet")
    with pytest.raises(StoreUnavailable):
        plan.read(0)


class Archive:
    """Files on disk, a decoder that obeys their text, and the reads counted."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.files, self.out = LocalStore(str(folder / "files")), LocalStore(str(folder / "out"))
        self.folder, self.rows, self.fetched = folder, list[dict[str, Any]](), list[str]()
        fetch = LocalStore.fetch_same

        def counted(store: LocalStore, info: ObjectInfo) -> Any:
            if (path := store.root / info.key).is_relative_to(self.files.root):
                self.fetched.append(path.name)
            return fetch(store, info)

        monkeypatch.setattr(LocalStore, "fetch_same", counted)
        monkeypatch.setattr(Decoder, "decode", self._decode)

    def add(self, image_id: str, text: str = "patient-1", **values: Any) -> None:
        self.files.put(image_id, text.encode())
        info = self.files.info(image_id)
        assert info is not None
        place = {"uri": self.files.locate(image_id), "size_bytes": info.size_bytes, "etag": info.etag}
        self.rows.append({"image_id": image_id} | place | values)

    @staticmethod
    def _decode(_self: Decoder, data: bytes, view: str | None = None, view_source: str = "unknown") -> Decoded:
        """Give an image of the patient that the file names, or refuse it."""
        text = data.decode()
        if text.startswith("broken"):
            error = RadiographError(Reason.CORRUPT, "The file is broken.")
            error.patient, error.study = text, f"study of {text}"
            raise error
        facts = {"view_position": view, "view_source": view_source, "decode": "full"}
        return Decoded(np.full((HEIGHT, WIDTH), 7, np.uint16), AFFINE, facts, text, f"study of {text}")

    def build(
        self, gaze: GazeTables = NO_GAZE, identities: Identities = KEEP, **settings: Any
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, int]]:
        """Plan and build one shard; return rows, rejects and counts."""
        chosen = IngestSettings(**{"keep": "all", **settings})
        plan = write_plan(self.out, *make_plan(listed(*self.rows), gaze, chosen, identities), shard_rows=64)
        build = BuildShard(self.out.uri, chosen, identities, str(self.folder / "reflacx"))
        built = build(pa.table({"id": list(range(plan.info.shards))})).to_pylist()[0]
        assert build(pa.table({"id": [0]})).drop_columns("peak_rss_mib").to_pylist() == [
            {name: built[name] for name in ("shard", "tally", "names")}
        ], "a shard that is there was counted differently"
        tables = [pq.read_table(io.BytesIO(self.out.get(f"{kind}/shard-00000.parquet"))) for kind in KINDS]
        return tables[0].to_pylist(), tables[1].to_pylist(), json.loads(built["tally"])


KINDS = ("shards", "rejects")


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    return Archive(tmp_path, monkeypatch)


def test_every_file_is_a_row_or_a_reject_and_laterals_are_never_fetched(archive: Archive) -> None:
    archive.add("frontal", view_position="PA", view_source="metadata")
    archive.add("unknown")
    archive.add("doubtful", view_position="LATERAL", view_source="procedure")
    archive.add("broken", "broken")
    archive.add("lateral", view_position="LATERAL", view_source="metadata")
    archive.rows.append({"image_id": "gone-lateral", "view_position": "LL", "view_source": "metadata"})
    archive.rows.append({"image_id": "gone", "uri": archive.files.locate("gone")})
    rows, rejects, tally = archive.build()
    assert {row["image_id"]: row["view_position"] for row in rows} == {
        "frontal": "PA",
        "unknown": None,
        "doubtful": "LATERAL",
    }
    assert {row["image_id"]: (row["status"], row["reason_code"]) for row in rejects} == {
        "broken": ("failed", "corrupt"),
        "lateral": ("skipped", "lateral_view"),
        "gone-lateral": ("skipped", "lateral_view"),
        "gone": ("failed", "missing"),
    }
    assert sorted(archive.fetched) == ["broken", "doubtful", "frontal", "unknown"]
    assert (tally["files"], tally["images"], tally["rejects"], tally["reject_lateral_view"]) == (7, 3, 4, 2)
    assert tally["files"] == tally["images"] + sum(tally[name] for name in tally if name.startswith("reject_"))


def test_identifiers_of_tags_are_hashed_and_split_by(archive: Archive) -> None:
    keyed, split = Identities(b"k" * 32), SplitSettings(train=0.5)
    for index in range(6):
        archive.add(f"image-{index}", f"patient-{index % 3}")
    archive.add("refused", "broken patient")
    archive.add("known", "patient-0", subject_id="s", study_id="t", repeated_id=True)
    rows, rejects, _ = archive.build(identities=keyed, split=split)
    by_name = {row["image_id"]: row for row in rows}
    known = by_name.pop("known")
    assert (known["subject_id"], known["study_id"], known["repeated_id"]) == ("s", "t", True)
    for index in range(6):
        row, patient = by_name[f"image-{index}"], keyed.of("patient", f"patient-{index % 3}")
        assert row["subject_id"] == patient
        assert row["study_id"] == keyed.of("study", f"study of patient-{index % 3}")
        assert row["split"] == split_of(str(patient), split)
    assert rejects[0]["subject_id"] == keyed.of("patient", "broken patient")
    assert "patient" not in str([row | {"image": None} for row in rows] + rejects)


def test_identifiers_are_kept_if_that_is_asked_for(archive: Archive) -> None:
    archive.add("one", "patient-9")
    rows, _, _ = archive.build()
    assert (rows[0]["subject_id"], rows[0]["study_id"]) == ("patient-9", "study of patient-9")


def test_the_archive_s_split_wins_over_the_hash(archive: Archive) -> None:
    for index, name in enumerate(("train", "validate", "test")):
        archive.add(f"image-{index}", f"patient-{index}", split=name)
    rows, _, tally = archive.build(split_by="archive")
    assert [row["split"] for row in rows] == ["train", "validation", "test"]
    assert tally["split_test"] == 1


def test_a_row_is_a_row_group_and_the_footer_tells_of_all_rows(archive: Archive) -> None:
    for index in range(7):
        archive.add(f"image-{index}", "broken" if index in (2, 3) else "patient")
    archive.build(chunk_rows=2)
    shard = archive.out.get("shards/shard-00000.parquet")
    metadata, rows = pq.read_metadata(io.BytesIO(shard)), pq.read_table(io.BytesIO(shard))
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [1] * 5
    index = read_row_index(pq.ParquetFile(io.BytesIO(shard)))
    assert index["image_id"].to_pylist() == rows["image_id"].to_pylist()
    assert index.select(["subject_id", "split", "label"]).equals(rows.select(["subject_id", "split", "label"]))


def test_a_shard_of_rejects_alone_is_a_shard(archive: Archive) -> None:
    archive.add("one", "broken")
    rows, rejects, tally = archive.build()
    assert (rows, len(rejects), tally["images"]) == ([], 1, 0)


def test_maps_are_of_the_source_that_saw_the_image(archive: Archive) -> None:
    points = [(100, 200), (600, 500)]
    gaze = GazeTables(
        egd(archive.folder, {ONE: 1}, {ONE: points}), reflacx(archive.folder, look("R1", TWO), look("R2", TWO))
    )
    for name in (ONE, TWO, THREE):
        archive.add(name)
    rows, _, tally = archive.build(gaze)
    first, second, none = rows
    folder = LocalStore(str(archive.folder / "reflacx"))
    readings = [read_fixations(folder, name)[0] for name in ("R1", "R2")]
    for row, expected in (
        (first, gaze_map(np.array(points, float), AFFINE)),
        (second, mean_map(readings, AFFINE)),
    ):
        np.testing.assert_allclose(gaze_density(row["gaze"]), expected, atol=expected.max() / 60000)
    assert none["gaze"] is None
    assert [row["label"] for row in rows] == [1, None, None]
    assert (tally["images_with_gaze"], tally["images_saliency_only"], tally["readings_used"]) == (2, 1, 2)


def test_readers_are_kept_apart(archive: Archive) -> None:
    points = [(100, 200), (600, 500), (600, 500), (-5, 10)]
    looks = look("R1", TWO, (300, 300, 1.0), ASTRAY), look("R2", TWO, (900, 800, 0.5), (300, 300, 0.25))
    gaze = GazeTables(egd(archive.folder, {ONE: 1}, {ONE: points}), reflacx(archive.folder, *looks))
    for name in (ONE, TWO, THREE):
        archive.add(name)
    rows, _, _ = archive.build(gaze)
    first, second, none = (Seen.of(row) for row in rows)
    assert none is None
    assert first is not None
    assert second is not None
    assert [one.density_HW for one in first.readers] == [None]
    assert first.readers[0].looks.tolist() == [(50, 100, 1.0), (300, 250, 2.0)]
    assert second.looks is not None
    assert sorted(second.looks["weight"].tolist()) == pytest.approx([1 / 3, 2 / 3, 1])
    folder = LocalStore(str(archive.folder / "reflacx"))
    for reader, name in zip(second.readers, ("R1", "R2"), strict=True):
        expected = mean_map([read_fixations(folder, name)[0]], AFFINE)
        assert reader.density_HW is not None
        np.testing.assert_allclose(reader.density_HW, expected, atol=expected.max() / 60000)
    again, _, _ = archive.build(gaze)
    assert [row["readers"] for row in again] == [row["readers"] for row in rows]


def test_a_store_of_before_readers_were_kept_apart_is_read(tmp_path: Path) -> None:
    store = write_store(tmp_path, {"train": 3, "test": 2})
    name = store.info.shards[0].name
    old = pq.read_table(io.BytesIO(store.store.get(name))).drop_columns("readers")
    buffer = io.BytesIO()
    pq.write_table(old, buffer)
    store.store.put(name, buffer.getvalue())
    (whole,), (part,) = store.tables("test"), store.tables("test", ["image_id", "readers"])
    assert (whole.num_rows, whole["readers"].null_count) == (2, 2)
    assert part.equals(whole.select(["image_id", "readers"]))
    seen = Seen.of(whole.to_pylist()[0])
    assert seen is not None
    assert (seen.readers, seen.looks) == ((), None)


OTHER = (SIZE[1], SIZE[0])
ASTRAY = (-5.0, 10.0, 0.3)


@pytest.mark.parametrize(
    ("spoilt", "outcome"),
    [
        (look("R1", ONE, size=OTHER), "readings_of_other_size"),
        (look("R1", ONE, ASTRAY), "readings_off_image"),
        (look("R1", ONE), "readings_without_table"),
    ],
)
def test_an_unusable_reading_is_left_out_and_counted(archive: Archive, spoilt: PhantomReading, outcome: str) -> None:
    sound = [look("R2", TWO, (300, 300, 1.0))]
    gaze = GazeTables(reflacx=reflacx(archive.folder, spoilt, look("R1b", TWO, ASTRAY), *sound))
    if outcome == "readings_without_table":
        LocalStore(str(archive.folder / "reflacx")).delete("main_data/R1/fixations.csv")
    archive.add(ONE)
    archive.add(TWO)
    rows, rejects, tally = archive.build(gaze)
    assert [row["image_id"] for row in rows] == [TWO]
    assert [(row["image_id"], row["reason_code"]) for row in rejects] == [(ONE, "no_gaze_in_image")]
    counted = {name: tally[name] for name in tally if name.startswith("readings_")}
    assert counted == Counter([outcome, "readings_off_image", "readings_used"])
    expected = mean_map([read_fixations(LocalStore(str(archive.folder / "reflacx")), "R2")[0]], AFFINE)
    np.testing.assert_allclose(gaze_density(rows[0]["gaze"]), expected, atol=expected.max() / 60000)


def test_a_broken_table_of_fixations_ends_the_ingest(archive: Archive) -> None:
    gaze = GazeTables(reflacx=reflacx(archive.folder, look("R1", ONE)))
    LocalStore(str(archive.folder / "reflacx")).put("main_data/R1/fixations.csv", b"not,a\ntable,1\n")
    archive.add(ONE)
    with pytest.raises(UserError, match="fixations"):
        archive.build(gaze)
    assert not archive.out.exists("shards/shard-00000.parquet")


def test_an_affine_is_stored_as_it_was(archive: Archive) -> None:
    archive.add("one")
    rows, _, _ = archive.build()
    assert Affine(**rows[0]["affine"]) == AFFINE


def test_a_map_of_zeros_is_no_density_but_no_nan_either() -> None:
    assert not gaze_density(bytes(2 * HEIGHT * WIDTH)).any()


def test_a_store_is_one_archive_s_with_one_key_and_one_copy_of_the_gaze(tmp_path: Path) -> None:
    store, key = LocalStore(str(tmp_path / "out")), Identities(b"k" * 32)
    egd(tmp_path, {ONE: 0}, {ONE: [(1, 1)]})
    sources = find_gaze([str(tmp_path / "egd")])
    claim(store, "archive", sources, ALL, key)
    claim(store, "archive", sources, ALL, Identities(b"k" * 32))
    assert "kkkk" not in store.read_text("ingest.json")
    egd(tmp_path, {ONE: 1}, {ONE: [(1, 1), (2, 2)]})
    others: list[tuple[str, GazeSources, IngestSettings, Identities]] = [
        ("archive", sources, ALL, Identities(b"o" * 32)),
        ("archive", sources, ALL, KEEP),
        ("other", sources, ALL, key),
        ("archive", sources, IngestSettings(), key),
        ("archive", GazeSources(), ALL, key),
        ("archive", find_gaze([str(tmp_path / "egd")]), ALL, key),
    ]
    for other in others:
        with pytest.raises(UserError, match="Another store"):
            claim(store, *other)
