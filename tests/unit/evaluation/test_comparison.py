"""What two runs or models differ in, as tables, sentences and a page."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from cxrgaze_ray.evaluation.comparison import Comparison, Section
from cxrgaze_ray.evaluation.evaluate import evaluate
from cxrgaze_ray.evaluation.gate import GateSettings, ModelFacts, judge
from cxrgaze_ray.evaluation.model_changes import compare_models
from cxrgaze_ray.evaluation.run_changes import compare_runs
from cxrgaze_ray.models.bundle import Bundle, Lineage, make_bundle
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.reports.comparison_page import comparison_page
from cxrgaze_ray.schemas import CLASSES
from cxrgaze_ray.scoring.runs import Run
from cxrgaze_ray.storage import LocalStore
from tests.command import Cxrgaze
from tests.model_pairs import Model, table_pair
from tests.populations import make_run, population

ROWS = population(14, 4)


def section(comparison: Comparison, title: str) -> Section:
    (found,) = (one for one in comparison.sections if one.title == title)
    return found


def surer(row: dict[str, Any]) -> dict[str, Any]:
    """Move the second patient's images to another class, and refuse those of the third."""
    if row["status"] == "scored" and row["image_id"].endswith("-0"):
        return row | {"prediction": "normal", "p_normal": 0.9, "p_heart_failure": 0.06, "p_pneumonia": 0.04}
    return row


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    folder = tmp_path_factory.mktemp("runs")
    first = make_run(folder, ROWS, name="first")
    return first, make_run(folder, ROWS[2:], name="second", weights="cd" * 32, change=surer)


def test_a_run_compared_with_itself_has_changed_nothing(runs: tuple[Run, Run]) -> None:
    found = compare_runs(runs[0], runs[0])
    assert section(found, "What was run").rows == ()
    assert section(found, "Files that ended otherwise").note == "No image of both ended otherwise."
    assert found.facts["largest_change"] == 0
    assert found.facts["same_class"] == found.facts["scored_in_both"] > 0
    assert section(found, "Images whose answers moved most").note == "No probability moved."


def test_what_moved_is_counted_and_named(runs: tuple[Run, Run]) -> None:
    first, second = runs
    found = compare_runs(first, second)
    facts = {row[0]: row[1:] for row in section(found, "What was run").rows}
    assert facts["weights"] == ("ab" * 8, "cd" * 8)
    assert "archive" not in facts
    assert found.facts["only_first"] == 2
    assert found.facts["only_second"] == 0
    rows = [{row["image_id"]: row for row in run.summary().to_pylist()} for run in (first, second)]
    both = [one for one in rows[1] if rows[0][one]["prediction"] and rows[1][one]["prediction"]]
    same = sum(rows[0][one]["prediction"] == rows[1][one]["prediction"] for one in both)
    assert (found.facts["scored_in_both"], found.facts["same_class"]) == (len(both), same)
    moves = {one: max(abs(rows[1][one][f"p_{c}"] - rows[0][one][f"p_{c}"]) for c in CLASSES) for one in both}
    most = section(found, "Images whose answers moved most")
    assert most.rows[0][0] == max(moves, key=lambda one: moves[one])
    assert found.facts["largest_change"] == pytest.approx(max(moves.values()), abs=1e-6)
    matrix = section(found, "Answers of A (rows) and B (columns)").rows
    assert sum(int(str(cell)) for row in matrix for cell in row[1:]) == len(both)
    assert f"{len(both) - same:,} changed their class" in found.conclusion


def test_paths_are_shown_on_request_only(runs: tuple[Run, Run]) -> None:
    with_paths, without = (compare_runs(*runs, with_paths=asked) for asked in (True, False))
    assert "/files/" in comparison_page(with_paths)
    assert "/files/" not in comparison_page(without)
    row = section(with_paths, "Images whose answers moved most").rows[0]
    assert str(row[-1]).endswith(str(row[0]))


def test_files_that_ended_otherwise_are_counted_by_how(tmp_path: Path) -> None:
    def refused(row: dict[str, Any]) -> dict[str, Any]:
        if row["status"] != "scored":
            return row
        kept = {name: row[name] for name in ("shard", "position", "image_id", "subject_id", "study_id", "repeated_id")}
        return kept | {"status": "failed", "reason_code": "truncated", "detail": "Made up."}

    first, second = make_run(tmp_path, ROWS, name="a"), make_run(tmp_path, ROWS, name="b", change=refused)
    found = compare_runs(first, second)
    moved = {row[:2]: row[2] for row in section(found, "Files that ended otherwise").rows}
    assert moved == {("scored", "truncated"): first.summary()["status"].to_pylist().count("scored")}
    assert section(found, "Answers").note == "No image was scored in both."


def bundle(seed: int, **settings: Any) -> Bundle:
    lineage = Lineage(store_sha256="5" * 64, settings={"seed": seed, "stages": {"encoder": {"lr": 0.1}}} | settings)
    made = make_bundle(build(PRESETS["tiny"], seed), "net", trained=True, lineage=lineage)
    return made.with_metrics(json.loads(json.dumps(evaluate(table_pair(30, seed)[0]).summary())))


def test_models_differ_in_settings_and_figures() -> None:
    first, second = bundle(1), bundle(2, stages={"encoder": {"lr": 0.2}}, precision="bf16")
    found = compare_models(first.info, second.info, ("net@v1", "net@v2"))
    settings = {row[0]: row[1:] for row in section(found, "How they were trained").rows}
    assert settings == {"seed": (1, 2), "stages.encoder.lr": (0.1, 0.2), "precision": ("none", "bf16")}
    figures = {row[0]: row[1:] for row in section(found, "What was measured").rows}
    values = [one.info.metrics["diagnosis"]["auc_macro"] for one in (first, second)]
    assert figures["AUC macro"][2] == f"{values[1] - values[0]:+.3f}"
    assert str(figures["AUC macro"][0]).startswith(f"{values[0]:.3f} (")
    assert found.conclusion == "Their weights differ."
    same = compare_models(first.info, first.info, ("net@v1", "net@v1"))
    assert same.conclusion == "They have the same weights."
    assert section(same, "How they were trained").note == "All 2 are the same."


@pytest.mark.parametrize(
    ("stores", "note"),
    [
        (("5" * 64, "6" * 64), "Recorded on different test splits, so no difference is shown"),
        ((None, None), "Recorded on test splits that are not both known, so no difference is shown"),
    ],
)
def test_figures_of_other_images_have_no_difference(stores: tuple[str | None, ...], note: str) -> None:
    infos = [
        one.info.model_copy(update={"lineage": one.info.lineage.model_copy(update={"store_sha256": store})})
        for one, store in zip((bundle(1), bundle(2)), stores, strict=True)
    ]
    found = section(compare_models(infos[0], infos[1], ("net@v1", "net@v2")), "What was measured")
    assert {row[-1] for row in found.rows} == {""}
    assert found.note.startswith(note)


def test_what_the_gate_recorded_of_the_two_is_shown(tmp_path: Path, cxrgaze: Cxrgaze) -> None:
    registry, made = Registry(LocalStore(str(tmp_path))), bundle(2)
    registry.publish(bundle(1))
    lineage = made.info.lineage.model_copy(update={"parent": "net@v0001"})
    registry.publish(Bundle(made.info.model_copy(update={"lineage": lineage}), made.state))
    facts = ModelFacts(
        golden_reproduced=True, golden_difference=0.0, latency_ratio=1.0, size_mib=1.0, looks_used=1, looks_of=20
    )
    report = judge(*table_pair(80, 0), facts, GateSettings(rounds=100))
    data = report.model_dump_json().encode()
    registry.store.put("net/gates/2.json", data)
    registry.record_gate("net", "v2", report.outcome, "gates/2.json", hashlib.sha256(data).hexdigest())
    for pair in (("net@v1", "net@v2"), ("net@v2", "net@v1")):
        sections = cxrgaze("models", "compare", *pair, "--registry", tmp_path, "--json").json["sections"]
        (found,) = (one for one in sections if one["title"] == "What the gate found")
        assert found["columns"][1:3] == ["net@v0001", "net@v0002"]
        assert found["rows"][0][3] == f"{report.criteria[0].difference:+.3f}"
        assert report.why in found["note"]


def test_paired_tests_say_what_is_more_than_chance() -> None:
    first, second = table_pair(200, 3, Model(own=4.0, cc_loss=0.1))
    found = compare_models(bundle(1).info, bundle(2).info, ("net@v1", "net@v2"), (first, second))
    tests = {row[0]: row for row in section(found, "Against the truth").rows}
    assert str(tests["AUC macro"][3]).startswith("-")
    assert tests["AUC macro"][5] == "< 0.001"
    assert tests["saliency KL"][8]
    assert "AUC macro" in found.conclusion
    assert "saliency CC" in found.conclusion


def test_figures_of_earlier_bundles_are_not_known() -> None:
    old = make_bundle(build(PRESETS["tiny"], 1), "net", trained=True)
    found = compare_models(old.info, bundle(2).info, ("net@v1", "net@v2"))
    figures = {row[0]: row[1:] for row in section(found, "What was measured").rows}
    assert figures["AUC macro"][0] == "not known"
    nothing = compare_models(old.info, old.info, ("a", "b"))
    assert section(nothing, "What was measured").note == "Neither bundle carries figures."


def test_the_commands_show_tables_and_write_pages(runs: tuple[Run, Run], tmp_path: Path, cxrgaze: Cxrgaze) -> None:
    uris = [run.store.uri for run in runs]
    told = cxrgaze("runs", "compare", *uris, "--out", str(tmp_path / "runs.html"))
    assert told.code == 0
    assert "Images whose answers moved most" in told.out.splitlines(), "in a pipe a table keeps its title"
    assert re.search(r"90% of images moved by at most 0\.\d{4}\.", told.err)
    page = (tmp_path / "runs.html").read_text()
    assert "Scoring runs compared" in page
    assert "default-src 'none'" in page
    registry = Registry(LocalStore(str(tmp_path / "registry")))
    for seed in (1, 2):
        registry.publish(bundle(seed))
    found = cxrgaze("models", "compare", "net@v1", "net@v2", "--registry", registry.store.uri, "--json").json
    assert found["facts"] == {"same_weights": False}
    assert [one["title"] for one in found["sections"]] == ["The models", "How they were trained", "What was measured"]
    missing = cxrgaze("models", "compare", "net@v1", "net@v9", "--registry", registry.store.uri)
    assert missing.code == 2
