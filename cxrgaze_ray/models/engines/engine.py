"""The engines there are, and which of them suit this hardware."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from cxrgaze_ray.config import DeviceName, EngineKind
from cxrgaze_ray.errors import ConfigError, EnvironmentFault

Runtime = Literal["reference", "fast", "openvino", "folded"]
Dtype = Literal["float32", "bfloat16", "float16"]
Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Engine:
    """The way a forward pass is computed; fixed when a run is planned, and named on every row.

    Attributes
    ----------
    runtime
        ``reference`` is plain torch, its products in whole float32: no TF32. ``fast`` is torch channels-last,
        ``openvino`` is OpenVINO's graph of the network, ``folded`` is torch with exact rewrites and half-precision
        weights, for GPUs.
    dtype
        Of the U-Net's part; classifiers, and the softmax of maps, stay in float32 but for ``folded``, see there.
    device
        Where it runs.
    """

    runtime: Runtime
    dtype: Dtype
    device: Device

    @property
    def name(self) -> str:
        """Name as it appears on rows: reference-float32-cpu, openvino-bfloat16-cpu and so on."""
        return f"{self.runtime}-{self.dtype}-{self.device}"

    @classmethod
    def parse(cls, name: str) -> Engine:
        """Return the engine with a name; ConfigError if there is none."""
        for engine in ENGINES:
            if engine.name == name:
                return engine
        raise ConfigError(f"There is no engine {name}.", f"Engines are {', '.join(one.name for one in ENGINES)}.")


REFERENCE_CPU, REFERENCE_CUDA = Engine("reference", "float32", "cpu"), Engine("reference", "float32", "cuda")
FAST_CPU, EXACT_CPU = Engine("openvino", "bfloat16", "cpu"), Engine("openvino", "float32", "cpu")
FAST_CUDA = Engine("folded", "float16", "cuda")
TORCH_BFLOAT16_CPU, TORCH_FLOAT32_CPU = Engine("fast", "bfloat16", "cpu"), Engine("fast", "float32", "cpu")
TORCH_BFLOAT16_CUDA, TORCH_FLOAT16_CUDA = Engine("fast", "bfloat16", "cuda"), Engine("fast", "float16", "cuda")

ENGINES = (
    REFERENCE_CPU, REFERENCE_CUDA, FAST_CPU, EXACT_CPU, FAST_CUDA,
    TORCH_BFLOAT16_CPU, TORCH_FLOAT32_CPU, TORCH_BFLOAT16_CUDA, TORCH_FLOAT16_CUDA,
)  # fmt: skip
"""Every engine; a run begun on one goes on with it, so none is ever taken out."""


def engines_for(kind: EngineKind, device: DeviceName = "auto") -> tuple[Engine, ...]:
    """Return the engines of a kind for this hardware, the preferred one first: see `predictor.predictor_for`.

    Parameters
    ----------
    kind
        ``float32`` is the reference. ``exact`` is the fastest whose answers are the reference's to 1e-5.
        ``fast`` is the fastest within 0.005 of its probabilities; ``auto`` is fast. The reference is the last of each.
    device
        ``auto`` takes a GPU that this process may use, else the CPU.

    Raises
    ------
    ConfigError
        If there is no such device here.
    """
    import torch  # not to be loaded by who only names an engine

    cuda = device != "cpu" and torch.cuda.is_available()
    if device == "cuda" and not cuda:
        raise ConfigError(
            "No CUDA device is available here.", "Set the model's device to cpu or auto, or give its replicas a GPU."
        )
    reference = REFERENCE_CUDA if cuda else REFERENCE_CPU
    if kind == "float32" or (kind == "exact" and cuda):
        return (reference,)
    if cuda:
        return FAST_CUDA, TORCH_FLOAT16_CUDA, reference
    openvino = find_spec("openvino") is not None
    half = kind != "exact" and native_bfloat16()
    chosen = [
        *((FAST_CPU,) if half and openvino else ()),
        *((EXACT_CPU,) if openvino else ()),
        *((TORCH_BFLOAT16_CPU,) if half else ()),
    ]
    return *chosen, reference


def check_works(engine: Engine) -> None:
    """Raise EnvironmentFault if an engine needs what is not here: a run begun elsewhere may name it."""
    import torch

    missing = ""
    if engine.device == "cuda" and not torch.cuda.is_available():
        missing = "a CUDA device, which this process has none of"
    if engine.runtime == "openvino" and find_spec("openvino") is None:
        missing = "OpenVINO, which is not installed here"
    if missing:
        hint = "Use it where there is one. A run stays with its engine: --new begins another, on one that works here."
        raise EnvironmentFault(f"Engine {engine.name} needs {missing}.", hint)


def native_bfloat16() -> bool:
    """Return whether this processor computes with bfloat16."""
    # torch answers only for the instruction set it was built for; the kernel knows the processor
    flags = Path("/proc/cpuinfo")
    words = set(flags.read_text().split()) if flags.exists() else set()
    return bool(words & {"avx512_bf16", "amx_bf16"})
