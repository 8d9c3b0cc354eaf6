"""The one forward pass that scoring, serving and evaluation use."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cxrgaze_ray.config import DeviceName, EngineKind
from cxrgaze_ray.errors import BundleError
from cxrgaze_ray.models.bundle import Bundle, BundleInfo, Golden, golden_image
from cxrgaze_ray.models.engines.engine import REFERENCE_CPU, Engine, check_works, engines_for
from cxrgaze_ray.models.engines.folded import FoldedForward
from cxrgaze_ray.models.engines.forward import Forward, TorchForward
from cxrgaze_ray.models.gradcam import grad_cam
from cxrgaze_ray.models.network import DenseNetNetwork, Network
from cxrgaze_ray.models.predictions import Predictions, StoredPredictions, stored
from cxrgaze_ray.radiograph.preprocess import gaze_to_network, to_network
from cxrgaze_ray.schemas import HEIGHT, WIDTH

_log = logging.getLogger(__name__)

_SMALL_INPUT = 160 * 128
_CUDA_BATCH = 16
"""Images at a time on a GPU, where there is memory for them.

On an H200 64 gave 14% more a second. But a single request, whose batch is padded so that it agrees with an archive to
the byte, would wait four times as long.
"""

_GOLDEN_SEEDS = (1, 2)
_CELLS = 8

SAME_ANSWER = 0.005
"""How far an engine may move a probability, or the share of a map in a cell, from the reference's."""

T = TypeVar("T", np.uint16, np.float32)


def limit_threads(threads: int | None) -> None:
    """Set the CPU threads of a forward pass in this process; None takes every core it may run on."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(threads or allowed)


def predictor_for(bundle: Bundle, kind: EngineKind, device: DeviceName = "auto") -> Predictor:
    """Put a bundle on the best engine of a kind that works here, and run it once.

    An engine that fails with this bundle, or whose answers to the golden images are not those that the bundle recorded,
    costs a line in the log, and the next one is tried.

    Raises
    ------
    ConfigError
        If there is no such device here.
    BundleError
        If the last engine left fails as `Predictor.predict` does.
    """
    *preferred, last = engines_for(kind, device)
    if preferred and not bundle.info.golden:  # an earlier version's, or an untrained one: there is nothing to compare
        bundle = with_golden(bundle)
    for engine in preferred:
        try:
            predictor = Predictor.from_bundle(bundle, engine)
            difference = predictor.golden_difference()
        except Exception as error:  # whatever a converter, a driver or a compiler may raise
            why = f"fails: {type(error).__name__}"
        else:
            if difference <= SAME_ANSWER:
                return predictor
            why = f"moves the answer to a golden image by {difference:.3f}"
        _log.warning("Engine %s is passed over for %s, for it %s.", engine.name, bundle.info.name, why)
    predictor = Predictor.from_bundle(bundle, last)
    predictor.golden_difference()
    return predictor


class Predictor:
    """A bundle on an engine.

    Images go through in batches of one fixed size, the last one padded: an image's answer never depends on the
    images sent with it, so a single request and an archive agree to the byte on the same hardware.

    Attributes
    ----------
    info, engine
        What it was made of.
    batch
        Images of a network batch.
    """

    def __init__(self, network: Network, info: BundleInfo, engine: Engine) -> None:
        check_works(engine)
        self.info = info
        self.engine = engine
        height, width = network.config.input_size
        small = height * width <= _SMALL_INPUT
        self.batch = _CUDA_BATCH if engine.device == "cuda" else (4 if small else 1)
        self._network = network.eval()
        self._forward: Forward | None = self._with_room()

    @property
    def forward(self) -> Forward:
        """The engine's way through the network."""
        if self._forward is None:
            self._forward = self._with_room()
        return self._forward

    @classmethod
    def from_bundle(cls, bundle: Bundle, engine: Engine | None = None) -> Predictor:
        """Put a bundle on an engine, the float32 reference by default."""
        return cls(bundle.network(), bundle.info, engine or REFERENCE_CPU)

    def predict(
        self,
        images_BHW: NDArray[np.uint16],
        between: Callable[[], None] | None = None,
        *,
        gaze_BHW: NDArray[np.float32] | None = None,
        cam: bool = False,
    ) -> Predictions:
        """Score ready images.

        Parameters
        ----------
        images_BHW
            uint16 (B, 640, 512), of the bundle's profile, 0..65535 standing for [0,1].
        between
            Called after each network batch but the last, to run work that can't wait for all of them.
        gaze_BHW
            float32 (B, 640, 512), densities of the readers' gaze, for a network that reads it.
        cam
            Add Grad-CAM of DenseNet's own head, see `gradcam.grad_cam`; in float32 on every engine.

        Raises
        ------
        ValueError
            If the images have another size or type: only `preprocess.prepare` makes them.
        BundleError
            If an answer is not finite: the weights overflow on this engine. Or if the network reads gaze, and there is
            none, or has no DenseNet for `cam`.
        """
        return self._predicted(images_BHW, between, gaze_BHW, cam=cam)

    def predict_stored(
        self, images_BHW: NDArray[np.uint16], between: Callable[[], None] | None = None, *, cam: bool = False
    ) -> StoredPredictions:
        """Score ready images as `predict` does, and return the maps as they are stored."""
        # a GPU shrinks its maps itself, so that a quarter as much leaves it
        return stored(self._predicted(images_BHW, between, None, cam=cam, small=self.engine.device == "cuda"))

    def _predicted(
        self,
        images_BHW: NDArray[np.uint16],
        between: Callable[[], None] | None,
        gaze_BHW: NDArray[np.float32] | None,
        *,
        cam: bool,
        small: bool = False,
    ) -> Predictions:
        if images_BHW.dtype != np.uint16 or images_BHW.shape[1:] != (HEIGHT, WIDTH):
            raise ValueError(f"images are {images_BHW.dtype} {images_BHW.shape}, not uint16 (B, {HEIGHT}, {WIDTH})")
        if gaze_BHW is None:
            self.info.check_needs_no_gaze()
        if cam:
            self.info.check_cam()
        parts: list[tuple[Tensor | None, Tensor | None]] = []
        cams: list[tuple[Tensor, Tensor]] = []
        start = 0
        while start < len(images_BHW):
            if parts and between is not None:
                between()
            part = slice(start, start + self.batch)
            try:
                answers = self._batch(images_BHW[part], None if gaze_BHW is None else gaze_BHW[part], small=small)
                explained = [self._cam(images_BHW[part])] if cam else []
            except torch.OutOfMemoryError:
                if self.batch == 1:
                    raise
            else:
                parts.append(answers)
                cams += explained
                start += self.batch
                continue
            # not before the error has ended, which holds the layers' tensors, nor beside the buffers of the old way
            self._forward = None
            self._halve()
        if not parts:
            parts = [_nothing(self.info)]
        saliency, logits = (_joined(tensors) for tensors in zip(*parts, strict=True))
        # once at the end: on a GPU each look at a value waits for all that was begun before
        self._check_finite(saliency, logits)
        whole = _predictions(logits, saliency, self.info.temperature)
        return _with_cams(whole, cams) if cam else whole

    def golden(self, seed: int) -> Golden:
        """Return the answers to a golden image, and evenly spread gaze where the network reads it."""
        even_BHW = np.full((1, HEIGHT, WIDTH), 1 / (HEIGHT * WIDTH), np.float32)
        answer = self.predict(golden_image(seed)[None], gaze_BHW=even_BHW)
        return Golden(
            seed=seed,
            logits=() if answer.logits_BK is None else tuple(answer.logits_BK[0].tolist()),
            saliency=() if answer.saliency_BHW is None else _cells(answer.saliency_BHW[0]),
        )

    def golden_difference(self) -> float:
        """Return how far answers to golden images are from the recorded ones; 0 if none are recorded.

        The largest difference of a probability, or of the share of the map in a cell, see `bundle.Golden`.
        """
        return max(self._moved(recorded) for recorded in self.info.golden or [self.golden(_GOLDEN_SEEDS[0])])

    def _moved(self, recorded: Golden) -> float:
        ours = self.golden(recorded.seed)
        shares = [[np.array(one.saliency) / _CELLS**2 for one in (ours, recorded)]]
        logits = [torch.tensor(one.logits) / self.info.temperature for one in (ours, recorded)]
        shares.append([torch.softmax(one, dim=0).numpy() for one in logits])
        return max(float(np.abs(mine - theirs).max()) for mine, theirs in shares if len(theirs))

    @torch.inference_mode()
    def _batch(
        self, images_BHW: NDArray[np.uint16], gaze_BHW: NDArray[np.float32] | None, *, small: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return densities at 640x512, or small at half of that, and logits of a network batch; on the device."""
        config, real = self.forward.network.config, len(images_BHW)
        image_B1HW = to_network(self._padded(images_BHW), config.input_size, self.engine.device)
        gaze = None
        if config.needs_gaze and gaze_BHW is not None:
            gaze = gaze_to_network(self._padded(gaze_BHW), config.input_size)
        output = self.forward(image_B1HW, gaze)
        logits_BK = None if output.logits_BK is None else output.logits_BK[:real]
        if output.log_saliency_B1HW is None:
            return None, logits_BK
        density_BHW = to_model_grid(output.log_saliency_B1HW[:real].exp())
        return functional.avg_pool2d(density_BHW, 2) if small else density_BHW, logits_BK

    def _with_room(self) -> Forward:
        """Make the engine's way through the network, for half as many images at a time until there is memory for it."""
        while True:
            try:
                return _forward(self._network, self.engine, self.batch, self.info.weights_sha256)
            except torch.OutOfMemoryError:
                if self.batch == 1:
                    raise
            self._halve()

    def _halve(self) -> None:
        self.batch //= 2
        torch.cuda.empty_cache()
        _log.warning("The device is out of memory: %s goes on with %d images at a time.", self.engine.name, self.batch)

    def _cam(self, images_BHW: NDArray[np.uint16]) -> tuple[Tensor, Tensor]:
        """Return Grad-CAM's maps and targets of a padded network batch."""
        network, real = self.forward.network, len(images_BHW)
        assert isinstance(network, DenseNetNetwork)
        cam_BHW, logits_BK = grad_cam(network, self._padded(images_BHW))
        self._check_finite(cam_BHW, logits_BK)
        return cam_BHW[:real].cpu(), logits_BK[:real].argmax(dim=1).cpu()

    def _check_finite(self, maps_BHW: Tensor | None, logits_BK: Tensor | None) -> None:
        # a sum is cheap where a check of every pixel is not, and any value that is not finite makes it so
        sums = [] if maps_BHW is None else [maps_BHW.sum(dim=(1, 2))]
        if not torch.cat([*sums, *([] if logits_BK is None else [logits_BK.flatten()])]).isfinite().all():
            raise BundleError(
                f"{self.info.name} gives an image values that are not finite, on engine {self.engine.name}.",
                "Do not use its earlier answers; try engine float32, and go back to an earlier version if that "
                "does not help.",
            )

    def _padded(self, values_B: NDArray[T]) -> NDArray[T]:
        return np.concatenate([values_B, np.repeat(values_B[:1], self.batch - len(values_B), axis=0)])


def _forward(network: Network, engine: Engine, batch: int, weights: str) -> Forward:
    if engine.runtime == "openvino":
        # a second to import, for those alone who use it
        from cxrgaze_ray.models.engines.openvino_cpu import OpenVinoForward

        return OpenVinoForward(network, engine, batch, weights)
    if engine.runtime == "folded":
        return FoldedForward(network, engine, batch)
    return TorchForward(network, engine)


def with_golden(bundle: Bundle) -> Bundle:
    """Return the bundle with the answers to golden images that it gives here, on a GPU if there is one and it works.

    In float32 without TF32 either way: a GPU's answers are a processor's within a hundred-thousandth, in a part of the
    time.
    """
    for engine in dict.fromkeys((*engines_for("float32"), REFERENCE_CPU)):
        try:
            predictor = Predictor.from_bundle(bundle, engine)
            golden = tuple(predictor.golden(seed) for seed in _GOLDEN_SEEDS)
            break
        except Exception as error:  # a driver that fails, or a GPU that others have filled
            if engine == REFERENCE_CPU:
                raise
            _log.warning("Engine %s gives no golden answers: %s.", engine.name, type(error).__name__)
    return Bundle(bundle.info.model_copy(update={"golden": golden}), bundle.state)


def to_model_grid(saliency_B1HW: Tensor) -> Tensor:
    """Enlarge a density of the network's size to 640x512, and normalise its sum to 1 again."""
    if saliency_B1HW.shape[-2:] != (HEIGHT, WIDTH):
        saliency_B1HW = functional.interpolate(saliency_B1HW, (HEIGHT, WIDTH), mode="bilinear", align_corners=False)
    return (saliency_B1HW / saliency_B1HW.sum(dim=(2, 3), keepdim=True))[:, 0]


def _nothing(info: BundleInfo) -> tuple[Tensor | None, Tensor | None]:
    """Return densities and logits of no image."""
    density = torch.empty(0, HEIGHT, WIDTH) if "saliency" in info.predicts else None
    return density, torch.empty(0, len(info.classes)) if "classes" in info.predicts else None


def _joined(parts: tuple[Tensor | None, ...]) -> Tensor | None:
    known = [part for part in parts if part is not None]
    return torch.cat(known) if known else None


def _predictions(logits_BK: Tensor | None, saliency_BHW: Tensor | None, temperature: float) -> Predictions:
    logits_BK = None if logits_BK is None else logits_BK.cpu()
    return Predictions(
        None if logits_BK is None else logits_BK.numpy(),
        None if logits_BK is None else torch.softmax(logits_BK / temperature, dim=1).numpy(),
        None if saliency_BHW is None else saliency_BHW.cpu().numpy(),
    )


def _with_cams(answers: Predictions, cams: list[tuple[Tensor, Tensor]]) -> Predictions:
    maps, targets = zip(*(cams or [(torch.empty(0, HEIGHT, WIDTH), torch.empty(0, dtype=torch.int64))]), strict=True)
    return replace(answers, cam_BHW=torch.cat(maps).numpy(), cam_target_B=torch.cat(targets).numpy())


def _cells(density_HW: NDArray[np.float32]) -> tuple[float, ...]:
    cells = density_HW.reshape(_CELLS, HEIGHT // _CELLS, _CELLS, WIDTH // _CELLS).sum(axis=(1, 3), dtype=np.float64)
    return tuple((cells * _CELLS**2).ravel().tolist())
