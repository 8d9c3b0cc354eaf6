"""Nightly scoring: only what no finished run has a row for is planned."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from cxrgaze_ray.archive.identities import Identities
from cxrgaze_ray.errors import NothingNew, RunConflict
from cxrgaze_ray.models.bundle import make_bundle
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.scoring.new_inputs import finished_runs
from cxrgaze_ray.scoring.planning import Planned, ToPlan, find_planned, make_planned
from cxrgaze_ray.scoring.runs import Request, Run
from cxrgaze_ray.storage import LocalStore
from tests.unit.scoring.test_runs import results


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("registry")
    ledger = Registry(LocalStore(str(folder)))
    ledger.publish(make_bundle(build(PRESETS["tiny"], 1), "m", trained=False))
    ledger.promote("m", "v0001")
    return str(folder)


class Nights:
    """An archive that grows, and the runs over it."""

    def __init__(self, folder: Path, registry: str) -> None:
        self.archive, self.out, self.registry = folder / "archive", str(folder / "out"), registry
        self.archive.mkdir()

    def arrive(self, *names: str, content: bytes = b"\xff\xd8 a radiograph") -> None:
        for name in names:
            (self.archive / name).write_bytes(content)

    def plan(self, *not_in: str, limit: int | None = None, follow_links: bool = False) -> Run:
        options: dict[str, Any] = {"limit": limit}
        request = Request.build(
            archive=str(self.archive),
            model="m@champion",
            engine="float32",
            options=options,
            not_in=not_in,
            follow_links=follow_links,
        )
        found = find_planned(request, self.out, self.registry, Identities, new=False)
        if isinstance(found, ToPlan):
            found = make_planned(request, self.out, found, "reference-float32-cpu", new=False)
        assert isinstance(found, Planned)
        return found.run

    def finish(self, run: Run) -> Run:
        for shard in run.pending_shards():
            run.commit(shard, results(run.plan(), shard))
        run.finish(1.0, run.spec.rows, "2026-01-01T00:00:00+00:00")
        return run


@pytest.fixture
def nights(tmp_path: Path, registry: str) -> Nights:
    return Nights(tmp_path, registry)


def names(run: Run) -> list[str]:
    return [Path(uri).name for uri in run.plan()["uri"].to_pylist()]


def test_the_model_is_resolved_once_a_run(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, resolve = [], Registry.resolve

    def counted(self: Registry, reference: str) -> ModelPin:
        asked.append(reference)
        return resolve(self, reference)

    monkeypatch.setattr(Registry, "resolve", counted)
    nights.arrive("a.jpg")
    nights.plan()
    assert asked == ["m@champion"]


def test_every_night_plans_what_came_since(nights: Nights) -> None:
    nights.arrive("d.jpg", "b.jpg")
    first = nights.finish(nights.plan(nights.out))
    assert names(first) == ["b.jpg", "d.jpg"]
    assert first.spec.left_out == 0
    nights.arrive("e.jpg", "a.jpg", "c.jpg")
    second = nights.finish(nights.plan(nights.out))
    assert names(second) == ["a.jpg", "c.jpg", "e.jpg"]
    assert second.spec.left_out == 2
    nights.arrive("f.jpg")
    assert names(nights.plan(nights.out)) == ["f.jpg"]


def test_a_night_without_anything_new_says_so_and_leaves_no_run(nights: Nights) -> None:
    nights.arrive("a.jpg", "b.jpg")
    nights.finish(nights.plan(nights.out))
    with pytest.raises(NothingNew, match="each of the 2 files has its row in one of 1 finished runs") as nothing:
        nights.plan(nights.out)
    assert nothing.value.exit_code == 0
    assert len(finished_runs([nights.out], nights.out)) == 1


def test_a_file_that_changed_since_is_new(nights: Nights) -> None:
    nights.arrive("a.jpg", "b.jpg")
    nights.finish(nights.plan(nights.out))
    nights.arrive("a.jpg", content=b"\xff\xd8 another one")
    assert names(nights.plan(nights.out)) == ["a.jpg"]


def test_what_was_rewritten_with_the_same_length_is_new(nights: Nights) -> None:
    nights.arrive("a.jpg", "b.jpg")
    nights.finish(nights.plan(nights.out))
    os.utime(nights.archive / "b.jpg", ns=(1, 1))
    assert names(nights.plan(nights.out)) == ["b.jpg"]


def test_an_unfinished_night_goes_on_before_anything_new(nights: Nights) -> None:
    nights.arrive("a.jpg", "b.jpg")
    begun = nights.plan(nights.out)
    nights.arrive("c.jpg")
    assert nights.plan(nights.out).spec == begun.spec
    nights.finish(begun)
    assert names(nights.plan(nights.out)) == ["c.jpg"]


def test_a_run_of_a_part_leaves_the_rest(nights: Nights) -> None:
    nights.arrive("a.jpg", "b.jpg", "c.jpg")
    part = nights.finish(nights.plan(limit=2))
    assert names(nights.plan(part.store.uri)) == ["c.jpg"]


def test_a_listed_file_that_is_missing_has_its_row_once(nights: Nights, tmp_path: Path) -> None:
    nights.arrive("a.jpg")
    listed = tmp_path / "list.csv"
    listed.write_text(f"path\n{nights.archive}/a.jpg\n{nights.archive}/absent.jpg\n")
    nights.archive = listed
    nights.finish(nights.plan(nights.out))
    with pytest.raises(NothingNew):
        nights.plan(nights.out)


def test_folders_that_could_not_be_listed_are_written_down(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    nights.arrive("a.jpg")
    (nights.archive / "closed").mkdir()
    scandir = os.scandir

    def refuse(folder: str) -> Any:
        if str(folder).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    run = nights.plan()
    assert (names(run), run.spec.closed_folders) == (["a.jpg"], 1)
    assert Run.open(run.store).spec.closed_folders == 1


def test_whether_links_are_followed_is_part_of_the_request_and_its_id_follows_from_the_files(nights: Nights) -> None:
    nights.arrive("a.jpg")
    plain, followed = nights.plan(), nights.plan(follow_links=True)
    assert plain.spec.run_id == followed.spec.run_id, "there is no link"
    (nights.archive / "b.jpg").symlink_to(nights.archive.parent / "elsewhere.jpg")
    (nights.archive.parent / "elsewhere.jpg").write_bytes(b"\xff\xd8")
    followed = nights.plan(follow_links=True)
    assert followed.spec.run_id != plain.spec.run_id
    assert followed.plan()["size_bytes"].null_count == 0
    assert nights.plan(follow_links=True).spec.run_id == followed.spec.run_id
    assert nights.plan().spec.run_id == plain.spec.run_id, "an unfinished run goes on as it was asked for"


def test_an_unfinished_run_can_t_be_named(nights: Nights) -> None:
    nights.arrive("a.jpg", "b.jpg")
    begun = nights.plan(limit=1)
    with pytest.raises(RunConflict, match="is not finished"):
        nights.plan(begun.store.uri)


def test_under_a_parent_unfinished_runs_count_for_nothing(nights: Nights) -> None:
    nights.arrive("a.jpg", "b.jpg")
    nights.plan(limit=1)
    assert names(nights.plan(nights.out)) == ["a.jpg", "b.jpg"]


def test_a_misspelt_run_is_told(nights: Nights, tmp_path: Path) -> None:
    nights.arrive("a.jpg")
    with pytest.raises(RunConflict, match="no run at or under"):
        nights.plan(str(tmp_path / "mistyped"))


def test_several_runs_and_parents_can_be_named(nights: Nights, tmp_path: Path) -> None:
    nights.arrive("a.jpg", "b.jpg", "c.jpg")
    one = nights.finish(nights.plan(limit=1))
    nights.out = str(tmp_path / "elsewhere")
    two = nights.finish(nights.plan(one.store.uri, limit=1))
    assert names(two) == ["b.jpg"]
    assert names(nights.plan(one.store.uri, nights.out)) == ["c.jpg"]
