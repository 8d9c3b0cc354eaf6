"""Metrics on cases that a person can check."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, confusion_matrix, roc_auc_score

from cxrgaze_ray.evaluation.maps import correlation, histogram_similarity, kl_divergence
from cxrgaze_ray.evaluation.metrics import (
    DiagnosisMetrics,
    Evaluation,
    ImageScore,
    SaliencyMetrics,
    diagnosis_metrics,
    saliency_metrics,
)
from cxrgaze_ray.evaluation.statistics import Interval
from cxrgaze_ray.evaluation.table import MapScores

MAPS = arrays.arrays(np.float32, (3, 4), elements=st.floats(0.125, 100, width=32))

PROBABILITIES = np.array(
    [
        [0.7, 0.2, 0.1],
        [0.3, 0.5, 0.2],
        [0.32, 0.3, 0.38],
        [0.1, 0.3, 0.6],
    ]
)
LABELS = np.array([0, 0, 1, 2])


def test_diagnosis_by_hand() -> None:
    found = diagnosis_metrics(PROBABILITIES, LABELS)
    # normal: .7 and .3 against .32 and .1, three of four pairs in order
    # heart failure: .3 against .2, .5 and .3, one and a half of three; pneumonia: all in order
    assert found.auc == pytest.approx({"normal": 3 / 4, "heart_failure": 1.5 / 3, "pneumonia": 1})
    assert found.auc_macro == pytest.approx((3 / 4 + 1.5 / 3 + 1) / 3)
    assert found.accuracy == 2 / 4
    assert found.confusion == ((1, 1, 0), (0, 0, 1), (0, 0, 1))
    assert found.images == 4


def test_micro_auc_is_of_all_pairs_of_image_and_class() -> None:
    truth = np.eye(3)[LABELS].ravel()
    scores = PROBABILITIES.ravel()
    pairs = [(p > n) + 0.5 * (p == n) for p in scores[truth == 1] for n in scores[truth == 0]]
    assert diagnosis_metrics(PROBABILITIES, LABELS).auc_micro == pytest.approx(np.mean(pairs))


def test_an_auc_of_one_side_only_is_undefined_and_left_out_of_the_mean() -> None:
    found = diagnosis_metrics(PROBABILITIES[:3], LABELS[:3])
    assert found.auc["pneumonia"] is None
    assert found.auc["normal"] is not None
    assert found.auc["heart_failure"] is not None
    assert found.auc_macro == pytest.approx((found.auc["normal"] + found.auc["heart_failure"]) / 2)


def test_images_of_one_class_have_no_macro_auc() -> None:
    found = diagnosis_metrics(PROBABILITIES, np.zeros(4, int))
    assert found.auc == {"normal": None, "heart_failure": None, "pneumonia": None}
    assert found.auc_macro is None
    assert found.accuracy == 1 / 4


def test_no_labelled_image_is_an_error() -> None:
    with pytest.raises(ValueError, match="no labelled image"):
        diagnosis_metrics(np.empty((0, 3)), np.empty(0, int))


def test_a_probability_that_is_no_number_is_an_error() -> None:
    with pytest.raises(ValueError, match="not a number"):
        diagnosis_metrics(np.where(PROBABILITIES == 0.7, np.nan, PROBABILITIES), LABELS)


@given(st.integers(3, 40), st.integers(0, 10_000))
def test_figures_of_classes_are_those_of_scikit_learn(images: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(3), rng.integers(0, 3, images - 3)])
    probabilities = rng.dirichlet(np.ones(3), images).round(1) + 0.01  # rounded: ties
    found, onehot = diagnosis_metrics(probabilities, labels), np.eye(3, dtype=int)[labels]
    assert list(found.auc.values()) == pytest.approx(roc_auc_score(onehot, probabilities, average=None).tolist())
    assert found.auc_macro == pytest.approx(roc_auc_score(onehot, probabilities, average="macro"))
    assert found.auc_micro == pytest.approx(roc_auc_score(onehot, probabilities, average="micro"))
    predicted = probabilities.argmax(axis=1)
    assert found.accuracy == pytest.approx(accuracy_score(labels, predicted))
    np.testing.assert_array_equal(found.confusion, confusion_matrix(labels, predicted))
    assert found.ece is not None
    assert 0 <= found.ece <= 1 + 1e-9


def half(left: float, right: float) -> NDArray[np.float32]:
    return np.array([[left, left, right, right]] * 4, np.float32)


def test_saliency_by_hand() -> None:
    gaze, saliency = half(3, 1), half(1, 1)
    assert kl_divergence(gaze, saliency) == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert kl_divergence(saliency, gaze) == pytest.approx(0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25))
    assert histogram_similarity(gaze, saliency) == pytest.approx(0.5 + 0.25)
    assert correlation(half(3, 1), half(1, 2)) == pytest.approx(-1)
    assert correlation(np.array([[1, 2, 3]], np.float32), np.array([[1, 2, 0]], np.float32)) == pytest.approx(-0.5)


@given(MAPS)
def test_equal_maps(density: NDArray[np.float32]) -> None:
    assert kl_divergence(density, 3 * density) == pytest.approx(0, abs=1e-6)
    assert histogram_similarity(density, 3 * density) == pytest.approx(1, abs=1e-6)
    if np.ptp(density) > 1e-3:
        assert correlation(density, 3 * density) == pytest.approx(1, abs=1e-6)


@given(MAPS, MAPS)
def test_bounds(gaze: NDArray[np.float32], saliency: NDArray[np.float32]) -> None:
    kl, hs = kl_divergence(gaze, saliency), histogram_similarity(gaze, saliency)
    assert kl is not None
    assert kl >= -1e-9
    assert hs is not None
    assert -1e-9 <= hs <= 1 + 1e-9
    r = correlation(gaze, saliency)
    assert r is None or abs(r) <= 1 + 1e-9


def test_disjoint_maps() -> None:
    left, right = half(1, 0), half(0, 1)
    assert histogram_similarity(left, right) == 0
    assert correlation(left, right) == pytest.approx(-1)
    kl = kl_divergence(left, right)
    assert kl is not None
    assert 100 < kl < math.inf


def test_places_without_gaze_cost_nothing_in_kl() -> None:
    assert kl_divergence(half(1, 0), half(1, 1)) == pytest.approx(math.log(2))


@pytest.mark.parametrize("value", [1.0, 0.1, 1 / 327680, 0.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_map_has_no_correlation(value: float, dtype: type[np.floating[Any]]) -> None:
    constant = np.full((640, 512), value, dtype)
    other = np.random.default_rng(0).random((640, 512), np.float32)
    assert correlation(constant, other) is None
    assert correlation(other, constant) is None


@pytest.mark.parametrize("empty", [0.0, math.nan, math.inf, -1.0])
def test_a_map_without_mass_has_no_figure(empty: float) -> None:
    """Zeros are no density: 0/0 everywhere made the sum over where the gaze is above zero 0, the best there is."""
    nothing, other = np.full((64, 48), empty, np.float32), np.random.default_rng(0).random((64, 48), np.float32)
    for pair in ((nothing, other), (other, nothing), (nothing, nothing)):
        assert (kl_divergence(*pair), histogram_similarity(*pair), correlation(*pair)) == (None, None, None)


def test_one_pixel_that_is_no_number_leaves_no_figure() -> None:
    other = np.random.default_rng(0).random((64, 48), np.float32)
    broken = other.copy()
    broken[3, 4] = np.nan
    assert (kl_divergence(broken, other), histogram_similarity(broken, other), correlation(broken, other)) == (
        None,
    ) * 3


def test_undefined_figures_are_left_out_and_counted() -> None:
    found = saliency_metrics([MapScores(1.0, 0.5, 0.2), MapScores(None, None, None), MapScores(3.0, None, 0.4)])
    assert (found.images, found.undefined_kl, found.undefined_cc, found.undefined_hs) == (3, 1, 2, 1)
    assert (found.kl, found.cc, found.hs) == pytest.approx((2.0, 0.5, 0.3))
    assert ["maps without mass", "1", ""] in Evaluation(3, None, found, {}).rows()


def test_faint_maps_correlate_in_float64() -> None:
    base = np.random.default_rng(0).random((640, 512))
    faint = (base * 1e-20).astype(np.float32)
    assert correlation(faint, base.astype(np.float32)) == pytest.approx(1, abs=1e-6)


def test_means_and_population_deviations_leave_out_undefined_correlations() -> None:
    found = saliency_metrics([MapScores(1.0, 0.5, 0.2), MapScores(3.0, None, 0.4), MapScores(2.0, 0.7, 0.6)])
    assert (found.images, found.undefined_cc) == (3, 1)
    assert (found.kl, found.kl_std) == pytest.approx((2, math.sqrt(2 / 3)))
    assert (found.cc, found.cc_std) == pytest.approx((0.6, 0.1))
    assert (found.hs, found.hs_std) == pytest.approx((0.4, math.sqrt(0.08 / 3)))


def test_no_defined_correlation_gives_none() -> None:
    found = saliency_metrics([MapScores(1.0, None, 0.2)])
    assert (found.cc, found.cc_std, found.undefined_cc) == (None, None, 1)


def test_no_gaze_map_is_an_error() -> None:
    with pytest.raises(ValueError, match="no gaze map"):
        saliency_metrics([])


EVALUATION = Evaluation(
    images=5,
    diagnosis=DiagnosisMetrics(
        images=4,
        auc={"normal": 0.75, "heart_failure": 0.5, "pneumonia": None},
        auc_macro=0.625,
        auc_micro=0.8,
        accuracy=0.5,
        confusion=((1, 1, 0), (1, 0, 0), (0, 0, 1)),
    ),
    saliency=SaliencyMetrics(
        images=2, kl=0.7, kl_std=0.1, cc=0.5764, cc_std=0.1, hs=0.55, hs_std=0.1, undefined_cc=0, nss=1.1, nss_std=0.5
    ),
    intervals={"auc_macro": Interval(0.625, 0.5, 0.71251), "accuracy": None, "cc": Interval(0.576, 0.4, 0.6)},
    note="of a phantom",
    scores=(ImageScore("a", 0, 0.9, None),),
    centre=SaliencyMetrics(images=2, kl=0.9, kl_std=0.1, cc=0.4, cc_std=0.1, hs=0.45, hs_std=0.1, undefined_cc=0),
    missing={"readers": "no image has two readers"},
)  # fmt: skip


def test_the_summary_is_json_without_single_images() -> None:
    summary = json.loads(json.dumps(EVALUATION.summary()))
    assert summary.keys() == {field.name for field in fields(Evaluation)} - {"scores"}
    assert summary["diagnosis"]["auc"]["pneumonia"] is None
    assert summary["saliency"]["cc"] == 0.5764
    assert summary["intervals"] == {
        "auc_macro": {"value": 0.625, "low": 0.5, "high": 0.71251},
        "accuracy": None,
        "cc": {"value": 0.576, "low": 0.4, "high": 0.6},
    }


def test_an_unknown_divergence_is_null_in_json() -> None:
    maps = saliency_metrics([MapScores(None, None, 0.4), MapScores(None, None, 0.6)])
    summary = json.loads(json.dumps(Evaluation(2, None, maps, {}).summary(), allow_nan=False))
    assert (summary["saliency"]["kl"], summary["saliency"]["kl_std"], summary["saliency"]["cc"]) == (None, None, None)
    assert summary["saliency"]["hs"] == 0.5


def test_rows_of_a_table() -> None:
    assert EVALUATION.rows() == [
        ["images", "5", ""],
        ["AUC normal", "0.750", ""],
        ["AUC heart failure", "0.500", ""],
        ["AUC pneumonia", "undefined", ""],
        ["AUC macro", "0.625", "0.500 to 0.713"],
        ["AUC micro", "0.800", ""],
        ["accuracy", "0.500", ""],
        ["saliency CC", "0.576 (std 0.100)", "0.400 to 0.600"],
        ["saliency HS", "0.550 (std 0.100)", ""],
        ["saliency KL", "0.700 (std 0.100)", ""],
        ["saliency NSS", "1.100 (std 0.500)", ""],
        ["saliency shuffled AUC", "not known", ""],
        ["centre-bias baseline", "of 2 images", ""],
        ["centre-bias baseline CC", "0.400 (std 0.100)", ""],
        ["centre-bias baseline HS", "0.450 (std 0.100)", ""],
        ["centre-bias baseline KL", "0.900 (std 0.100)", ""],
        ["centre-bias baseline NSS", "not known", ""],
        ["centre-bias baseline shuffled AUC", "not known", ""],
        ["readers' agreement", "no image has two readers", ""],
    ]


def test_rows_say_what_is_not_known() -> None:
    assert Evaluation(3, None, None, {}).rows() == [["images", "3", ""]]
    unknown = saliency_metrics([MapScores(None, None, 1.0), MapScores(None, None, 1.0)])
    rows = Evaluation(2, None, unknown, {}).rows()
    assert rows[1:4] == [
        ["saliency CC", "undefined", ""],
        ["saliency HS", "1.000 (std 0.000)", ""],
        ["saliency KL", "not known", ""],
    ]
