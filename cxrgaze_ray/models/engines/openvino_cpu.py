"""A network as OpenVINO's graphs on a CPU: features in float32, what bears it in bfloat16, the answers in torch."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cxrgaze_ray.models.engines.conversion import place_of, read_or_convert
from cxrgaze_ray.models.engines.engine import Engine
from cxrgaze_ray.models.engines.forward import Forward
from cxrgaze_ray.models.engines.openvino_import import core
from cxrgaze_ray.models.network import Network, NetworkOutput

if TYPE_CHECKING:
    import openvino

_PRECISION = {"float32": "f32", "bfloat16": "bf16"}


class OpenVinoForward(Forward):
    """Calls from several threads take turns: a graph has one set of buffers.

    Parameters
    ----------
    network
        In eval mode.
    engine
        Whose ``dtype`` `Network.decode` is computed in.
    batch
        Images of every call.
    weights
        Hash of the weights: what the conversion is kept under.
    """

    def __init__(self, network: Network, engine: Engine, batch: int, weights: str) -> None:
        super().__init__(network)
        self._turn = threading.Lock()
        graphs = read_or_convert(self.network, batch, weights)
        self._features = _Graph(graphs.features, "f32")
        self._decode = _Graph(graphs.decode, _PRECISION[engine.dtype])

    def __call__(self, image_B1HW: Tensor, gaze_BHW: Tensor | None) -> NetworkOutput:
        """See `Forward.__call__`."""
        with self._turn:
            return super().__call__(image_B1HW, gaze_BHW)

    def features(self, image_B1HW: Tensor, gaze_BHW: Tensor | None) -> tuple[Tensor, ...]:
        """See `Network.features`."""
        return self._features(image_B1HW, *(() if gaze_BHW is None else (gaze_BHW,)))

    def decode(self, image_B1HW: Tensor, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """See `Network.decode`."""
        return self._decode(image_B1HW, *features)


class _Graph:
    """One compiled graph, or none, which gives nothing."""

    def __init__(self, graph: openvino.Model | None, precision: str) -> None:
        self._request = None
        if graph is None:
            return
        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            # two replicas on one machine would pin their threads to the same cores
            "ENABLE_CPU_PINNING": False,
        }
        self._places, self._outputs = [place_of(port.any_name) for port in graph.inputs], len(graph.outputs)
        self._request = core().compile_model(graph, "CPU", settings).create_infer_request()

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        if self._request is None:
            return ()
        read = [inputs[place].contiguous().numpy() for place in self._places]
        answers = self._request.infer(read, share_inputs=True)
        return tuple(torch.from_numpy(answers[index]) for index in range(self._outputs))
