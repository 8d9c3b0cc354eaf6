"""Torch with exact rewrites and half-precision convolutions on a GPU, its layers launched as one CUDA graph.

float16 and not bfloat16: ten bits of mantissa keep DenseNet's answers, which bfloat16's seven move ten times as far.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cxrgaze_ray.models.engines.engine import Engine
from cxrgaze_ray.models.engines.forward import DTYPES, Forward
from cxrgaze_ray.models.engines.rewrites import rewritten
from cxrgaze_ray.models.network import Network, NetworkOutput

Layers = Callable[..., tuple[Tensor, ...]]
Capture = Callable[[Layers, tuple[Tensor, ...]], Layers]

_WARM_UP = 3
"""Runs before a capture, in which cuDNN chooses its algorithms; what torch's documentation asks for."""


class FoldedForward(Forward):
    """Convolutions and their inputs in half precision, classifiers and the softmax of maps in float32.

    Parameters
    ----------
    network
        In eval mode; it stays as it is, in float32, for Grad-CAM.
    engine
        Device and half precision.
    batch
        Images of every call.
    capture
        Turns layers and their first inputs into a function of inputs of the same sizes.
    """

    def __init__(self, network: Network, engine: Engine, batch: int, capture: Capture | None = None) -> None:
        super().__init__(network.to(engine.device))
        self._engine = engine
        self._fewer = rewritten(network).to(memory_format=torch.channels_last)
        for module in self._fewer.modules():
            if isinstance(module, nn.Conv2d):  # autocast brings the other layers' inputs to the type of their weights
                module.to(DTYPES[engine.dtype])
        height, width = network.config.input_size
        held = [torch.zeros(batch, 1, height, width, device=engine.device).to(memory_format=torch.channels_last)]
        if network.config.needs_gaze:
            held.append(torch.full((batch, height, width), 1 / (height * width), device=engine.device))
        with torch.inference_mode():
            self._layers = (capture or captured)(self._all, tuple(held))

    @torch.inference_mode()
    def __call__(self, image_B1HW: Tensor, gaze_BHW: Tensor | None) -> NetworkOutput:
        """See `Forward.__call__`."""
        computed = self._layers(image_B1HW, *(() if gaze_BHW is None else (gaze_BHW,)))
        answers = self._fewer.answers(*computed)
        # what a graph computes is overwritten by its next run
        return NetworkOutput(*(None if answer is None else answer.clone() for answer in answers))

    def place(self, image_B1HW: Tensor, gaze_BHW: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """See `Forward.place`."""
        gaze_BHW = None if gaze_BHW is None else gaze_BHW.to(self._engine.device)
        return image_B1HW.to(self._engine.device, memory_format=torch.channels_last), gaze_BHW

    def features(self, image_B1HW: Tensor, gaze_BHW: Tensor | None) -> tuple[Tensor, ...]:
        """See `Network.features`; in half precision too."""
        with self._lower():
            return self._fewer.features(image_B1HW, gaze_BHW)

    def decode(self, image_B1HW: Tensor, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """See `Network.decode`."""
        with self._lower():
            return self._fewer.decode(image_B1HW, *features)

    def _all(self, image_B1HW: Tensor, gaze_BHW: Tensor | None = None) -> tuple[Tensor, ...]:
        features = self.features(image_B1HW, gaze_BHW)
        return *features, *self.decode(image_B1HW, features)

    def _lower(self) -> torch.autocast:
        dtype = DTYPES[self._engine.dtype]
        # its cache of converted weights would be freed with the capture, and read by the graph all the same
        return torch.autocast(self._engine.device, dtype, enabled=dtype != torch.float32, cache_enabled=False)


def captured(layers: Layers, held: tuple[Tensor, ...]) -> Layers:
    """Return layers as a CUDA graph: one launch in place of a thousand."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UP):
            layers(*held)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        answers = layers(*held)

    def replayed(*inputs: Tensor) -> tuple[Tensor, ...]:
        for buffer, values in zip(held, inputs, strict=True):
            buffer.copy_(values, non_blocking=True)
        graph.replay()
        return answers

    return replayed
