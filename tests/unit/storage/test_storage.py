"""Folders as stores."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from shutil import which

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cxrgaze_ray.errors import StoreDenied, StoreNotFound, StoreUnavailable, UserError
from cxrgaze_ray.storage import (
    TEMPORARY_PREFIX,
    LocalStore,
    S3Store,
    check_writable,
    open_output,
    open_parent,
    open_store,
)
from tests.store_contract import CHECKS, Check


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(str(tmp_path / "root"))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(check: Check, store: LocalStore) -> None:
    check(store)


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/etc/passwd", "a/.."])
def test_what_is_read_stays_inside(store: LocalStore, key: str) -> None:
    for read in (store.get, store.info, store.look, store.open_input, lambda key: list(store.list(key))):
        with pytest.raises(UserError):
            read(key)


def test_no_temporary_file_stays(store: LocalStore) -> None:
    store.put("a/one", b"-")
    store.put_if_absent("a/two", b"-")
    store.put_if_absent("a/two", b"-")
    assert sorted(path.name for path in store.root.rglob("*") if path.is_file()) == ["one", "two"]


def test_no_temporary_file_stays_of_a_failed_write(store: LocalStore) -> None:
    store.put("folder/file", b"-")
    with pytest.raises((StoreNotFound, StoreUnavailable)):
        store.put("folder", b"-")
    assert [path.name for path in store.root.rglob("*") if path.is_file()] == ["file"]


def test_temporary_files_of_a_killed_writer_are_not_listed(store: LocalStore) -> None:
    store.put("a/one", b"-")
    (store.root / "a" / f"{TEMPORARY_PREFIX}0").write_bytes(b"half")
    assert [info.key for info in store.list()] == ["a/one"]


def test_a_file_in_place_of_a_folder_is_not_found(store: LocalStore) -> None:
    store.put("file", b"-")
    with pytest.raises(StoreNotFound):
        store.get("file/below")


def test_listing_an_absent_root_is_an_error(store: LocalStore) -> None:
    with pytest.raises(StoreNotFound):
        list(store.list())


def test_unreadable_file_is_denied(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("secret", b"-")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StoreDenied):
        store.get("secret")


@contextmanager
def small_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Mount a disk of 1 MiB on a folder; where that is not allowed, plant the error that it gives."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        monkeypatch.setattr("os.fsync", partial(_fail, errno.ENOSPC))
        yield
        return
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _fail(number: int, *_: object) -> None:
    raise OSError(number, os.strerror(number))


def test_a_full_disk_is_told_and_keeps_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(str(tmp_path / "disk"))
    with small_disk(store.root, monkeypatch):
        for write in (store.put, store.put_if_absent):
            with pytest.raises(StoreUnavailable, match=r"The disk is full: .* Make room") as caught:
                write("folder/a", bytes(2**21))
            assert caught.value.exit_code == 4
        assert [path for path in store.root.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_is_full_at_the_last_moment(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    store.put("a", b"old")
    monkeypatch.setattr("os.fsync", partial(_fail, number))
    with pytest.raises(StoreUnavailable, match="The disk is full"):
        store.put("a", b"new")
    assert store.get("a") == b"old"
    assert [path.name for path in store.root.iterdir()] == ["a"]


def test_another_fault_of_the_disk_says_which(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", partial(_fail, errno.EIO))
    with pytest.raises(StoreUnavailable, match="Input/output error"):
        store.put("a", b"-")
    assert list(store.list()) == []


def test_arrow_reads_what_was_put(store: LocalStore) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": [1, 2]}), sink)
    store.put("t/part.parquet", sink.getvalue().to_pybytes())
    filesystem, root = store.filesystem()
    assert pq.read_table(f"{root}/t/part.parquet", filesystem=filesystem)["x"].to_pylist() == [1, 2]


def test_folders_sort_as_their_keys(store: LocalStore) -> None:
    # SeaweedFS lists folder by folder, so only Amazon's order, "-" and "." before "/", is held here.
    keys = ["a!/x", "a-b", "a.txt", "a/y", "a/z/1", "a0", "b", "b c/d e.dcm"]
    for key in keys:
        store.put(key, b"-")
    assert [info.key for info in store.list()] == sorted(keys)


def test_symbolic_links_inside_are_followed(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.dcm").write_bytes(b"-")
    store.put("b", b"-")
    (store.root / "a").symlink_to(tmp_path / "elsewhere")
    assert [info.key for info in store.list()] == ["a/x.dcm", "b"]


def test_links_in_a_circle_end(store: LocalStore) -> None:
    store.put("a/b/x.dcm", b"-")
    (store.root / "a" / "b" / "up").symlink_to(store.root / "a")
    (store.root / "self").symlink_to(store.root / "self")
    (store.root / "nowhere").symlink_to(store.root / "gone")
    assert [info.key for info in store.list()] == ["a/b/x.dcm"]


def test_a_name_longer_than_the_disk_allows_is_not_there(store: LocalStore) -> None:
    store.put("x", b"-")
    assert store.info("n" * 300) is None
    with pytest.raises(StoreNotFound):
        store.fetch("n" * 300)


def test_uris_choose_the_store(tmp_path: Path) -> None:
    assert isinstance(open_store("s3://bucket/a/b/"), S3Store)
    assert open_store("s3://bucket/a/b/").uri == "s3://bucket/a/b"
    assert open_store(str(tmp_path)).uri == str(tmp_path)
    assert open_store(f"{tmp_path}/a/../b").uri == str(tmp_path / "b")


@pytest.mark.parametrize(
    ("uri", "what"),
    [
        ("gs://bucket/a", "gs:// is not supported"), ("http://host/a", "http:// is not supported"),
        ("file:///a", "file:/// is not supported"), ("s3:/bucket/a", "s3:/ is not supported"),
        ("s3:bucket", "s3: is not supported"), ("S3://bucket/a", "S3:// is not supported"),
        (" s3://bucket/a", "not supported"), ("s3://", "names no bucket"), ("s3:///a", "names no bucket"),
        ("s3://bucket /a", "can't be a bucket's name"), ("s3://a b/c", "can't be a bucket's name"),
        ("", "is empty"), (" ", "is empty"), ("a\0b", "is empty"), ("~nobody-of-that-name/a", "no home here"),
    ],
)  # fmt: skip
def test_what_is_no_place_is_one_line_and_never_a_folder(
    uri: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for opener in (open_store, open_parent, open_output):
        with pytest.raises(UserError, match=what) as told:
            opener(uri)
        assert "\n" not in str(told.value)
    assert not list(tmp_path.iterdir())


def test_names_that_look_odd_and_are_paths_stay_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for uri in ("a:b", "./s3:/x", "with blank ", "a@b:c", "x.html"):
        assert open_store(uri).uri == str(tmp_path / uri)
    assert open_store("~/a").uri == str(tmp_path / "home" / "a")


def test_open_parent_splits_at_the_last_slash(tmp_path: Path) -> None:
    store, key = open_parent(str(tmp_path / "a" / "b.dcm"))
    assert (store.uri, key) == (str(tmp_path / "a"), "b.dcm")
    store, key = open_parent("s3://bucket/a/b.dcm")
    assert (store.uri, key) == ("s3://bucket/a", "b.dcm")
    assert open_parent("/b.dcm")[0].uri == "/"


@pytest.mark.parametrize("uri", ["s3://x.html", "s3://bucket/", "/", ".", "..", "a/..", "~"])
def test_a_folder_by_its_form_is_no_file(uri: str) -> None:
    with pytest.raises(UserError, match="names no file"):
        open_parent(uri)


def test_what_can_be_written_is_tried_and_leaves_nothing(tmp_path: Path) -> None:
    store, key = open_output(str(tmp_path / "a" / "b" / "x.html"))
    assert (store.uri, key) == (str(tmp_path / "a" / "b"), "x.html")
    check_writable(LocalStore(str(tmp_path / "c")))
    assert not list(tmp_path.iterdir())


def test_a_folder_is_no_output(tmp_path: Path) -> None:
    for uri in (str(tmp_path), f"{tmp_path}/new/"):
        with pytest.raises(UserError, match="is a folder"):
            open_output(uri)


def test_a_file_in_the_way_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="is a file: nothing can be written below it"):
        check_writable(LocalStore(str(tmp_path / "file" / "run")))


def test_a_place_that_refuses_is_the_environments_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "refused")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StoreDenied, match=f"Nothing can be written to {tmp_path}/out"):
        check_writable(LocalStore(str(tmp_path / "out")))
