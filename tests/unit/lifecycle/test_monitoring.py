"""What the monitor says of two sides: silence on noise, a name for each planted drift, clear words on bad input."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from cxrgaze_ray.errors import ConfigError, UserError
from cxrgaze_ray.gaze import saliency
from cxrgaze_ray.lifecycle.monitoring import (
    MonitorReport,
    MonitorSettings,
    Watch,
    monitor,
    monitor_page,
    open_runs,
)
from cxrgaze_ray.lifecycle.monitoring.compare import judge
from cxrgaze_ray.lifecycle.monitoring.feature_columns import MAP_STATISTICS, FeatureTable, SideFeatures, map_statistics
from cxrgaze_ray.lifecycle.monitoring.features import FEATURES, compare_features
from cxrgaze_ray.lifecycle.monitoring.gauges import families as families_of_gauges
from cxrgaze_ray.lifecycle.monitoring.report import Side
from cxrgaze_ray.lifecycle.monitoring.settings import Thresholds
from cxrgaze_ray.models.settings import Answer
from cxrgaze_ray.schemas import RESULT
from cxrgaze_ray.scoring.runs import Run
from tests.populations import make_run, map_of, population

SIDE = Side(runs=(), images=0, patients=0, scored=0, first_at="", last_at="", models=(), weights=())
NO_THRESHOLD = MonitorSettings(thresholds=Thresholds(**dict.fromkeys(Thresholds.model_fields, 1e-9)))
QUICK = MonitorSettings(saliency_sample=150)
SPLITS = 200


def side_rows(rows: list[dict[str, Any]]) -> SideFeatures:
    """Return rows as `read_features` would, without a run in between; maps are whatever their patient's is."""
    numbers = {name: number for number, name in enumerate(sorted({row["subject_id"] for row in rows}))}
    schema = pa.schema([*RESULT, pa.field("patient", pa.int64())])
    table = pa.Table.from_pylist([{**row, "patient": numbers[row["subject_id"]]} for row in rows], schema=schema)
    scored = table.filter(pa.array([row["status"] == "scored" for row in rows]))
    shapes = np.array([map_of({"subject_id": one}) for one in scored["subject_id"].to_pylist()], float)
    maps = {name: pa.array(shapes**power) for power, name in enumerate(MAP_STATISTICS, 1)}
    sample = pa.table(maps | {"patient": scored["patient"]})
    return SideFeatures(SIDE, FeatureTable.of(table), FeatureTable.of(scored), FeatureTable.of(sample), 0)


def part(side: SideFeatures, chosen: NDArray[np.bool_]) -> SideFeatures:
    """Return the rows of some patients."""
    groups = (side.everything, side.scored, side.maps)
    first, second, third = (
        FeatureTable.of(rows.table.filter(pa.array(chosen[rows.table["patient"].to_numpy()]))) for rows in groups
    )
    return SideFeatures(SIDE, first, second, third, 0)


def test_one_population_split_200_times_raises_alarms_in_less_than_5_percent() -> None:
    """Any alert in the whole report counts, and thresholds do not help: the noise bounds stand alone."""
    whole, rng, alarms = side_rows(population(320, seed=1)), np.random.default_rng(2), 0
    for _ in range(SPLITS):
        first = rng.random(320) < rng.choice([0.3, 0.5])
        found = list(compare_features(part(whole, first), part(whole, ~first), NO_THRESHOLD))
        assert sum(one.enough for one in found) > 25
        alarms += any(one.status == "alert" for one in judge(found, NO_THRESHOLD.alpha))
    assert alarms < 0.05 * SPLITS


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("before"), population(260, seed=1))


def against(before: Run, folder: Path, **drift: float) -> MonitorReport:
    return monitor(
        [before], [make_run(folder, population(220, seed=2, **drift), at="2026-02-01T00:00:00+00:00")], QUICK
    )


PLANTED: list[tuple[str, dict[str, float], set[str]]] = [
    ("exposure", {"exposure": 0.15}, {"intensity_p50", "intensity_mean"}),
    ("polarity", {"inverted": 0.3, "exposure": 0.15}, {"photometric_check=disagrees", "intensity_p50"}),
    ("site", {"site": 0.6, "exposure": 0.1}, {"manufacturer", "device_model", "transfer_syntax"}),
    ("prevalence", {"sick": 0.6}, {"prediction", "p_pneumonia"}),
    ("quality", {"broken": 0.2}, {"status=failed", "reason_code=truncated"}),
]


@pytest.mark.parametrize(("drift", "planted", "features"), PLANTED, ids=[one[0] for one in PLANTED])
def test_a_planted_drift_is_found_and_named(
    before: Run, tmp_path: Path, drift: str, planted: dict[str, float], features: set[str]
) -> None:
    report = against(before, tmp_path, **planted)
    assert [one.drift for one in report.suspicions] == [drift]
    assert features <= set(report.suspicions[0].features)
    assert {one.feature for one in report.alerts} == set(report.suspicions[0].features)


def test_without_drift_every_feature_is_compared_and_none_alerted(before: Run, tmp_path: Path) -> None:
    report = against(before, tmp_path)
    assert not report.alerts
    assert not report.suspicions
    status = {(one.family, one.feature): one.status for one in report.findings}
    for family in ("acquisition", "intensity", "scores", "predictions", "saliency"):
        assert {status[family, name] for name in FEATURES[family]} == {"ok"}
    assert {status["performance", name] for name in FEATURES["performance"]} == {"absent"}
    assert status["outcomes", "reason_code=truncated"] == "ok"
    assert ("outcomes", "reason_code=corrupt") not in status  # neither side has any
    assert report.enough
    assert MonitorReport.model_validate_json(report.model_dump_json()) == report


def test_two_drifts_are_named_side_by_side(before: Run, tmp_path: Path) -> None:
    report = against(before, tmp_path, exposure=0.15, broken=0.2)
    assert [one.drift for one in report.suspicions] == ["exposure", "quality"]


def test_another_site_s_views_are_part_of_it(before: Run, tmp_path: Path) -> None:
    rows = [{**row, "view_position": row.get("view_position") and "AP"} for row in population(220, seed=2, site=0.6)]
    report = monitor([before], [make_run(tmp_path, rows)], QUICK)
    assert [one.drift for one in report.suspicions] == ["site"]
    assert "view_position" in report.suspicions[0].features


def test_what_fits_no_pattern_is_told_as_such(before: Run, tmp_path: Path) -> None:
    rows = [{**row, "sex": "F"} for row in population(220, seed=2)]
    report = monitor([before], [make_run(tmp_path, rows)], QUICK)
    assert [(one.drift, one.features) for one in report.suspicions] == [("unknown", ("sex",))]


def test_maps_that_look_elsewhere_are_seen(before: Run, tmp_path: Path) -> None:
    rows = population(220, seed=2)
    run = make_run(
        tmp_path, rows, change=lambda row: {**row, "saliency_png": low_map() if row["status"] == "scored" else None}
    )
    report = monitor([before], [run], QUICK)
    assert {one.feature for one in report.alerts} == set(MAP_STATISTICS)


@cache
def low_map() -> bytes:
    density = np.zeros((640, 512), np.float32)
    density[560:600, 100:140] = 1 / 1600
    return saliency.encode(density)[0]


def test_map_statistics_by_hand() -> None:
    even = np.full((320, 256), 1 / (320 * 256), np.float32)
    assert map_statistics(even, (0.25, 0.25, 0.75, 0.75)) == pytest.approx((1, 0.5, 0.5, 0.25), abs=1e-4)
    point = np.zeros((320, 256), np.float32)
    point[79, 63] = 1
    assert map_statistics(point, (0.25, 0.25, 0.75, 0.75)) == pytest.approx((0, 79.5 / 320, 63.5 / 256, 0), abs=1e-6)
    assert map_statistics(point, (0.2, 0.2, 0.75, 0.75))[3] == 1


def test_only_a_sample_of_the_maps_is_decoded(before: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, decode = [], saliency.decode_small

    def counted(png: bytes) -> NDArray[np.float32]:
        seen.append(png)
        return decode(png)

    monkeypatch.setattr(saliency, "decode_small", counted)
    settings = MonitorSettings(saliency_sample=40, least_patients=10)
    report = monitor([before], [before], settings)
    assert len(seen) == 80
    assert {one.effect for one in report.findings if one.family == "saliency"} == {0.0}  # the same ones on both sides
    nothing = monitor([before], [before], MonitorSettings(saliency_sample=0))
    assert {one.status for one in nothing.findings if one.family == "saliency"} == {"too_few"}


def test_few_patients_raise_no_alarm_whatever_is_seen(before: Run, tmp_path: Path) -> None:
    rows = population(40, seed=3, site=1.0, exposure=0.3, broken=0.5)
    report = monitor([before], [make_run(tmp_path, rows)], QUICK)
    assert not report.enough
    assert report.suspicions == ()
    assert {one.status for one in report.findings} == {"too_few", "absent"}
    (device,) = (one for one in report.findings if one.feature == "manufacturer")
    assert device.effect is not None
    assert device.effect > 1
    assert "Only " in device.detail


def test_many_images_of_few_patients_are_few(before: Run, tmp_path: Path) -> None:
    row = next(one for one in population(10, seed=3, exposure=0.3) if one["status"] == "scored")
    rows = [{**row, "image_id": f"image-{number}", "subject_id": f"p{number % 20}"} for number in range(600)]
    assert not monitor([before], [make_run(tmp_path, rows)], QUICK).alerts


def test_images_without_a_patient_count_as_patients_and_the_report_says_so(before: Run, tmp_path: Path) -> None:
    rows = [{**row, "subject_id": None} for row in population(100, seed=3)]
    changed = [{**row, "subject_id": row["image_id"]} for row in rows]
    run = make_run(tmp_path, changed, change=lambda row: {**row, "subject_id": None})
    report = monitor([before], [run], QUICK)
    assert report.current.patients == report.current.images == len(rows)
    assert any(note.startswith("The patient is unknown for") for note in report.notes)


def test_other_weights_make_answers_incomparable_and_files_are_compared_still(before: Run, tmp_path: Path) -> None:
    run = make_run(tmp_path, population(220, seed=2, site=0.6), weights="cd" * 32)
    report = monitor([before], [run], QUICK)
    status = {one.feature: one.status for one in report.findings if one.family in ("scores", "predictions", "saliency")}
    assert set(status.values()) == {"absent"}
    assert set(status) == {name for family in ("scores", "predictions", "saliency") for name in FEATURES[family]}
    assert any("different weights" in note for note in report.notes)
    assert [one.drift for one in report.suspicions] == ["site"]


def test_other_profiles_are_refused(before: Run, tmp_path: Path) -> None:
    run = make_run(tmp_path, population(60, seed=2), profile="voi-v1")
    with pytest.raises(UserError, match="different profiles: cxrgaze-v1 and voi-v1") as refused:
        monitor([before], [run], QUICK)
    assert refused.value.hint


def test_an_unfinished_run_is_refused(before: Run, tmp_path: Path) -> None:
    run = make_run(tmp_path, population(60, seed=2), finish=False)
    with pytest.raises(UserError, match="is unfinished") as refused:
        monitor([before], [run], QUICK)
    assert "Finish it" in refused.value.hint
    with pytest.raises(UserError, match="is unfinished"):
        open_runs([run.store.uri])


def test_clocks_that_disagree_and_untrained_models_are_noted(before: Run, tmp_path: Path) -> None:
    run = make_run(tmp_path, population(60, seed=2), at="2025-12-31T00:00:00+00:00", trained=False)
    notes = " ".join(monitor([before], [run], QUICK).notes)
    assert "planned before the baseline" in notes
    assert "untrained" in notes


def test_a_window_is_the_newest_finished_runs_of_a_parent(tmp_path: Path) -> None:
    rows = population(12, seed=5)
    for day in (3, 1, 2, 4):
        make_run(tmp_path, rows, name=f"run-{day}", at=f"2026-03-0{day}T00:00:00+00:00", finish=day != 4)
    assert [run.spec.run_id for run in open_runs([str(tmp_path)])] == ["run-1", "run-2", "run-3"]
    assert [run.spec.run_id for run in open_runs([str(tmp_path)], last=2)] == ["run-2", "run-3"]
    twice = [str(tmp_path / "run-1"), str(tmp_path)]
    assert [run.spec.run_id for run in open_runs(twice, last=1)] == ["run-1", "run-3"]
    without = {str(tmp_path / "run-3")}
    assert [run.spec.run_id for run in open_runs([str(tmp_path)], last=1, without=without)] == ["run-2"]
    with pytest.raises(UserError, match="no run at or under"):
        open_runs([str(tmp_path / "nothing")])
    with pytest.raises(UserError, match=r"Every finished run under .* is in the baseline already"):
        open_runs([str(tmp_path)], without={str(tmp_path / f"run-{day}") for day in (1, 2, 3)})


def test_unfinished_runs_of_a_parent_are_not_said_to_be_absent(tmp_path: Path) -> None:
    make_run(tmp_path, population(12, seed=5), finish=False)
    with pytest.raises(UserError, match=r"No run under .* is finished"):
        open_runs([str(tmp_path)])


@pytest.mark.parametrize(
    ("current", "said"), [("run", "Baseline and current are the same runs"), ("", "is in the baseline already")]
)
def test_a_run_is_not_compared_with_itself(tmp_path: Path, current: str, said: str) -> None:
    make_run(tmp_path, population(12, seed=5), name="run")
    for baseline in ("run", ""):
        with pytest.raises(UserError, match=said) as refused:
            Watch([str(tmp_path / baseline)], [str(tmp_path / current)], QUICK).look()
        assert "earlier runs" in refused.value.hint


def test_an_image_of_several_runs_counts_once_as_the_newest_says(tmp_path: Path) -> None:
    rows = population(60, seed=5)
    old = make_run(tmp_path, rows, name="old", change=lambda row: {**row, "manufacturer": "Old"})
    half = make_run(tmp_path, rows[::2], name="new", at="2026-03-01T00:00:00+00:00")
    report = monitor([old], [half, old], MonitorSettings(least_patients=10))
    assert report.current.images == len(rows)
    (device,) = (one for one in report.findings if one.feature == "manufacturer")
    shares = {bin.name: bin.current for bin in device.bins}
    assert 0.3 < shares["Old"] < 0.7
    assert report.current.runs == (old.store.uri, half.store.uri)


@pytest.mark.parametrize(("layout", "images"), [("tree", 2), ("mimic-cxr", 1)])
def test_the_same_path_in_two_trees_is_two_images(tmp_path: Path, layout: str, images: int) -> None:
    rows = population(20, seed=5)
    one = make_run(tmp_path, rows, name="one", layout=layout, archive="/a")
    two = make_run(tmp_path, rows, name="two", layout=layout, archive="/b")
    assert monitor([one], [one, two]).current.images == images * len(rows)


def test_settings_name_the_wrong_key() -> None:
    assert MonitorSettings.from_yaml("thresholds: {intensity: 0.3}").thresholds == Thresholds(intensity=0.3)
    with pytest.raises(ConfigError, match=r"thresholds\.brightness"):
        MonitorSettings.from_yaml("thresholds: {brightness: 0.3}")


CLASSES_FAMILIES, SALIENCY_FAMILIES = {"scores", "predictions"}, {"saliency"}
OTHERS = {"acquisition", "intensity", "outcomes", "performance"}


def families_of(report: MonitorReport, *statuses: str) -> set[str]:
    return {one.family for one in report.findings if one.status in statuses}


@pytest.mark.parametrize(
    ("predicts", "families"), [(("classes",), CLASSES_FAMILIES), (("saliency",), SALIENCY_FAMILIES)], ids=["c", "s"]
)
def test_what_a_model_does_not_predict_is_left_out(
    tmp_path: Path, predicts: tuple[Answer, ...], families: set[str]
) -> None:
    runs = [make_run(tmp_path, population(220, seed), name=f"run-{seed}", predicts=predicts) for seed in (1, 2)]
    report = monitor(runs[:1], runs[1:], QUICK)
    assert not report.alerts
    assert {one.family for one in report.findings} == OTHERS | families
    assert families <= families_of(report, "ok")
    assert not families_of(report, "too_few")
    drifted = monitor(runs[:1], [make_run(tmp_path, population(220, 3, exposure=0.15), predicts=predicts)], QUICK)
    assert [one.drift for one in drifted.suspicions] == ["exposure"]
    shown = {
        sample.labels["family"]
        for family in families_of_gauges(report)
        for sample in family.samples
        if sample.labels.get("family")
    }
    assert shown == OTHERS | families
    assert "nan" not in monitor_page(report).lower().replace("manag", "")


def test_models_of_different_answers_are_compared_in_what_both_have(before: Run, tmp_path: Path) -> None:
    other = make_run(tmp_path, population(220, seed=2), weights="cd" * 32, predicts=("classes",))
    report = monitor([before], [other], QUICK)
    assert not report.alerts
    assert "Not all of the models predict saliency: nothing is said of that." in report.notes
    assert not any("predict classes" in note for note in report.notes)
    assert families_of(report, "ok") == OTHERS - {"performance"}
    assert families_of(report, "absent") == CLASSES_FAMILIES | SALIENCY_FAMILIES | {"performance"}


def test_no_row_of_the_page_looks_like_something_else_for_its_status(before: Run, tmp_path: Path) -> None:
    other = make_run(tmp_path, population(220, seed=2), weights="cd" * 32)
    page = monitor_page(monitor([before], [other], QUICK))
    assert '<tr class="absent">' in page
    for status in ("ok", "alert", "too_few", "absent"):
        assert not re.search(rf"(?m)(^|[,}}])\s*\.{status}\s*[{{,]", page.partition("</style>")[0])
