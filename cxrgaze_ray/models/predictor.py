"""The one forward pass that scoring, serving and evaluation use."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cxrgaze_ray.config import DeviceName, EngineKind
from cxrgaze_ray.errors import BundleError, ConfigError
from cxrgaze_ray.models.bundle import Bundle, BundleInfo, Golden, golden_image
from cxrgaze_ray.models.gradcam import grad_cam
from cxrgaze_ray.models.network import DenseNetNetwork, Network, NetworkOutput
from cxrgaze_ray.models.predictions import Predictions
from cxrgaze_ray.radiograph.preprocess import gaze_to_network, to_network
from cxrgaze_ray.schemas import HEIGHT, WIDTH

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_SMALL_INPUT = 160 * 128
_GOLDEN_SEEDS = (1, 2)
_CELLS = 8

T = TypeVar("T", np.uint16, np.float32)


@dataclass(frozen=True)
class Engine:
    """The way a forward pass is computed; fixed when a run is planned, and named on every row.

    Attributes
    ----------
    dtype
        float32 is the reference; bfloat16 and float16 run under autocast, with log-softmax in float32.
    channels_last
        Memory layout; faster convolutions on CPUs and GPUs alike.
    device
        cpu or cuda.
    """

    dtype: Literal["float32", "bfloat16", "float16"]
    channels_last: bool
    device: Literal["cpu", "cuda"]

    @property
    def name(self) -> str:
        """Name as it appears on rows: reference-float32-cpu, fast-bfloat16-cuda and so on."""
        return f"{'fast' if self.channels_last else 'reference'}-{self.dtype}-{self.device}"

    @classmethod
    def parse(cls, name: str) -> Engine:
        """Return the engine with a name; ConfigError if there is none."""
        for dtype, channels_last, device in product(_DTYPES, (False, True), ("cpu", "cuda")):
            engine = cls(dtype, channels_last, device)  # type: ignore[arg-type]
            if engine.name == name:
                return engine
        raise ConfigError(f"There is no engine {name}.")


def plan_engine(kind: EngineKind, device: DeviceName = "auto") -> Engine:
    """Choose the engine of a kind for this hardware.

    Parameters
    ----------
    kind
        ``float32`` is the reference. ``fast`` is channels-last, in the lower precision that the hardware computes
        natively, if any. ``auto`` is fast on an accelerator or a CPU with native bfloat16, else the reference.
    device
        ``auto`` takes a GPU that this process may use, else the CPU.
    """
    place: Literal["cpu", "cuda"] = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    if device == "cuda" and place == "cpu":
        raise ConfigError(
            "No CUDA device is available here.", "Set the model's device to cpu or auto, or give its replicas a GPU."
        )
    dtype = _native_dtype(place)
    if kind == "float32" or (kind == "auto" and dtype == "float32"):
        return Engine("float32", False, place)
    return Engine(dtype, True, place)


def _native_dtype(device: str) -> Literal["float32", "bfloat16", "float16"]:
    if device == "cuda":
        # torch reports bfloat16 support before Ampere too, where it is only emulated
        return "bfloat16" if torch.cuda.get_device_capability()[0] >= 8 else "float16"
    # torch answers only for the instruction set it was built for; the kernel knows the processor
    flags = Path("/proc/cpuinfo")
    words = set(flags.read_text().split()) if flags.exists() else set()
    return "bfloat16" if words & {"avx512_bf16", "amx_bf16"} else "float32"


def limit_threads(threads: int | None) -> None:
    """Set the CPU threads of a forward pass in this process; None takes every core it may run on."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(threads or allowed)


class Predictor:
    """A bundle on an engine.

    Images go through in batches of one fixed size, the last one padded: an image's answer never depends on the
    images sent with it, so a single request and an archive agree to the byte on the same hardware.
    """

    def __init__(self, network: Network, info: BundleInfo, engine: Engine) -> None:
        layout = torch.channels_last if engine.channels_last else torch.contiguous_format
        self.info = info
        self.engine = engine
        self._network = network.eval().to(engine.device, memory_format=layout)  # type: ignore[call-overload]
        self._network.exact_densenet = True
        self._layout = layout
        height, width = network.config.input_size
        small = height * width <= _SMALL_INPUT
        self.batch = 16 if engine.device == "cuda" else (4 if small else 1)

    @classmethod
    def from_bundle(cls, bundle: Bundle, engine: Engine | None = None) -> Predictor:
        """Put a bundle on an engine, the float32 reference by default."""
        return cls(bundle.network(), bundle.info, engine or plan_engine("float32"))

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
        if images_BHW.dtype != np.uint16 or images_BHW.shape[1:] != (HEIGHT, WIDTH):
            raise ValueError(f"images are {images_BHW.dtype} {images_BHW.shape}, not uint16 (B, {HEIGHT}, {WIDTH})")
        if gaze_BHW is None:
            self.info.check_needs_no_gaze()
        if cam:
            self.info.check_cam()
        parts: list[NetworkOutput] = []
        cams: list[tuple[Tensor, Tensor]] = []
        for start in range(0, len(images_BHW), self.batch):
            if parts and between is not None:
                between()
            part = slice(start, start + self.batch)
            parts.append(self._batch(images_BHW[part], None if gaze_BHW is None else gaze_BHW[part]))
            if cam:
                cams.append(self._cam(images_BHW[part]))
        if not parts:
            parts = [_nothing(self.info)]
        logits, saliency = zip(*((part.logits_BK, part.log_saliency_B1HW) for part in parts), strict=True)
        answers = _predictions(_joined(logits), _joined(saliency), self.info.temperature)
        return _with_cams(answers, cams) if cam else answers

    def golden(self, seed: int) -> Golden:
        """Return the answers to a golden image, and evenly spread gaze where the network reads it."""
        even_BHW = np.full((1, HEIGHT, WIDTH), 1 / (HEIGHT * WIDTH), np.float32)
        answer = self.predict(golden_image(seed)[None], gaze_BHW=even_BHW)
        return Golden(
            seed=seed,
            logits=() if answer.logits_BK is None else tuple(answer.logits_BK[0].tolist()),
            saliency=() if answer.saliency_BHW is None else _cells(answer.saliency_BHW[0]),
        )

    @torch.inference_mode()
    def _batch(self, images_BHW: NDArray[np.uint16], gaze_BHW: NDArray[np.float32] | None) -> NetworkOutput:
        """Return logits, and densities at 640x512, of a padded network batch."""
        size, real = self._network.config.input_size, len(images_BHW)
        image_B1HW = to_network(self._padded(images_BHW), size).to(self.engine.device, memory_format=self._layout)
        gaze = None
        if self._network.config.needs_gaze and gaze_BHW is not None:
            gaze = gaze_to_network(self._padded(gaze_BHW), size).to(self.engine.device)
        with torch.autocast(self.engine.device, _DTYPES[self.engine.dtype], enabled=self.engine.dtype != "float32"):
            output = self._network(image_B1HW, gaze)
        density = None if output.log_saliency_B1HW is None else _to_model_grid(output.log_saliency_B1HW.float().exp())
        logits = output.logits_BK
        self._check_finite(density, logits)
        return NetworkOutput(
            None if density is None else density[:real].cpu(), None if logits is None else logits[:real].float().cpu()
        )

    def _cam(self, images_BHW: NDArray[np.uint16]) -> tuple[Tensor, Tensor]:
        """Return Grad-CAM's maps and targets of a padded network batch."""
        assert isinstance(self._network, DenseNetNetwork)
        real = len(images_BHW)
        cam_BHW, logits_BK = grad_cam(self._network, self._padded(images_BHW))
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


def with_golden(bundle: Bundle) -> Bundle:
    """Return the bundle with the answers to golden images that it gives here."""
    predictor = Predictor.from_bundle(bundle)
    golden = tuple(predictor.golden(seed) for seed in _GOLDEN_SEEDS)
    return Bundle(bundle.info.model_copy(update={"golden": golden}), bundle.state)


def _to_model_grid(saliency_B1HW: Tensor) -> Tensor:
    """Enlarge a density of the network's size to 640x512, and normalise its sum to 1 again."""
    if saliency_B1HW.shape[-2:] != (HEIGHT, WIDTH):
        saliency_B1HW = functional.interpolate(saliency_B1HW, (HEIGHT, WIDTH), mode="bilinear", align_corners=False)
    return (saliency_B1HW / saliency_B1HW.sum(dim=(2, 3), keepdim=True))[:, 0]


def _nothing(info: BundleInfo) -> NetworkOutput:
    """Return the answers to no image."""
    saliency = torch.empty(0, HEIGHT, WIDTH) if "saliency" in info.predicts else None
    return NetworkOutput(saliency, torch.empty(0, len(info.classes)) if "classes" in info.predicts else None)


def _joined(parts: tuple[Tensor | None, ...]) -> Tensor | None:
    known = [part for part in parts if part is not None]
    return torch.cat(known) if known else None


def _predictions(logits_BK: Tensor | None, saliency_BHW: Tensor | None, temperature: float) -> Predictions:
    return Predictions(
        None if logits_BK is None else logits_BK.numpy(),
        None if logits_BK is None else torch.softmax(logits_BK / temperature, dim=1).numpy(),
        None if saliency_BHW is None else saliency_BHW.numpy(),
    )


def _with_cams(answers: Predictions, cams: list[tuple[Tensor, Tensor]]) -> Predictions:
    maps, targets = zip(*(cams or [(torch.empty(0, HEIGHT, WIDTH), torch.empty(0, dtype=torch.int64))]), strict=True)
    return replace(answers, cam_BHW=torch.cat(maps).numpy(), cam_target_B=torch.cat(targets).numpy())


def _cells(density_HW: NDArray[np.float32]) -> tuple[float, ...]:
    cells = density_HW.reshape(_CELLS, HEIGHT // _CELLS, _CELLS, WIDTH // _CELLS).sum(axis=(1, 3), dtype=np.float64)
    return tuple((cells * _CELLS**2).ravel().tolist())
