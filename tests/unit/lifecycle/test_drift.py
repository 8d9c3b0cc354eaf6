"""Effects by hand, and noise bounds that chance keeps to."""

from __future__ import annotations

import numpy as np
import pytest

from cxrgaze_ray.lifecycle.drift import (
    OTHER,
    Difference,
    Drop,
    Patients,
    category_shift,
    effective_patients,
    number_shift,
    rate_difference,
)
from cxrgaze_ray.schemas import NOT_STATED

MANY = Patients(1e9, 1e9)
"""So many that nothing is smoothed or merged."""


def test_the_index_by_hand() -> None:
    found = category_shift({"a": 50, "b": 50}, {"a": 80, "b": 20}, MANY)
    assert found.effect == pytest.approx(0.3 * np.log(0.8 / 0.5) + 0.3 * np.log(0.5 / 0.2))
    assert (found.baseline, found.current) == ({"a": 0.5, "b": 0.5}, {"a": 0.8, "b": 0.2})


def test_the_same_sample_has_no_effect() -> None:
    values = np.random.default_rng(0).normal(size=500)
    assert number_shift(values, values, Patients(500, 500), 10).effect == 0
    assert category_shift({"a": 3, None: 4}, {"a": 3, None: 4}, Patients(7, 7)).effect == 0


def test_bins_are_quantiles_of_the_baseline() -> None:
    values = np.arange(1000.0)
    found = number_shift(values, values + 500, Patients(1000, 1000), 10)
    assert list(found.baseline.values()) == pytest.approx([0.1] * 10, abs=0.002)
    assert list(found.current.values()) == pytest.approx([0] * 5 + [0.1] * 4 + [0.6], abs=0.002)
    assert list(found.baseline)[:2] == ["up to 99", "99 to 199"]
    assert list(found.baseline)[-1] == "above 899"


@pytest.mark.parametrize("moved", [-1.0, 1.0])
def test_a_constant_that_moves_either_way_is_seen(moved: float) -> None:
    found = number_shift(np.full(200, 2544.0), np.full(200, 2544.0 + moved), Patients(200, 200), 10)
    assert found.effect > 5


def test_a_peak_at_zero_has_its_own_bin() -> None:
    rng = np.random.default_rng(0)
    before = np.where(rng.random(2000) < 0.4, 0.0, rng.random(2000))
    after = np.where(rng.random(2000) < 0.1, 0.0, rng.random(2000))
    found = number_shift(before, after, Patients(2000, 2000), 10)
    assert found.baseline["up to 0"] == pytest.approx(0.4, abs=0.03)
    assert found.current["up to 0"] == pytest.approx(0.1, abs=0.03)
    assert found.effect > 0.3


def test_missing_numbers_are_a_bin() -> None:
    before, after = np.arange(100.0), np.where(np.arange(100) < 50, np.nan, np.arange(100.0))
    found = number_shift(before, after, Patients(100, 100), 2)
    assert (found.baseline[NOT_STATED], found.current[NOT_STATED]) == (0.0, 0.5)
    nothing = number_shift(np.full(100, np.nan), np.full(100, np.nan), Patients(100, 100), 10)
    assert (nothing.effect, nothing.noise(0.01)) == (0.0, 0.0)


def test_numbers_beyond_all_bounds_are_numbers() -> None:
    values = np.array([-np.inf, *range(98), np.inf])
    assert np.isfinite(number_shift(values, values + 1, Patients(100, 100), 10).effect)


def test_rare_categories_are_one_and_missing_ones_are_named() -> None:
    before = {"a": 960, "b": 3, "c": 3, "d": 3, None: 31}
    found = category_shift(before, before, Patients(1000, 1000))
    assert found.baseline == {"a": 0.96, NOT_STATED: 0.031, OTHER: 0.009}


def test_a_new_category_is_seen_though_the_baseline_had_none() -> None:
    found = category_shift({"a": 100}, {"a": 60, "new": 40}, Patients(100, 100))
    assert found.current["new"] == 0.4
    assert found.effect > found.noise(1e-6)


def test_few_patients_get_few_bins() -> None:
    values = np.random.default_rng(0).normal(size=1000)
    assert len(number_shift(values, values, Patients(80, 1000), 10).baseline) == 4


def test_patients_with_many_images_tell_little_more_than_others() -> None:
    assert effective_patients(np.ones(50, int)) == 50
    assert effective_patients(np.full(50, 7)) == pytest.approx(50)
    assert effective_patients(np.array([90] + [1] * 10)) == pytest.approx(100**2 / (90**2 + 10))
    assert effective_patients(np.array([], int)) == 0


def test_one_patient_whose_images_all_fail_is_one_piece_of_bad_luck() -> None:
    images = np.array([40] + [1] * 400)
    one = rate_difference((np.array([40] + [0] * 400), images), (np.zeros(401, int), images))
    many = rate_difference((np.array([0] + [1] * 40 + [0] * 360), images), (np.zeros(401, int), images))
    assert one.effect == many.effect == pytest.approx(-40 / 440)
    assert abs(one.effect) <= one.noise(0.01)
    assert abs(many.effect) > many.noise(0.01)


def test_images_of_a_patient_that_differ_still_count_as_alike() -> None:
    found = rate_difference((np.ones(100, int), np.full(100, 2)), (np.ones(100, int), np.full(100, 2)))
    assert (found.baseline, found.patients.baseline) == (0.5, 100)


@pytest.mark.parametrize(("n", "m"), [(100, 100), (2000, 100), (60, 900)])
def test_chance_keeps_to_the_bound_of_a_distribution(n: int, m: int) -> None:
    rng, alpha, rounds = np.random.default_rng(1), 0.05, 800
    beyond = 0
    for _ in range(rounds):
        found = number_shift(rng.standard_t(2, n), rng.standard_t(2, m), Patients(n, m), 10)
        beyond += found.effect > found.noise(alpha)
    assert 0.4 * alpha < beyond / rounds < 1.4 * alpha


@pytest.mark.parametrize(("n", "m", "rate"), [(100, 100, 0.3), (2000, 100, 0.002), (60, 900, 0.98)])
def test_chance_keeps_to_the_bound_of_a_rate(n: int, m: int, rate: float) -> None:
    rng, alpha, rounds = np.random.default_rng(2), 0.05, 800
    beyond = 0
    for _ in range(rounds):
        found = Difference(rng.binomial(n, rate) / n, rng.binomial(m, rate) / m, Patients(n, m))
        beyond += abs(found.effect) > found.noise(alpha)
    assert beyond / rounds < 1.2 * alpha


def test_a_rate_that_moves_is_beyond_chance() -> None:
    assert Difference(0.02, 0.12, Patients(500, 500)).effect == pytest.approx(0.1)
    for moved in (Difference(0.02, 0.12, Patients(500, 500)), Difference(0.12, 0.02, Patients(500, 500))):
        assert 0.01 < moved.noise(0.001) < 0.1


def test_better_is_no_drop() -> None:
    worse, better = Drop(0.9, 0.8, 1, 0.02), Drop(0.05, 0.03, -1, 0.02)
    assert worse.effect == pytest.approx(0.1)
    assert better.effect == pytest.approx(-0.02)
    assert worse.noise(0.025) == pytest.approx(1.96 * 0.02, rel=1e-3)
