"""A CSV or Parquet file of URIs is an archive; one bad entry is one row."""

from __future__ import annotations

import gzip
import io
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cxrgaze_ray.archive.manifest import Limits, Manifest, fetch_listed, list_archive, with_origin
from cxrgaze_ray.errors import RadiographError, UserError
from cxrgaze_ray.schemas import Reason
from tests.unit.archive.test_manifest import DICOM, put


def write(path: Path, columns: dict[str, list[Any]]) -> str:
    """Write a list in the format that its name says."""
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
        return str(path)
    rows = zip(*columns.values(), strict=True)
    lines = [",".join(columns), *(",".join("" if cell is None else str(cell) for cell in row) for row in rows)]
    data = "\n".join(lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


def reason(row: dict[str, Any]) -> str:
    with pytest.raises(RadiographError) as error:
        fetch_listed(row)
    return str(error.value.reason)


VIEWS = ["PA", "lateral", None, "?"]


@pytest.mark.parametrize("name", ["list.csv", "LIST.CSV", "list.csv.gz", "list.parquet"])
def test_a_list_is_an_archive(tmp_path: Path, name: str) -> None:
    put(tmp_path, "here/a.dcm")
    elsewhere = put(tmp_path / "other", "b")
    put(tmp_path, "here/c.png", b"")
    entries = ["here/a.dcm", str(elsewhere), "./here/c.png", "here/gone.dcm"]
    columns: dict[str, list[Any]] = {"uri": entries, "subject_id": ["1", "2", None, "4"], "view_position": VIEWS}
    manifest = list_archive(write(tmp_path / name, columns))
    rows = {row["uri"].rpartition("/")[2]: row for row in manifest.table.to_pylist()}
    assert manifest.layout == "list"
    assert [rows[one]["uri"] for one in ("a.dcm", "b")] == [str(tmp_path / "here/a.dcm"), str(elsewhere)]
    assert fetch_listed(rows["a.dcm"]) == fetch_listed(rows["b"]) == DICOM
    assert [rows[one]["format"] for one in ("a.dcm", "b", "c.png", "gone.dcm")] == ["dicom", "dicom", "png", "dicom"]
    assert [rows[one]["subject_id"] for one in ("a.dcm", "b", "c.png", "gone.dcm")] == ["1", "2", None, "4"]
    assert (rows["a.dcm"]["view_position"], rows["a.dcm"]["view_source"]) == ("PA", "metadata")
    assert (rows["gone.dcm"]["view_position"], rows["gone.dcm"]["view_source"]) == (None, "unknown")
    assert (reason(rows["gone.dcm"]), reason(rows["c.png"])) == (Reason.MISSING, Reason.EMPTY_FILE)
    assert (manifest.counts["files"], manifest.counts["missing"], manifest.counts["view_LATERAL"]) == (4, 1, 1)


def test_an_image_is_named_alike_by_a_list_and_a_listing(tmp_path: Path) -> None:
    put(tmp_path / "archive", "a/x.dcm")
    put(tmp_path / "archive", "y.dcm")
    listed = list_archive(str(tmp_path / "archive"))
    path = write(tmp_path / "archive" / "list.csv", {"path": ["a/x.dcm", str(tmp_path / "archive/y.dcm")]})
    assert list_archive(path).table["image_id"].equals(listed.table["image_id"])


BAD = ["ftp://host/x.dcm", "../x.dcm", "a/../../x.dcm", "/a/../etc/passwd", "s3://bucket", "s3://bu cket/x", "s3://",
       "file:///etc/passwd", "./", "", "http://[", "/" + "a" * 5000, "s3://bucket/" + "k" * 1025]  # fmt: skip


@pytest.mark.parametrize("name", ["list.csv", "list.parquet"])
def test_an_entry_that_names_no_place_is_a_row(tmp_path: Path, name: str) -> None:
    put(tmp_path, "x.dcm")
    extra = ["nul\0.dcm"] if name.endswith("parquet") else []
    entries = [*BAD, *extra, "x.dcm", ""]
    path = write(tmp_path / name, {"uri": entries, "study_id": [str(n) for n in range(len(entries))]})
    manifest = list_archive(path)
    rows = {int(row["study_id"]): row for row in manifest.table.to_pylist()}
    sound = entries.index("x.dcm")
    assert len(rows) == len(entries)
    assert fetch_listed(rows.pop(sound)) == DICOM
    assert {reason(row) for row in rows.values()} == {Reason.INVALID_URI}
    assert len({row["image_id"] for row in rows.values()}) == len(rows)
    assert manifest.counts["invalid"] == len(rows)


def test_a_name_too_long_for_the_disk_is_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "list.csv", {"uri": ["a" * 300 + ".dcm", "x.dcm/below"]})
    put(tmp_path, "x.dcm")
    assert [reason(row) for row in list_archive(path).table.to_pylist()] == [Reason.MISSING] * 2


def test_an_entry_twice_is_one_row_and_counted(tmp_path: Path) -> None:
    put(tmp_path, "x.dcm")
    path = write(tmp_path / "list.csv", {"uri": ["x.dcm", "./x.dcm", str(tmp_path / "x.dcm"), "y.dcm"]})
    manifest = list_archive(path)
    assert (manifest.counts["files"], manifest.counts["repeated_entries"]) == (2, 2)


def test_numbers_are_ids_as_they_are_written(tmp_path: Path) -> None:
    put(tmp_path, "x.dcm")
    path = write(tmp_path / "list.csv", {"uri": ["x.dcm"], "subject_id": ["007"], "image_id": ["0001"]})
    (row,) = list_archive(path).table.to_pylist()
    assert (row["subject_id"], row["image_id"]) == ("007", "0001")
    path = write(tmp_path / "list.parquet", {"uri": ["x.dcm"], "subject_id": [7]})
    assert list_archive(path).table["subject_id"].to_pylist() == ["7"]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.csv", b""),
        ("a.csv", b"name,size\nx,1\n"),
        ("a.csv", b"uri,uri\nx,y\n"),
        ("a.csv", b"uri\n"),
        ("a.csv", b"image_id\nx\n"),
        ("a.csv", b"uri,image_id\nx,y,z\n"),
        ("a.csv", b"uri\n\xff\xfe\n"),
        ("a.csv", b'uri,image_id\n"x,y\n'),
        ("a.csv.gz", b"uri\nx.dcm\n"),
        ("a.parquet", b"PAR1 no more"),
    ],
    ids=["empty", "other-columns", "twice", "no-row", "no-uri", "long-row", "not-utf8", "open-quote", "not-gzip",
         "no-parquet"],
)  # fmt: skip
def test_a_malformed_list_is_one_sentence(tmp_path: Path, name: str, data: bytes) -> None:
    path = put(tmp_path, name, data)
    with pytest.raises(UserError) as error:
        list_archive(str(path))
    assert "\n" not in str(error.value)
    assert str(error.value).startswith((name, "There is no file"))


def test_columns_of_another_kind_are_an_error(tmp_path: Path) -> None:
    pq.write_table(pa.table({"uri": [["a", "b"]]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="no text"):
        list_archive(str(tmp_path / "a.parquet"))


def test_a_gzip_bomb_is_refused_in_little_memory(tmp_path: Path) -> None:
    head = b"uri\n" + b"x.dcm\n" * 1000
    buffer = io.BytesIO()
    with gzip.open(buffer, "wb", compresslevel=9) as file:
        file.write(head)
        for _ in range(64):
            file.write(b"\n" * 2**20)
    path = put(tmp_path, "bomb.csv.gz", buffer.getvalue())
    tracemalloc.start()
    with pytest.raises(UserError, match="unpacks to more than"):
        list_archive(str(path), limits=Limits(table_bytes=2**22))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 2**20


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet"])
def test_rows_are_bounded(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, {"uri": [f"{n}.dcm" for n in range(11)]})
    with pytest.raises(UserError, match="more than 10 rows"):
        list_archive(path, limits=Limits(table_rows=10))
    assert len(list_archive(path, limits=Limits(table_rows=11)).table) == 11


def test_one_endless_field_is_an_error(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", b'uri\n"' + b"x" * 2**23)
    with pytest.raises(UserError, match="no sound CSV"):
        list_archive(str(path))


def test_a_file_without_line_ends_is_not_read_into_memory(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv.gz", gzip.compress(b"uri\n" + b"x" * 2**27, compresslevel=1))
    tracemalloc.start()
    with pytest.raises(UserError, match="no sound CSV"):
        list_archive(str(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**26


def saved(manifest: Manifest, path: Path) -> str:
    pq.write_table(with_origin(manifest), path)
    return str(path)


def test_a_manifest_is_a_list_that_gives_itself_back(tmp_path: Path) -> None:
    put(tmp_path / "archive", "a/x.dcm")
    put(tmp_path / "archive", "y")
    first = list_archive(str(tmp_path / "archive"))
    again = list_archive(saved(first, tmp_path / "manifest.parquet"))
    assert again.table.equals(first.table)
    assert (again.sha256(), again.layout, again.uri) == (first.sha256(), first.layout, first.uri)
    put(tmp_path / "archive", "y", b"another")
    row = next(row for row in again.table.to_pylist() if row["uri"].endswith("/y"))
    assert reason(row) == Reason.CHANGED


def test_a_manifest_without_its_origin_is_a_plain_list(tmp_path: Path) -> None:
    put(tmp_path / "archive", "x.dcm")
    first = list_archive(str(tmp_path / "archive"))
    pq.write_table(first.table, tmp_path / "plain.parquet")
    again = list_archive(str(tmp_path / "plain.parquet"))
    assert again.layout == "list"
    assert again.table.equals(first.table)
