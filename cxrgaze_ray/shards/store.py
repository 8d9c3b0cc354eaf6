"""What a shard store holds, and reading it back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import Field, model_validator

from cxrgaze_ray import schemas
from cxrgaze_ray.config import Record, Settings
from cxrgaze_ray.errors import ConfigError, StoreNotFound, UserError
from cxrgaze_ray.schemas import HEIGHT, WIDTH
from cxrgaze_ray.shards.footer import groups_of, read_row_index
from cxrgaze_ray.storage import Store, open_store

SPLITS = ("train", "validation", "test")
WITHOUT_PATIENT = "images_without_patient"
TORN = "patients_in_several_splits"
LABELLED_TWICE = "studies_labelled_twice"
SplitBy = Literal["patient", "archive", "image", "paper", "released"]


class SplitSettings(Settings):
    """How patients are split; the same salt moves nobody when an archive grows."""

    salt: str = Field("cxrgaze", min_length=0, max_length=1000)
    """Mixed into the hash of the patient id."""

    train: float = Field(0.8, ge=0, le=1)
    """Share of patients in the training split."""

    validation: float = Field(0.1, ge=0, le=1)
    """Share of patients in the validation split; the rest is the test split."""

    @classmethod
    def of_shares(cls, text: str, salt: str) -> SplitSettings:
        """Return the settings of shares as a user types them, such as ``0.8,0.1``; ConfigError if they are none."""
        try:
            train, validation = (float(share) for share in text.split(","))
        except ValueError as error:
            raise ConfigError(f"{text} is not the shares of two splits.", "Give two numbers: 0.8,0.1.") from error
        return cls.build(salt=salt, train=train, validation=validation)

    @model_validator(mode="after")
    def _shares_of_a_whole(self) -> Self:
        if self.train + self.validation > 1:
            raise ValueError("train and validation are more than 1 together")
        return self


class ShardInfo(Record):
    """One shard file."""

    name: str
    rows: int
    sha256: str


class StoreInfo(Record):
    """Contents of store.json, written last."""

    schema_version: int = schemas.SCHEMA_VERSION
    profile: str
    profile_sha256: str
    manifest_sha256: str
    split: SplitSettings
    split_by: SplitBy | None = None
    """See `IngestSettings`; None where it was not written down, or where several stores differ."""

    shards: list[ShardInfo]
    counts: dict[str, int]
    """Images by split, label and reject reason, those without a patient, and what of gaze and archive did not join."""

    def sha256(self) -> str:
        """Identify the store's content: the hash of its shards' hashes."""
        return hashlib.sha256("".join(shard.sha256 for shard in self.shards).encode()).hexdigest()

    def caution(self) -> str:
        """Say what the split can't vouch for; empty if every image is of a known patient, or nobody counted."""
        if self.split_by == "released":
            return (
                f"Split by image, as the released code does: {self.counts.get(TORN, 0)} patients lie in more than one "
                "split, so that figures may be too good."
            )
        count = self.counts.get(WITHOUT_PATIENT, 0)
        if not count:
            return ""
        return (
            f"Split by image: nobody names the patients of {count} of {self.counts['images']} images, so that people "
            "may lie in both training and test, and figures may be too good."
        )

    def warnings(self) -> list[str]:
        """Return sentences on what a training or its figures are worth less for."""
        found = [self.caution()] if self.caution() else []
        if count := self.counts.get(LABELLED_TWICE, 0):
            studies = "1 study has" if count == 1 else f"{count} studies have"
            found.append(f"{studies} images with different labels, which contradict each other to a model.")
        return [f"Warning: {sentence}" for sentence in found]


def split_of(patient: str, settings: SplitSettings) -> str:
    """Return the split of a patient: a salted hash, as a fraction in [0,1), against the shares."""
    digest = hashlib.sha256(f"{settings.salt}:{patient}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < settings.train:
        return "train"
    return "validation" if place < settings.train + settings.validation else "test"


@dataclass(frozen=True)
class Shard:
    """One shard file of a finished store; any process that reaches the store can read it.

    Attributes
    ----------
    store
        URI of the store.
    name
        Key of the file.
    superseded
        Ids of images whose rows do not count, because a later store holds them too; None if all count.
    """

    store: str
    name: str
    superseded: pa.Array | None = None

    def read(self, split: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows of a split (`schemas.STORE_SHARD`); null where an earlier store has none.

        Parameters
        ----------
        columns
            All by default. Only these are read, and only of the split's rows: without pixels a store is a hundredth of
            its size.
        """
        wanted = list(columns or schemas.STORE_SHARD.names)
        needed = list(dict.fromkeys([*wanted, "split", "image_id"]))
        with open_store(self.store).open_input(self.name) as file:
            parquet = pq.ParquetFile(file, pre_buffer=True)  # a bucket is asked for what lies together at once
            table = index = read_row_index(parquet)
            if not set(needed) <= set(index.column_names):
                table = _read_groups(parquet, groups_of(parquet, pc.equal(index["split"], split)), needed)
        return without(table.filter(pc.equal(table["split"], split)), self.superseded).select(wanted)


def _read_groups(parquet: pq.ParquetFile, groups: list[int], columns: list[str]) -> pa.Table:
    """Read columns of row groups, as today's schema has them."""
    schema = pa.schema([schemas.STORE_SHARD.field(name) for name in columns])
    if not groups:
        return schema.empty_table()
    table = parquet.read_row_groups(groups, [name for name in columns if name in parquet.schema_arrow.names])
    found = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(found, schema=schema)


def without(table: pa.Table, image_ids: pa.Array | None) -> pa.Table:
    """Return the rows of all images but some."""
    if image_ids is None or not len(image_ids):
        return table
    return table.filter(pc.invert(pc.is_in(table["image_id"], image_ids)))


class ShardStore:
    """A finished shard store."""

    def __init__(self, store: Store, info: StoreInfo) -> None:
        self.store = store
        self.info = info

    @classmethod
    def open(cls, uri: str) -> ShardStore:
        """Open the store at a URI; UserError if none is finished there."""
        store = open_store(uri)
        try:
            return cls(store, StoreInfo.model_validate_json(store.get("store.json")))
        except StoreNotFound as error:
            raise UserError(
                f"There is no finished shard store at {store.uri}.",
                "Make one: cxrgaze ingest ARCHIVE --gaze URI --out STORE.",
            ) from error

    @property
    def identities(self) -> str | None:
        """What became of identifiers: `Identities.name`; None if it was not written down."""
        try:
            name = json.loads(self.store.get("ingest.json")).get("identities")
        except (StoreNotFound, ValueError, AttributeError):
            return None
        return name if isinstance(name, str) else None

    @property
    def parts(self) -> tuple[str, ...]:
        """Hashes of the stores that this is: one."""
        return (self.info.sha256(),)

    def shards(self, split: str) -> tuple[Shard, ...]:
        """Return the shards where rows of a split may lie, in order."""
        held = self.info.shards if self.rows(split) else []
        return tuple(Shard(self.store.uri, shard.name) for shard in held if shard.rows)

    def tables(self, split: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the rows of a split, a shard at a time: see `Shard.read`."""
        return (shard.read(split, columns) for shard in self.shards(split))

    def rows(self, split: str) -> int:
        """Return how many images a split has."""
        return self.info.counts.get(f"split_{split}", 0)


def image_array(column: pa.ChunkedArray | pa.Array) -> NDArray[np.uint16]:
    """Return an image column as uint16 (B, 640, 512)."""
    return np.stack([np.frombuffer(value.as_buffer(), np.uint16).reshape(HEIGHT, WIDTH) for value in column])
