"""Labels that arrive late: a fall of what they say is told from noise, overall and in a single subgroup."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxrgaze_ray.evaluation.metrics import diagnosis_metrics
from cxrgaze_ray.evaluation.table import FACETS, EvaluationTable, score_columns
from cxrgaze_ray.gaze.egd import EgdTables, Study, read_egd
from cxrgaze_ray.lifecycle.monitoring import MonitorSettings, monitor
from cxrgaze_ray.lifecycle.monitoring.compare import judge
from cxrgaze_ray.lifecycle.monitoring.performance import QUALITY_METRICS, compare_performance, quality
from cxrgaze_ray.models.settings import Answer
from cxrgaze_ray.storage import LocalStore
from tests.populations import make_run, population

SETTINGS = MonitorSettings(rounds=60, saliency_sample=0)


def truth_of(*sides: list[dict[str, Any]]) -> EgdTables:
    rows = [row for side in sides for row in side]
    studies = {row["image_id"]: Study(row["image_id"], row["subject_id"], "", row["label"]) for row in rows}
    return EgdTables(studies, {}, {}, np.empty((0, 2)))


def table(patients: int, seed: int, skill: float = 2.0, weak: dict[str, float] | None = None) -> EvaluationTable:
    """Make up predictions; `weak` lists the skill in some facet values."""
    rng = np.random.default_rng(seed)
    whose = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    sexes = np.array(["F", "M"])[rng.integers(0, 2, patients)][whose]
    labels = rng.integers(0, 3, patients)[whose]
    skills = np.array([(weak or {}).get(sex, skill) for sex in sexes])
    logits = rng.normal(size=(len(whose), 3)) + skills[:, None] * np.eye(3)[labels]
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    facets: dict[str, tuple[str | None, ...]] = dict.fromkeys(FACETS, (None,) * len(whose))
    return EvaluationTable(
        tuple(f"i{n}" for n in range(len(whose))), tuple(f"p{n}" for n in whose), labels, chances.astype(np.float32),
        score_columns(
            len(whose), kl=rng.normal(0.4, 0.1, len(whose)),
            cc=np.clip(rng.normal(0.6, 0.1, len(whose)), -1, 1), hs=np.full(len(whose), 0.5),
        ),
        np.ones(len(whose), np.bool_), facets | {"sex": tuple(map(str, sexes))},
    )  # fmt: skip


def alerts(before: EvaluationTable, after: EvaluationTable) -> dict[tuple[str, str | None], float | None]:
    found = judge(list(compare_performance(before, after, SETTINGS)), SETTINGS.alpha)
    return {(one.feature, one.subgroup): one.effect for one in found if one.status == "alert"}


def test_the_figures_are_those_of_the_metrics() -> None:
    made = table(80, 1)
    expected = diagnosis_metrics(made.probabilities_NK, made.labels_N)
    assert quality("auc_macro", made) == pytest.approx(expected.auc_macro)
    assert quality("ece", made) == pytest.approx(expected.ece)
    assert quality("auc_macro", made.take(made.labels_N == 1)) is None
    nothing = made.take(np.zeros(len(made), np.bool_))
    assert [quality(name, nothing) for name in QUALITY_METRICS] == [None] * len(QUALITY_METRICS)


def test_the_same_skill_raises_no_alert_over_many_samples() -> None:
    assert sum(bool(alerts(table(150, 2 * seed), table(120, 2 * seed + 1))) for seed in range(8)) == 0


def test_a_model_that_got_worse_is_told_by_how_much() -> None:
    found = alerts(table(300, 1), table(300, 2, skill=0.8))
    assert found["auc_macro", None] == pytest.approx(0.2, abs=0.06)
    assert ("cc", None) not in found
    assert {name for name, _ in alerts(table(300, 2, skill=0.8), table(300, 1))} <= {"ece"}  # better is no alert


def test_few_labels_beside_many_do_not_look_badly_calibrated() -> None:
    """Chance raises a calibration error of few images: the many are drawn down to as few."""
    many = table(3000, 1)
    for seed in range(4):
        found = judge(list(compare_performance(many, table(60, 10 + seed), SETTINGS)), SETTINGS.alpha)
        (error,) = (one for one in found if (one.feature, one.subgroup) == ("ece", None))
        assert abs(error.effect or 0) < 0.06
        assert error.status == "ok"


def test_a_model_that_got_worse_for_some_is_seen_there() -> None:
    found = alerts(table(500, 1, skill=2.5), table(500, 2, skill=2.5, weak={"F": 1.0}))
    assert ("auc_macro", "sex=F") in found
    assert ("auc_macro", "sex=M") not in found


def test_maps_that_look_elsewhere_than_readers_are_told() -> None:
    for name, worse in (("cc", -0.2), ("kl", 0.3), ("hs", -0.2)):
        before, after = table(200, 1), table(200, 2)
        after.scores(name)[:] += worse
        assert set(alerts(before, after)) == {(name, None), (name, "sex=F"), (name, "sex=M")}
        assert not alerts(after, before), "better is no alert"


def test_few_labelled_patients_are_no_evidence() -> None:
    found = judge(list(compare_performance(table(200, 1), table(40, 2, skill=0.0), SETTINGS)), SETTINGS.alpha)
    assert {one.status for one in found if one.subgroup is None} == {"too_few"}


def test_one_class_alone_has_no_area() -> None:
    made = table(100, 1)
    alone = made.take(made.labels_N == 2)
    (area,) = (
        one
        for one in judge(list(compare_performance(made, alone, SETTINGS)), 0.01)
        if (one.feature, one.subgroup) == ("auc_macro", None)
    )
    assert (area.status, area.effect) == ("absent", None)


def test_labels_of_a_part_of_the_runs_are_joined_and_the_fall_is_suspected(tmp_path: Path) -> None:
    before, after = population(150, seed=1, skill=2.5), population(150, seed=2, skill=0.5)
    runs = [make_run(tmp_path, rows, name=name) for name, rows in (("before", before), ("after", after))]
    report = monitor(runs[:1], runs[1:], SETTINGS, truth_of(before[::2], after))
    assert "performance" in [one.drift for one in report.suspicions]
    assert 0 < report.baseline.labelled < report.baseline.scored
    assert report.current.labelled == report.current.scored
    assert report.baseline.auc_macro is not None
    assert report.current.auc_macro is not None
    assert report.baseline.auc_macro - report.current.auc_macro > 0.1
    (gaze,) = (one for one in report.findings if one.feature == "cc")
    assert gaze.status == "absent"  # nobody looked at them


def test_tables_without_any_of_the_images_say_so(tmp_path: Path) -> None:
    rows = population(60, seed=1)
    run = make_run(tmp_path, rows)
    report = monitor([run], [run], SETTINGS, truth_of(population(5, seed=9)))
    assert {one.status for one in report.findings if one.family == "performance"} == {"absent"}
    assert (report.current.labelled, report.current.auc_macro) == (0, None)


def write_labels(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """Write EGD-CXR's tables with the labels of some rows, and no gaze."""
    folder.mkdir(parents=True)
    with (folder / "master_sheet.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["dicom_id", "study_id", "patient_id", "Normal", "CHF", "pneumonia"])
        writer.writerows(
            [row["image_id"], "1", row["subject_id"], *(int(row["label"] == k) for k in range(3))] for row in rows
        )
    (folder / "eye_gaze.csv").write_text("DICOM_ID,X_ORIGINAL,Y_ORIGINAL\n")
    return folder


def test_labels_are_read_from_tables(tmp_path: Path) -> None:
    rows = population(60, seed=1)
    run = make_run(tmp_path, rows)
    truth = read_egd(LocalStore(str(write_labels(tmp_path / "egd", rows))))
    report = monitor([run], [run], SETTINGS, truth)
    assert report.current.labelled == report.current.scored


@pytest.mark.parametrize(
    ("predicts", "compared"),
    [(("classes",), {"auc_macro", "ece"}), (("saliency",), set())],
    ids=["classes", "saliency"],
)
def test_labels_say_nothing_of_a_model_without_classes(
    tmp_path: Path, predicts: tuple[Answer, ...], compared: set[str]
) -> None:
    sides = [population(120, seed) for seed in (1, 2)]
    runs = [make_run(tmp_path, rows, name=f"run-{n}", predicts=predicts) for n, rows in enumerate(sides)]
    report = monitor(runs[:1], runs[1:], SETTINGS, truth_of(*sides))
    overall = [one for one in report.findings if one.family == "performance" and one.subgroup is None]
    assert {one.feature for one in overall if one.status == "ok"} == compared
    figures = {"classes": {"auc_macro", "ece"}, "saliency": {"cc", "kl", "hs"}}
    assert {one.feature for one in overall} == figures[predicts[0]]
    assert not report.alerts
    assert (report.current.auc_macro is not None) == ("classes" in predicts)
