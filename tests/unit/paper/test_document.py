"""Cells, sentences and files of the tables, from answers that are made up here."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cxrgaze_ray.evaluation.curves import roc_curve
from cxrgaze_ray.evaluation.table import MAP_SCORES, EvaluationTable, EvaluationTableBuilder, ImageScores, MapScores
from cxrgaze_ray.models.settings import Answer, System, predicts
from cxrgaze_ray.paper.cells import CENTRE, READERS, compare, table_rows
from cxrgaze_ray.paper.document import (
    UNTESTED,
    Facts,
    ablation_sentences,
    beyond_chance,
    cell_text,
    documents,
    order_sentences,
)
from cxrgaze_ray.paper.pictures import Example, qualitative_figure, roc_plot
from cxrgaze_ray.paper.plan import TablesSettings, plan_jobs
from cxrgaze_ray.paper.run import Results, TrainedSystem
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.schemas import CLASSES

FACTS = Facts(
    "a store", "tiny", {"train": 80, "validation": 10, "test": 60}, ("These are phantoms.",), "cxrgaze tables X"
)


def answers(
    skill: float, *, said: tuple[Answer, ...], seed: int = 0, images: int = 60, classes: int = 3, readers: int = 0
) -> EvaluationTable:
    """Answer images of one patient each, the better the larger the skill."""
    rng, own = (np.random.default_rng([seed, part]) for part in (0, round(10 * skill)))
    builder = EvaluationTableBuilder(said)
    for number in range(images):
        label = number % classes
        logits = rng.normal(size=3) + skill * np.eye(3)[label]
        chances = (np.exp(logits) / np.exp(logits).sum()).astype(np.float32)
        noise = own.normal(0, 0.02)
        maps = MapScores(0.8 - skill / 10 + noise, 0.4 + skill / 10 - noise, 0.5 + skill / 20 - noise, 1.0 + skill, 0.6)
        scores = ImageScores(maps, MapScores(0.9, 0.3, 0.45, 0.7, 0.5), maps if number < readers else None)
        builder.add(
            f"i{number:03d}", f"p{number}", label, chances if "classes" in said else None,
            scores if "saliency" in said else None, {}, seen=True,
        )  # fmt: skip
    return builder.build()


SKILLS: dict[System, float] = {
    "gazenet": 2.0, "mt-unet": 1.0, "dnet201-cl": 1.5, "dnet201": 1.2, "inception-resnet-v2": 0.5, "gazegnn": 0.8,
    "res-se-unet": 1.5, "unet-s": 1.0,
}  # fmt: skip


def results(*, seeds: int = 1, without: tuple[System, ...] = (), **values: Any) -> Results:
    settings = TablesSettings(preset="tiny", seeds=seeds)
    found = Results(settings)
    for job in plan_jobs(settings):
        pin = ModelPin(uri="x", name=job.system, version="v0001", weights_sha256="0" * 64, trained=True)
        if job.system in without:
            found.left_out[job.system, job.seed] = "needs gaze, of which the store has none"
            continue
        table = answers(SKILLS[job.system], said=predicts(job.system), seed=job.seed, **values)
        found.tested.append(TrainedSystem(job, pin, table))
    return found


def test_each_table_has_the_systems_that_predict_it_in_the_paper_s_order() -> None:
    found = results(readers=4)
    assert [row.name for row in table_rows(found, "classes")] == [
        "gazenet", "mt-unet", "dnet201-cl", "dnet201", "inception-resnet-v2", "gazegnn",
    ]  # fmt: skip
    saliency = table_rows(found, "saliency")
    assert [row.name for row in saliency] == ["gazenet", "mt-unet", "res-se-unet", "unet-s", CENTRE, READERS]
    assert [row.images for row in saliency] == [60] * 5 + [4]
    assert saliency[4].figures["cc"][0].value == pytest.approx(0.3)


def test_a_figure_has_its_interval_and_a_significant_difference_is_marked() -> None:
    rows = {row.name: row for row in table_rows(results(), "saliency")}
    ours, other = rows["gazenet"].figures["cc"][0], rows["unet-s"].figures["cc"][0]
    assert ours.test is None
    assert ours.low is not None
    assert ours.value is not None
    assert ours.high is not None
    assert ours.low < ours.value < ours.high
    assert other.test is not None
    assert other.test.p is not None
    assert other.test.p < 1e-6
    assert cell_text([other]).endswith("] *")
    assert not cell_text([ours]).endswith("*")


def test_several_seeds_are_a_mean_and_a_spread() -> None:
    rows = {row.name: row for row in table_rows(results(seeds=3), "classes")}
    text = cell_text(rows["mt-unet"].figures["auc_macro"])
    values = [figure.value for figure in rows["mt-unet"].figures["auc_macro"] if figure.value is not None]
    assert text.startswith(f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f} (3 seeds)")


def test_a_cell_says_why_it_is_empty() -> None:
    rows = {row.name: row for row in table_rows(results(classes=2), "classes")}
    assert cell_text(rows["dnet201"].figures["auc_pneumonia"]) == "no test image of this class"
    without = {row.name: row for row in table_rows(results(without=("unet-s",)), "saliency")}
    assert without["unet-s"].left_out.startswith("needs gaze")
    assert without[READERS].left_out == "no image of the test split has two readers"


def test_the_sentences_give_the_numbers_of_each_ablation_and_say_whether_the_order_holds() -> None:
    found = results(seeds=2)
    ablations, order = ablation_sentences(found), order_sentences(found)
    assert len(ablations) == 4
    assert len(order) == 3
    (measured,) = compare(found, "gazenet", "dnet201-cl", ["auc_macro"])
    assert (
        f"by AUC macro in {measured.better[0]} of 2 seeds ({measured.better[1]} with p < 0.05), worse in " in order[0]
    )
    assert order[1].startswith(
        "GazeNet (ours) against Res_SE-UNet: better by KL in 2 of 2 seeds (2 with p < 0.05), worse in 0 (0 with"
    )
    assert re.search(r"\(Res_SE-UNet against UNet_S\): KL -0\.\d{3} on average", ablations[0])


def test_a_system_that_sees_the_gaze_it_is_tested_with_is_told_apart() -> None:
    told = "GazeGNN reads the readers' gaze on the very image"
    for found, expected in ((results(), True), (results(without=("gazegnn",)), False)):
        written = documents(found, FACTS)
        assert (told in written["tables.md"].decode()) is expected
        assert ("GazeGNN reads the readers" in written["tables.html"].decode()) is expected


def test_the_files_hold_every_figure_and_what_the_paper_printed() -> None:
    written = documents(results(without=("gazegnn",)), FACTS)
    assert set(written) == {"tables.md", "tables.html", "tables.csv"}
    page, text = written["tables.html"].decode(), written["tables.md"].decode()
    for wanted in ("paper 0.953", "0.706 ± 0.183", "needs gaze", "These are phantoms.", "cxrgaze tables X"):
        assert wanted in page
    assert "Res\\_SE-UNet" in text
    assert not re.search(r"nan|None", page + text)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") - line.count("\\|") for line in lines} == {8, 7}  # six measures, and five
    rows = list(csv.DictReader(io.StringIO(written["tables.csv"].decode())))
    ours = next(row for row in rows if (row["system"], row["measure"]) == ("gazenet", "cc"))
    assert float(ours["low"]) < float(ours["value"]) < float(ours["high"])
    assert (ours["paper"], ours["paper_std"]) == ("0.576", "0.113")
    assert next(row for row in rows if row["system"] == "gazegnn")["why"].startswith("needs gaze")


def test_a_roc_curve_has_the_area_that_the_auc_says() -> None:
    rng = np.random.default_rng(3)
    scores, truth = np.round(rng.random(200), 1), rng.random(200) < 0.3
    false, true = roc_curve(scores, truth)
    pairs = scores[truth][:, None] - scores[~truth][None]
    assert np.trapezoid(true, false) == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean())
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)


def test_pictures_are_drawn_the_same_every_time_and_go_into_page_and_folder() -> None:
    found = results()
    curves = {str(one.job.system): one.answers for one in found.tested if "classes" in one.answers.predicts}
    roc = roc_plot(curves)
    assert roc == roc_plot(curves)
    assert b"<svg" in roc
    rng = np.random.default_rng(0)
    image = rng.integers(0, 65535, (640, 512)).astype(np.uint16)
    density = rng.random((640, 512)).astype(np.float32)
    drawn = qualitative_figure([Example(name, image, {"gaze": density, "GazeNet": density}) for name in CLASSES])
    assert drawn[:4] == b"\x89PNG"
    written = documents(found, FACTS, roc, drawn)
    assert {"roc.svg", "qualitative.png"} < set(written)
    assert "(roc.svg)" in written["tables.md"].decode()
    assert "data:image/svg+xml;base64," in written["tables.html"].decode()


def test_without_ours_nothing_is_marked_and_no_order_is_claimed() -> None:
    found = results(without=("gazenet",))
    assert order_sentences(found) == []
    assert all(
        figure.test is None for row in table_rows(found, "saliency") for cell in row.figures.values() for figure in cell
    )


def test_a_difference_against_ours_is_no_support() -> None:
    found = results()
    (gazenet,) = (one for one in found.tested if one.job.system == "gazenet")
    better = answers(6.0, said=("classes", "saliency"))
    found.tested = [replace(one, answers=better) if one.job.system == "mt-unet" else one for one in found.tested]
    (sentence,) = (one for one in order_sentences(found) if "against MT-UNet" in one)
    assert "by KL in 0 of 1 seed (0 with p < 0.05), worse in 1 (1 with p < 0.05)" in sentence
    assert gazenet.answers is not better


def test_too_few_patients_are_marked_in_the_cell_and_said_below() -> None:
    found = results(images=6)
    rows = {row.name: row for row in table_rows(found, "saliency")}
    assert cell_text(rows["mt-unet"].figures["cc"]).endswith(UNTESTED)
    assert not cell_text(rows["gazenet"].figures["cc"]).endswith(UNTESTED)
    for name in ("tables.md", "tables.html"):
        text = documents(found, FACTS)[name].decode()
        assert re.search(rf"{UNTESTED}: not tested, .*6 patients", text), name
    assert "(not tested: " in order_sentences(found)[0]


def test_images_without_a_defined_measure_are_counted_in_the_cell() -> None:
    found = results()
    (one,) = (one for one in found.tested if one.job.system == "unet-s")
    maps = one.answers.maps_NM.copy()
    maps[:45, list(MAP_SCORES).index("cc")] = np.nan
    lost = replace(one, answers=replace(one.answers, maps_NM=maps))
    found.tested = [lost if other is one else other for other in found.tested]
    rows = {row.name: row for row in table_rows(found, "saliency")}
    assert cell_text(rows["unet-s"].figures["cc"]).endswith("undefined for 45 images")
    assert "undefined" not in cell_text(rows["unet-s"].figures["kl"])


def test_a_macro_auc_of_two_classes_says_so() -> None:
    rows = {row.name: row for row in table_rows(results(classes=2), "classes")}
    assert cell_text(rows["gazenet"].figures["auc_macro"]).endswith("over 2 of 3 classes")


def test_a_lost_seed_keeps_the_others_numbers_and_is_told() -> None:
    found = results(seeds=3)
    found.tested = [one for one in found.tested if (one.job.system, one.job.seed) != ("mt-unet", 0)]
    found.left_out["mt-unet", 0] = "training diverged: at epoch 3"
    written = documents(found, FACTS)
    rows = list(csv.DictReader(io.StringIO(written["tables.csv"].decode())))
    assert {row["seed"] for row in rows if row["system"] == "mt-unet"} == {"1", "2"}
    assert {row["seed"] for row in rows if row["system"] == CENTRE} == {""}
    for name in ("tables.md", "tables.html"):
        assert "Left out: MT-UNet, seed 0: training diverged" in written[name].decode()


def test_what_was_learned_is_said_beside_the_order() -> None:
    sentences = beyond_chance({kind: table_rows(results(), kind) for kind in ("classes", "saliency")})
    assert re.search(r"macro AUC above 0\.5: GazeNet \(ours\) in 1 of 1", sentences[0])
    assert "shuffled AUC above 0.5" in sentences[1]


def test_legends_speak_of_what_is_there() -> None:
    without = documents(results(without=("gazenet",)), FACTS, None, b"png")["tables.md"].decode()
    assert "Nothing is tested" in without
    assert "An asterisk" not in without
    assert "Grad-CAM shows" not in without
    whole = documents(results(), FACTS, None, b"png", explains=True)["tables.md"].decode()
    assert "An asterisk" in whole
    assert "Grad-CAM shows" in whole
    assert "| KL ↓ | CC ↑ |" in whole
    assert whole.endswith("use.\n")
