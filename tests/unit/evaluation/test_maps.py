"""Scores of single maps: as other libraries compute them, and as the papers that name them say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from scipy.special import rel_entr
from scipy.stats import pearsonr, zscore
from sklearn.metrics import roc_auc_score

from cxrgaze_ray.evaluation.maps import (
    Looks,
    Negatives,
    Reference,
    correlation,
    histogram_similarity,
    kl_divergence,
    normalised_scanpath_saliency,
    score_image,
    score_map,
    shuffled_auc,
)
from cxrgaze_ray.evaluation.reference import reference_of
from cxrgaze_ray.gaze.heatmap import LOOK, ReadImage
from cxrgaze_ray.gaze.packed import gaze_density, pack_readings, pool_looks
from cxrgaze_ray.schemas import HEIGHT, WIDTH
from tests.labelled_store import write_store

MAPS = arrays.arrays(np.float64, (5, 4), elements=st.integers(0, 50).map(float))
LOOKS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(1, 40)), min_size=1, max_size=12).map(
    lambda rows: np.array(rows, LOOK)
)


@given(MAPS, MAPS)
def test_figures_of_maps_are_those_of_scipy(gaze: NDArray[np.float64], saliency: NDArray[np.float64]) -> None:
    q, p = gaze + 1, saliency + 1
    assert kl_divergence(q, p) == pytest.approx(rel_entr(q / q.sum(), p / p.sum()).sum(), abs=1e-12)
    assert histogram_similarity(q, p) == pytest.approx(1 - np.abs(q / q.sum() - p / p.sum()).sum() / 2)
    if np.ptp(gaze) and np.ptp(saliency):
        assert correlation(gaze, saliency) == pytest.approx(pearsonr(gaze.ravel(), saliency.ravel()).statistic)


@given(MAPS, LOOKS)
def test_nss_is_the_mean_of_the_standardised_map_where_somebody_looked(
    saliency: NDArray[np.float64], looks: Looks
) -> None:
    found = normalised_scanpath_saliency(looks, saliency)
    if not np.ptp(saliency):
        assert found is None
        return
    expected = np.average(zscore(saliency, axis=None)[looks["y"], looks["x"]], weights=looks["weight"])
    assert found == pytest.approx(expected)
    assert normalised_scanpath_saliency(looks, 3 * saliency + 7) == pytest.approx(found)


@given(MAPS, LOOKS, LOOKS)
def test_shuffled_auc_is_the_area_under_the_curve(saliency: NDArray[np.float64], looks: Looks, others: Looks) -> None:
    found = shuffled_auc(looks, others, saliency)
    values = np.concatenate([saliency[one["y"], one["x"]] for one in (looks, others)])
    truth = np.repeat([1, 0], [len(looks), len(others)])
    weights = np.concatenate([looks["weight"], np.ones(len(others))])
    assert found == pytest.approx(roc_auc_score(truth, values, sample_weight=weights))
    assert shuffled_auc(looks, others, np.exp(saliency / 10)) == pytest.approx(found)
    assert shuffled_auc(looks, others, np.full_like(saliency, 0.5)) == 0.5


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_what_is_no_map_and_where_nobody_looked_has_no_figure(broken: float) -> None:
    saliency, looks = np.arange(20.0).reshape(5, 4), np.array([(1, 2, 1.0)], LOOK)
    for one, where in ((np.where(saliency == 3, broken, saliency), looks), (saliency, looks[:0])):
        assert normalised_scanpath_saliency(where, one) is None
        assert shuffled_auc(where, looks, one) is None
    assert shuffled_auc(looks, looks[:0], saliency) is None


def spot(y: float, x: float, sd: float = 40.0) -> NDArray[np.float32]:
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    density = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * sd**2))
    return np.asarray(density / density.sum(), np.float32)


def looks_at(*places: tuple[int, int, float]) -> Looks:
    return np.array(list(places), LOOK)


def row(name: str, patient: str | None, *readers: tuple[Looks, NDArray[np.float32]]) -> dict[str, Any]:
    looks, maps = zip(*readers, strict=True)
    read = ReadImage(np.mean(maps, axis=0, dtype=np.float32), looks, maps if len(maps) > 1 else ())
    return {"image_id": name, "subject_id": patient, **pack_readings(read)}


ONE, OTHER = looks_at((300, 200, 2.0)), looks_at((100, 400, 1.0), (500, 100, 3.0))
NEGATIVES = Negatives([("a", "p", ONE), ("b", "q", OTHER), ("c", "p", looks_at((1, 1, 1.0)))])


def test_negatives_are_of_other_patients_and_the_same_in_any_order() -> None:
    found = NEGATIVES.of_others("a", "p")
    assert {(one["y"], one["x"]) for one in found} == {(100, 400), (500, 100)}
    assert np.mean(found["y"] == 500) == pytest.approx(0.75, abs=0.15)
    turned = Negatives([("c", "p", looks_at((1, 1, 1.0))), ("b", "q", OTHER), ("a", "p", ONE)])
    np.testing.assert_array_equal(turned.of_others("a", "p"), found)
    assert set(NEGATIVES.of_others("b", "q")["y"].tolist()) == {1, 300}
    assert len(NEGATIVES.of_others("new", "nobody")) > 0
    assert len(Negatives([("a", "p", ONE)]).of_others("a", "p")) == 0
    assert len(Negatives().of_others("a", "p")) == 0


def test_an_image_is_scored_beside_the_mean_map() -> None:
    centre = spot(320, 256, 120)
    image, reference = row("a", "p", (ONE, spot(300, 200))), Reference(centre, NEGATIVES)
    found = score_image(image, centre, reference)
    assert found is not None
    assert (found.centre, found.readers) == (found.model, None)
    negatives = NEGATIVES.of_others("a", "p")
    assert found.model == score_map(gaze_density(image["gaze"]), centre, pool_looks([ONE]), negatives)
    better = score_image(image, spot(300, 200), reference)
    assert better is not None
    assert better.model.sauc == 1.0
    assert better.model.nss is not None
    assert better.model.nss > (found.model.nss or 0)
    assert better.centre == found.centre


def test_readers_are_scored_against_each_other() -> None:
    readers = [
        (ONE, spot(300, 200)),
        (looks_at((330, 220, 1.0), (500, 100, 1.0)), spot(400, 150)),
        (OTHER, spot(90, 400)),
    ]
    image, negatives = row("n", None, *readers), NEGATIVES.of_others("n", "n")
    found = score_image(image, spot(1, 1), Reference(None, NEGATIVES))
    assert found is not None
    assert found.centre is None
    maps = [gaze_density(one["gaze"]) for one in image["readers"]]
    pairs = [(a, b) for a in range(3) for b in range(3) if a != b]
    single = [score_map(maps[b], maps[a], readers[b][0], negatives) for a, b in pairs]
    assert found.readers is not None
    assert found.readers == pytest.approx([np.mean([one[m] for one in single]) for m in range(5)])


def test_an_image_without_looks_has_no_figure_of_looks() -> None:
    image = row("a", "p", (ONE, spot(300, 200)))
    found = score_image({**image, "readers": None}, spot(320, 256), Reference(spot(320, 256), NEGATIVES))
    assert found is not None
    assert (found.model.nss, found.model.sauc, found.readers) == (None, None, None)
    assert found.model.cc is not None
    assert score_image({**image, "gaze": None}, spot(320, 256), Reference(None, NEGATIVES)) is None


def test_no_map_that_is_the_same_for_every_image_exceeds_chance() -> None:
    """Whatever its CC: the shuffled AUC asks what a map knows of this image."""
    rng = np.random.default_rng(0)
    places = rng.normal((320, 256), (90, 70), (120, 30, 2)).clip(0, 511).astype(int).tolist()
    seen = [(f"i{n}", f"p{n // 2}", looks_at(*((y, x, 1.0) for y, x in one))) for n, one in enumerate(places)]
    negatives = Negatives(seen)
    for fixed in (spot(320, 256, 100), spot(320, 256, 30), spot(250, 300, 60)):
        mean = np.mean([shuffled_auc(looks, negatives.of_others(n, p), fixed) or 0 for n, p, looks in seen])
        assert mean == pytest.approx(0.5, abs=0.02)


def test_the_reference_of_a_store_is_read_without_its_pixels(tmp_path: Path) -> None:
    store = write_store(tmp_path, {"train": 3, "test": 4})
    (train,) = store.tables("train")
    expected = np.mean([gaze_density(gaze) for gaze in train["gaze"].to_pylist()], axis=0)
    found = reference_of(store, "test")
    assert found.centre_HW is not None
    np.testing.assert_allclose(found.centre_HW, expected, rtol=1e-6)
    (test,) = store.tables("test")
    for image in test.to_pylist():
        scores = score_image(image, spot(230, 185), found)
        assert scores is not None
        assert scores.centre is not None
        assert None not in (*scores.model, *scores.centre)
    assert reference_of(write_store(tmp_path / "new", {"test": 1}), "test").centre_HW is None
