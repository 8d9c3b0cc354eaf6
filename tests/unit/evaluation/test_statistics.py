"""Statistics of weighted images are those of the images repeated as often; draws of patients are weights."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from cxrgaze_ray.evaluation.evaluate import evaluate
from cxrgaze_ray.evaluation.metrics import diagnosis_metrics
from cxrgaze_ray.evaluation.statistics import (
    Interval,
    auc,
    bounds,
    calibration_error,
    chance_error,
    draw_patients,
    interval,
    macro_auc,
    mean,
    statistic_of,
    without_chance,
)
from tests.model_pairs import table_pair

IMAGES = st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 3)), min_size=1, max_size=30)


def ones(images: int) -> NDArray[np.float32]:
    return np.ones((images, 1), np.float32)


@given(IMAGES)
@settings(max_examples=150)
def test_weighted_auc_is_that_of_repeated_images_ties_included(images: list[tuple[int, bool, int]]) -> None:
    score, truth, times = (np.array(column) for column in zip(*images, strict=True))
    found = auc(score / 4, truth, times.astype(np.float32)[:, None])[0]
    repeated = np.repeat(truth, times)
    if not repeated.any() or repeated.all():
        assert np.isnan(found)
    else:
        assert found == pytest.approx(roc_auc_score(repeated, np.repeat(score / 4, times)), abs=1e-12)


@given(st.integers(0, 10_000))
@settings(max_examples=12)
def test_every_draw_gives_what_its_images_would(seed: int) -> None:
    table, _ = table_pair(20, seed)
    draws = draw_patients(table.patients, 4, seed)
    found = {target: draws.apply(statistic_of(table, target)) for target in ("auc_macro", "ece", "accuracy")}
    for place in range(4):
        times = draws.times_PR[draws.patient_N, place].astype(int)
        index = np.repeat(np.arange(len(table)), times)
        probabilities, labels = table.probabilities_NK[index], table.labels_N[index]
        metrics = diagnosis_metrics(probabilities, labels)
        assert found["ece"][place] == pytest.approx(metrics.ece)
        assert found["accuracy"][place] == pytest.approx(metrics.accuracy)
        if set(labels) == {0, 1, 2}:
            assert found["auc_macro"][place] == pytest.approx(metrics.auc_macro)


def test_a_draw_without_a_class_of_the_sample_has_no_macro_auc() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.1, 0.3, 0.6]])
    weights = np.array([[1, 1], [1, 1], [1, 0]], np.float32)
    found = macro_auc(probabilities, np.array([0, 1, 2]), weights)
    assert found[0] == 1
    assert np.isnan(found[1])


def test_the_macro_auc_is_over_the_classes_there_are() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.8, 0.1, 0.1]])
    assert macro_auc(probabilities, np.array([0, 1, 1]), ones(3))[0] == pytest.approx(0.5)
    assert np.isnan(macro_auc(probabilities, np.array([1, 1, 1]), ones(3))[0])


def test_nothing_has_no_value() -> None:
    nothing, labels = np.empty((0, 3)), np.empty(0, int)
    assert np.isnan(auc(nothing[:, 0], labels == 0, ones(0))).all()
    assert np.isnan(macro_auc(nothing, labels, ones(0))).all()
    assert np.isnan(calibration_error(nothing, labels, ones(0))).all()
    assert np.isnan(mean(nothing[:, 0], ones(0))).all()
    assert np.isnan(chance_error(nothing, labels, labels))


def test_chance_alone_gives_a_calibrated_model_an_error() -> None:
    pairs = [table_pair(150, seed)[0] for seed in range(40)]
    patients = [np.unique(one.patients, return_inverse=True)[1] for one in pairs]
    expected = [chance_error(one.probabilities_NK, one.labels_N, p) for one, p in zip(pairs, patients, strict=True)]
    found = [calibration_error(one.probabilities_NK, one.labels_N, ones(len(one)))[0] for one in pairs]
    assert np.mean(expected) == pytest.approx(np.mean(found), rel=0.1)


def test_images_of_one_patient_are_no_more_evidence_than_one() -> None:
    table, _ = table_pair(60, 0)
    images = len(table)
    probabilities, labels = np.tile(table.probabilities_NK, (2, 1)), np.tile(table.labels_N, 2)
    once = chance_error(table.probabilities_NK, table.labels_N, np.arange(images))
    assert chance_error(probabilities, labels, np.tile(np.arange(images), 2)) == pytest.approx(once)
    assert chance_error(probabilities, labels, np.arange(2 * images)) == pytest.approx(once / np.sqrt(2))


def test_what_chance_adds_is_taken_off_and_no_more() -> None:
    assert without_chance(np.array([0.05, 0.01]), 0.03) == pytest.approx([np.sqrt(0.05**2 - 2 * 0.03**2), 0])


def test_a_constant_map_counts_as_no_correlation() -> None:
    table, _ = table_pair(8, 0)
    table = table.take(table.seen_N)
    table.scores("cc")[0] = np.nan
    expected = np.nan_to_num(table.scores("cc")).mean()
    assert statistic_of(table, "cc")(ones(len(table)))[0] == pytest.approx(expected)


def test_the_images_of_a_patient_are_drawn_together() -> None:
    patients = ["c", "a", "b", "a", "c", "d", "a", "e"]
    draws = draw_patients(patients, 50, 0)
    weights_NR = draws.times_PR[draws.patient_N]
    for name in set(patients):
        rows = weights_NR[[place for place, patient in enumerate(patients) if patient == name]]
        assert (rows == rows[0]).all()
    assert (draws.times_PR.sum(axis=0) == 5).all()
    assert len(np.unique(weights_NR.sum(axis=0))) > 1
    np.testing.assert_array_equal(draws.times_PR, draw_patients(patients, 50, 0).times_PR)
    assert not np.array_equal(draws.times_PR, draw_patients(patients, 50, 1).times_PR)


def test_values_do_not_depend_on_how_draws_are_split(monkeypatch: pytest.MonkeyPatch) -> None:
    table, _ = table_pair(30, 1)
    draws = draw_patients(table.patients, 100, 0)
    whole = draws.apply(statistic_of(table, "auc_macro"))
    monkeypatch.setattr("cxrgaze_ray.evaluation.statistics._CELLS", 1)
    np.testing.assert_array_equal(draws.apply(statistic_of(table, "auc_macro")), whole)


def test_bounds_of_a_mean_are_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(2).normal(0.3, 1, 400)
    draws = draw_patients([str(place) for place in range(400)], 2000, 0)
    found = bounds(draws.apply(lambda weights_NR: mean(values, weights_NR)), 0.05)
    assert found is not None
    half = 1.645 * values.std() / 20
    assert found == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_bounds_need_draws_that_are_defined() -> None:
    draws = np.linspace(0, 1, 101)
    draws[:10] = np.nan
    assert bounds(draws, 0.05) is not None
    draws[:11] = np.nan
    assert bounds(draws, 0.05) is None


def test_an_interval_of_a_mean_is_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(2).normal(size=400)
    draws = draw_patients([str(place) for place in range(400)], 1000, 0)
    found = interval(float(values.mean()), draws.apply(lambda weights_NR: mean(values, weights_NR)))
    assert found is not None
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_an_interval_of_one_patient_is_a_point() -> None:
    values = np.array([1.0, 2.0, 6.0])
    draws = draw_patients(["a"] * 3, 20, 0)
    assert interval(3.0, draws.apply(lambda weights_NR: mean(values, weights_NR))) == Interval(3, 3, 3)


def test_an_interval_leaves_out_undefined_draws_and_needs_a_value() -> None:
    draws = np.array([np.nan] * 90 + [0.25] * 10)
    assert interval(0.5, draws) == Interval(0.5, 0.25, 0.25)
    assert interval(0.5, draws[:90]) == Interval(0.5, 0.5, 0.5)
    assert interval(None, draws) is None


def test_recorded_intervals_come_out_again() -> None:
    """Intervals stand in bundles and evaluations: the same predictions give them again, to the last rounding."""
    found = evaluate(table_pair(20, 1)[0]).intervals
    recorded = {
        "auc_normal": (0.8493589743589743, 0.6781101190476192, 0.9828703703703703),
        "auc_heart_failure": (0.8846153846153846, 0.7601111111111111, 1.0),
        "auc_pneumonia": (0.8452380952380952, 0.6465453817016318, 0.9845321479885057),
        "auc_micro": (0.8355263157894737, 0.6955193507040097, 0.9468161284121491),
        "nll": (0.7633473582780802, 0.48696597509393513, 1.0903326453337185),
        "brier": (0.4687784720297042, 0.2712021513966781, 0.6955674483987208),
        "auc_macro": (0.8597374847374848, 0.7458771008403361, 0.9623475978480723),
        "accuracy": (0.6842105263157895, 0.47619047619047616, 0.8616139846743295),
        "ece": (0.17048897711854233, 0.1322509178844018, 0.34140023078769444),
        "cc": (0.6417249385762697, 0.5874213838267285, 0.7056018881952338),
    }
    assert {name: astuple(one) for name, one in found.items() if one} == {
        name: pytest.approx(values, abs=1e-15) for name, values in recorded.items()
    }
