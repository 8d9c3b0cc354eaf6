"""The forward pass: one answer an image, whatever it was sent with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from cxrgaze_ray.errors import BundleError
from cxrgaze_ray.evaluation.maps import correlation
from cxrgaze_ray.models.bundle import Bundle, golden_image, make_bundle
from cxrgaze_ray.models.engines.engine import REFERENCE_CPU, TORCH_BFLOAT16_CPU, TORCH_FLOAT32_CPU
from cxrgaze_ray.models.gazenet import PRESETS, GazeNetConfig
from cxrgaze_ray.models.predictor import Predictor, limit_threads
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.radiograph.preprocess import to_network

REFERENCE, FAST = REFERENCE_CPU, TORCH_BFLOAT16_CPU


class Answers(NamedTuple):
    """`Predictions` of a network that predicts everything."""

    logits_BK: NDArray[np.float32]
    probabilities_BK: NDArray[np.float32]
    saliency_BHW: NDArray[np.float32]


def ask(predictor: Predictor, images: NDArray[np.uint16]) -> Answers:
    """Return a predictor's answers, none of which may be missing."""
    found = predictor.predict(images)
    assert found.logits_BK is not None
    assert found.probabilities_BK is not None
    assert found.saliency_BHW is not None
    return Answers(found.logits_BK, found.probabilities_BK, found.saliency_BHW)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return make_bundle(build(PRESETS["tiny"], seed=11), "tiny", trained=False)


@pytest.fixture(scope="module")
def predictor(bundle: Bundle) -> Predictor:
    return Predictor.from_bundle(bundle, REFERENCE)


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint16]:
    return np.stack([golden_image(seed) for seed in range(9)])


@pytest.fixture(scope="module")
def whole(predictor: Predictor, images: NDArray[np.uint16]) -> Answers:
    """Return the answers to all nine images, sent together."""
    return ask(predictor, images)


@pytest.fixture(scope="module")
def fast(bundle: Bundle) -> Predictor:
    return Predictor.from_bundle(bundle, FAST)


@pytest.fixture(scope="module")
def fast_whole(fast: Predictor, images: NDArray[np.uint16]) -> Answers:
    return ask(fast, images[:5])


def test_an_answer_that_is_not_finite_is_refused(bundle: Bundle, images: NDArray[np.uint16]) -> None:
    """Finite weights can overflow all the same; NaN must not go out as a score."""
    for name, value in (("classifier.out.weight", 3e38), ("saliency_head.layers.3.bias", np.nan)):
        state = bundle.state | {name: torch.full_like(bundle.state[name], value)}
        with pytest.raises(BundleError, match="tiny gives an image values that are not finite, on engine ref"):
            Predictor.from_bundle(Bundle(bundle.info, state), REFERENCE).predict(images[:1])


def same(part: Answers, whole: Answers, chosen: list[int]) -> None:
    assert np.array_equal(part.logits_BK, whole.logits_BK[chosen])
    assert np.array_equal(part.probabilities_BK, whole.probabilities_BK[chosen])
    assert np.array_equal(part.saliency_BHW, whole.saliency_BHW[chosen])


# the fixed batch is 4: nine images need padding, one needs most, three meet other neighbours
@pytest.mark.parametrize("chosen", [[8], [3, 4, 5], [7, 1, 0]], ids=str)
def test_an_answer_does_not_depend_on_the_batch(
    predictor: Predictor, images: NDArray[np.uint16], whole: Answers, chosen: list[int]
) -> None:
    same(ask(predictor, images[chosen]), whole, chosen)


@pytest.mark.parametrize("chosen", [[4], [3, 1, 0]], ids=str)
def test_nor_does_it_on_the_fast_engine(
    fast: Predictor, images: NDArray[np.uint16], fast_whole: Answers, chosen: list[int]
) -> None:
    same(ask(fast, images[chosen]), fast_whole, chosen)


def test_answers_are_of_their_images(whole: Answers) -> None:
    assert len(np.unique(whole.logits_BK, axis=0)) == 9


@pytest.mark.parametrize(("engine", "count"), [("whole", 9), ("fast_whole", 5)])
def test_probabilities_and_saliency_sum_to_one(request: pytest.FixtureRequest, engine: str, count: int) -> None:
    found: Answers = request.getfixturevalue(engine)
    assert found.saliency_BHW.shape == (count, 640, 512)
    assert found.probabilities_BK.shape == found.logits_BK.shape == (count, 3)
    for array in (found.logits_BK, found.probabilities_BK, found.saliency_BHW):
        assert array.dtype == np.float32
    np.testing.assert_allclose(found.probabilities_BK.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(found.saliency_BHW.sum(axis=(1, 2), dtype=np.float64), 1, atol=1e-4)
    assert found.saliency_BHW.min() >= 0


@torch.inference_mode()
def test_predictions_are_the_networks(bundle: Bundle, whole: Answers, images: NDArray[np.uint16]) -> None:
    output = bundle.network()(to_network(images[:2], (160, 128)))
    torch.testing.assert_close(torch.from_numpy(whole.logits_BK[:2]), output.logits_BK, atol=1e-5, rtol=1e-4)
    coarse = functional.avg_pool2d(torch.from_numpy(whole.saliency_BHW[:2])[:, None], 4) * 16
    for one, expected in zip(coarse.numpy(), output.log_saliency_B1HW.exp().numpy(), strict=True):
        assert one.shape == expected.shape == (1, 160, 128)
        r = correlation(one, expected)
        assert r is not None
        assert r > 0.99


@torch.inference_mode()
def test_a_network_of_full_size_is_not_resampled(images: NDArray[np.uint16]) -> None:
    slim = GazeNetConfig(widths=(4,) * 5, growth_rate=4, block_config=(1, 1, 1, 1), init_features=4, se_reduction=4)
    bundle = make_bundle(build(slim, seed=1), "large", trained=False)
    predictor = Predictor.from_bundle(bundle, REFERENCE)
    found = ask(predictor, images[:1])
    assert predictor.batch == 1
    density = bundle.network()(torch.from_numpy(images[:1].astype(np.float32))[:, None] / 65535).log_saliency_B1HW.exp()
    np.testing.assert_allclose(found.saliency_BHW, density[:, 0].numpy(), rtol=1e-3)


def test_no_image_gives_no_answer(predictor: Predictor) -> None:
    found = ask(predictor, np.empty((0, 640, 512), np.uint16))
    assert found.logits_BK.shape == found.probabilities_BK.shape == (0, 3)
    assert found.saliency_BHW.shape == (0, 640, 512)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 640, 512), np.float32),
        np.zeros((1, 640, 512), np.uint8),
        np.zeros((1, 640, 512), np.int16),
        np.zeros((640, 512), np.uint16),
        np.zeros((1, 512, 640), np.uint16),
        np.zeros((1, 1, 640, 512), np.uint16),
        np.zeros((1, 160, 128), np.uint16),
    ],
    ids=lambda images: f"{images.dtype} {images.shape}",
)
def test_images_of_another_type_or_size_are_refused(predictor: Predictor, images: NDArray[np.uint16]) -> None:
    with pytest.raises(ValueError, match=r"not uint16 \(B, 640, 512\)"):
        predictor.predict(images)


def test_temperature_softens_probabilities_only(bundle: Bundle, whole: Answers, images: NDArray[np.uint16]) -> None:
    soft = Predictor.from_bundle(Bundle(bundle.info.model_copy(update={"temperature": 2.5}), bundle.state), REFERENCE)
    found = ask(soft, images[:4])
    assert np.array_equal(found.logits_BK, whole.logits_BK[:4])
    assert np.array_equal(found.saliency_BHW, whole.saliency_BHW[:4])
    exponentials = np.exp(found.logits_BK.astype(np.float64) / 2.5)
    np.testing.assert_allclose(found.probabilities_BK, exponentials / exponentials.sum(1, keepdims=True), rtol=1e-5)
    assert (found.probabilities_BK.max(axis=1) < whole.probabilities_BK[:4].max(axis=1)).all()


def test_golden_logits_are_those_of_the_golden_image(predictor: Predictor, whole: Answers) -> None:
    assert predictor.golden(5).logits == tuple(whole.logits_BK[5].tolist())


def test_the_fast_engine_agrees_with_the_reference(images: NDArray[np.uint16]) -> None:
    network = build(PRESETS["tiny"], seed=0)
    with torch.no_grad():
        # a fresh saliency map is flat to 2%: correlations of it are those of rounding
        network.get_parameter("saliency_head.layers.3.weight").mul_(64)
    bundle = make_bundle(network, "tiny", trained=False)
    reference, fast = (ask(Predictor.from_bundle(bundle, engine), images[:4]) for engine in (REFERENCE, FAST))
    assert not np.array_equal(fast.logits_BK, reference.logits_BK)
    np.testing.assert_allclose(fast.probabilities_BK, reference.probabilities_BK, atol=0.01)
    for one, other in zip(fast.saliency_BHW, reference.saliency_BHW, strict=True):
        r = correlation(one, other)
        assert r is not None
        assert r >= 0.999


def test_fast_probabilities_of_a_fresh_network_agree(whole: Answers, fast_whole: Answers) -> None:
    np.testing.assert_allclose(fast_whole.probabilities_BK, whole.probabilities_BK[:5], atol=0.01)
    np.testing.assert_allclose(fast_whole.saliency_BHW, whole.saliency_BHW[:5], rtol=0.02)


def test_float32_in_another_layout_is_almost_the_same(
    bundle: Bundle, whole: Answers, images: NDArray[np.uint16]
) -> None:
    other = ask(Predictor.from_bundle(bundle, TORCH_FLOAT32_CPU), images[:4])
    np.testing.assert_allclose(other.logits_BK, whole.logits_BK[:4], atol=1e-4)


def test_the_default_engine_is_the_reference(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert Predictor.from_bundle(bundle).engine == REFERENCE


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_threads_are_limited() -> None:
    limit_threads(1)
    assert torch.get_num_threads() == 1


@pytest.mark.usefixtures("threads")
def test_every_core_means_those_this_process_may_run_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2, 5}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    limit_threads(None)
    assert torch.get_num_threads() == 3
