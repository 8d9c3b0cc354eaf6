"""Phantom archives that drifted, scored for real: the monitor names what was planted, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cxrgaze_ray.gaze.egd import read_egd
from cxrgaze_ray.lifecycle.monitoring import MonitorReport, MonitorSettings, monitor
from cxrgaze_ray.phantoms import GAZE_FOLDER, Drift, make_archive
from cxrgaze_ray.schemas import CLASSES, RESULT
from cxrgaze_ray.scoring.driver import ScoreSettings, score_archive
from cxrgaze_ray.scoring.runs import Request, Run
from cxrgaze_ray.serving import ServeFile
from cxrgaze_ray.storage import LocalStore, open_store
from tests.integration.conftest import HEIGHT, same_cluster

pytestmark = pytest.mark.long

IMAGES = 150
SETTINGS = MonitorSettings(saliency_sample=100)
SEEDS = ("usual", "nothing", "exposure", "polarity", "site", "prevalence")


Scored = Callable[[str], Run]


@pytest.fixture(scope="module")
def scored(application: ServeFile, published: str, tmp_path_factory: pytest.TempPathFactory) -> Scored:
    """Draw and score an archive on first need: usual phantoms, or those of other patients with a drift or none."""
    folder = tmp_path_factory.mktemp("drift")

    @cache
    def score(kind: str) -> Run:
        archive = str(folder / kind)
        drift = Drift.of([kind] if kind in Drift.model_fields else [])
        make_archive(open_store(archive), images=IMAGES, seed=SEEDS.index(kind), drift=drift, height=HEIGHT)
        request = Request(archive=archive, model="cxrgaze@champion", engine="float32")
        settings = ScoreSettings(decoders=2)
        return score_archive(request, str(folder / "runs"), published, same_cluster, settings=settings).run

    return score


def named(report: MonitorReport) -> list[str]:
    return [one.drift for one in report.suspicions]


@pytest.mark.parametrize("kind", ["exposure", "polarity", "site"])
def test_a_drift_of_files_or_pictures_is_named(scored: Scored, kind: str) -> None:
    assert named(monitor([scored("usual")], [scored(kind)], SETTINGS)) == [kind]


def test_other_patients_of_the_same_hospital_raise_no_alert(scored: Scored) -> None:
    report = monitor([scored("usual")], [scored("nothing")], SETTINGS)
    assert not report.alerts
    assert report.enough


def with_a_reader(run: Run, folder: Path) -> Run:
    """Copy a run, with the answers of somebody who is right about five of six phantoms: the network is untrained."""
    truth = read_egd(open_store(f"{run.spec.request.archive}/{GAZE_FOLDER}"))
    rng, copy = np.random.default_rng(0), Run.create(LocalStore(str(folder)), run.spec, run.plan())

    def answer(row: dict[str, Any]) -> dict[str, Any]:
        if row["status"] != "scored":
            return row
        label = truth.studies[row["image_id"]].label
        logits = rng.normal(size=3) + 2.0 * np.eye(3)[label if label is not None else 0]
        chances = np.exp(logits) / np.exp(logits).sum()
        answers = {f"p_{name}": float(chance) for name, chance in zip(CLASSES, chances, strict=True)}
        return {**row, **answers, "prediction": CLASSES[int(chances.argmax())]}

    for shard, _, table in run.committed():
        copy.commit(shard, pa.Table.from_pylist([answer(row) for row in table.to_pylist()], schema=RESULT))
    copy.finish(1.0, run.spec.rows, "2026-01-01T00:00:00+00:00")
    return copy


@pytest.mark.parametrize(("kind", "expected"), [("nothing", []), ("prevalence", ["prevalence"])])
def test_other_patients_are_named_by_a_model_that_knows_something(
    scored: Scored, tmp_path: Path, kind: str, expected: list[str]
) -> None:
    """Files, pictures and facts are those of a real run; the answers are not: see `with_a_reader`."""
    usual, other = (with_a_reader(scored(name), tmp_path / name) for name in ("usual", kind))
    assert named(monitor([usual], [other], SETTINGS)) == expected


def test_an_untrained_network_sees_no_outbreak_and_no_false_one(scored: Scored) -> None:
    report = monitor([scored("usual")], [scored("prevalence")], SETTINGS)
    assert "prevalence" not in named(report)
    assert any("untrained" in note for note in report.notes)
