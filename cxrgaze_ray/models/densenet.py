"""DenseNet as feature extractor, and where its first weights come from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http.client import HTTPException
from pickle import UnpicklingError
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models import DenseNet, DenseNet201_Weights

from cxrgaze_ray.errors import UserError
from cxrgaze_ray.models.state import load_strictly
from cxrgaze_ray.storage import open_parent

CONTRASTIVE_PARTS = (
    "conv0", "norm0", "denseblock1", "transition1", "denseblock2", "transition2", "denseblock3", "transition3",
    "denseblock4",
)  # fmt: skip
"""Parts of `features` that the contrastive phase trains: all but norm5."""


_OLD_NAME = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")


@dataclass(frozen=True)
class BackboneReport:
    """The source of DenseNet's first weights; `warning` is for the user, empty if all is well."""

    source: Literal["imagenet", "file", "fresh"]
    warning: str = ""


def pooled(densenet: DenseNet, raw_BCHW: Tensor) -> Tensor:
    """Return the ordinary pooled DenseNet vector (B, C) of raw denseblock4 features: GAP(ReLU(norm5))."""
    return torch.relu(densenet.features.norm5(raw_BCHW)).float().mean(dim=(2, 3))


def load_backbone(densenet: DenseNet, weights_file: str | None = None) -> BackboneReport:
    """Load DenseNet's first weights: from a file if one is given, else torchvision's ImageNet weights.

    Parameters
    ----------
    densenet
        The network: its features are overwritten, its head is kept.
    weights_file
        URI of a safetensors file with torchvision's names, with or without a classifier.

    Returns
    -------
    BackboneReport
        ``fresh`` with a warning where ImageNet weights do not fit the network or can't be downloaded.

    Raises
    ------
    UserError
        If the file is not safetensors, does not hold exactly the features of this network, or holds ones not finite.
    """
    if weights_file is not None:
        _load_features(densenet, _read(weights_file))
        return BackboneReport("file")
    if not _is_densenet201(densenet):
        return BackboneReport("fresh", "ImageNet weights are for DenseNet-201; this preset's DenseNet starts fresh.")
    try:
        state = DenseNet201_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, HTTPException, RuntimeError, EOFError, UnpicklingError):
        # not only for lack of a network: a proxy's own page has the wrong hash, and a cached file may be cut short
        return BackboneReport(
            "fresh",
            "ImageNet weights can't be downloaded or read here: DenseNet starts fresh, and will score worse. "
            "Give --backbone-weights FILE (safetensors, torchvision's names) to start from a local copy.",
        )
    _load_features(densenet, dict(state))
    return BackboneReport("imagenet")


def _is_densenet201(densenet: DenseNet) -> bool:
    expected = {"features.conv0.weight": (64, 3, 7, 7), "features.norm5.weight": (1920,)}
    state = densenet.state_dict()
    return all(tuple(state[name].shape) == shape for name, shape in expected.items())


def _read(uri: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    store, key = open_parent(uri)
    try:
        return load(store.get(key))
    except SafetensorError as error:
        raise UserError(
            f"{uri} is not a safetensors file.",
            "Convert it once: safetensors.torch.save_file(torchvision_model.state_dict(), FILE).",
        ) from error


def _modern(name: str) -> str:
    """Return the name that a tensor has in today's torchvision: the published files still say ``norm.1``."""
    return _OLD_NAME.sub(r"\1\2.", name)


def _load_features(densenet: DenseNet, state: dict[str, Tensor]) -> None:
    """Load every tensor under `features.`, or fail and name those that do not fit."""
    given = {_modern(name): tensor for name, tensor in state.items() if name.startswith("features.")}
    features = _without_classifier(densenet)
    wanted = features.state_dict()
    # files from before PyTorch 0.4.1 have no such counters
    given |= {name: wanted[name] for name in wanted.keys() - given.keys() if name.endswith("num_batches_tracked")}
    hint = "Give weights of the preset's own DenseNet, or leave them out."
    load_strictly(
        features,
        given,
        lambda what: UserError(f"The backbone weights do not fit: {what}.", hint),
        lambda what: UserError(f"The backbone weights are not finite: {what}.", "Start from other ones."),
    )


def _without_classifier(densenet: DenseNet) -> nn.Module:
    holder = nn.Module()
    holder.features = densenet.features
    return holder
