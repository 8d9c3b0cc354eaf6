"""What a predictor needs of an engine, and torch's own way of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from cxrgaze_ray.models.engines.engine import REFERENCE_CUDA, Engine
from cxrgaze_ray.models.network import Network, NetworkOutput

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Forward(ABC):
    """Computes a network's answers to batches of one fixed size, one at a time, in the three steps of `Network`.

    Tensors of answers and between the steps are on the engine's device.
    """

    def __init__(self, network: Network) -> None:
        self.network = network.eval()

    @torch.inference_mode()
    def __call__(self, image_B1HW: Tensor, gaze_BHW: Tensor | None) -> NetworkOutput:
        """Return the answers, in float32; see `Network.forward`.

        Parameters
        ----------
        image_B1HW
            float32 in [0,1], of the network's input size, on any device.
        gaze_BHW
            See `Network.forward`.
        """
        image_B1HW, gaze_BHW = self.place(image_B1HW, gaze_BHW)
        features = self.features(image_B1HW, gaze_BHW)
        return self.network.answers(*features, *self.decode(image_B1HW, features))

    def place(self, image_B1HW: Tensor, gaze_BHW: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return the inputs on the engine's device, in its layout."""
        return image_B1HW, gaze_BHW

    @abstractmethod
    def features(self, image_B1HW: Tensor, gaze_BHW: Tensor | None) -> tuple[Tensor, ...]:
        """Return what `Network.features` does."""

    @abstractmethod
    def decode(self, image_B1HW: Tensor, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return what `Network.decode` does."""


class TorchForward(Forward):
    """Torch as it comes: float32 as written, or autocast in a lower precision."""

    def __init__(self, network: Network, engine: Engine) -> None:
        layout = torch.contiguous_format if engine.runtime == "reference" else torch.channels_last
        super().__init__(network.to(engine.device).to(memory_format=layout))
        self._engine, self._layout = engine, layout

    def place(self, image_B1HW: Tensor, gaze_BHW: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """See `Forward.place`."""
        device = self._engine.device
        gaze_BHW = None if gaze_BHW is None else gaze_BHW.to(device)
        return image_B1HW.to(device, memory_format=self._layout), gaze_BHW

    def features(self, image_B1HW: Tensor, gaze_BHW: Tensor | None) -> tuple[Tensor, ...]:
        """See `Network.features`."""
        with _whole_float32(self._engine):
            return self.network.features(image_B1HW, gaze_BHW)

    def decode(self, image_B1HW: Tensor, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """See `Network.decode`."""
        dtype = DTYPES[self._engine.dtype]
        lower = torch.autocast(self._engine.device, dtype, enabled=dtype != torch.float32)
        with _whole_float32(self._engine), lower:
            return self.network.decode(image_B1HW, *features)


def _whole_float32(engine: Engine) -> AbstractContextManager[None]:
    """Have the reference's convolutions computed in float32 on a GPU too.

    Torch computes them there in TF32 by default, with ten bits of mantissa, and still says float32.
    """
    if engine != REFERENCE_CUDA:
        return nullcontext()
    cudnn = torch.backends.cudnn
    return cudnn.flags(enabled=True, benchmark=cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=False)
