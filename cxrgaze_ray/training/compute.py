"""How a device computes a phase: in which precision, in which layout of memory, and compiled or not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import _dynamo as dynamo
from torch import nn
from torch._dynamo.exc import TorchDynamoException

from cxrgaze_ray.training.checkpoint import load_rng_states, rng_state
from cxrgaze_ray.training.ranks import alone, most
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

    def compile(self, module: nn.Module, example: Callable[[], Any]) -> None:
        """Have a phase's module compiled, if the settings ask for it and it works for every rank; all must call this.

        A rank that went on without it while others compute compiled code, perhaps waiting for it in the middle, would
        be out of step with them. So each tries alone, and all do what all can.

        Parameters
        ----------
        example
            Returns a batch of the phase to try with, on the device.
        """
        if not self._compile:
            return
        module.compile()
        failed = self._tried(module, example())
        if most(int(bool(failed)), self.device):
            self._compile = False
            vars(module)["_compiled_call_impl"] = None
            where = "here" if failed else "for another worker"
            why = f" ({failed})" if failed else ""
            self.tell(f"torch.compile does not work {where}{why}: going on without it.")
        # what fails to compile later, such as for a last batch of another size, is computed as it is from there on
        dynamo.config.suppress_errors = True

    def _tried(self, module: nn.Module, batch: Any) -> str:
        """Compile a module's passes in both modes, without other ranks; return the kind of error, or nothing."""
        kept = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        drawn = rng_state(self.device)
        try:
            with alone(), self.autocast(), dynamo.config.patch(suppress_errors=False):
                module.train()(batch).loss.backward()
                with torch.no_grad():
                    module.eval()(batch)
        except TorchDynamoException as error:
            return type(error).__name__
        finally:
            module.zero_grad(set_to_none=True)
            module.load_state_dict(kept)
            load_rng_states([drawn], self.device)
        return ""


def _automatic(device: torch.device) -> torch.dtype | None:
    """Return the reduced precision that a device trains in, if any."""
    if device.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
