"""First weights of a published network: from a local file, from its library's download, or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pickle import UnpicklingError
from typing import Literal

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from cxrgaze_ray.errors import UserError
from cxrgaze_ray.models.state import load_strictly
from cxrgaze_ray.storage import open_parent

_NO_WEIGHTS = (OSError, HTTPException, RuntimeError, EOFError, UnpicklingError, SafetensorError)
"""What a download raises: not only for lack of a network, a proxy's own page has the wrong hash, and a cached file may
be cut short."""


@dataclass(frozen=True)
class BackboneReport:
    """The source of a network's first weights; `warning` is for the user, empty if all is well."""

    source: Literal["imagenet", "file", "fresh"]
    warning: str = ""


@dataclass(frozen=True)
class Published:
    """Weights that a library publishes.

    Attributes
    ----------
    name
        Of the network whose weights they are.
    library
        Library that names the tensors.
    head
        Name of the linear head, which is of other classes and stays as it is.
    download
        Returns them.
    modern
        Returns the name that a tensor has in today's library.
    """

    name: str
    library: str
    head: str
    download: Callable[[], Mapping[str, Tensor]]
    modern: Callable[[str], str] = str


def load_first_weights(
    network: nn.Module, published: Published, weights_file: str | None, *, fits: bool
) -> BackboneReport:
    """Load all weights but the head's: from a file if one is given, else those published.

    Parameters
    ----------
    network
        The network, with its library's names.
    published
        The published weights.
    weights_file
        URI of a safetensors file with the library's names, with or without a head.
    fits
        Whether the published weights are of this network's size.

    Returns
    -------
    BackboneReport
        ``fresh`` with a warning where the published weights do not fit the network or can't be downloaded.

    Raises
    ------
    UserError
        If the file is not safetensors, does not hold exactly the network's tensors, or holds ones not finite.
    """
    short = published.name.partition("-")[0]
    if weights_file is not None:
        _load_body(network, published, _read(weights_file, published))
        return BackboneReport("file")
    if not fits:
        return BackboneReport(
            "fresh", f"ImageNet weights are for {published.name}; this preset's {short} starts fresh."
        )
    try:
        state = published.download()
    except _NO_WEIGHTS:
        return BackboneReport(
            "fresh",
            f"ImageNet weights can't be downloaded or read here: {short} starts fresh, and will score worse. "
            f"Give --backbone-weights FILE (safetensors, {published.library}'s names) to start from a local copy.",
        )
    _load_body(network, published, state)
    return BackboneReport("imagenet")


def _read(uri: str, published: Published) -> dict[str, Tensor]:
    store, key = open_parent(uri)
    try:
        return load(store.get(key))
    except SafetensorError as error:
        raise UserError(
            f"{uri} is not a safetensors file.",
            f"Convert it once: safetensors.torch.save_file({published.library}_model.state_dict(), FILE).",
        ) from error


def _load_body(network: nn.Module, published: Published, state: Mapping[str, Tensor]) -> None:
    """Load every tensor but the head's, or fail and name those that do not fit."""
    head, own = f"{published.head}.", network.state_dict()
    given = {published.modern(name): tensor for name, tensor in state.items() if not name.startswith(head)}
    # the head stays, and files from before PyTorch 0.4.1 have no such counters
    given |= {name: t for name, t in own.items() if name.startswith(head)}
    given |= {name: own[name] for name in own.keys() - given.keys() if name.endswith("num_batches_tracked")}
    hint = "Give weights of the preset's own network, or leave them out."
    load_strictly(
        network,
        given,
        lambda what: UserError(f"The backbone weights do not fit: {what}.", hint),
        lambda what: UserError(f"The backbone weights are not finite: {what}.", "Start from other ones."),
    )
