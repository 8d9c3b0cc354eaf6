"""Tables are read from a file of our own, by Arrow alone: no thread of its comes back to an interpreter that ends."""

from __future__ import annotations

import gzip
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cxrgaze_ray.archive.manifest import list_archive
from cxrgaze_ray.errors import StoreUnavailable, UserError
from cxrgaze_ray.storage import LocalStore
from cxrgaze_ray.storage.spool import spooled

FIELD = b'"' + b"b" * 20 * 2**20 + b'"'
"""Longer than any block that Arrow reads."""

READERS = {
    "list": "list_archive(sys.argv[1] + '/list.csv')",
    "packed-list": "list_archive(sys.argv[1] + '/list.csv.gz')",
    "egd": "read_egd(open_store(sys.argv[1]))",
    "reflacx": "read_index(open_store(sys.argv[1]))",
}
CODE = """
import sys
from cxrgaze_ray.errors import UserError
from cxrgaze_ray.gaze.egd import read_egd
from cxrgaze_ray.gaze.reflacx import read_index
from cxrgaze_ray.archive.manifest import list_archive
from cxrgaze_ray.storage import open_store
try:
    {call}
except UserError as error:
    sys.exit(error.exit_code)
"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of tables, each with one endless field."""
    root = tmp_path_factory.mktemp("tables")
    (root / "main_data").mkdir()
    (root / "list.csv").write_bytes(b"path\n" + FIELD + b"\n")
    (root / "list.csv.gz").write_bytes(gzip.compress(b"path\n" + FIELD + b"\n", 1))
    (root / "master_sheet.csv").write_bytes(
        b"dicom_id,study_id,patient_id,Normal,CHF,pneumonia\n" + FIELD + b",s,p,1,0,0\n"
    )
    columns = b"id,eye_tracking_data_discarded,dicom_id,subject_id,image_size_x,image_size_y\n"
    (root / "main_data" / "metadata_phase_1.csv").write_bytes(columns + FIELD + b",False,d,s,1,1\n")
    return root


def ended(hostile: Path, reader: str) -> int:
    code = CODE.format(call=READERS[reader])
    return subprocess.run([sys.executable, "-c", code, str(hostile)], capture_output=True, check=False).returncode


@pytest.mark.parametrize("reader", READERS)
def test_an_endless_field_is_a_user_error_and_no_crash(hostile: Path, reader: str) -> None:
    assert ended(hostile, reader) == 2


@pytest.mark.long
@pytest.mark.parametrize("reader", READERS)
def test_an_endless_field_never_is_a_crash(hostile: Path, reader: str) -> None:
    assert [ended(hostile, reader) for _ in range(10)] == [2] * 10


@pytest.mark.parametrize("name", ["list.csv", "list.csv.gz"])
def test_a_table_is_drawn_by_its_caller_alone(hostile: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn_by: set[int] = set()
    stream = LocalStore.stream

    def noted(store: LocalStore, key: str) -> Iterator[bytes]:
        for block in stream(store, key):
            drawn_by.add(threading.get_ident())
            yield block

    monkeypatch.setattr(LocalStore, "stream", noted)
    with pytest.raises(UserError, match="has more than 1 MiB"):
        list_archive(str(hostile / name))
    assert drawn_by == {threading.get_ident()}


def test_what_is_spooled_can_be_read_meanwhile_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with spooled([b"a", b"", b"b" * 2**20]) as path:
        assert Path(path).read_bytes() == b"a" + b"b" * 2**20
        assert not [*tmp_path.iterdir()], "a patient's path would lie in it, if the process were killed"


@pytest.mark.parametrize("place", ["/dev/full", "/nonexistent"])
def test_a_full_or_missing_temporary_folder_is_the_environments_fault(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == "/dev/full":
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda: open(place, "wb"))  # noqa: PTH123, SIM115
    else:
        monkeypatch.setattr(tempfile, "tempdir", place)
    with pytest.raises(StoreUnavailable, match="temporary folder"), spooled([b"x" * 2**20]):
        pass
