"""Paired tests of two systems: as scipy computes them, and honest where there is none."""

from __future__ import annotations

from dataclasses import replace
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel
from sklearn.metrics import roc_auc_score

from cxrgaze_ray.evaluation.paired import LEAST_PATIENTS, PairedTest, paired_tests
from cxrgaze_ray.evaluation.table import MAP_SCORES, EvaluationTable, score_columns
from tests.model_pairs import CHAMPION, Model, table_pair


def pair(patients: int, model: Model = CHAMPION, seed: int = 0) -> tuple[EvaluationTable, EvaluationTable]:
    """Return two systems' answers: the candidate's, and the champion's."""
    champion, candidate = table_pair(patients, seed, model)
    return candidate, champion


def compared(ours: EvaluationTable, other: EvaluationTable) -> dict[str, PairedTest]:
    return paired_tests(ours, other, rounds=300)


def test_maps_are_compared_by_the_paired_t_test() -> None:
    ours, other = pair(60, Model(cc_loss=0.02))
    found = compared(ours, other)["cc"]
    known = ours.seen_N
    expected = ttest_rel(ours.scores("cc")[known], other.scores("cc")[known])
    low, high = expected.confidence_interval()
    assert (found.p, found.low, found.high) == pytest.approx((expected.pvalue, low, high))
    assert found.ours == pytest.approx(ours.scores("cc")[known].mean())
    assert found.images == known.sum()
    assert found.difference == pytest.approx((found.ours or 0) - (found.other or 0))
    assert found.why == ""


def test_accuracy_is_compared_by_the_images_that_one_gets_right() -> None:
    ours, other = pair(80, Model(own=2))
    found = compared(ours, other)["accuracy"]
    hits = [one.probabilities_NK.argmax(axis=1) == one.labels_N for one in (ours, other)]
    alone, others = int((hits[0] & ~hits[1]).sum()), int((hits[1] & ~hits[0]).sum())
    apart = alone + others
    tail = sum(comb(apart, k) for k in range(min(alone, others) + 1)) / 2**apart
    assert found.p == pytest.approx(min(1.0, 2 * tail))
    assert (found.ours, found.other) == pytest.approx((hits[0].mean(), hits[1].mean()))


def test_auc_is_compared_by_drawing_patients() -> None:
    ours, other = pair(200, Model(own=2.5))
    found = compared(ours, other)
    for name, label in (("normal", 0), ("heart_failure", 1), ("pneumonia", 2)):
        one = found[f"auc_{name}"]
        assert one.ours == pytest.approx(roc_auc_score(ours.labels_N == label, ours.probabilities_NK[:, label]))
    macro = found["auc_macro"]
    assert macro.difference is not None
    assert macro.low is not None
    assert macro.high is not None
    assert macro.low < macro.difference < macro.high < 0
    assert macro.p == pytest.approx(2 / 301)  # as small as 300 draws can show
    assert (macro.images, macro.patients) == (len(ours), 200)


def test_equal_systems_are_seldom_told_apart() -> None:
    found = [compared(*pair(60, seed=seed)) for seed in range(40)]
    for name in ("auc_macro", "accuracy", "cc"):
        assert sum((one[name].p or 1) < 0.05 for one in found) <= 6  # 5% of 40, and three standard errors


@given(st.integers(10, 25), st.integers(0, 1000))
def test_either_way_round_it_is_the_same_test(patients: int, seed: int) -> None:
    ours, other = pair(patients, seed=seed)
    there, back = (paired_tests(*two, rounds=100) for two in ((ours, other), (other, ours)))
    for name, one in there.items():
        turned = back[name]
        assert (one.why, one.images, one.patients) == (turned.why, turned.images, turned.patients)
        assert one.p == (None if turned.p is None else pytest.approx(turned.p))
        assert one.p is None or 0 < one.p <= 1
        assert (one.p is None) == bool(one.why)
        if one.low is not None and one.difference is not None:
            assert one.low == pytest.approx(-(turned.high or 0))


def test_a_class_without_an_example_says_so() -> None:
    ours, other = (one.take(one.labels_N != 2) for one in pair(60))
    found = compared(ours, other)
    assert (found["auc_pneumonia"].why, found["auc_pneumonia"].ours) == ("no image is of pneumonia", None)
    assert found["auc_macro"].why == ""
    alike = compared(*(one.take(one.labels_N == 1) for one in (ours, other)))
    assert alike["auc_macro"].why == "the images are of one class only"
    assert alike["auc_heart_failure"].why == "every image is of heart failure"


def test_few_patients_say_so() -> None:
    found = compared(*pair(LEAST_PATIENTS - 1))
    assert found["auc_macro"].why == found["accuracy"].why == "9 patients have a label; 10 are needed"
    assert found["cc"].why.endswith("patients have this figure; 10 are needed")
    assert found["nss"].why == "0 patients have this figure; 10 are needed"
    assert {one.p for one in found.values()} == {None}


def test_identical_answers_say_so() -> None:
    ours, _ = pair(40)
    found = compared(ours, ours)
    assert found["accuracy"].why == "both are right on the same images"
    assert found["cc"].why == "both give the same figures"
    assert found["auc_macro"].why == "the answers are ranked alike"
    shifted = replace(ours, maps_NM=ours.maps_NM + 0.1)
    assert compared(shifted, ours)["cc"].why == "the difference never varies"


def test_what_one_does_not_predict_says_so() -> None:
    ours, other = pair(40)
    blind = replace(other, predicts=("classes",), maps_NM=score_columns(len(other)))
    found = compared(ours, blind)
    assert {found[name].why for name in MAP_SCORES} == {"not both predict saliency"}
    assert found["accuracy"].why == ""
    mute = replace(other, predicts=("saliency",), probabilities_NK=np.full_like(other.probabilities_NK, np.nan))
    found = compared(ours, mute)
    assert {found[name].why for name in ("auc_macro", "auc_normal", "accuracy")} == {"not both predict classes"}
    assert found["cc"].p is not None


def test_other_images_are_refused() -> None:
    ours, other = pair(40)
    with pytest.raises(ValueError, match="same images"):
        paired_tests(ours, other.take(np.arange(5)))
