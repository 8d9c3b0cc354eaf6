"""What a bundle carries to be drawn: curves with bands, subgroups with counts, and what so many images can show."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss, precision_recall_curve, roc_auc_score

from cxrgaze_ray.evaluation.curves import GRID, Curves, curves_of
from cxrgaze_ray.evaluation.evaluate import evaluate
from cxrgaze_ray.evaluation.metrics import diagnosis_metrics
from cxrgaze_ray.evaluation.statistics import draw_patients
from cxrgaze_ray.evaluation.subgroups import LEAST_PATIENTS, OTHERS, subgroups
from cxrgaze_ray.evaluation.table import UNKNOWN, EvaluationTable
from cxrgaze_ray.schemas import CLASSES
from tests.model_pairs import table_pair

TABLE = table_pair(150, 3)[0]


def curves(table: EvaluationTable) -> Curves:
    return curves_of(table.probabilities_NK, table.labels_N, draw_patients(table.patients, 200, 0))


@pytest.mark.parametrize("k", range(3))
def test_a_roc_curve_has_the_area_of_its_auc_and_lies_within_its_band(k: int) -> None:
    roc = curves(TABLE).classes[CLASSES[k]].roc
    assert roc is not None
    value, low, high = (np.array(side) for side in (roc.value, roc.low, roc.high))
    expected = roc_auc_score(TABLE.labels_N == k, TABLE.probabilities_NK[:, k])
    assert np.trapezoid(value, GRID) == pytest.approx(expected, abs=0.01)
    assert (low <= value).all()
    assert (value <= high).all()
    assert (high - low).max() > 0.02


@pytest.mark.parametrize("k", range(3))
def test_precision_is_that_of_the_first_threshold_with_the_recall(k: int) -> None:
    found = curves(TABLE).classes[CLASSES[k]].precision_recall
    assert found is not None
    precision, recall, _ = precision_recall_curve(TABLE.labels_N == k, TABLE.probabilities_NK[:, k])
    for at, value in zip(GRID[1:], found.value[1:], strict=True):
        reached = np.flatnonzero(recall >= at - 1e-9).max()  # thresholds fall from the end
        assert value == pytest.approx(precision[reached], abs=1e-4)


def test_proper_scores_are_those_of_an_independent_library() -> None:
    found = diagnosis_metrics(TABLE.probabilities_NK, TABLE.labels_N)
    assert found.nll == pytest.approx(log_loss(TABLE.labels_N, TABLE.probabilities_NK), rel=1e-5)
    parts = [brier_score_loss(TABLE.labels_N == k, TABLE.probabilities_NK[:, k]) for k in range(3)]
    assert found.brier == pytest.approx(sum(parts), rel=1e-5)


def test_reliability_and_histograms_count_every_image_once() -> None:
    found = curves(TABLE)
    assert sum(found.counts) == len(TABLE)
    for name, one in found.classes.items():
        assert sum(one.of_it) == np.count_nonzero(TABLE.labels_N == CLASSES.index(name))
        assert sum(one.of_it) + sum(one.of_others) == len(TABLE)
    for count, confidence, share in zip(found.counts, found.confidence, found.reliability.value, strict=True):
        assert (count == 0) == (confidence is None) == (share is None)


def test_a_class_without_images_has_no_curve_and_the_summary_is_json() -> None:
    table = TABLE.take(TABLE.labels_N != 2)
    found = evaluate(table)
    assert found.curves is not None
    assert found.curves.classes["pneumonia"].roc is None
    assert found.curves.classes["normal"].roc is not None
    assert found.intervals["auc_pneumonia"] is None
    json.dumps(found.summary(), allow_nan=False)


def test_subgroups_have_counts_and_figures_with_intervals() -> None:
    found = subgroups(TABLE, 50, 0)
    for facet in TABLE.facets:
        assert sum(one.images for one in found if one.facet == facet) == len(TABLE)
    women = next(one for one in found if one.value == "F")
    part = TABLE.take(np.array([value == "F" for value in TABLE.facets["sex"]]))
    expected = diagnosis_metrics(part.probabilities_NK, part.labels_N)
    assert women.figures["auc_macro"].value == pytest.approx(expected.auc_macro)
    assert women.figures["accuracy"].low < expected.accuracy < women.figures["accuracy"].high
    assert [one.value for one in found if one.facet == "sex"] == ["F", "M", OTHERS]


def test_a_value_of_few_patients_is_neither_named_nor_measured() -> None:
    """A tag may hold a word that only one patient's files have."""
    makers = list(TABLE.facets["manufacturer"])
    makers[:6] = ["Anna's own", "Anna's own", *[None] * 4]
    found = subgroups(replace(TABLE, facets={"manufacturer": tuple(makers)}), 50, 0)
    assert [one.value for one in found] == ["Cumae", "Ostia", "Veii", OTHERS]
    others = found[-1]
    assert (others.images, others.figures) == (6, {})
    assert others.patients < LEAST_PATIENTS
    assert others.why == f"fewer than {LEAST_PATIENTS} patients each"


def test_subgroups_count_images_that_something_is_known_of() -> None:
    labels_N = TABLE.labels_N.copy()
    labels_N[::2] = UNKNOWN
    known = (labels_N != UNKNOWN) | TABLE.seen_N
    found = evaluate(replace(TABLE, labels_N=labels_N)).subgroups
    assert sum(one.images for one in found if one.facet == "sex") == np.count_nonzero(known) < len(TABLE)


def test_a_fact_that_no_file_states_makes_no_subgroup() -> None:
    silent = replace(TABLE, facets={"sex": (None,) * len(TABLE)})
    assert subgroups(silent, 10, 0) == ()


def test_the_reach_says_how_close_so_many_images_come() -> None:
    few, many = (evaluate(table_pair(patients, 3)[0]) for patients in (60, 600))
    for found, patients in ((few, 60), (many, 600)):
        auc = found.intervals["auc_macro"]
        assert auc is not None
        assert f"of {patients} patients" in found.reach
        assert f"{(auc.high - auc.low) / 2:.3f}" in found.reach
        assert f"about {4 * patients:,} patients" in found.reach
    alone = TABLE.take(np.arange(12))
    assert f"12 images of {len(set(alone.patients))} patients can't show" in evaluate(alone).reach
    nothing = replace(TABLE, labels_N=np.full(len(TABLE), UNKNOWN), seen_N=np.zeros(len(TABLE), bool))
    assert evaluate(nothing).reach == ""
