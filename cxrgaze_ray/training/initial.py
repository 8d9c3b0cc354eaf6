"""The weights that a training starts from, written once with the record of where they come from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from safetensors import SafetensorError
from torch import Tensor, nn

from cxrgaze_ray.errors import RunConflict, UserError
from cxrgaze_ray.models.bundle import Bundle, Lineage, read_bundle
from cxrgaze_ray.models.network import DenseNetNetwork, Network
from cxrgaze_ray.models.state import load_strictly
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.storage import Store, open_parent, open_store
from cxrgaze_ray.training.checkpoint import snapshot
from cxrgaze_ray.training.sealed import LENGTH_BYTES, header_bytes, header_of, load_sealed, save_sealed
from cxrgaze_ray.training.settings import TrainSettings

INITIAL = "initial.safetensors"
_LINEAGE = "lineage"
_DENSENET = "densenet."


def begin(
    work: Store,
    settings: TrainSettings,
    lineage: Lineage,
    parent: ModelPin | None,
    backbone_weights: str | None,
    say: Callable[[str], None],
) -> Lineage:
    """Write the weights that every worker starts from, if nobody did; return the lineage stored with them.

    Parameters
    ----------
    work
        Folder of the training.
    settings
        Settings of the training.
    lineage
        Lineage without the source of DenseNet's first weights.
    parent
        Model to start from.
    backbone_weights
        URI of DenseNet's first weights, if there is no parent.
    say
        Called with warnings.
    """
    if not work.exists(INITIAL):
        state, source = first_weights(settings, parent, backbone_weights, say)
        record = lineage.model_copy(update={"backbone": source})
        # weights and record are one object, so that neither a kill nor another driver can make them disagree
        work.put_if_absent(INITIAL, save_sealed(state, {_LINEAGE: record.model_dump_json()}))
    with _damaged(work.locate(INITIAL)):
        head = work.head(INITIAL, header_bytes(work.head(INITIAL, LENGTH_BYTES)))
        written = header_of(head).get(_LINEAGE)
    return lineage if written is None else Lineage.model_validate_json(written)


def first_weights(
    settings: TrainSettings, parent: ModelPin | None, backbone_weights: str | None, say: Callable[[str], None]
) -> tuple[dict[str, Tensor], str | None]:
    """Return first weights, and the source of DenseNet's; None for the parent's.

    Raises
    ------
    UserError
        If the parent's weights, or the file's, do not fit the network.
    """
    network, source = build(settings.network, settings.seed), "fresh"
    if parent is not None:
        _take_over(network, read_bundle(open_store(parent.uri)), parent)
        return snapshot(network), None
    if settings.backbone == "imagenet" or backbone_weights:
        report = network.load_pretrained(backbone_weights)
        source = report.source
        if report.warning:
            say(f"Warning: {report.warning}")
    return snapshot(network), source


def _take_over(network: Network, parent: Bundle, pin: ModelPin) -> None:
    """Load a parent's weights: all of them, or if it is another system, its DenseNet."""
    same = parent.info.network.system == network.config.system
    module: nn.Module = network
    state = parent.state
    if not same:
        module = network.densenet if isinstance(network, DenseNetNetwork) else nn.Module()
        state = {name.removeprefix(_DENSENET): t for name, t in state.items() if name.startswith(_DENSENET)}
        if not state or not isinstance(network, DenseNetNetwork):
            raise UserError(
                f"{pin.name}@{pin.version} is a {parent.info.network.system}, and shares no part with a "
                f"{network.config.system}.",
                "Start from a model of the same system, or leave out --from.",
            )
    hint = "Give the settings that the parent was trained with: --preset, and architecture in the settings' file."
    load_strictly(
        module, state, lambda what: UserError(f"The weights of {pin.name}@{pin.version} do not fit: {what}.", hint)
    )


def read_initial(uri: str) -> dict[str, Tensor]:
    """Read the weights that `begin` wrote.

    Raises
    ------
    RunConflict
        If they are damaged.
    """
    store, key = open_parent(uri)
    with _damaged(uri):
        return load_sealed(store.get(key))


@contextmanager
def _damaged(uri: str) -> Iterator[None]:
    try:
        yield
    except SafetensorError as error:
        raise RunConflict(
            f"The weights that this training began with are damaged: {uri}.",
            "Remove the folder in which they lie, and the same command begins anew.",
        ) from error


def file_sha256(uri: str) -> str:
    """Hash a file of weights, so that a training from other weights has another name."""
    store, key = open_parent(uri)
    return hashlib.sha256(store.get(key)).hexdigest()
