"""A network's forward pass on every engine of this hardware, in turn, beside the released code's way of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from cxrgaze_ray.benchmark.blocks import BlockTime, time_blocks
from cxrgaze_ray.benchmark.timing import Timing, race
from cxrgaze_ray.errors import CxrgazeError
from cxrgaze_ray.evaluation.maps import correlation
from cxrgaze_ray.models.bundle import Bundle
from cxrgaze_ray.models.engines.engine import REFERENCE_CPU, REFERENCE_CUDA, Engine
from cxrgaze_ray.models.network import Network
from cxrgaze_ray.models.predictions import Predictions, stored
from cxrgaze_ray.models.predictor import SAME_ANSWER, Predictor
from cxrgaze_ray.phantoms import draw
from cxrgaze_ray.radiograph.preprocess import to_network
from cxrgaze_ray.schemas import CLASSES, HEIGHT, WIDTH

BATCHES = {"cpu": (1, 2, 4), "cuda": (8, 16, 32, 64)}
"""Sizes of the released code's batches that are tried: it is measured at its best one."""

_EDGE = 2048
_PROBE_IMAGES = 8


@dataclass(frozen=True)
class EngineTime:
    """One engine's time and answers.

    Attributes
    ----------
    name
        Of the engine.
    timing
        Seconds an image, NumPy in to NumPy out.
    difference
        Largest difference of a probability from the reference's; None if the network predicts no classes.
    least_cc
        Lowest correlation of a map with the reference's; None if it predicts no maps.
    other_class
        Images that get another class than the reference gives them, ties within `SAME_ANSWER` left out.
    start_seconds
        From a bundle in memory to the first answer, once without and once with what the first start left in a cache.
    """

    name: str
    timing: Timing
    difference: float | None
    least_cc: float | None
    other_class: int
    start_seconds: tuple[float, float]


@dataclass(frozen=True)
class ModelReport:
    """What `bench_model` measured.

    Attributes
    ----------
    system, images, compared
        The network, how many images a call takes, and on how many answers are compared.
    gflop
        Arithmetic of an image, a multiplication and an addition counted as two.
    peaks
        FLOP/s of a square matrix product here, by type.
    released, released_batch
        Seconds an image of the released code's way, at its best batch.
    engines
        In the order of `engines`.
    skipped
        Engines that did not work here, with the kind of error.
    parts
        Seconds an image of the first engine's steps.
    blocks
        Time and arithmetic of the network's blocks in plain float32 layers.
    """

    system: str
    images: int
    compared: int
    gflop: float
    peaks: Mapping[str, float]
    released: Timing
    released_batch: int
    engines: Sequence[EngineTime]
    skipped: Mapping[str, str]
    parts: Mapping[str, Timing]
    blocks: Sequence[BlockTime]

    def ratio(self, engine: EngineTime) -> float:
        """Return how many times as fast as the released way an engine is."""
        return self.released.seconds / engine.timing.seconds


def bench_model(
    bundle: Bundle,
    engines: Sequence[Engine],
    *,
    images: int = 4,
    rounds: int = 5,
    compared_BHW: NDArray[np.uint16] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> ModelReport:
    """Race engines and the released code's way: plain float32 layers, one after the other, as torch computes them.

    Parameters
    ----------
    bundle
        The network with its weights.
    engines
        To be raced; all of one device.
    images
        Phantoms of every call.
    rounds
        Measured calls of each contestant, taken in turn.
    compared_BHW
        Model images whose answers are compared; by default eight phantoms.
    say
        Called with what is going on.
    """
    chunk = phantoms(images)
    network = bundle.network()
    reference = Predictor.from_bundle(bundle, REFERENCE_CUDA if engines[0].device == "cuda" else REFERENCE_CPU)
    compared_BHW = phantoms(_PROBE_IMAGES) if compared_BHW is None else compared_BHW
    truth = reference.predict(compared_BHW)
    predictors, starts, skipped = _started(bundle, engines, say)
    batch = _best_batch(network, engines[0].device, say)
    contestants = {"released": partial(_released, network, chunk, batch, engines[0].device)} | {
        name: partial(predictor.predict, chunk) for name, predictor in predictors.items()
    }
    say(f"Racing {len(contestants)} contestants, {rounds} rounds of {images} images.")
    timings = {name: _an_image(timing, images) for name, timing in race(contestants, rounds).items()}
    found = []
    for name, predictor in predictors.items():
        answers = predictor.predict(compared_BHW)
        found.append(
            EngineTime(name, timings[name], *moved(answers, truth), other_classes(answers, truth), starts[name])
        )
    first = next(iter(predictors.values()), reference)
    return ModelReport(
        system=bundle.info.network.system,
        images=images,
        compared=len(compared_BHW),
        gflop=_gflop(network),
        peaks=_peaks(engines[0].device),
        released=timings["released"],
        released_batch=batch,
        engines=found,
        skipped=skipped,
        parts={name: _an_image(one, first.batch) for name, one in race(_steps(first), rounds).items()},
        blocks=time_blocks(network, _on_its_device(network, phantoms(batch)), rounds),
    )


def moved(ours: Predictions, reference: Predictions) -> tuple[float | None, float | None]:
    """Return the largest difference of a probability, and the lowest correlation of a map; None for what is missing."""
    difference, least = None, None
    if ours.probabilities_BK is not None and reference.probabilities_BK is not None:
        difference = float(np.abs(ours.probabilities_BK - reference.probabilities_BK).max())
    if ours.saliency_BHW is not None and reference.saliency_BHW is not None:
        pairs = zip(ours.saliency_BHW, reference.saliency_BHW, strict=True)
        least = min(correlation(*pair) or 0.0 for pair in pairs)
    return difference, least


def other_classes(ours: Predictions, reference: Predictions) -> int:
    """Count images that get another class than the reference gives them, ties within `SAME_ANSWER` left out."""
    if ours.probabilities_BK is None or reference.probabilities_BK is None:
        return 0
    theirs_BK = reference.probabilities_BK
    lead_B = theirs_BK.max(axis=1) - theirs_BK[np.arange(len(theirs_BK)), ours.probabilities_BK.argmax(axis=1)]
    return int((lead_B > SAME_ANSWER).sum())


def phantoms(count: int) -> NDArray[np.uint16]:
    """Return so many model images (B, 640, 512), seeded."""
    drawn = (draw(np.random.default_rng(seed), seed % len(CLASSES), HEIGHT, WIDTH).image for seed in range(count))
    return np.stack([np.rint(image * 65535).astype(np.uint16) for image in drawn])


def _started(
    bundle: Bundle, engines: Sequence[Engine], say: Callable[[str], None]
) -> tuple[dict[str, Predictor], dict[str, tuple[float, float]], dict[str, str]]:
    """Start each engine twice; return those that work, how long it took, and what the others failed with."""
    predictors, starts, skipped = {}, {}, {}
    for engine in engines:
        say(f"Starting {engine.name}.")
        try:
            first, second = (_started_once(bundle, engine) for _ in range(2))
        except CxrgazeError as error:
            skipped[engine.name] = str(error)
        except Exception as error:  # whatever a converter, a driver or a compiler may raise
            skipped[engine.name] = type(error).__name__
        else:
            predictors[engine.name] = second[0]
            starts[engine.name] = (first[1], second[1])
    return predictors, starts, skipped


def _started_once(bundle: Bundle, engine: Engine) -> tuple[Predictor, float]:
    began = time.perf_counter()
    predictor = Predictor.from_bundle(bundle, engine)
    predictor.predict(phantoms(1))
    return predictor, time.perf_counter() - began


def _released(network: Network, chunk: NDArray[np.uint16], batch: int, device: str) -> None:
    """Compute the answers as the released code does, and bring them back; TF32 as torch has it by default."""
    network.to(device)
    for start in range(0, len(chunk), batch):
        image_B1HW = to_network(chunk[start : start + batch], network.config.input_size).to(device)
        with torch.inference_mode():
            output = network(image_B1HW)
            for tensor in (output.log_saliency_B1HW, output.logits_BK):
                if tensor is not None:
                    tensor.exp().cpu()


def _best_batch(network: Network, device: str, say: Callable[[str], None]) -> int:
    sizes = BATCHES[device]
    say("Looking for the released way's best batch.")
    timings = race({str(size): partial(_released, network, phantoms(size), size, device) for size in sizes}, 1)
    return min(sizes, key=lambda size: timings[str(size)].seconds / size)


def _gflop(network: Network) -> float:
    with torch.inference_mode(), FlopCounterMode(display=False) as counted:
        network(_on_its_device(network, phantoms(1)))
    return float(counted.get_total_flops()) / 1e9


def _on_its_device(network: Network, images_BHW: NDArray[np.uint16]) -> Tensor:
    return to_network(images_BHW, network.config.input_size).to(next(network.parameters()).device)


def _peaks(device: str) -> dict[str, float]:
    """Return FLOP/s of a product of square matrices, by type."""
    edge = _EDGE if device == "cpu" else 4 * _EDGE
    types = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if device == "cuda":
        types["float16"] = torch.float16

    def product(matrix: Tensor) -> None:
        (matrix @ matrix)[0, 0].item()  # waits for a GPU

    matrices = {name: torch.ones(edge, edge, dtype=dtype, device=device) for name, dtype in types.items()}
    timings = race({name: partial(product, matrix) for name, matrix in matrices.items()}, 3)
    return {name: 2 * edge**3 / timing.fastest for name, timing in timings.items()}


def _steps(predictor: Predictor) -> dict[str, Callable[[], object]]:
    """Return the steps of a network batch by name, each to be run alone on what the one before it gives."""
    forward, chunk = predictor.forward, np.repeat(phantoms(1), predictor.batch, axis=0)
    size = forward.network.config.input_size
    with torch.inference_mode():
        image_B1HW, _ = forward.place(to_network(chunk, size), None)
        features = forward.features(image_B1HW, None)
        computed = (*features, *forward.decode(image_B1HW, features))
        whole = predictor.predict(chunk)

    def inference(step: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            with torch.inference_mode():
                step()
                if predictor.engine.device == "cuda":
                    torch.cuda.synchronize()

        return run

    return {
        "pixels to network": inference(lambda: forward.place(to_network(chunk, size), None)),
        "features (DenseNet, classifiers)": inference(lambda: forward.features(image_B1HW, None)),
        "decoding (U-Net)": inference(lambda: forward.decode(image_B1HW, features)),
        "softmax and fusion classifier": inference(lambda: forward.network.answers(*computed)),
        "maps to the stored grid": inference(lambda: stored(whole)),
        "all of it": inference(lambda: predictor.predict_stored(chunk)),
    }


def _an_image(timing: Timing, images: int) -> Timing:
    return timing.times(1 / images)
