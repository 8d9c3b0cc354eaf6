"""The state from which a killed training resumes: safetensors and JSON, no pickle."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Adam

from cxrgaze_ray.errors import BundleError, TrainingDiverged
from cxrgaze_ray.models.state import load_strictly

_SCALER = "scaler.json"
_RNG = "rng"
"""Name of the processor's RNG among the optimiser's tensors; an accelerator's follows with its type: rng.cuda."""


@dataclass
class Standing:
    """The progress of a training.

    Attributes
    ----------
    stage, epoch
        Index of the stage being trained, and the number of its finished epochs.
    best_loss, best_epoch
        Lowest validation loss of the stage and its epoch; None before the first epoch.
    history
        Metrics of every finished epoch of all stages.
    """

    stage: int = 0
    epoch: int = 0
    best_loss: float | None = None
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Checkpoint:
    """A training between two epochs: everything that the next epoch depends on.

    Attributes
    ----------
    model, best
        Current weights, and the best ones of the stage.
    optimiser
        Adam's state: see `optimiser_state`.
    rng
        States of the RNGs: see `rng_state`.
    scaler
        State of the gradient scaler; empty where none is used, as everywhere but in float16.
    """

    standing: Standing
    model: dict[str, Tensor]
    best: dict[str, Tensor]
    optimiser: dict[str, Tensor]
    rng: dict[str, Tensor]
    scaler: dict[str, Any] = field(default_factory=dict)


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint into an empty folder."""
    save_file(_plain(checkpoint.model), folder / "model.safetensors")
    save_file(_plain(checkpoint.best), folder / "best.safetensors")
    rng = {_RNG if device == "cpu" else f"{_RNG}.{device}": state for device, state in checkpoint.rng.items()}
    save_file(_plain(checkpoint.optimiser | rng), folder / "optimiser.safetensors")
    (folder / "standing.json").write_text(json.dumps(asdict(checkpoint.standing)))
    (folder / _SCALER).write_text(json.dumps(checkpoint.scaler))


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint back; one of an earlier version has the processor's RNG only, and no scaler."""
    optimiser, scaler = load_file(folder / "optimiser.safetensors"), folder / _SCALER
    rng = {name: optimiser.pop(name) for name in list(optimiser) if name.partition(".")[0] == _RNG}
    return Checkpoint(
        standing=Standing(**json.loads((folder / "standing.json").read_text())),
        model=load_file(folder / "model.safetensors"),
        best=load_file(folder / "best.safetensors"),
        rng={name.partition(".")[2] or "cpu": state for name, state in rng.items()},
        optimiser=optimiser,
        scaler=json.loads(scaler.read_text()) if scaler.exists() else {},
    )


def _plain(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}


def snapshot(module: torch.nn.Module) -> dict[str, Tensor]:
    """Return a copy of a module's parameters and buffers on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}


def hand_over(module: torch.nn.Module, state: dict[str, Tensor]) -> None:
    """Load a state and check that every single tensor arrived.

    Raises
    ------
    BundleError
        If a tensor is missing, left over, of another shape, or differs after loading.
    TrainingDiverged
        If a tensor is not finite; only checkpoints of earlier versions hold such weights.
    """
    hint = "Lower the learning rates in the training's settings: this makes it another training, which starts afresh."
    load_strictly(
        module,
        state,
        lambda what: BundleError(f"The hand-over does not fit: {what}."),
        lambda what: TrainingDiverged(f"The weights that this training has reached are not finite: {what}.", hint),
    )
    arrived = sum(torch.equal(tensor.cpu(), state[name].cpu()) for name, tensor in module.state_dict().items())
    if arrived != len(state):
        raise BundleError(f"The hand-over lost tensors: {arrived} of {len(state)} arrived.")


def rng_state(device: torch.device) -> dict[str, Tensor]:
    """Return the states of the RNGs that a training on a device draws from, keyed by type of device."""
    states = {"cpu": torch.get_rng_state()}
    # only of this rank's device: the rest draw nothing, and every rank draws as the first one does
    return states | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def load_rng_state(states: dict[str, Tensor], device: torch.device) -> None:
    """Put RNG states back; a device's own stays as it was seeded if the training ran elsewhere before."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def optimiser_state(optimiser: Adam) -> dict[str, Tensor]:
    """Flatten Adam's state to tensors: ``<parameter index>.<name>``."""
    state = optimiser.state_dict()["state"]
    return {f"{index}.{name}": torch.as_tensor(value) for index, item in state.items() for name, value in item.items()}


def load_optimiser_state(optimiser: Adam, flat: dict[str, Tensor]) -> None:
    """Put a flattened state back."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in flat.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    for parameter, items in optimiser.state.items():
        for name, value in items.items():
            if value.shape == parameter.shape:  # one kernel for all of a step wants the weights' own layout of memory
                items[name] = torch.empty_like(parameter).copy_(value)
