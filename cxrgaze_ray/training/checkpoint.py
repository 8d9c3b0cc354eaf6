"""The state from which a killed training resumes: one file, safetensors with JSON in its header, no pickle."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Adam

from cxrgaze_ray.errors import BundleError, TrainingDiverged
from cxrgaze_ray.models.state import load_strictly
from cxrgaze_ray.training.ranks import gathered, own_of
from cxrgaze_ray.training.sealed import check_seal, sealed

Part = Literal["before", "train", "validation"]

_PARTS: tuple[Part, ...] = ("before", "train", "validation")


@dataclass
class Within:
    """How far an epoch is: how many steps of a part of it are taken, and what they have added up.

    Attributes
    ----------
    part
        Split whose steps are being taken, validation after training; or, before a phase's first epoch, validation of
        the weights that it begins with.
    steps
        Number of steps of that part that are taken.
    sums
        Each rank's sum of weighted losses, and of weights, over those steps.
    train_loss
        The epoch's mean training loss; 0 before validation has begun.
    seconds
        Time that the epoch has taken so far.
    """

    part: Part = "train"
    steps: int = 0
    sums: list[list[float]] = field(default_factory=list)
    train_loss: float = 0.0
    seconds: float = 0.0


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
    within
        Progress within the next epoch; None between two epochs.
    before
        Mean validation loss of the weights that the stage began with; None where an earlier version began it.
    """

    stage: int = 0
    epoch: int = 0
    best_loss: float | None = None
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    within: Within | None = None
    before: float | None = None

    @classmethod
    def from_json(cls, text: str) -> Standing:
        """Read what `asdict` told; earlier versions knew no progress within epochs, or only of the two splits."""
        values = json.loads(text)
        within = values.pop("within", None)
        if within and "split" in within:
            within["part"] = within.pop("split")
        return cls(**values, within=within and Within(**within))

    def progress(self) -> tuple[int, int, int, int]:
        """Return what orders the checkpoints of one training: stage, epoch, number of the part, and steps."""
        within = self.within or Within("before")
        return self.stage, self.epoch, _PARTS.index(within.part), within.steps


@dataclass
class Checkpoint:
    """A training between two steps: everything that the next step depends on.

    Attributes
    ----------
    model, best
        Current weights, and the best ones of the stage.
    optimiser
        Adam's state: see `optimiser_state`.
    rng
        States of every rank's RNGs: see `rng_states`.
    scaler
        State of the gradient scaler; empty where none is used, as everywhere but in float16.
    """

    standing: Standing
    model: dict[str, Tensor]
    best: dict[str, Tensor]
    optimiser: dict[str, Tensor]
    rng: list[dict[str, Tensor]]
    scaler: dict[str, Any] = field(default_factory=dict)


def write_checkpoint(file: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; of the best weights only those that differ from the current ones, as no frozen one does."""
    model = checkpoint.model
    best = {name: tensor for name, tensor in checkpoint.best.items() if not _same(tensor, model.get(name))}
    rng = {f"{device}.{rank}": state for rank, own in enumerate(checkpoint.rng) for device, state in own.items()}
    parts = {"model": model, "best": best, "optimiser": checkpoint.optimiser, "rng": rng}
    tensors = {f"{part}.{name}": tensor for part, named in parts.items() for name, tensor in named.items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {"standing": json.dumps(asdict(checkpoint.standing)), "scaler": json.dumps(checkpoint.scaler)}
    save_file(tensors, file, sealed(tensors, header))


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint back; one of an earlier version is a folder.

    Raises
    ------
    SafetensorError
        If the file is not whole, or not what was written.
    KeyError, TypeError, ValueError
        If it is whole, and holds something else than checkpoints of this version do.
    """
    if path.is_dir():
        return _read_earlier(path)
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimiser": {}, "rng": {}}
    with safe_open(path, "pt") as file:
        header = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, safe_open is no mapping
    check_seal(tensors, header)
    for key, tensor in tensors.items():
        part, _, name = key.partition(".")
        parts[part][name] = tensor
    return Checkpoint(
        standing=Standing.from_json(header["standing"]),
        model=parts["model"],
        best=parts["model"] | parts["best"],
        optimiser=parts["optimiser"],
        rng=_by_rank(parts["rng"]),
        scaler=json.loads(header["scaler"]),
    )


def _same(tensor: Tensor, other: Tensor | None) -> bool:
    return other is not None and torch.equal(tensor, other)


def _by_rank(states: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    ranks: list[dict[str, Tensor]] = [{} for _ in range(1 + max(int(key.partition(".")[2]) for key in states))]
    for key, state in states.items():
        device, _, rank = key.partition(".")
        ranks[int(rank)][device] = state
    return ranks


def _read_earlier(folder: Path) -> Checkpoint:
    """Read one of a version that had them between epochs only, with the first rank's RNGs; some had no scaler."""
    optimiser, scaler = load_file(folder / "optimiser.safetensors"), folder / "scaler.json"
    rng = {name: optimiser.pop(name) for name in list(optimiser) if name.partition(".")[0] == "rng"}
    return Checkpoint(
        standing=Standing.from_json((folder / "standing.json").read_text()),
        model=load_file(folder / "model.safetensors"),
        best=load_file(folder / "best.safetensors"),
        rng=[{name.partition(".")[2] or "cpu": state for name, state in rng.items()}],
        optimiser=optimiser,
        scaler=json.loads(scaler.read_text()) if scaler.exists() else {},
    )


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
    """Return the states of the RNGs that a rank on a device draws from, keyed by type of device."""
    states = {"cpu": torch.get_rng_state()}
    return states | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def rng_states(device: torch.device) -> list[dict[str, Tensor]]:
    """Return every rank's RNG states; all must call this. Ranks' shares of a batch may differ, and so their draws."""
    ranks = {name: gathered(state, device) for name, state in rng_state(device).items()}
    return [dict(zip(ranks, states, strict=True)) for states in zip(*ranks.values(), strict=True)]


def load_rng_states(ranks: list[dict[str, Tensor]], device: torch.device) -> None:
    """Put this rank's RNG states back, or the first rank's if there were more ranks, or fewer.

    A device's own stays as it was seeded if the training ran elsewhere before.
    """
    states = own_of(ranks) or ranks[0]
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def optimiser_state(optimiser: Adam) -> dict[str, Tensor]:
    """Copy Adam's state to tensors on the CPU: ``<parameter index>.<name>``."""
    state = optimiser.state_dict()["state"]
    return {
        f"{index}.{name}": torch.as_tensor(value).detach().cpu().clone()
        for index, item in state.items()
        for name, value in item.items()
    }


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
