"""The paper's tables on real Ray Train: what is trained, what is used again, and what a killed command goes on with."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from cxrgaze_ray.cluster.connection import Cluster
from cxrgaze_ray.models.bundle import read_info
from cxrgaze_ray.models.settings import SYSTEMS
from cxrgaze_ray.paper import run
from cxrgaze_ray.paper.plan import TablesSettings
from cxrgaze_ray.paper.run import foretell
from cxrgaze_ray.paper.tables import make_tables
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.shards import ShardStore
from cxrgaze_ray.storage import LocalStore, open_store
from tests.labelled_store import write_store

pytestmark = pytest.mark.usefixtures("cluster")


def settings(**values: Any) -> TablesSettings:
    return TablesSettings(preset="tiny", epochs=1, training={"backbone": "fresh"}, **values)


@pytest.fixture
def store(tmp_path: Path) -> ShardStore:
    return write_store(tmp_path / "store", {"train": 12, "validation": 6, "test": 12})


def cells(out: Path) -> dict[tuple[str, str], str]:
    rows = csv.DictReader(io.StringIO((out / "tables.csv").read_text()))
    return {(row["system"], row["measure"]): row["value"] for row in rows}


@pytest.mark.long
def test_a_system_is_trained_once_and_stands_in_both_tables(
    store: ShardStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, out = Registry(LocalStore(str(tmp_path / "registry"))), tmp_path / "tables"
    chosen, seen = settings(only=("mt-unet",)), list[tuple[int, int, str]]()
    results, written = make_tables(
        store, chosen, registry, LocalStore(str(out)), on_progress=lambda *state: seen.append(state)
    )
    assert written == ["qualitative.png", "roc.svg", "tables.csv", "tables.html", "tables.md"]
    assert [one.pin.name for one in results.tested] == ["mt-unet"] == list(registry.models())
    known = {name for name, value in cells(out).items() if value}
    assert {("mt-unet", name) for name in ("auc_macro", "accuracy", "cc", "nss")} <= known
    assert ("centre-bias baseline", "cc") in known
    info = read_info(open_store(results.tested[0].pin.uri))
    assert info.metrics["saliency"]["cc"] == pytest.approx(float(cells(out)["mt-unet", "cc"]))
    done = [done for done, _, _ in seen]
    assert done == sorted(done)
    assert all(done <= total for done, total, _ in seen)
    before = cells(out)
    monkeypatch.setattr(run, "run_stages", lambda *_, **__: pytest.fail("trained again"))
    monkeypatch.setattr(run, "table_of_bundle", lambda *_, **__: pytest.fail("tested again"))
    make_tables(store, chosen, registry, LocalStore(str(out)))
    assert cells(out) == before
    assert {row["state"] for row in foretell(store, chosen, registry).rows} == {"published"}


@pytest.mark.long
def test_every_system_is_trained_by_its_recipe_and_gazenet_goes_on_from_dnet201_cl(
    store: ShardStore, tmp_path: Path, cluster: Cluster
) -> None:
    registry, out = Registry(LocalStore(str(tmp_path / "registry"))), tmp_path / "tables"
    results, _ = make_tables(store, settings(), registry, LocalStore(str(out)))
    assert {one.job.system for one in results.tested} == set(SYSTEMS)
    assert results.left_out == {}
    ours = next(one for one in results.tested if one.job.system == "gazenet")
    assert read_info(open_store(ours.pin.uri)).lineage.parent == "dnet201-cl@v0001"
    page = (out / "tables.html").read_text()
    assert page.count("paper 0.") == 5 * 6 + 3 * 4
    assert "GazeNet (ours) against DNet201-CL: better by" in page
