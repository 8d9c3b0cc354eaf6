"""Several finished shard stores seen as one: an old store and the shards that were labelled since."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cxrgaze_ray.archive.identities import KEPT
from cxrgaze_ray.errors import UserError
from cxrgaze_ray.schemas import CLASSES
from cxrgaze_ray.shards.footer import read_row_index
from cxrgaze_ray.shards.store import LABELLED_TWICE, SPLITS, WITHOUT_PATIENT, Shard, ShardInfo, ShardStore, StoreInfo
from cxrgaze_ray.storage import Store
from cxrgaze_ray.storage.read_ahead import read_ahead

_INDEX = pa.schema(
    [
        ("store", pa.int32()),
        ("image_id", pa.string()),
        ("patient", pa.string()),
        ("named", pa.bool_()),
        ("split", pa.string()),
        ("label", pa.int8()),
        ("seen", pa.bool_()),
    ]
)
"""A row an image of any store; where no patient is known, the image stands for one, and is not named. seen: it has a
gaze map."""

_SAME_WAY = "Ingest them with the same --split, --split-salt, --split-shares and pseudonymisation key."


@dataclass(frozen=True)
class LabelCount:
    """Images whose label is new, and patients who are."""

    images: int
    patients: int


class ShardUnion:
    """Finished shard stores seen as one, as `ShardStore` is: of an image that several hold, the last one's row counts.

    Only ids, splits and labels are read ahead; pixels are read a shard at a time.

    Parameters
    ----------
    stores
        At least one, the oldest first.

    Raises
    ------
    UserError
        If profiles or keys differ, an image is of one patient here and of another there, or a patient or an image lies
        in several splits.

    Attributes
    ----------
    info
        As of one store: a single store's own, or one whose shards are the stores, in order.
    superseded
        Rows that do not count, because a later store holds their image too.
    """

    def __init__(self, stores: Sequence[ShardStore]) -> None:
        if not stores:
            raise UserError("No shard store is named.", "Name one or more, the oldest first.")
        _check_profiles(stores)
        _check_keys(stores)
        self.stores = tuple(stores)
        index = pa.concat_tables([_read_index(number, store) for number, store in enumerate(stores)])
        _check_patients(index)
        newest = index.group_by("image_id").aggregate([("store", "max")])
        last = newest["store_max"].take(pc.index_in(index["image_id"], newest["image_id"]))
        self._index = index.append_column("newest", pc.equal(index["store"], last))
        self._rows = self._index.filter(self._index["newest"])
        rest = self._index.filter(pc.invert(self._index["newest"]))
        self._old = [_ids_of(rest, number) for number in range(len(stores))]
        self.superseded = rest.num_rows
        self.info = self._describe()

    @classmethod
    def open(cls, uris: Sequence[str]) -> ShardUnion:
        """Open the stores at some URIs, the oldest first; UserError if one is not finished."""
        return cls([ShardStore.open(uri) for uri in uris])

    def rows(self, split: str) -> int:
        """Return how many images a split has."""
        return self.info.counts.get(f"split_{split}", 0)

    def shards(self, split: str) -> tuple[Shard, ...]:
        """Return the shards where rows of a split may lie, in order."""
        return tuple(
            replace(shard, superseded=self._old[number])
            for number in self._taking_part(split)
            for shard in self.stores[number].shards(split)
        )

    def tables(self, split: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the rows of a split, a shard at a time: see `Shard.read`."""
        return (shard.read(split, columns) for shard in self.shards(split))

    @property
    def parts(self) -> tuple[str, ...]:
        """Hashes of all stores, in order."""
        return tuple(store.info.sha256() for store in self.stores)

    @property
    def locked_tests(self) -> tuple[str, ...]:
        """Hashes of the stores whose test splits take part, in order: a look at this test split is one at each."""
        return tuple(self.stores[number].info.sha256() for number in self._taking_part("test"))

    def labelled(self) -> pa.Table:
        """Return every row that has a label: store, image_id, patient, split, label and newest.

        newest: no later store holds the image, so that the row counts.
        """
        return self._index.filter(self._index["label"].is_valid()).drop_columns(["seen", "named"])

    def _taking_part(self, split: str | None = None) -> list[int]:
        """Return the places of the stores that give rows, or rows of a split."""
        rows = self._rows if split is None else self._rows.filter(pc.equal(self._rows["split"], split))
        return sorted(pc.unique(rows["store"]).to_pylist())

    def _describe(self) -> StoreInfo:
        infos = [store.info for store in self.stores]
        if len(infos) == 1:
            return infos[0]
        used = Counter(self._rows["store"].to_pylist())
        ways = {info.split_by for info in infos}
        return StoreInfo(
            profile=infos[-1].profile,
            profile_sha256=infos[-1].profile_sha256,
            manifest_sha256=hashlib.sha256("".join(info.manifest_sha256 for info in infos).encode()).hexdigest(),
            split=infos[-1].split,
            split_by=ways.pop() if len(ways) == 1 else None,
            shards=[
                ShardInfo(name=f"store-{number:02d}", rows=used[number], sha256=info.sha256())
                for number, info in enumerate(infos)
            ],
            counts=self._count(),
        )

    def _count(self) -> dict[str, int]:
        counts = Counter(f"split_{split}" for split in self._rows["split"].to_pylist())
        counts.update(f"label_{CLASSES[label]}" for label in self._rows["label"].drop_null().to_pylist())
        counts["images"] = self._rows.num_rows
        counts["images_with_gaze"] = pc.sum(self._rows["seen"]).as_py() or 0
        counts["patients"] = pc.count_distinct(self._rows["patient"]).as_py()
        counts[WITHOUT_PATIENT] = pc.sum(pc.invert(self._rows["named"]), min_count=0).as_py()
        if twice := sum(store.info.counts.get(LABELLED_TWICE, 0) for store in self.stores):
            counts[LABELLED_TWICE] = twice
        counts["stores"], counts["superseded"] = len(self.stores), self.superseded
        return dict(sorted(counts.items()))


def label_counts(union: ShardUnion, since: Sequence[str]) -> dict[str, LabelCount]:
    """Count by split the labels that are new since a model was trained.

    Parameters
    ----------
    union
        What a model would be trained on now.
    since
        Hashes of the stores that it was trained on.

    Returns
    -------
    dict of str to LabelCount
        Every split. A label that one of those stores gives to the same image already is not new, nor is a patient of
        whom one of them has any label.
    """
    before = {number for number, store in enumerate(union.stores) if store.info.sha256() in since}
    rows = union.labelled().to_pylist()
    known = {(row["image_id"], row["label"]) for row in rows if row["store"] in before}
    had = {row["patient"] for row in rows if row["store"] in before}
    new = [row for row in rows if row["newest"] and (row["image_id"], row["label"]) not in known]
    images = Counter(row["split"] for row in new)
    others = {(row["split"], row["patient"]) for row in new if row["patient"] not in had}
    patients = Counter(split for split, _ in others)
    return {split: LabelCount(images[split], patients[split]) for split in SPLITS}


def _check_profiles(stores: Sequence[ShardStore]) -> None:
    first = stores[0].info
    for store in stores[1:]:
        if (store.info.profile, store.info.profile_sha256) != (first.profile, first.profile_sha256):
            raise UserError(
                f"The images of {store.store.uri} are of another profile than those of {stores[0].store.uri}.",
                f"Ingest it again with --profile {first.profile}, by this version.",
            )


def _check_keys(stores: Sequence[ShardStore]) -> None:
    """Refuse hashes of several keys: one patient has several then, which may lie in several splits."""
    names = {name for store in stores if (name := store.identities) is not None and name != KEPT}
    if len(names) > 1:
        raise UserError(
            f"The patients of these stores are hashed with {len(names)} keys: nobody can tell who is in both.",
            "Ingest them again with one key: --pseudonymise KEYFILE.",
        )


def _check_patients(index: pa.Table) -> None:
    """Refuse what would let a model see in training whom it is tested on; rows that do not count are looked at too."""
    images = index.group_by("image_id").aggregate([("store", "count_distinct"), ("patient", "count_distinct")])
    several = pc.greater(images["store_count_distinct"], 1), pc.greater(images["patient_count_distinct"], 1)
    if other := pc.sum(pc.and_(*several)).as_py():
        raise UserError(f"{other} images are of one patient in one store and of another in another.", _SAME_WAY)
    patients = index.group_by("patient").aggregate([("split", "count_distinct")])
    if torn := pc.sum(pc.greater(patients["split_count_distinct"], 1)).as_py():
        raise UserError(f"{torn} patients have images in more than one split.", _SAME_WAY)
    shared = index.group_by("image_id").aggregate([("split", "count_distinct")])
    if twice := pc.sum(pc.greater(shared["split_count_distinct"], 1)).as_py():
        raise UserError(f"{twice} images of several patients are in more than one split.", "Ingest that store again.")


def _read_index(number: int, store: ShardStore) -> pa.Table:
    names = [shard.name for shard in store.info.shards if shard.rows]
    tables = read_ahead(partial(_read_shard, number, store.store), names)
    return pa.concat_tables([_INDEX.empty_table(), *tables])


def _read_shard(number: int, store: Store, name: str) -> pa.Table:
    """Read what is small of a shard; its pixels stay where they are."""
    with store.open_input(name) as file:
        read = read_row_index(pq.ParquetFile(file))
    return pa.table(
        {
            "store": pa.array([number] * read.num_rows, pa.int32()),
            "image_id": read["image_id"],
            "patient": pc.coalesce(read["subject_id"], read["image_id"]),
            "named": read["subject_id"].is_valid(),
            "split": read["split"],
            "label": read["label"],
            "seen": read["seen"],
        },
        schema=_INDEX,
    )


def _ids_of(index: pa.Table, number: int) -> pa.Array:
    return pc.unique(index.filter(pc.equal(index["store"], number))["image_id"])
