"""Answers: collected one at a time, taken apart, stored and read back."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from cxrgaze_ray.evaluation.answers import UNKNOWN, AnswerList, Answers
from cxrgaze_ray.evaluation.evaluate import evaluate
from cxrgaze_ray.evaluation.metrics import diagnosis_metrics


@pytest.fixture
def answers() -> Answers:
    found = AnswerList()
    found.add("a", "p1", 0, np.array([0.7, 0.2, 0.1], np.float32), (0.5, 0.8, 0.6), {"sex": "F", "rows": "12"})
    found.add("b", None, None, np.array([0.1, 0.8, 0.1], np.float32), None, {"manufacturer": "Ostia"})
    found.add("c", "p1", 2, np.array([0.6, 0.2, 0.2], np.float32), (0.4, None, 0.7), {"sex": "M"})
    return found.answers()


def test_what_is_not_known_is_marked(answers: Answers) -> None:
    assert answers.labels_N.tolist() == [0, UNKNOWN, 2]
    assert answers.patients == ("p1", "b", "p1")
    assert answers.seen_N.tolist() == [True, False, True]
    assert np.isnan(answers.cc_N).tolist() == [False, True, True]
    assert answers.facets["sex"] == ("F", None, "M")
    assert answers.facets["manufacturer"] == (None, "Ostia", None)


def test_a_part_keeps_everything_together(answers: Answers) -> None:
    labelled = answers.labelled()
    assert labelled.image_ids == ("a", "c")
    assert labelled.facets["sex"] == ("F", "M")
    np.testing.assert_array_equal(labelled.hs_N, [0.6, 0.7])


def test_they_survive_being_stored(answers: Answers) -> None:
    again = Answers.from_table(answers.to_table())
    assert (again.image_ids, again.patients, again.facets) == (answers.image_ids, answers.patients, answers.facets)
    for name in ("labels_N", "probabilities_NK", "kl_N", "cc_N", "hs_N", "seen_N"):
        np.testing.assert_array_equal(getattr(again, name), getattr(answers, name))


def test_none_are_answers_too() -> None:
    nothing = AnswerList().answers()
    assert len(nothing) == 0
    assert nothing.probabilities_NK.shape == (0, 3)
    assert evaluate(nothing).diagnosis is None


def test_metrics_are_of_what_is_known(answers: Answers) -> None:
    found = evaluate(answers)
    assert (found.images, found.diagnosis and found.diagnosis.images) == (3, 2)
    assert found.saliency is not None
    assert (found.saliency.images, found.saliency.undefined_cc) == (2, 1)
    assert [one.p_true for one in found.scores] == [pytest.approx(0.7), None, pytest.approx(0.2)]


def test_an_image_without_a_figure_is_left_out_of_it_and_counted(answers: Answers) -> None:
    more = AnswerList()
    more.add("d", "p2", 1, np.array([0.1, 0.8, 0.1], np.float32), (None, None, None), {})
    found = evaluate(Answers.from_table(pa.concat_tables([answers.to_table(), more.answers().to_table()])))
    assert found.saliency is not None
    assert (found.saliency.images, found.saliency.undefined_kl, found.saliency.undefined_hs) == (3, 1, 1)
    assert (found.saliency.kl, found.saliency.hs) == pytest.approx((0.45, 0.65))
    assert "NaN" not in json.dumps(found.summary())


def test_calibration_error_by_hand() -> None:
    # confidences .9 .9 .6; hits 1 0 1: bins of width 1/15 hold {.9, .9} and {.6}
    probabilities = np.array([[0.9, 0.05, 0.05], [0.9, 0.05, 0.05], [0.2, 0.6, 0.2]])
    assert diagnosis_metrics(probabilities, np.array([0, 1, 1])).ece == pytest.approx((abs(1 - 1.8) + abs(1 - 0.6)) / 3)
    assert diagnosis_metrics(np.eye(3), np.arange(3)).ece == 0
