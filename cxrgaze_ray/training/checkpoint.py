"""What a killed training goes on from: safetensors and JSON, no pickle."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Adam

from cxrgaze_ray.errors import BundleError


@dataclass
class Standing:
    """How far a training is.

    Attributes
    ----------
    stage, epoch
        Index of the stage being trained, and epochs of it that are finished.
    best_loss, best_epoch
        Lowest validation loss of the stage, None before its first epoch.
    history
        Metrics of every finished epoch, all stages.
    """

    stage: int = 0
    epoch: int = 0
    best_loss: float | None = None
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Checkpoint:
    """A training between two epochs: current weights, best weights of the stage, optimiser, RNG."""

    standing: Standing
    model: dict[str, Tensor]
    best: dict[str, Tensor]
    optimiser: dict[str, Tensor]
    rng: Tensor


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint into an empty folder."""
    save_file(_plain(checkpoint.model), folder / "model.safetensors")
    save_file(_plain(checkpoint.best), folder / "best.safetensors")
    save_file(_plain(checkpoint.optimiser) | {"rng": checkpoint.rng}, folder / "optimiser.safetensors")
    (folder / "standing.json").write_text(json.dumps(asdict(checkpoint.standing)))


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint back."""
    optimiser = load_file(folder / "optimiser.safetensors")
    return Checkpoint(
        standing=Standing(**json.loads((folder / "standing.json").read_text())),
        model=load_file(folder / "model.safetensors"),
        best=load_file(folder / "best.safetensors"),
        rng=optimiser.pop("rng"),
        optimiser=optimiser,
    )


def _plain(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}


def snapshot(module: torch.nn.Module) -> dict[str, Tensor]:
    """Return a copy of a module's parameters and buffers on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}


def hand_over(module: torch.nn.Module, state: dict[str, Tensor]) -> None:
    """Load a state and assert that every single tensor arrived.

    Raises
    ------
    BundleError
        If a tensor is missing, left over, or differs after loading: a silent partial load is the classic bug here.
    """
    wanted = module.state_dict()
    if set(wanted) != set(state):
        raise BundleError(f"The hand-over does not fit: {len(set(wanted) ^ set(state))} tensors differ.")
    module.load_state_dict(state, strict=True)
    arrived = sum(torch.equal(tensor.cpu(), state[name].cpu()) for name, tensor in module.state_dict().items())
    if arrived != len(state):
        raise BundleError(f"The hand-over lost tensors: {arrived} of {len(state)} arrived.")


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
