"""The gate's centre-bias criterion on made-up readers: where they look in general, and what is to be seen of an image.

Maps and looks lie on a small grid, and are scored as real ones are; `-s` prints the rates, over 100 or 200 test sets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from cxrgaze_ray.evaluation.gate import Criterion, GateOutcome, GateSettings, ModelFacts, gate_rows, judge
from cxrgaze_ray.evaluation.gate.compare import Pair
from cxrgaze_ray.evaluation.gate.criteria import centre_bias
from cxrgaze_ray.evaluation.maps import Looks, Negatives, score_map
from cxrgaze_ray.evaluation.table import EvaluationTable, score_columns
from cxrgaze_ray.gaze.heatmap import LOOK
from cxrgaze_ray.schemas import CLASSES
from tests.model_pairs import table_pair

SEEDS = 200
SETTINGS = GateSettings(rounds=300)
FACTS = ModelFacts(
    golden_reproduced=True, golden_difference=0.0, latency_ratio=1.0, size_mib=90, looks_used=1, looks_of=20
)
SHAPE = (40, 32)
Map = NDArray[np.float64]


@dataclass(frozen=True)
class Image:
    """An image that one reader looked at, with something to be seen in one place."""

    target: tuple[float, float]
    looks: Looks
    gaze: Map


def spot(y: float, x: float, sd: float) -> Map:
    rows, columns = np.ogrid[: SHAPE[0], : SHAPE[1]]
    density = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * sd**2))
    return np.asarray(density / density.sum())


def image(rng: np.random.Generator) -> Image:
    target = (rng.uniform(6, 34), rng.uniform(5, 27))
    places = np.concatenate([rng.normal((20, 16), (7, 5), (30, 2)), rng.normal(target, 2.5, (30, 2))])
    y, x = np.clip(np.rint(places), 0, np.array(SHAPE) - 1).astype(int).T
    looks = np.array([(row, column, 1.0) for row, column in zip(y.tolist(), x.tolist(), strict=True)], LOOK)
    gaze = np.mean([spot(row, column, 2.5) for row, column in zip(y[::4], x[::4], strict=True)], axis=0)
    return Image(target, looks, gaze)


@cache
def mean_map() -> Map:
    rng = np.random.default_rng(10**9)
    return np.asarray(np.mean([image(rng).gaze for _ in range(300)], axis=0))


Model = Callable[[Image], Map]
MODELS: dict[str, Model] = {
    "mean map": lambda _: mean_map(),
    "sharper mean map": lambda _: mean_map() ** 3,
    "flatter mean map": lambda _: mean_map() ** 0.8,
    "another map for all": lambda _: spot(20, 16, 6),
    "knowing": lambda one: mean_map() + 0.3 * spot(*one.target, 3),
}


@cache
def made_up(patients: int, seed: int) -> tuple[list[str], list[Image]]:
    rng = np.random.default_rng(seed)
    whose = [f"p{n}" for n in range(patients) for _ in range(rng.integers(1, 3))]
    return whose, [image(rng) for _ in whose]


def table(patients: int, seed: int, model: Model) -> EvaluationTable:
    whose, images = made_up(patients, seed)
    names = [f"i{n}" for n in range(len(whose))]
    negatives = Negatives(zip(names, whose, (one.looks for one in images), strict=True))

    def scores(predict: Model) -> NDArray[np.float64]:
        rows = []
        for name, patient, one in zip(names, whose, images, strict=True):
            rows.append(score_map(one.gaze, predict(one), one.looks, negatives.of_others(name, patient)))
        return np.array(rows, np.float64)

    count = len(names)
    return EvaluationTable(
        tuple(names), tuple(whose), np.zeros(count, np.int64), np.full((count, len(CLASSES)), np.nan, np.float32),
        scores(model), np.ones(count, np.bool_), {}, ("saliency",), scores(MODELS["mean map"]),
    )  # fmt: skip


def judged(answers: EvaluationTable, settings: GateSettings = SETTINGS) -> Criterion:
    (found,) = centre_bias(Pair.of(answers, answers, settings.rounds, 0), settings)
    return found


def rates(title: str, tables: list[EvaluationTable]) -> dict[str, float]:
    counts = Counter(judged(one).verdict for one in tables)
    found = {verdict: count / len(tables) for verdict, count in counts.items()}
    print(f"\n{title}: {found}")
    return {"pass": 0.0, "fail": 0.0, "cannot_tell": 0.0} | found


@pytest.mark.long
def test_the_mean_map_is_rejected_whatever_its_cc() -> None:
    cc = {}
    for name in ("mean map", "sharper mean map", "flatter mean map"):
        tables = [table(60, seed, MODELS[name]) for seed in range(10)]
        assert rates(name, tables)["fail"] == 1
        cc[name] = np.mean([one.scores("cc").mean() for one in tables])
    assert max(cc.values()) - min(cc.values()) > 0.05


@pytest.mark.long
def test_a_map_for_all_images_hardly_ever_passes() -> None:
    tables = [table(60, seed, MODELS["another map for all"]) for seed in range(20)]
    assert rates("another map for all", tables)["pass"] == 0


def test_one_that_knows_what_is_to_be_seen_passes() -> None:
    tables = [table(60, seed, MODELS["knowing"]) for seed in range(10)]
    assert rates("knowing", tables)["pass"] == 1


@pytest.mark.long
@pytest.mark.parametrize("name", list(MODELS))
def test_over_many_test_sets(name: str) -> None:
    found = rates(name, [table(60, seed, MODELS[name]) for seed in range(SEEDS // 2)])
    if name == "knowing":
        assert found["pass"] >= 0.95
    else:
        assert found["pass"] <= 0.05
    if "mean map" in name:
        assert found["fail"] == 1


def with_gain(patients: int, seed: int, gain: float) -> EvaluationTable:
    """Return answers whose shuffled AUC is higher than the baseline's by so much, of a patient's images alike."""
    rng = np.random.default_rng(seed)
    whose_N = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    count = len(whose_N)
    centre_N = rng.normal(0.5, 0.08, count)
    noise_N = 0.05 * rng.standard_normal(patients)[whose_N] + 0.05 * rng.standard_normal(count)
    return EvaluationTable(
        tuple(map(str, range(count))), tuple(map(str, whose_N.tolist())), np.zeros(count, np.int64),
        np.full((count, len(CLASSES)), np.nan, np.float32),
        score_columns(count, cc=np.full(count, 0.5), sauc=centre_N + gain + noise_N), np.ones(count, np.bool_), {},
        ("saliency",), score_columns(count, cc=np.full(count, 0.5), sauc=centre_N),
    )  # fmt: skip


@pytest.mark.parametrize("patients", [60, pytest.param(300, marks=pytest.mark.long)])
def test_one_at_the_margin_passes_as_seldom_as_alpha_says(patients: int) -> None:
    found = rates(f"at the margin, {patients}", [with_gain(patients, seed, 0.01) for seed in range(SEEDS)])
    assert found["pass"] <= 0.1  # 5%, and three standard errors of 200 test sets


@pytest.mark.parametrize(("patients", "least"), [(60, 0.8), (300, 0.99)])
def test_a_gain_is_shown_with_patients_enough(patients: int, least: float) -> None:
    found = rates(f"0.03 better, {patients}", [with_gain(patients, seed, 0.03) for seed in range(SEEDS // 2)])
    assert found["pass"] >= least
    assert found["fail"] <= 0.05


def test_a_small_gain_among_few_patients_cannot_be_told() -> None:
    found = rates("0.02 better, 50", [with_gain(50, seed, 0.02) for seed in range(SEEDS // 2)])
    assert found["cannot_tell"] >= 0.3
    assert found["fail"] <= 0.1


def test_too_few_patients_or_no_baseline_are_not_the_candidate_s_fault() -> None:
    few, enough = with_gain(49, 0, 0.2), with_gain(60, 0, 0.2)
    older = replace(enough, centre_NM=score_columns(len(enough)))
    nobody = replace(enough, seen_N=np.zeros(len(enough), np.bool_))
    for one, why in (
        (few, "49 patients have gaze; 50 are needed to judge saliency."),
        (nobody, "0 patients have gaze; 50 are needed to judge saliency."),
        (older, "The centre-bias baseline is known for 0 patients; 50 are needed."),
    ):
        found = judged(one)
        assert found.verdict == "not_applicable"
        assert found.why.startswith(why)
    assert list(centre_bias(Pair.of(few, few, 100, 0), GateSettings(centre_bias_margin=None))) == []


def test_the_mean_map_is_not_promoted_for_its_cc() -> None:
    champion, candidate = table_pair(600, 0)
    count = len(champion)
    centre_NM = np.where(
        champion.seen_N[:, None], score_columns(count, cc=np.full(count, 0.9), sauc=np.full(count, 0.5)), np.nan
    )
    known = replace(champion, centre_NM=centre_NM)
    report = judge(known, replace(candidate, maps_NM=centre_NM, centre_NM=centre_NM), FACTS, GateSettings(rounds=300))
    (row,) = (one for one in gate_rows(report.criteria) if one.rule == "baseline")
    assert row.champion == "0.500 (baseline)", "it is not the champion's"
    verdicts = {one.title: one.verdict for one in report.criteria}
    assert (verdicts["cc"], verdicts["shuffled AUC against the centre-bias baseline"], report.outcome) == (
        "pass",
        "fail",
        GateOutcome.REJECTED,
    )
    assert report.why == (
        "Saliency's shuffled AUC is 0.000 higher than the centre-bias baseline's: "
        "the maps know no more than where readers look in general."
    )
