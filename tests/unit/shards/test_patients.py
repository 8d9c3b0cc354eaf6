"""Whatever names the patients, and however: none of them lies in two splits, or the ingest is refused."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from cxrgaze_ray.archive.identities import Identities
from cxrgaze_ray.archive.intake import Intake
from cxrgaze_ray.archive.manifest.identifiers import name_rows
from cxrgaze_ray.errors import UserError
from cxrgaze_ray.gaze.egd import EgdTables, Study
from cxrgaze_ray.gaze.reflacx import ReflacxIndex
from cxrgaze_ray.gaze.sources import GazeTables
from cxrgaze_ray.radiograph.decoding import Decoded
from cxrgaze_ray.radiograph.preprocess import fit
from cxrgaze_ray.schemas import MANIFEST
from cxrgaze_ray.shards import IngestSettings, SplitSettings
from cxrgaze_ray.shards.build import BuildShard
from cxrgaze_ray.shards.patients import Names
from cxrgaze_ray.shards.plan import make_plan, write_plan
from cxrgaze_ray.storage import LocalStore

AFFINE = fit(10, 10)
KEYED, KEEP = Identities(b"k" * 32), Identities()
HALVES = SplitSettings(train=0.5, validation=0.0)
Image = dict[str, Any]
"""What each source says of an image: list, sheet, reflacx and tag name its patient, or are None; id, split, format."""


def image(number: int, **said: Any) -> Image:
    blank = dict.fromkeys(("list", "sheet", "reflacx", "tag", "split"))
    return blank | {"id": f"image-{number}", "format": "dicom"} | said


def manifest_of(images: list[Image], identities: Identities) -> pa.Table:
    columns = {name: pa.array([one[key] for one in images], pa.string()) for name, key in
               (("image_id", "id"), ("subject_id", "list"))}  # fmt: skip
    raw = columns | {"study_id": pa.nulls(len(images), pa.string())}
    named, _ = name_rows(raw, columns["image_id"], identities)
    ids = named["image_id"].to_pylist()
    rows = [
        {"uri": f"/{number}", "repeated_id": ids.count(ids[number]) > 1, "split": one["split"], "format": one["format"]}
        for number, one in enumerate(images)
    ]
    table = pa.Table.from_pylist(rows, schema=MANIFEST)
    for name, column in named.items():
        table = table.set_column(table.schema.get_field_index(name), name, column)
    return table


def gaze_of(images: list[Image]) -> GazeTables:
    studies = {one["id"]: Study(one["id"], one["sheet"], None, 0) for one in images if one["sheet"]}
    egd = EgdTables(studies, {}, {}, np.empty((0, 2)))
    rows = {one["id"]: one["reflacx"] for one in images if one["reflacx"]}
    columns = {"image_id": sorted(rows), "subject_id": [rows[name] for name in sorted(rows)]}
    readings = {"reading": pa.array([f"R{n}" for n in range(len(rows))], pa.string())}
    sizes = {name: pa.array([10] * len(rows), pa.int32()) for name in ("rows", "columns")}
    named = {name: pa.array(values, pa.string()) for name, values in columns.items()}
    return GazeTables(egd if studies else None, ReflacxIndex(pa.table(named | readings | sizes)) if rows else None)


@dataclass(frozen=True)
class Placed:
    """What became of an image."""

    split: str
    patient: str | None
    row: dict[str, Any]


def ingest_of(
    images: list[Image], identities: Identities = KEEP, **chosen: Any
) -> tuple[dict[int, Placed], Counter[str]]:
    """Ingest images as the driver and its workers do, but for Ray and the pixels; return what became of each."""
    asked = IngestSettings(**{"keep": "all", "split": HALVES, "shard_rows": 2, **chosen})

    def take(_self: Intake, planned: dict[str, Any]) -> Decoded:
        tag = images[int(planned["uri"][1:])]["tag"]
        return Decoded(np.full((1, 1), int(planned["uri"][1:]), np.uint16), AFFINE, {}, tag, None)

    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Intake, "take", take)
        store = LocalStore(folder)
        table, counts = make_plan(manifest_of(images, identities), gaze_of(images), asked, identities)
        place = table.schema.get_field_index("readings")  # where people looked is another subject
        table = table.set_column(place, table.field(place), pa.nulls(table.num_rows, table.schema.types[place]))
        plan = write_plan(store, table, counts, asked.shard_rows)
        build, names = BuildShard(folder, asked, identities, None), Names()
        for built in build(pa.table({"id": [*range(plan.info.shards)]})).to_pylist():
            counts.update(json.loads(built["tally"]))
            names.add(Names.of_json(built["names"]))
        names.check()
        shards = [pq.read_table(io.BytesIO(store.get(info.key))) for info in store.list("shards/")]
    rows = [row for shard in shards for row in shard.to_pylist()]
    numbers = [int(np.frombuffer(row["image"], np.uint16)[0]) for row in rows]
    return {n: Placed(row["split"], row["subject_id"], row) for n, row in zip(numbers, rows, strict=True)}, counts


def torn(images: list[Image], placed: dict[int, Placed], whose: Callable[[Image], Any]) -> set[Any]:
    """Return who lies in several splits."""
    found: dict[Any, set[str]] = {}
    for number, one in placed.items():
        if (who := whose(images[number])) is not None:
            found.setdefault(who, set()).add(one.split)
    return {who for who, splits in found.items() if len(splits) > 1}


ISSUE = [image(number, sheet=f"1000003{number % 5}", format="jpeg") for number in range(40)]
"""Forty images of five patients, whom the master sheet alone names."""


@pytest.mark.parametrize("identities", [KEEP, KEYED], ids=["keep", "keyed"])
def test_the_sheet_s_patient_is_the_patient(identities: Identities) -> None:
    placed, counts = ingest_of(ISSUE, identities)
    assert {one.patient for one in placed.values()} == {identities.of("patient", f"1000003{n}") for n in range(5)}
    assert torn(ISSUE, placed, lambda one: one["sheet"]) == set()
    assert {one.split for one in placed.values()} == {"train", "test"}, "this shows nothing"
    assert (counts["patients_from_gaze_tables"], counts["images_without_patient"]) == (40, 0)


@pytest.mark.parametrize("identities", [KEEP, KEYED], ids=["keep", "keyed"])
@pytest.mark.parametrize("spelt", ["10000032", "p10000032", "P10000032", "10000032.0"])
def test_a_patient_has_one_id_whoever_names_it(spelt: str, identities: Identities) -> None:
    """By the list where it does, in the list's spelling everywhere; a tag of the same text is the same patient."""
    names = [{"list": spelt, "sheet": "10000032"}, {"sheet": "10000032"}, {"reflacx": "10000032"}, {"list": spelt},
             {"tag": spelt}]  # fmt: skip
    images = [image(number, **said) for number, said in enumerate(names)]
    placed, _ = ingest_of(images, identities)
    assert {one.patient for one in placed.values()} == {identities.of("patient", spelt)}


def test_images_that_nobody_names_are_refused_unless_asked_for_by_name() -> None:
    images = [*ISSUE[:6], *(image(n, format="png") for n in range(6, 9))]
    with pytest.raises(UserError, match=r"patients of 3 images.*--split-by image"):
        ingest_of(images)
    placed, counts = ingest_of(images, split_by="image")
    assert (len(placed), counts["images_without_patient"]) == (9, 3)
    assert torn(images, placed, lambda one: one["sheet"]) == set(), "who is named stays whole all the same"


@pytest.mark.parametrize("split_by", ["patient", "archive"])
def test_a_dicom_file_without_a_patient_is_refused_when_it_is_read(split_by: str) -> None:
    images = [image(0, tag="7", split="train"), image(1, split="test")]
    with pytest.raises(UserError, match=r"Neither a table nor its tags.*--split-by image"):
        ingest_of(images, split_by=split_by)


@pytest.mark.parametrize("source", ["list", "sheet", "tag"])
def test_an_archive_s_split_that_tears_a_patient_is_refused(source: str) -> None:
    images = [
        image(n, split=split, **{source: who})
        for n, (who, split) in enumerate([("7", "train"), ("8", "test"), ("7", "test")])
    ]
    with pytest.raises(UserError, match=r"^1 patients .* --split patient"):
        ingest_of(images, split_by="archive")
    images[2]["split"] = "train"
    placed, _ = ingest_of(images, split_by="archive")
    assert [placed[n].split for n in range(3)] == ["train", "test", "train"]


@pytest.mark.parametrize(("one", "other"), [("list", "sheet"), ("list", "reflacx"), ("sheet", "reflacx")])
def test_tables_that_name_different_patients_are_refused_by_their_number(one: str, other: str) -> None:
    images = [image(0, **{one: "secret-1", other: "secret-1"}), image(1, **{one: "secret-1", other: "secret-2"})]
    with pytest.raises(UserError, match="different patients for 1 images") as refused:
        ingest_of(images)
    assert "secret" not in str(refused.value)


def test_an_image_id_of_several_patients_is_refused() -> None:
    images = [image(0, list="7"), image(0, list="7"), image(1, list="8")]
    assert len(ingest_of(images)[0]) == 3
    with pytest.raises(UserError, match="1 image ids stand for images of several patients"):
        ingest_of([*images, image(1, list="9")])


def test_a_shared_image_id_in_two_splits_is_refused_where_tags_alone_name_the_patients() -> None:
    images = [image(n // 2, tag=str(n)) for n in range(20)]
    with pytest.raises(UserError, match="more than one split"):
        ingest_of(images)


@pytest.mark.parametrize("identities", [KEEP, KEYED], ids=["keep", "keyed"])
@pytest.mark.parametrize("tag", ["HOSPITAL|47", "p47", "47.0"])
def test_a_patient_who_goes_by_another_name_in_tags_is_refused(tag: str, identities: Identities) -> None:
    images = [image(0, list="47"), image(1, tag=tag)]
    with pytest.raises(UserError, match=r"1 patients go by one name in a table"):
        ingest_of(images, identities)
    assert len(ingest_of([image(0, list="47", tag=tag), image(1, list="47", tag=tag)], identities)[0]) == 2


def test_an_id_of_odd_form_is_one_patient_under_a_key_and_refused_without() -> None:
    """Kept ids of an odd form are hashed in a list, and stay as they are in tags."""
    images = [image(0, list="Doe 12"), image(1, tag="Doe 12")]
    assert {one.patient for one in ingest_of(images, KEYED)[0].values()} == {KEYED.of("patient", "Doe 12")}
    with pytest.raises(UserError, match="1 patients go by one name in a table"):
        ingest_of(images, KEEP)


def test_a_code_in_the_list_and_a_number_in_tags_are_one_patient_if_one_image_has_both() -> None:
    images = [image(0, list="case-1", tag="47"), image(1, tag="47"), image(2, list="case-2", tag="48")]
    with pytest.raises(UserError, match="1 patients go by one name in a table"):
        ingest_of(images)
    assert len(ingest_of([images[0], images[2]])[0]) == 2, "a list of codes is complete in itself"


def test_tags_that_name_everybody_alike_do_not_count_beside_a_complete_list() -> None:
    images = [image(n, list=f"case-{n}", tag="ANONYMOUS") for n in range(20)]
    assert {one.patient for one in ingest_of(images)[0].values()} == {f"case-{n}" for n in range(20)}


PEOPLE = st.integers(0, 4)
SPELT = ("{}", "p{}", "{}.0")
WORLDS = st.fixed_dictionaries(
    {
        "images": st.lists(
            st.tuples(PEOPLE, st.sets(st.sampled_from(["list", "sheet", "reflacx", "tag"])), st.booleans()),
            min_size=1,
            max_size=10,
        ),
        "list": st.sampled_from(SPELT),
        "tag": st.sampled_from([*SPELT, "H|{}"]),
        "identities": st.sampled_from([KEEP, KEYED]),
        "split_by": st.sampled_from(["patient", "image", "archive"]),
        "shared": st.booleans(),
    }
)


def draw(world: dict[str, Any], wrong: dict[int, int]) -> list[Image]:
    """Return the images of a world; `wrong` are people whom the list takes for others, by image."""
    images = []
    for number, (person, sources, early) in enumerate(world["images"]):
        shared = number // 2 * 2 if world["shared"] else number
        person = world["images"][shared][0]
        said = dict.fromkeys(sources, f"{40 + person}")
        if "list" in said:
            said["list"] = world["list"].format(40 + wrong.get(number, person))
        if "tag" in said:
            said["tag"] = world["tag"].format(40 + person)
        images.append(image(shared, split="train" if early else "test", person=person, **said))
    return images


def named(images: list[Image], one: Image) -> bool:
    """Say whether anybody names an image's patient: gaze tables do so for all files of its id."""
    files = [other for other in images if other["id"] == one["id"]]
    return any((one["list"], one["tag"], *(other[name] for other in files for name in ("sheet", "reflacx"))))


@given(WORLDS)
@settings(max_examples=60)
def test_no_patient_is_in_two_splits_whatever_the_sources(world: dict[str, Any]) -> None:
    """Whoever is named by anybody is whole. Refused is only what is torn, unnamed, or spelt differently in tags."""
    images = draw(world, {})
    unnamed = [one for one in images if not named(images, one)]
    try:
        placed, counts = ingest_of(images, world["identities"], split_by=world["split_by"])
    except UserError:
        event("refused")
        alike = world["list"] == world["tag"] == "{}"
        # a file that nobody names, and one of a named patient, may have one image id: who it is of can't be told
        mixed = {one["id"] for one in unnamed} & {one["id"] for one in images if named(images, one)}
        expected = {"archive": True, "patient": bool(unnamed), "image": bool(mixed)}
        assert not alike or expected[world["split_by"]]
        return
    event("ingested")
    assert torn(images, placed, lambda one: one["person"] if named(images, one) else None) == set()
    assert torn(images, placed, lambda one: one["id"]) == set()
    assert counts["images_without_patient"] == len(unnamed)


@given(WORLDS, st.dictionaries(st.integers(0, 9), PEOPLE, max_size=3))
@settings(max_examples=60)
def test_sources_that_contradict_each_other_tear_nobody_whom_one_of_them_names(
    world: dict[str, Any], wrong: dict[int, int]
) -> None:
    images = draw(world, wrong)
    try:
        placed, _ = ingest_of(images, world["identities"], split_by=world["split_by"])
    except UserError:
        event("refused")
        return
    assert torn(images, placed, lambda one: one["list"]) == set()
    assert torn(images, placed, lambda one: one["sheet"]) == set()
    assert torn(images, placed, lambda one: one["reflacx"]) == set()
    assert torn(images, placed, lambda one: placed[images.index(one)].patient) == set()
