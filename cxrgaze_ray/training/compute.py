"""How a device computes a phase: in which precision, in which layout of memory, and compiled or not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch._dynamo.exc import TorchDynamoException

from cxrgaze_ray.training.settings import TrainSettings

_TYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Compute:
    """Computes the phases of a training on one device.

    Parameters
    ----------
    device
        The device.
    settings
        Settings of the training: `precision`, `memory_format` and `compile`.
    tell
        Called with sentences for the user: what is not computed as the settings would have it.
    """

    def __init__(
        self, device: torch.device, settings: TrainSettings, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        self.device, self._compile, self.tell = device, settings.compile, tell
        self.half = _automatic(device) if settings.precision == "auto" else _TYPES[settings.precision]
        """The reduced precision of layers; None for float32."""
        last = settings.memory_format == "channels_last" or (settings.memory_format == "auto" and device.type == "cuda")
        self._layout = torch.channels_last if last else torch.preserve_format

    def autocast(self) -> AbstractContextManager[Any]:
        """Return a context in which layers compute in the reduced precision, if there is one."""
        return torch.autocast(self.device.type, self.half) if self.half else nullcontext()

    def scaler(self) -> torch.amp.GradScaler:
        """Return a scaler of losses, which works in float16 only: gradients there fall below its smallest numbers."""
        return torch.amp.GradScaler(self.device.type, enabled=self.half == torch.float16)

    def place(self, network: nn.Module) -> None:
        """Move a network to the device, its convolutions in the layout that they are to read and write."""
        network.to(self.device, memory_format=self._layout)  # type: ignore[call-overload]

    def compile(self, module: nn.Module) -> None:
        """Have a phase's module compiled at its first call, if the settings ask for it."""
        if self._compile:
            module.compile()

    def call(self, wrapped: nn.Module, module: nn.Module, batch: object) -> Any:
        """Return what a module, perhaps wrapped, makes of a batch; if it can't be compiled, as it is, and say so."""
        try:
            return wrapped(batch)
        except TorchDynamoException as error:
            self._compile = False
            vars(module)["_compiled_call_impl"] = None
            self.tell(f"torch.compile does not work here ({type(error).__name__}): going on without it.")
            return wrapped(batch)


def _automatic(device: torch.device) -> torch.dtype | None:
    """Return the reduced precision that a device trains in, if any."""
    if device.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
