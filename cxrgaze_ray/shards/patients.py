"""Whose image each file is, of all that name a patient; and that none of them lies in two splits.

The archive's tables and the gaze tables name a patient before anything is decoded, and have to agree. A file's tags
count where no table says anything; they are known only once the file was decoded, so that whoever goes by one name in a
table and by another in tags is found at the end.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cxrgaze_ray.archive.identities import Identities
from cxrgaze_ray.archive.manifest import name_ids
from cxrgaze_ray.errors import UserError
from cxrgaze_ray.gaze.sources import GazeTables

_AGREE = "Make them agree, or leave the column subject_id out of the list."
_NAME_THEM = (
    "Give their patients in the list's column subject_id; or with --split-by image each of them stands for a patient, "
    "and people whom nobody names may lie in two splits."
)
PLACED = ["image_id", "subject_id", "repeated_id", "split"]
"""Columns that say where a patient lies."""

_TAGLESS = pa.array(["jpeg", "png"])


def name_patients(manifest: pa.Table, gaze: GazeTables, identities: Identities) -> pa.Array:
    """Return the patient of each file by the archive's tables, else by the gaze tables; null where none says.

    Parameters
    ----------
    identities
        What made the manifest's ids of those that the gaze tables would name; patients are returned as rows carry them.

    Raises
    ------
    UserError
        If two tables name different patients for an image, or an image id stands for images of several patients.
    """
    images, archive = manifest["image_id"].combine_chunks(), manifest["subject_id"].combine_chunks()
    known = pc.unique(archive.drop_null())
    sources = [source for source in (gaze.egd, gaze.reflacx) if source is not None]
    named = [archive, *(_as_in(known, source.patients_of(images, identities), identities) for source in sources)]
    patients = pc.coalesce(*named)
    others = [pc.fill_null(pc.not_equal(one, patients), False) for one in named]
    _refuse(_any(others), "Tables name different patients for {} images.", _AGREE)
    several = pa.table({"image": images, "patient": patients}).group_by("image")
    apart = pc.greater(several.aggregate([("patient", "count_distinct")])["patient_count_distinct"], 1)
    _refuse(apart, "{} image ids stand for images of several patients.", "Give each image an image_id of its own.")
    return patients


def _any(masks: list[Any]) -> Any:
    found = masks[0]
    for mask in masks[1:]:
        found = pc.or_(found, mask)
    return found


def _refuse(mask: Any, sentence: str, hint: str) -> None:
    if count := pc.sum(mask, min_count=0).as_py():
        raise UserError(sentence.format(count), hint)


def _as_in(known: pa.Array, raw: pa.Array, identities: Identities) -> pa.Array:
    """Return raw patients as rows carry them, and as the archive spells them where it has the same one."""
    texts = pc.unique(raw.drop_null()).to_pylist()
    names = []
    for text in texts:
        ways = name_ids("patient", pa.array(spellings(text)), identities)
        places = pc.index_in(ways, value_set=known).drop_null()
        names.append(known[places[0].as_py()].as_py() if len(places) else ways[0].as_py())
    return pa.array(names, pa.string()).take(pc.index_in(raw, value_set=pa.array(texts, pa.string())))


def spellings(patient: str) -> list[str]:
    """Return how a patient may be written: as it is, without its issuer, with a p, as a number, in another case."""
    number = patient.rpartition("|")[2]
    bare = number[1:] if number[:1] in ("p", "P") and number[1:].isdigit() else number
    bare = bare.removesuffix(".0")
    ways = (patient, number, bare, f"p{bare}", f"P{bare}", f"{bare}.0", bare.lower(), bare.upper())
    return list(dict.fromkeys(ways))


def check_named(files: pa.Table) -> None:
    """Refuse files (`schemas.MANIFEST`) that have neither a patient in a table nor tags that could name one."""
    nobody = pc.and_(pc.is_null(files["subject_id"]), pc.is_in(files["format"], value_set=_TAGLESS))
    _refuse(nobody, "No table names the patients of {} images, and their files have no tags.", _NAME_THEM)


def nobody_named() -> UserError:
    """Return the error of an image that turned out to name no patient."""
    return UserError("Neither a table nor its tags name the patient of an image.", _NAME_THEM)


@dataclass
class Names:
    """Who the images of some shards are of, and by what other names they go.

    Attributes
    ----------
    splits
        Split of each patient, and of each image id that several files share.
    torn
        Those of them that lie in several.
    by_tag
        Patients whom tags alone name, for at least one image.
    in_tags
        What tags say of images whose patient a table names otherwise.
    in_tables
        What a table may call the patients whom tags name.
    """

    splits: dict[str, str] = field(default_factory=dict)
    torn: set[str] = field(default_factory=set)
    by_tag: set[str] = field(default_factory=set)
    in_tags: set[str] = field(default_factory=set)
    in_tables: set[str] = field(default_factory=set)

    def note_rows(self, rows: pa.Table) -> None:
        """Note where the patients of a shard's rows lie (`PLACED`)."""
        for row in rows.select(PLACED).to_pylist():
            shared = f"image {row['image_id']}" if row["repeated_id"] else None
            for name in filter(None, (row["subject_id"], shared)):
                self._place(name, row["split"])

    def _place(self, name: str, split: str) -> None:
        if self.splits.setdefault(name, split) != split:
            self.torn.add(name)

    def note_tag(self, named: str | None, tag: str, identities: Identities) -> None:
        """Note what a decoded file's tags call its patient.

        Parameters
        ----------
        named
            The patient by a table, as rows carry it.
        tag
            The patient by the file's tags, raw.
        """
        told = str(identities.of("patient", tag))
        if named is None:
            self.by_tag.add(told)
            self.in_tables |= set(name_ids("patient", pa.array(spellings(tag)), identities).to_pylist()) - {told}
        elif named != told:
            self.in_tags.add(told)

    def add(self, other: Names) -> None:
        """Add what other shards hold."""
        for name, split in other.splits.items():
            self._place(name, split)
        for name in ("torn", *_UNTOLD):
            getattr(self, name).update(getattr(other, name))

    def check(self, *, split_by_image: bool = False) -> int:
        """Return how many patients lie in two splits: none, unless the split is by image on purpose.

        Raises
        ------
        UserError
            If a patient lies in two splits, or may do so under two names.
        """
        if split_by_image:
            return len(self.torn)
        if self.torn:
            raise UserError(
                f"{len(self.torn)} patients have images in more than one split.",
                "Split by patient: --split patient, and give images of different patients different image ids.",
            )
        tables = self.splits.keys() - self.by_tag
        if twice := max(len(self.by_tag & self.in_tags), len(self.in_tables & tables)):
            raise UserError(
                f"At least {twice} patients go by one name in a table and by another in their files' tags.",
                "Name the patient of every image in the list's column subject_id, or of none.",
            )
        return 0

    def to_json(self) -> str:
        """Return everything, for `of_json`."""
        sets = {name: sorted(getattr(self, name)) for name in ("torn", *_UNTOLD)}
        return json.dumps({"splits": self.splits, **{name: names for name, names in sets.items() if names}})

    @classmethod
    def of_json(cls, text: str | bytes) -> Names:
        """Return what `to_json` wrote."""
        told = json.loads(text)
        return cls(told.pop("splits"), **{name: set(names) for name, names in told.items()})


_UNTOLD = ("by_tag", "in_tags", "in_tables")
