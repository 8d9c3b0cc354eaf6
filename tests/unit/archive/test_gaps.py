"""Whatever stands in an archive leaves a trace: a row with a true reason, or a count and a name."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cxrgaze_ray.archive.manifest import Manifest, fetch_listed, list_archive
from cxrgaze_ray.errors import RadiographError, StoreDenied, StoreUnavailable, UserError
from cxrgaze_ray.schemas import Reason
from cxrgaze_ray.storage import LocalStore
from tests.unit.archive.test_manifest import DICOM, RECORDS, STUDY, put, put_list
from tests.unit.archive.test_manifest_lists import saved, write
from tests.unprivileged import as_nobody, public_folder


@pytest.fixture
def root() -> Iterator[Path]:
    with public_folder() as folder:
        yield folder


def outcomes(manifest: Manifest, root: Path) -> dict[str, Any]:
    """Return what comes of every row, by its path below a root: a reason, or True for the control's bytes."""
    found: dict[str, Any] = {}
    for row in manifest.table.to_pylist():
        name = row["uri"].removeprefix(f"{root}/")
        try:
            found[name] = fetch_listed(row) == DICOM
        except RadiographError as error:
            found[name] = str(error.reason)
    return found


def nonzero(manifest: Manifest, *names: str) -> dict[str, int]:
    return {name: manifest.counts[name] for name in names if manifest.counts[name]}


GAPS = ("missing", "unreadable", "links_outside", "special_files", "closed_folders", "link_loops", "invalid")


def link(path: Path, target: Path | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


# Links


def test_a_link_that_leads_nowhere_is_missing(tmp_path: Path) -> None:
    put(tmp_path, "here.dcm")
    link(tmp_path / "gone.dcm", "not/there.dcm")
    link(tmp_path / "itself", "itself")
    link(tmp_path / "below.dcm", "here.dcm/below")
    link(tmp_path / "absolute.dcm", "/there/is/no/such/place.dcm")
    manifest = list_archive(str(tmp_path))
    nowhere = dict.fromkeys(("gone.dcm", "itself", "below.dcm", "absolute.dcm"), Reason.MISSING)
    assert outcomes(manifest, tmp_path) == {"here.dcm": True, **nowhere}
    assert nonzero(manifest, *GAPS) == {"missing": 4}
    assert {row["format"] for row in manifest.table.to_pylist() if row["uri"].endswith("gone.dcm")} == {"dicom"}


@pytest.mark.parametrize("objects", [".git/annex/objects", "../.git/annex/objects", "sub/.git/annex/objects",
                                     ".git/modules/sub/annex/objects"])  # fmt: skip
def test_a_datalad_archive_half_fetched_is_half_missing(tmp_path: Path, objects: str) -> None:
    root = tmp_path / "archive"
    put(root, f"{objects}/x1/KEY-1/KEY-1")
    for number in (1, 2):
        link(root / f"sub/{number}.dcm", root.resolve() / objects / f"x{number}/KEY-{number}/KEY-{number}")
    put(root, "sub/unlocked.dcm", b"/annex/objects/MD5E-s9--0123.dcm\n")
    put(root, "sub/lfs.dcm", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    manifest = list_archive(str(root))
    unfetched = dict.fromkeys(("sub/2.dcm", "sub/unlocked.dcm", "sub/lfs.dcm"), Reason.MISSING)
    assert outcomes(manifest, root) == {"sub/1.dcm": True, **unfetched}


def test_a_link_that_leads_out_is_a_row_and_is_not_followed(tmp_path: Path) -> None:
    root, other = tmp_path / "archive", tmp_path / "archive-2"
    put(root, "a/x.dcm")
    put(other, "y.dcm")
    link(root / "b/file.dcm", other / "y.dcm")
    link(root / "b/folder", other)
    link(root / "b/nowhere", other / "gone")
    link(root / "b/up", tmp_path)
    link(root / "inside", "a")
    link(root / "a/here.dcm", "../a/x.dcm")
    manifest = list_archive(str(root))
    inside = dict.fromkeys(("a/x.dcm", "a/here.dcm", "inside/x.dcm", "inside/here.dcm"), True)
    outside = dict.fromkeys(("b/file.dcm", "b/folder", "b/up"), str(Reason.LINK_OUTSIDE))
    assert outcomes(manifest, root) == inside | outside | {"b/nowhere": str(Reason.MISSING)}
    assert nonzero(manifest, *GAPS) == {"links_outside": 3, "missing": 1}
    (root / "b/up").unlink()
    followed = list_archive(str(root), follow_links=True)
    there = {"b/file.dcm": True, "b/folder/y.dcm": True, "b/nowhere": str(Reason.MISSING)}
    assert outcomes(followed, root) == inside | there
    assert nonzero(followed, *GAPS) == {"missing": 1}


def test_a_root_that_is_a_link_is_the_archive_it_leads_to(tmp_path: Path) -> None:
    put(tmp_path / "disk", "x.dcm")
    link(tmp_path / "disk" / "y.dcm", tmp_path / "disk" / "x.dcm")
    link(tmp_path / "archive", tmp_path / "disk")
    archive = tmp_path / "archive"
    assert outcomes(list_archive(str(archive)), archive) == {"x.dcm": True, "y.dcm": True}


def test_objects_of_git_annex_that_are_elsewhere_are_outside(tmp_path: Path) -> None:
    root, other = tmp_path / "archive", tmp_path / "other"
    put(other, ".git/annex/objects/x/KEY")
    link(root / "foreign.dcm", other / ".git/annex/objects/x/KEY")
    put(tmp_path, "secret.dcm")
    link(root / ".git/annex/objects", tmp_path)
    link(root / "feigned.dcm", root / ".git/annex/objects/secret.dcm")
    assert set(outcomes(list_archive(str(root)), root).values()) == {Reason.LINK_OUTSIDE}


def test_whether_links_are_followed_changes_nothing_where_there_are_none(tmp_path: Path) -> None:
    put(tmp_path, "a/x.dcm")
    link(tmp_path / "a/y.dcm", "x.dcm")
    one, two = (list_archive(str(tmp_path), follow_links=follow) for follow in (False, True))
    assert one.sha256() == two.sha256()


@pytest.mark.parametrize("follow", [False, True])
def test_links_to_each_other_end_and_are_counted(tmp_path: Path, follow: bool) -> None:
    for here, there in (("a", "b"), ("b", "a")):
        put(tmp_path, f"{here}/x.dcm")
        for number in range(4):
            link(tmp_path / here / f"{number}", tmp_path / there)
    manifest = list_archive(str(tmp_path), follow_links=follow)
    assert len(outcomes(manifest, tmp_path)) == 2 + 2 * 4
    assert nonzero(manifest, *GAPS) == {"link_loops": 2 * 4 * 4}


def test_records_behind_a_link_that_is_not_followed_are_not_called_missing(tmp_path: Path) -> None:
    root, disk = tmp_path / "archive", tmp_path / "disk"
    put(disk, "p10/x.dcm")
    put_list(root, "7,8,x,files/p10/x.dcm", "7,8,y,elsewhere/y.dcm")
    link(root / "files", disk)
    outside = str(Reason.LINK_OUTSIDE)
    found = outcomes(list_archive(str(root)), root)
    assert found == {"files": outside, "files/p10/x.dcm": outside, "elsewhere/y.dcm": Reason.MISSING}
    found = outcomes(list_archive(str(root), follow_links=True), root)
    assert found == {"files/p10/x.dcm": True, "elsewhere/y.dcm": Reason.MISSING}


@pytest.mark.parametrize("target", ["gone", "../elsewhere"])
def test_a_table_that_can_t_be_read_is_not_passed_over(tmp_path: Path, target: str) -> None:
    root = tmp_path / "archive"
    put(root, "x.dcm")
    put(tmp_path, "elsewhere", b"root:x:0:0")
    link(root / RECORDS, target)
    with pytest.raises(UserError, match=f"{RECORDS} of the archive can't be read"):
        list_archive(str(root))


# Permission


def test_a_file_that_may_not_be_read_is_a_row(root: Path) -> None:
    put(root, "x.dcm")
    for name in ("closed.dcm", "closed"):
        put(root, name).chmod(0)
    put(root, "later.dcm")
    with as_nobody():
        manifest = list_archive(str(root))
    (root / "later.dcm").chmod(0)
    with as_nobody():
        found = outcomes(manifest, root)
    closed = dict.fromkeys(("closed.dcm", "closed", "later.dcm"), str(Reason.UNREADABLE))
    assert found == {"x.dcm": True, **closed}
    assert nonzero(manifest, *GAPS) == {"unreadable": 2}
    (root / "closed").chmod(0o644)
    with as_nobody():
        opened = {row["uri"]: row["etag"] for row in list_archive(str(root)).table.to_pylist()}
    assert opened[f"{root}/closed"] not in manifest.table["etag"].to_pylist(), "what was opened up is new to --not-in"


def test_a_folder_that_may_not_be_listed_is_counted_and_named_and_the_rest_is_listed(root: Path) -> None:
    put(root, "a/x.dcm")
    for name in ("b/closed", "b/.hidden", "c"):
        put(root, f"{name}/y.dcm")
        (root / name).chmod(0)
    put(root, "d/names-only.dcm")
    put(root, "d/below/z.dcm")
    (root / "d").chmod(0o744)
    with as_nobody():
        manifest = list_archive(str(root))
        found = outcomes(manifest, root)
    assert found == {"a/x.dcm": True, "d/names-only.dcm": Reason.UNREADABLE}
    assert manifest.closed == ("b/closed", "c", "d/below")
    assert nonzero(manifest, *GAPS) == {"unreadable": 1, "closed_folders": 3}
    again = list_archive(saved(manifest, root / "m.parquet"))
    assert (again.counts["closed_folders"], again.closed) == (3, ())


def test_a_link_into_a_closed_folder_is_unreadable(root: Path) -> None:
    put(root, "closed/y.dcm")
    put(root, "x.dcm")
    link(root / "z.dcm", "closed/y.dcm")
    (root / "closed").chmod(0)
    with as_nobody():
        assert outcomes(list_archive(str(root)), root) == {"x.dcm": True, "z.dcm": Reason.UNREADABLE}


def test_a_list_tells_what_is_closed_from_what_is_gone(root: Path) -> None:
    put(root, "closed/x.dcm")
    put(root, "y.dcm").chmod(0)
    (root / "folder.dcm").mkdir()
    os.mkfifo(root / "pipe.dcm")
    entries = ["closed/x.dcm", "y.dcm", "folder.dcm", "pipe.dcm", "gone.dcm"]
    path = write(root / "list.csv", {"path": entries})
    (root / "closed").chmod(0)
    with as_nobody():
        found = outcomes(list_archive(path), root)
    assert list(map(found.get, entries)) == [
        Reason.UNREADABLE, Reason.UNREADABLE, Reason.NOT_AN_IMAGE, Reason.NOT_AN_IMAGE, Reason.MISSING,
    ]  # fmt: skip


def test_records_in_a_closed_folder_are_unreadable(root: Path) -> None:
    put(root, f"{STUDY}/x.dcm")
    put_list(root, f"7,8,x,{STUDY}/x.dcm", "7,8,y,files/y.dcm")
    (root / STUDY).chmod(0)
    with as_nobody():
        found = outcomes(list_archive(str(root)), root)
    assert found == {f"{STUDY}/x.dcm": Reason.UNREADABLE, "files/y.dcm": Reason.MISSING}


@pytest.mark.parametrize("closed", ["", "files"])
def test_an_archive_that_is_closed_as_a_whole_is_the_environments_fault(root: Path, closed: str) -> None:
    put(root, "archive/files/x.dcm")
    (root / "archive" / closed).chmod(0)
    why = "none of its folders may be listed" if closed else "Permission denied"
    with as_nobody(), pytest.raises(StoreDenied, match=f"The archive {root}/archive can't be read .{why}"):
        list_archive(str(root / "archive"))


def test_a_file_whose_folder_was_closed_since_stops_the_work(root: Path) -> None:
    put(root, "a/x.dcm")
    (row,) = list_archive(str(root)).table.to_pylist()
    (root / "a").chmod(0)
    with as_nobody(), pytest.raises(StoreDenied):
        fetch_listed(row)


def test_an_entry_that_no_mode_keeps_closed_is_no_row_and_its_folder_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "a/x.dcm")
    put(tmp_path, "b/known.dcm")
    link(tmp_path / "b/unknown.dcm", "../a/x.dcm")
    link(tmp_path / "b/other.dcm", "../a/x.dcm")
    realpath = os.path.realpath

    def refuse(path: str) -> str:  # as a list of access rights beside the mode does
        if path.endswith(("unknown.dcm", "other.dcm")):
            raise PermissionError(errno.EACCES, "Permission denied")
        return realpath(path)

    monkeypatch.setattr("cxrgaze_ray.storage.walk.way_is_shut", lambda _: False)
    monkeypatch.setattr(os.path, "realpath", refuse)
    manifest = list_archive(str(tmp_path))
    assert outcomes(manifest, tmp_path) == {"a/x.dcm": True, "b/known.dcm": True}
    assert manifest.closed == ("b",)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.ESTALE, errno.EIO, errno.ENOTCONN, errno.ENOKEY])
def test_a_refusal_that_no_mode_explains_is_never_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    put(tmp_path, "x")
    (row,) = list_archive(str(tmp_path)).table.to_pylist()

    def refuse(*_: object) -> None:  # as a file server does whose ticket has run out, or that is gone
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises((StoreDenied, StoreUnavailable)):
        fetch_listed(row)
    with pytest.raises((StoreDenied, StoreUnavailable)):
        list_archive(str(tmp_path))


# What is no file, and what changes


@pytest.fixture
def special(tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "archive"
    put(root, "x.dcm")
    os.mkfifo(root / "pipe.dcm")
    os.mkfifo(root / "pipe")
    link(root / "device", "/dev/zero")
    with socket.socket(socket.AF_UNIX) as door:
        here = Path.cwd()
        os.chdir(root)  # a socket's path is short
        try:
            door.bind("socket")
        finally:
            os.chdir(here)
        yield root


def test_pipes_sockets_and_devices_are_rows_and_are_never_opened(special: Path) -> None:
    manifest = list_archive(str(special), follow_links=True)
    names = ("pipe.dcm", "pipe", "device", "socket")
    assert outcomes(manifest, special) == {"x.dcm": True, **dict.fromkeys(names, str(Reason.NOT_AN_IMAGE))}
    assert nonzero(manifest, *GAPS) == {"special_files": 4}


def test_a_pipe_in_place_of_a_listed_file_is_not_waited_for(tmp_path: Path) -> None:
    path = put(tmp_path, "x.dcm")
    (row,) = list_archive(str(tmp_path)).table.to_pylist()
    path.unlink()
    os.mkfifo(path)
    assert outcomes(list_archive(str(tmp_path)), tmp_path) == {"x.dcm": Reason.NOT_AN_IMAGE}
    with pytest.raises(RadiographError) as error:
        fetch_listed(row)
    assert error.value.reason == Reason.MISSING


def test_a_pipe_that_comes_between_look_and_open_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path, "x.dcm")
    (row,) = list_archive(str(tmp_path)).table.to_pylist()
    open_, swapped = os.open, list[str]()

    def swap(name: str, flags: int) -> int:
        if not swapped:
            swapped.append(name)
            path.unlink()
            os.mkfifo(path)
        return open_(name, flags)

    monkeypatch.setattr(os, "open", swap)
    with pytest.raises(RadiographError) as error:
        fetch_listed(row)
    assert error.value.reason == Reason.MISSING


def test_a_file_that_goes_before_its_format_is_known_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path, "x")
    head = LocalStore.head  # it is asked once

    def gone(store: LocalStore, key: str, size: int) -> bytes:
        path.unlink()
        return head(store, key, size)

    monkeypatch.setattr(LocalStore, "head", gone)
    manifest = list_archive(str(tmp_path))
    assert outcomes(manifest, tmp_path) == {"x": Reason.MISSING}


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"-")


def shrink(path: Path) -> None:
    os.truncate(path, 10)


def rewrite(path: Path) -> None:
    path.write_bytes(DICOM[::-1])
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize("change", [grow, shrink, rewrite], ids=lambda change: change.__name__)
def test_a_file_that_changes_under_its_reader_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    path = put(tmp_path, "x.dcm")
    (row,) = list_archive(str(tmp_path)).table.to_pylist()
    fstat, looked = os.fstat, []

    def change_after_the_first_look(descriptor: int) -> os.stat_result:
        stat = fstat(descriptor)
        looked.append(stat)
        if len(looked) == 2:  # opened, and found to be as it was listed
            change(path)
        return stat

    monkeypatch.setattr(os, "fstat", change_after_the_first_look)
    with pytest.raises(RadiographError) as error:
        fetch_listed(row)
    assert error.value.reason == Reason.CHANGED


def test_a_file_that_is_replaced_under_its_reader_is_read_as_it_was(tmp_path: Path) -> None:
    path = put(tmp_path, "x.dcm")
    store = LocalStore(str(tmp_path))
    info = store.info("x.dcm")
    assert info is not None
    with store.open_input("x.dcm") as file:
        path.unlink()
        put(tmp_path, "x.dcm", b"another")
        assert file.read() == DICOM
    assert store.fetch_same(info) is None


# Names and depths


@pytest.mark.parametrize("name", ["new\nline.dcm", "tab\tx", "bell\a\x1b[31m.dcm", "n" * 251 + ".dcm", "%2e%2e", " ",
                                  "file:", "größe.dcm", "-", "~", "back\\slash.dcm", "\u202egpj.dcm"])  # fmt: skip
def test_a_file_of_any_name_is_listed_and_fetched(tmp_path: Path, name: str) -> None:
    put(tmp_path, name)
    manifest = list_archive(str(tmp_path))
    assert outcomes(manifest, tmp_path) == {name: True}
    assert outcomes(list_archive(saved(manifest, tmp_path.parent / "m.parquet")), tmp_path) == {name: True}


def test_a_deep_tree_is_listed_to_its_bottom(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "/".join("b" * 1500)
    try:
        subprocess.run(["mkdir", "-p", str(deep)], check=True)
        (deep / "x.dcm").write_bytes(DICOM)
        assert list(outcomes(list_archive(str(tmp_path / "a")), deep)) == ["x.dcm"]
    finally:
        subprocess.run(["rm", "-rf", str(tmp_path / "a")], check=True)


def test_what_lies_too_deep_for_the_system_is_not_passed_over(tmp_path: Path) -> None:
    root, here, name = tmp_path / "a", Path.cwd(), "n" * 200
    put(root, "x.dcm")
    os.chdir(root)
    try:
        for _ in range(4096 // 200 + 1):
            Path("y.dcm").write_bytes(DICOM)
            Path(name).mkdir()
            os.chdir(name)
        os.chdir(here)
        manifest = list_archive(str(root))
        assert len(manifest.closed) == 1
        found = outcomes(manifest, root)
        assert set(found.values()) <= {True, str(Reason.UNREADABLE)}
        assert len(found) == 2 + manifest.closed[0].count(name) - 1
    finally:
        os.chdir(here)
        subprocess.run(["rm", "-rf", str(root)], check=True)


def test_empty_folders_hold_nothing(tmp_path: Path) -> None:
    put(tmp_path, "x.dcm")
    (tmp_path / "empty/below").mkdir(parents=True)
    manifest = list_archive(str(tmp_path))
    assert (outcomes(manifest, tmp_path), nonzero(manifest, *GAPS)) == ({"x.dcm": True}, {})


def put_bytes(folder: Path, name: bytes, data: bytes = DICOM) -> None:
    (folder / os.fsdecode(name)).write_bytes(data)


def test_names_of_any_bytes_are_listed_fetched_and_collide_with_no_other(tmp_path: Path) -> None:
    put_bytes(tmp_path, b"M\xfcller 1%.dcm")
    put_bytes(tmp_path, b"\xff\xfe")
    put_bytes(tmp_path, b".\xff")
    put_bytes(tmp_path, b"\xff_.gstmp")
    put(tmp_path, "M%FCller%201%25.dcm", b"another")
    put(tmp_path, f"file:{tmp_path}/M%FCller%201%25.dcm", b"another")
    manifest = list_archive(str(tmp_path))
    odd = {f"file://{tmp_path}/M%FCller%201%25.dcm": True, f"file://{tmp_path}/%FF%FE": True}
    real = {"M%FCller%201%25.dcm": False, f"file:{tmp_path}/M%FCller%201%25.dcm": False}
    assert outcomes(manifest, tmp_path) == odd | real
    assert manifest.table["format"].to_pylist().count("dicom") == 4
    assert len(set(manifest.table["image_id"].to_pylist())) == 4
    assert nonzero(manifest, "hidden", "incomplete", *GAPS) == {"hidden": 1, "incomplete": 1}
    assert outcomes(list_archive(saved(manifest, tmp_path.parent / "m.parquet")), tmp_path) == odd | real
    listed = list_archive(write(tmp_path.parent / "l.csv", {"uri": manifest.table["uri"].to_pylist()}))
    assert outcomes(listed, tmp_path) == odd | real


def test_an_image_is_named_by_its_path_in_the_archive_whatever_its_bytes(tmp_path: Path) -> None:
    ids = []
    for root in (tmp_path / "one", tmp_path / "two"):
        root.mkdir()
        put_bytes(root, b"M\xfcller.dcm")
        ids += list_archive(str(root)).table["image_id"].to_pylist()
    assert ids[0] == ids[1]


def test_a_root_of_any_bytes_is_an_archive(tmp_path: Path) -> None:
    root = os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller")
    put(Path(root), "x.dcm")
    put_bytes(Path(root), b"\xff")
    write(Path(root) / "list.csv", {"path": ["x.dcm", "gone.dcm"]})
    assert outcomes(list_archive(f"{root}/list.csv"), tmp_path) == {
        f"file://{tmp_path}/M%FCller/x.dcm": True, f"file://{tmp_path}/M%FCller/gone.dcm": Reason.MISSING,
    }  # fmt: skip
    (Path(root) / "list.csv").unlink()
    manifest = list_archive(root)
    assert manifest.uri == f"file://{tmp_path}/M%FCller"
    assert outcomes(manifest, tmp_path) == {
        f"file://{tmp_path}/M%FCller/x.dcm": True, f"file://{tmp_path}/M%FCller/%FF": True,
    }  # fmt: skip
    assert list_archive(manifest.uri).sha256() == manifest.sha256()
    one = list_archive(f"{root}/x.dcm")
    assert one.table["uri"].to_pylist() == [one.uri] == [f"file://{tmp_path}/M%FCller/x.dcm"]


@pytest.mark.parametrize("entry", ["file:///etc/hostname", "file:///%FF/../x", "file:///%FF%00", "file:///%ff",
                                   "file:///%41%FF", "file://host/%FF", "file:%FF"])  # fmt: skip
def test_another_spelling_of_a_uri_is_no_place(tmp_path: Path, entry: str) -> None:
    found = outcomes(list_archive(write(tmp_path / "l.csv", {"uri": [entry]})), tmp_path)
    assert found in ({f"invalid:{entry}": Reason.INVALID_URI}, {entry: Reason.MISSING})
    assert entry == "file:%FF" or list(found.values()) == [Reason.INVALID_URI]
