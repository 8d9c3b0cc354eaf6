"""Single rows of a store: what is known of all of them, and pixels one row at a time."""

from __future__ import annotations

import io
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from cxrgaze_ray.errors import StoreUnavailable
from cxrgaze_ray.schemas import STORE_SHARD
from cxrgaze_ray.shards import Shard, ShardReader, ShardStore, ShardUnion, StoreRows, index_store
from cxrgaze_ray.shards import rows as rows_module
from cxrgaze_ray.shards.footer import INDEXED, footer_of, read_row_index
from cxrgaze_ray.storage import ObjectInfo, S3Store
from tests.labelled_store import write_store

PATIENTS = {"train": 7, "validation": 3, "test": 2}


def rewritten(store: ShardStore, group: int, *, indexed: bool) -> ShardStore:
    """Write a store's shard anew with so many rows in a row group, with the index in its footer or without."""
    (info,) = store.info.shards
    table, buffer = pq.read_table(io.BytesIO(store.store.get(info.name)), schema=STORE_SHARD), io.BytesIO()
    with pq.ParquetWriter(buffer, STORE_SHARD, compression="zstd") as writer:
        writer.write_table(table, row_group_size=group)
        if indexed:
            writer.add_key_value_metadata(footer_of(table.select(INDEXED)))
    store.store.put(info.name, buffer.getvalue())
    return store


@pytest.fixture(params=[(100, False), (3, False), (1, True)], ids=["one group", "groups of three", "today's"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ShardStore:
    group, indexed = request.param
    return rewritten(write_store(tmp_path, PATIENTS), group, indexed=indexed)


def test_every_row_is_read_alone_whatever_version_wrote_the_store(store: ShardStore) -> None:
    index = index_store(store, ["train", "validation"])
    assert {split: table.num_rows for split, table in index.rows.items()} == {"train": 7, "validation": 3}
    for split in index.rows:
        (table,) = store.tables(split)
        expected = {row["image_id"]: row for row in table.to_pylist()}
        rows = StoreRows(index, split, ShardReader())
        assert rows.image_ids.to_pylist() == sorted(expected)
        for place, image_id in enumerate(rows.image_ids.to_pylist()):
            row = expected[image_id]
            image, gaze = rows.read(place, gaze=True)
            assert (image.tobytes(), rows.label_N[place], rows.seen_N[place]) == (row["image"], row["label"], True)
            assert gaze is not None
            assert gaze.tobytes() == row["gaze"]
            assert rows.read(place, gaze=False)[1] is None


def test_many_threads_read_at_once_and_little_stays_in_memory(store: ShardStore) -> None:
    index = index_store(store, ["train"])
    whole = StoreRows(index, "train", ShardReader())
    expected = [whole.read(place, gaze=True)[0].tobytes() for place in range(7)]
    reader = ShardReader(cache_bytes=3 * 2**20)
    rows = StoreRows(index, "train", reader)
    places = [place for _ in range(6) for place in range(7)]
    random.Random(3).shuffle(places)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda place: rows.read(place, gaze=True)[0].tobytes(), places))
    assert found == [expected[place] for place in places]
    held = sum(table.nbytes for table in reader._groups._values.values())
    assert held <= 3 * 2**20
    assert held == reader._groups._size


def test_what_was_read_last_is_not_read_again(store: ShardStore, monkeypatch: pytest.MonkeyPatch) -> None:
    read, original = [], rows_module._read

    def counted(*args: Any) -> pa.Table:
        read.append(args)
        return original(*args)

    monkeypatch.setattr(rows_module, "_read", counted)
    rows = StoreRows(index_store(store, ["train"]), "train", ShardReader())
    for _ in range(3):
        for place in range(7):
            rows.read(place, gaze=True)
    assert len(read) == len({(info.key, group) for _, info, _, group in read})


def test_a_row_of_a_shard_that_is_known_is_one_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = rewritten(write_store(tmp_path, PATIENTS), 1, indexed=True)
    rows = StoreRows(index_store(store, ["train"]), "train", ShardReader(cache_bytes=0))
    asked: list[str] = []
    parts = store.store.get(store.info.shards[0].name)

    def of_a_bucket(self: S3Store, key: str, start: int, size: int, etag: str | None = None) -> Any:
        asked.append("part")
        data = parts[start : start + size]
        return type("Part", (), {"data": data, "size_bytes": len(parts), "etag": etag})

    def looked(self: S3Store, key: str) -> ObjectInfo:
        asked.append("look")
        return ObjectInfo(key, len(parts), "etag")

    monkeypatch.setattr(S3Store, "_part", of_a_bucket)
    monkeypatch.setattr(S3Store, "info", looked)
    monkeypatch.setattr(rows_module, "open_store", lambda _uri: S3Store("s3://bucket/store"))
    expected = [rows.read(place, gaze=True)[0].tobytes() for place in range(3)]
    assert asked == ["look", "part", *["part"] * 3]
    assert expected == [row["image"] for row in sorted(next(store.tables("train")).to_pylist(), key=_id)[:3]]


def test_a_shard_that_was_written_anew_meanwhile_is_told(tmp_path: Path) -> None:
    store = rewritten(write_store(tmp_path, PATIENTS), 1, indexed=True)
    rows = StoreRows(index_store(store, ["train"]), "train", ShardReader())
    rows.read(0, gaze=True)
    rewritten(store, 3, indexed=False)
    with pytest.raises(StoreUnavailable, match="changed while it was read"):
        rows.read(1, gaze=True)


@pytest.mark.parametrize("fault", ["gone", "damaged", "cut off"])
def test_a_shard_that_is_gone_or_damaged_is_told(tmp_path: Path, fault: str) -> None:
    store = rewritten(write_store(tmp_path, PATIENTS), 1, indexed=True)
    index, key = index_store(store, ["train"]), store.info.shards[0].name
    data = bytearray(store.store.get(key))
    if fault == "gone":
        store.store.delete(key)
    else:
        data[4 : len(data) // 2] = bytes(len(data) // 2 - 4)
        store.store.put(key, bytes(data if fault == "damaged" else data[: len(data) // 2]))
    rows = StoreRows(index, "train", ShardReader())
    with pytest.raises(StoreUnavailable, match=r"has no shards/|of the store is damaged") as told:
        rows.read(0, gaze=True)
    assert "another store" in told.value.hint
    if fault != "damaged":
        with pytest.raises(StoreUnavailable, match=r"has no shards/|of the store is damaged"):
            index_store(store, ["train"])


def _id(row: dict[str, Any]) -> str:
    image_id: str = row["image_id"]
    return image_id


def test_an_index_reads_no_column_of_a_shard_of_today(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = rewritten(write_store(tmp_path, PATIENTS), 1, indexed=True)
    expected = index_store(rewritten(write_store(tmp_path / "old", PATIENTS), 100, indexed=False), ["train"])

    def never(*_: object, **__: object) -> pa.Table:
        raise AssertionError("a column was read")

    monkeypatch.setattr(pq.ParquetFile, "read", never)
    assert index_store(store, ["train"]).rows == expected.rows


@pytest.mark.parametrize("split", ["train", "validation", "test", "none"])
def test_a_split_s_rows_are_read_without_those_of_others(
    store: ShardStore, split: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (info,) = store.info.shards
    every = pq.read_table(io.BytesIO(store.store.get(info.name)), schema=STORE_SHARD)
    shard, read, original = Shard(store.store.uri, info.name), [], pq.ParquetFile.read_row_groups

    def counted(self: pq.ParquetFile, groups: list[int], *rest: Any) -> pa.Table:
        read.extend(groups)
        return original(self, groups, *rest)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", counted)
    expected = every.filter(pc.equal(every["split"], split))
    assert shard.read(split).equals(expected)
    assert len(read) <= max(1, expected.num_rows)
    columns = ["gaze", "image_id", "affine", "readers"]
    assert shard.read(split, columns).equals(expected.select(columns))
    read.clear()
    assert shard.read(split, ["label", "image_id"]).equals(expected.select(["label", "image_id"]))
    assert not read, "the footer tells"


def test_labels_and_gaze_that_are_not_there_are_told(tmp_path: Path) -> None:
    store = write_store(tmp_path, {"train": 3}, labelled=False)
    (info,) = store.info.shards
    table = pq.read_table(io.BytesIO(store.store.get(info.name)), schema=STORE_SHARD)
    # of one image nobody looked at anything, of another at nothing but its padding: its map is zero
    place = table.schema.get_field_index("gaze_peak")
    table = table.set_column(place, table.schema.field(place), pa.array([None, 0.0, 1e-5], pa.float32()))
    seen = read_row_index(pq.ParquetFile(io.BytesIO(_written(table))))["seen"]
    assert seen.to_pylist() == [False, False, True]
    store.store.put(info.name, _written(table))
    rows = StoreRows(index_store(store, ["train"]), "train", ShardReader())
    assert (rows.label_N.tolist(), rows.label_N.dtype) == ([-1] * 3, np.int8)


def _written(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def test_of_stores_seen_as_one_the_last_one_s_row_counts(tmp_path: Path) -> None:
    old, new = write_store(tmp_path / "old", {"train": 3}), write_store(tmp_path / "new", {"train": 2})
    index = index_store(ShardUnion([old, new]), ["train"])
    assert index.rows["train"]["image_id"].to_pylist() == [f"image-a-train-{number}" for number in range(3)]
    stores = [index.shards[shard][0] for shard in index.rows["train"]["shard"].to_pylist()]
    assert stores == [new.store.uri, new.store.uri, old.store.uri]
    assert pc.max(index.rows["train"]["row"]).as_py() == 2
