"""The one forward pass that scoring, serving and evaluation use."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cxrgaze_ray.config import DeviceName, EngineKind
from cxrgaze_ray.errors import BundleError, ConfigError
from cxrgaze_ray.models.bundle import Bundle, BundleInfo, golden_image
from cxrgaze_ray.models.gazenet import GazeNet
from cxrgaze_ray.models.predictions import Predictions
from cxrgaze_ray.radiograph.preprocess import to_network
from cxrgaze_ray.schemas import HEIGHT, WIDTH

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_SMALL_INPUT = 160 * 128


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

    def __init__(self, network: GazeNet, info: BundleInfo, engine: Engine) -> None:
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

    def predict(self, images_BHW: NDArray[np.uint16], between: Callable[[], None] | None = None) -> Predictions:
        """Score ready images.

        Parameters
        ----------
        images_BHW
            uint16 (B, 640, 512), of the bundle's profile, 0..65535 standing for [0,1].
        between
            Called after each network batch but the last, to run work that can't wait for all of them.

        Raises
        ------
        ValueError
            If the images have another size or type: only `preprocess.prepare` makes them.
        BundleError
            If an answer is not finite: the weights overflow on this engine.
        """
        if images_BHW.dtype != np.uint16 or images_BHW.shape[1:] != (HEIGHT, WIDTH):
            raise ValueError(f"images are {images_BHW.dtype} {images_BHW.shape}, not uint16 (B, {HEIGHT}, {WIDTH})")
        parts: list[tuple[Tensor, Tensor]] = []
        for start in range(0, len(images_BHW), self.batch):
            if parts and between is not None:
                between()
            parts.append(self._batch(images_BHW[start : start + self.batch]))
        if not parts:
            return _predictions(torch.empty(0, len(self.info.classes)), torch.empty(0, HEIGHT, WIDTH), 1.0)
        logits_BK, saliency_BHW = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        return _predictions(logits_BK, saliency_BHW, self.info.temperature)

    def golden_logits(self, seed: int) -> tuple[float, ...]:
        """Return the logits of a golden image."""
        return tuple(float(value) for value in self.predict(golden_image(seed)[None]).logits_BK[0])

    @torch.inference_mode()
    def _batch(self, images_BHW: NDArray[np.uint16]) -> tuple[Tensor, Tensor]:
        size, real = self._network.config.input_size, len(images_BHW)
        padded_BHW = np.concatenate([images_BHW, np.repeat(images_BHW[:1], self.batch - real, axis=0)])
        image_B1HW = to_network(padded_BHW, size).to(self.engine.device, memory_format=self._layout)
        with torch.autocast(self.engine.device, _DTYPES[self.engine.dtype], enabled=self.engine.dtype != "float32"):
            output = self._network(image_B1HW)
        saliency_BHW = _to_model_grid(output.log_saliency_B1HW.float().exp())
        # a sum is cheap where a check of every pixel is not, and any value that is not finite makes it so
        if not (output.logits_BK.isfinite().all() & saliency_BHW.sum(dim=(1, 2)).isfinite().all()):
            raise BundleError(
                f"{self.info.name} gives an image values that are not finite, on engine {self.engine.name}.",
                "Do not use its earlier answers; try engine float32, and go back to an earlier version if that "
                "does not help.",
            )
        return output.logits_BK[:real].float().cpu(), saliency_BHW[:real].cpu()


def _to_model_grid(saliency_B1HW: Tensor) -> Tensor:
    """Enlarge a density of the network's size to 640x512, and normalise its sum to 1 again."""
    if saliency_B1HW.shape[-2:] != (HEIGHT, WIDTH):
        saliency_B1HW = functional.interpolate(saliency_B1HW, (HEIGHT, WIDTH), mode="bilinear", align_corners=False)
    return (saliency_B1HW / saliency_B1HW.sum(dim=(2, 3), keepdim=True))[:, 0]


def _predictions(logits_BK: Tensor, saliency_BHW: Tensor, temperature: float) -> Predictions:
    probabilities_BK = torch.softmax(logits_BK / temperature, dim=1)
    return Predictions(logits_BK.numpy(), probabilities_BK.numpy(), saliency_BHW.numpy())
