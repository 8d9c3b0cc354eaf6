"""What every Store promises; run on the local and on the S3 one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from threading import Barrier

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cxrgaze_ray.errors import StoreNotFound, UserError
from cxrgaze_ray.storage import STREAM_BYTES, Store, open_store

Check = Callable[[Store], None]


def put_then_get(store: Store) -> None:
    store.put("a/b.bin", b"first")
    store.put("a/b.bin", b"second")
    assert store.get("a/b.bin") == b"second"
    store.put("text", "Lunge größer".encode())
    assert store.read_text("text") == "Lunge größer"


def a_file_is_put_from_its_start(store: Store) -> None:
    data = bytes(range(256)) * 70_000
    with BytesIO(data) as file:
        file.seek(99)
        store.put_file("long", file)
    assert store.get("long") == data


def head_is_a_prefix(store: Store) -> None:
    store.put("long", bytes(range(200)))
    store.put("empty", b"")
    assert store.head("long", 132) == bytes(range(132))
    assert store.head("long", 500) == bytes(range(200))
    assert store.head("empty", 132) == b""


def streams_are_the_object_in_blocks(store: Store) -> None:
    data = bytes(range(256)) * 5000
    store.put("long", data)
    store.put("empty", b"")
    blocks = list(store.stream("long"))
    assert b"".join(blocks) == data
    assert max(map(len, blocks)) <= STREAM_BYTES < len(data)
    assert b"".join(store.stream("empty")) == b""
    with pytest.raises(StoreNotFound):
        next(store.stream("gone"))


def parquet_is_read_here_and_there(store: Store) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": range(5000), "y": ["-"] * 5000}), sink, row_group_size=1000)
    store.put("a/t.parquet", sink.getvalue().to_pybytes())
    store.put("empty", b"")
    with store.open_input("a/t.parquet") as file:
        assert pq.read_table(file, columns=["x"])["x"].to_pylist() == list(range(5000))
    with store.open_input("a/t.parquet") as file:
        assert pq.ParquetFile(file).read_row_group(3)["x"].to_pylist() == list(range(3000, 4000))
    with store.open_input("empty") as file:
        assert file.read() == b""
    with pytest.raises(StoreNotFound):
        store.open_input("gone")


def info_matches_fetch_and_list(store: Store) -> None:
    store.put("a/one", b"12345")
    before = store.info("a/one")
    assert before is not None
    assert (before.key, before.size_bytes) == ("a/one", 5)
    assert store.fetch("a/one") == (b"12345", before)
    assert list(store.list()) == [before]
    store.put("a/one", b"54321")
    after = store.info("a/one")
    assert after is not None
    assert after.etag != before.etag


def list_in_key_order(store: Store) -> None:
    keys = ["B", "a/10", "a/9", "a/z/1", "a0", "aé", "b", "z.dcm"]
    for key in reversed(keys):
        store.put(key, b"-")
    assert [info.key for info in store.list()] == keys


def list_by_prefix(store: Store) -> None:
    for key in ("a", "ab/1", "ab/2", "abc", "b/ab"):
        store.put(key, b"-")
    assert [info.key for info in store.list("ab")] == ["ab/1", "ab/2", "abc"]
    assert [info.key for info in store.list("ab/")] == ["ab/1", "ab/2"]
    assert [info.key for info in store.list("ab/2")] == ["ab/2"]
    assert list(store.list("none/")) == []


def folders_of_the_root(store: Store) -> None:
    assert store.child("nothing").folders() == ()
    for key in ("top", "b/1", "a/x/1", "a/2"):
        store.put(key, b"-")
    assert store.folders() == ("a", "b")
    assert store.child("a").folders() == ("x",)


def delete_is_idempotent(store: Store) -> None:
    store.put("gone", b"-")
    store.delete("gone")
    store.delete("gone")
    assert not store.exists("gone")
    assert store.info("gone") is None


def missing_is_not_found(store: Store) -> None:
    store.put("here", b"-")
    for read in (store.get, store.fetch, lambda key: store.head(key, 8)):
        with pytest.raises(StoreNotFound):
            read("not/here")
    assert store.info("not/here") is None


def a_folder_is_no_object(store: Store) -> None:
    store.put("folder/file", b"-")
    assert not store.exists("folder")
    assert not store.exists("folder/file/below")
    with pytest.raises(StoreNotFound):
        store.get("folder")


def put_if_absent_keeps_the_first(store: Store) -> None:
    assert store.put_if_absent("new/lock", b"mine")
    assert not store.put_if_absent("new/lock", b"theirs")
    assert store.get("new/lock") == b"mine"
    store.delete("new/lock")
    assert store.put_if_absent("new/lock", b"theirs")


def put_if_absent_has_one_winner(store: Store) -> None:
    barrier = Barrier(8)

    def race(number: int) -> bool:
        barrier.wait()
        return store.put_if_absent("lock", b"%d" % number)

    with ThreadPoolExecutor(8) as threads:
        won = list(threads.map(race, range(8)))
    assert won.count(True) == 1
    assert store.get("lock") == b"%d" % won.index(True)


def keys_with_odd_characters(store: Store) -> None:
    for key in ("a b/c d.dcm", "per%20cent", "plus+sign#hash?.png", "größe"):
        store.put(key, key.encode())
        assert store.get(key) == key.encode()
        assert [info.key for info in store.list(key)] == [key]


def what_is_written_stays_inside(store: Store) -> None:
    for key in ("../x", "a/../../x", "/etc/passwd", "a/.."):
        with pytest.raises(UserError):
            store.put(key, b"-")
        with pytest.raises(UserError):
            store.put_if_absent(key, b"-")
        with pytest.raises(UserError):
            store.delete(key)
        with pytest.raises(UserError):
            store.child(key)


def child_and_reopened_see_the_same(store: Store) -> None:
    store.child("a").put("b", b"-")
    assert store.get("a/b") == b"-"
    assert open_store(store.locate("a")).get("b") == b"-"
    assert [info.key for info in store.child("a").list()] == ["b"]


CHECKS: tuple[Check, ...] = (
    put_then_get,
    a_file_is_put_from_its_start,
    head_is_a_prefix,
    streams_are_the_object_in_blocks,
    parquet_is_read_here_and_there,
    info_matches_fetch_and_list,
    list_in_key_order,
    list_by_prefix,
    folders_of_the_root,
    delete_is_idempotent,
    missing_is_not_found,
    a_folder_is_no_object,
    put_if_absent_keeps_the_first,
    put_if_absent_has_one_winner,
    keys_with_odd_characters,
    what_is_written_stays_inside,
    child_and_reopened_see_the_same,
)
