"""What a training would do: all that can be checked before it is checked, and what it takes is measured and reckoned.

Nothing is trained, published or kept, no cluster is started, and no weights are downloaded.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

import torch

from cxrgaze_ray.cluster.connection import ClusterSettings
from cxrgaze_ray.cluster.memory import free_memory
from cxrgaze_ray.models.network import Network
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.schemas import HEIGHT, WIDTH
from cxrgaze_ray.shards import Trainable, index_store
from cxrgaze_ray.shards.build import peak_rss_mib
from cxrgaze_ray.storage import LocalStore
from cxrgaze_ray.training.ahead import BATCHES
from cxrgaze_ray.training.checkpoint import hand_over
from cxrgaze_ray.training.initial import INITIAL, first_weights
from cxrgaze_ray.training.kept import KeptCheckpoints
from cxrgaze_ray.training.publishing import check_publishable
from cxrgaze_ray.training.rehearsal import PhaseCost, measured_on, rehearse, sharing_devices
from cxrgaze_ray.training.run import SPLITS, check_beginning, look_over, notes_of, rows_of, training_name, work_store
from cxrgaze_ray.training.running import CheckpointSettings, Workers
from cxrgaze_ray.training.settings import TrainSettings

_DOWNLOADED = "ImageNet's weights are downloaded when the training starts, unless they are here by then."
_FRESH = "The network will start fresh, not from backbone imagenet: no ImageNet weights are of its kind and size."

_READER_BYTES = 384 * 2**20
"""Memory in which a worker keeps rows and footers: see `shards.rows`."""


@dataclass(frozen=True)
class Room:
    """Bytes that something takes, at most, and those that are free where it goes; None where nobody says."""

    needed: int
    free: int | None

    @property
    def short(self) -> bool:
        """Whether there is too little."""
        return self.free is not None and self.needed > self.free


@dataclass(frozen=True)
class Foretold:
    """What a training would take on this machine.

    Attributes
    ----------
    run
        Name of the training; the same command goes on with it.
    phases
        Measured, in order.
    device, sharing
        What was measured, and among how many such devices the workers would share the work.
    memory
        Of one worker, or of one GPU, beside what is free.
    checkpoints, features
        Room in the registry for checkpoints, and in the registry and in each worker's folder for temporary files for
        features.
    temporary
        Room in this machine's folder for temporary files.
    warnings, notes
        Sentences for the user.
    """

    run: str
    phases: list[PhaseCost]
    device: str
    sharing: int
    memory: Room
    checkpoints: int
    features: int
    registry: Room
    temporary: Room
    warnings: list[str]
    notes: list[str]

    @property
    def seconds(self) -> float:
        """Seconds of all phases, if patience ends none of them early."""
        return sum(one.seconds for one in self.phases) / self.sharing

    def told(self) -> dict[str, Any]:
        """Return all of it as JSON can hold it."""
        phases = [asdict(one) | {"seconds": round(one.seconds / self.sharing, 3)} for one in self.phases]
        return asdict(self) | {"phases": phases, "seconds": round(self.seconds, 3)}


def foretell(
    store: Trainable,
    settings: TrainSettings,
    registry: Registry,
    *,
    name: str = "cxrgaze",
    parent: str | None = None,
    backbone_weights: str | None = None,
    workers: int | Workers = 1,
    checkpoints: CheckpointSettings | None = None,
    promote: bool = False,
    reason: str = "",
    cluster: ClusterSettings | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Foretold:
    """Check all that a training needs, and say what it would take; see `training.run.run_stages`.

    Parameters
    ----------
    cluster
        Where the workers would be: by default on a private cluster of this machine. Of another nothing is asked; each
        worker is taken to be on a machine like this one.
    say
        Called with what is under way.

    Raises
    ------
    UserError
        What would stop the training.
    """
    check_publishable(registry, name, promote=promote, reason=reason)
    pin, begun_from = check_beginning(store, registry, name, parent, backbone_weights)
    index = index_store(store, SPLITS)
    warnings = [*store.info.warnings(), *look_over(index, settings)]
    notes = notes_of(settings, begun_from)
    network = _first_network(settings, pin, backbone_weights, notes)
    run = training_name(store, settings, pin, backbone_weights)
    work = work_store(registry, name, run)
    if work.exists(INITIAL):
        notes.extend(_begun(KeptCheckpoints(work, run), len(settings.stages)))
    team, device = Workers.parse(workers), torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cluster = cluster or ClusterSettings()
    elsewhere = cluster.joined is not None
    sharing = team.least if elsewhere else _placed(team, device, cluster.cpus)
    here = 1 if elsewhere else sharing
    bare = round(peak_rss_mib() * 2**20)
    train, validation, _ = rows_of(index)
    costs = []
    for phase in settings.stages:
        say(f"Measuring a step of phase {phase}.")
        rows, many = (train, validation), (team.least, here)
        costs.append(rehearse(network, *rows, settings, phase, device, workers=many))
    keep = (checkpoints or CheckpointSettings()).keep
    told = Foretold(
        run=run,
        phases=costs,
        device=measured_on(device),
        sharing=sharing_devices(team.least, device, elsewhere=elsewhere),
        memory=_memory(costs, team.least if device.type == "cuda" else sharing, device, here, bare),
        **_disks(costs, registry, keep, here),
        warnings=warnings,
        notes=notes,
    )
    told.warnings.extend(_shortages(told))
    if not elsewhere:
        told.warnings.extend(_waiting(team, device, cluster.cpus))
    return told


def _begun(kept: KeptCheckpoints, stages: int) -> list[str]:
    """Say that the same command would not begin anew."""
    if not (names := kept.names()):
        return []
    if kept.reached(stages):
        return ["This training is over: the same command only evaluates and publishes it again."]
    return [f"This training was begun, and would go on from {names[0]}: figures are of all of it."]


class _Disks(TypedDict):
    checkpoints: int
    features: int
    registry: Room
    temporary: Room


def _disks(costs: list[PhaseCost], registry: Registry, keep: int, here: int) -> _Disks:
    """Reckon room for checkpoints, one more than are kept, and for the features of the phase that has most."""
    saved, features = max(one.checkpoint_bytes for one in costs), max(one.features_bytes for one in costs)
    kept, store = (keep + 1) * saved, registry.store
    return {
        "checkpoints": kept,
        "features": features,
        "registry": Room(kept + features, _free(store.root) if isinstance(store, LocalStore) else None),
        "temporary": Room(features * here + saved, _free(Path(tempfile.gettempdir()))),
    }


def _first_network(
    settings: TrainSettings, parent: ModelPin | None, backbone_weights: str | None, notes: list[str]
) -> Network:
    """Return the network with its first weights, but for those that would have to be downloaded."""
    network = build(settings.network, settings.seed)
    if parent or backbone_weights:
        hand_over(network, first_weights(settings, parent, backbone_weights, notes.append)[0])
    elif settings.backbone == "imagenet":
        notes.append(_DOWNLOADED if settings.network.fits_imagenet else _FRESH)
    return network


def _placed(team: Workers, device: torch.device, cpus: int) -> int:
    """Return how many workers this machine would have: as many as there is room for, but never fewer than the least."""
    return max(team.least, min(team.most, torch.cuda.device_count() if device.type == "cuda" else cpus))


def _memory(costs: list[PhaseCost], sharing: int, device: torch.device, here: int, bare: int) -> Room:
    """Return the memory of the largest step: of a GPU, or of this machine's workers.

    `sharing` workers share a batch: GPUs hold most where they are fewest, a machine where they are most. `bare` is
    what this process held before it took a step: the same libraries, and a network.
    """
    step = max(one.step_bytes(-(-one.rows // sharing)) for one in costs)
    if device.type == "cuda":
        return Room(step, torch.cuda.mem_get_info(device)[0])
    # the best weights, and the checkpoint that is being written; batches that wait
    beside = max(one.network_bytes + one.checkpoint_bytes for one in costs) + _READER_BYTES + bare
    waiting = max(-(-one.rows // sharing) for one in costs) * (BATCHES + 1) * 2 * 4 * HEIGHT * WIDTH
    return Room((step + beside + waiting) * here, free_memory())


def _free(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _shortages(told: Foretold) -> list[str]:
    places = {
        "there is less memory than a step needs: lower the largest batch, or stop other programs": told.memory,
        "checkpoints and features do not fit into the registry: make room, or set cache_features=false": told.registry,
        "the folder for temporary files is too small: make room there, or name another, TMPDIR": told.temporary,
    }
    return [f"Warning: {sentence}." for sentence, room in places.items() if room.short]


def _waiting(team: Workers, device: torch.device, cpus: int) -> list[str]:
    """Warn of workers for which a private cluster has no place."""
    gpu = device.type == "cuda"
    there = torch.cuda.device_count() if gpu else cpus
    if team.least <= there:
        return []
    has = f"{there} GPU{'' if there == 1 else 's'}" if gpu else f"{there} for Ray"
    needed = f"{team} need a {'GPU' if gpu else 'CPU'} each, and this machine has {has}"
    return [f"Warning: {needed}: the training would wait for ever."]
