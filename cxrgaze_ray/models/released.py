"""Checkpoints of the paper's released code: every tensor finds its place here, or the file is refused."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from cxrgaze_ray.errors import BundleError, UserError
from cxrgaze_ray.models.bundle import Bundle, Lineage, make_bundle
from cxrgaze_ray.models.predictor import with_golden
from cxrgaze_ray.models.settings import GazeNetConfig
from cxrgaze_ray.models.state import load_strictly, not_finite
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.storage import open_parent

Format = Literal["cxrgazelearn"]
PROFILE = "released-v1"
MAX_BYTES = 2**30
"""Largest file that is read: the released network has 267 MB."""

_CAUTION = (
    "It was trained elsewhere, by the paper's released code: nothing is recorded of the images it learned from, and "
    "those of a test split may be among them."
)
_DENSENET, _PARALLEL = "model.", "model.module."
"""Where DenseNet is, plain or in a torch DataParallel."""

_DROPPED_MODULE = "conv."
_DROPPED = frozenset({"dummy_tensor", "lg_sigma_class"})
"""What the released network holds and never uses for an answer: a module, and two tensors."""

_OWN_STATE = "Give the released code's own state dict, of the default architecture."

_NAMED = 5
"""Names that an error lists of each kind."""


class Checkpoint(NamedTuple):
    """The tensors of a file by their released names, without those that are dropped, and the file's own hash."""

    state: dict[str, Tensor]
    sha256: str

    @property
    def densenet_only(self) -> bool:
        """Whether this is a file of the contrastive phase."""
        return bool(self.state) and all(name.startswith(_DENSENET) for name in self.state)


def read_released(uri: str) -> Checkpoint:
    """Read a bare state dict, from torch.save or as safetensors with the same names.

    Raises
    ------
    UserError
        If the file is larger than such a checkpoint is, torn, or holds anything but finite tensors by name. Code in it
        is not run.
    """
    store, key = open_parent(uri)
    found = store.info(key)
    if found is not None and found.size_bytes > MAX_BYTES:
        raise UserError(
            f"{uri} has {found.size_bytes / 1e9:.1f} GB; a released checkpoint has less than {MAX_BYTES / 1e9:.1f} GB.",
            "Give the state dict alone: torch.save(network.state_dict(), FILE).",
        )
    data = store.get(key)
    # a safetensors file starts with the length of its header, and then the header, which is JSON
    loaded = _safetensors(uri, data) if data[8:9] == b"{" else _unpickled(uri, data)
    # a tensor can repeat a few stored values over any size
    if sum(tensor.nbytes for tensor in loaded.values()) > MAX_BYTES:
        raise UserError(f"The tensors in {uri} unfold to more than a released checkpoint has.", "Ask for another file.")
    state = {name: tensor for name, tensor in loaded.items() if not _dropped(name)}
    if wrong := not_finite(state):
        raise UserError(
            f"The weights in {uri} are not finite: {len(wrong)} tensors, {_listed(wrong)}.",
            "They give no usable answer; ask for another file.",
        )
    return Checkpoint(state, hashlib.sha256(data).hexdigest())


def released_bundle(uri: str, checkpoint: Checkpoint, name: str, config: GazeNetConfig) -> Bundle:
    """Make a bundle of a whole network, with its golden answers.

    Raises
    ------
    UserError
        If the file is of the contrastive phase, and so holds only a DenseNet.
    BundleError
        If a tensor is missing, left over, or of another shape or type; the message names them as the file does.
    """
    if checkpoint.densenet_only:
        raise UserError(
            f"{uri} holds a DenseNet only, as the contrastive phase leaves it: that is no model yet.",
            "Write it as first weights with --out FILE, and train from them: cxrgaze train --backbone-weights FILE.",
        )
    network = build(config)
    wanted = network.state_dict()
    state = _renamed(uri, checkpoint.state, released_names(wanted, checkpoint.state), wanted)
    load_strictly(network, state, lambda what: BundleError(f"{uri} does not fit the network: {what}."))
    lineage = Lineage(imported_format="cxrgazelearn", imported_sha256=checkpoint.sha256, caution=_CAUTION)
    return with_golden(make_bundle(network.eval(), name, trained=True, lineage=lineage, profile=PROFILE))


def released_backbone(uri: str, checkpoint: Checkpoint, config: GazeNetConfig) -> bytes:
    """Return the DenseNet of a file of any phase as safetensors with torchvision's names.

    Its head is there if the file has one.

    Raises
    ------
    BundleError
        If a tensor of DenseNet is missing, left over, or of another shape or type.
    """
    with torch.device("meta"):
        wanted = build(config).state_dict()
    own = {name: tensor for name, tensor in wanted.items() if name.startswith("densenet.")}
    given = {name: tensor for name, tensor in checkpoint.state.items() if name.startswith(_DENSENET)}
    names = released_names(own, given)
    if not any(names[name] in given for name in own if name.startswith("densenet.classifier.")):
        own = {name: tensor for name, tensor in own.items() if not name.startswith("densenet.classifier.")}
    state = _renamed(uri, given, {name: names[name] for name in own}, own)
    weights = {name.removeprefix("densenet."): tensor.contiguous() for name, tensor in state.items()}
    return save(weights, {"imported_format": "cxrgazelearn", "imported_sha256": checkpoint.sha256})


def released_names(ours: Iterable[str], given: Iterable[str]) -> dict[str, str]:
    """Return the released name of each of our tensors, with DenseNet's where the given names have it."""
    places = dict(_modules())
    densenet = _PARALLEL if any(name.startswith(_PARALLEL) for name in given) else _DENSENET

    def released(name: str) -> str:
        module, _, leaf = name.rpartition(".")
        if name.startswith("densenet."):
            return densenet + name.removeprefix("densenet.")
        return f"{places[module]}.{leaf}"

    return {name: released(name) for name in ours}


def _modules(levels: int = 5) -> Iterator[tuple[str, str]]:
    """Yield our name and the released one of every module that holds tensors, but DenseNet's."""
    for i in range(1, levels + 1):
        encoder, stage = f"encoder.levels.{i - 1}", f"decoder.stages.{levels - i}"
        for place, name in ((0, "conv1"), (1, "bn1"), (3, "conv2"), (4, "bn2")):
            yield f"{encoder}.residual.{place}", f"Conv{i}.0.{name}"
        yield f"{encoder}.shortcut", f"Conv{i}.0.conv_shortcut"
        yield f"{encoder}.gate.squeeze", f"Conv{i}.1.fc.0"
        yield f"{encoder}.gate.excite", f"Conv{i}.1.fc.2"
        yield from ((f"{stage}.up.{place}", f"Up{i}.{place}") for place in (1, 2))
        yield from ((f"{stage}.merge.{place}", f"Up_conv{i}.{place}") for place in (0, 1, 3, 4))
    for place, name in ((0, "conv2d"), (1, "BatchNorm2d"), (3, "conv_last")):
        yield f"saliency_head.layers.{place}", f"out_conv_image.{name}"
    yield "classifier.hidden", "out_classification.linear_1"
    yield "classifier.out", "out_classification.linear_2"


def _renamed(
    uri: str, given: Mapping[str, Tensor], names: Mapping[str, str], wanted: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the given tensors under our names, or raise BundleError with the released names of those that differ."""
    expected = {names[name]: (tensor.shape, tensor.dtype) for name, tensor in wanted.items()}
    if expected.keys().isdisjoint(given):
        raise BundleError(
            f"{uri} is not the released network: no tensor in it has a name that the network needs.", _OWN_STATE
        )
    kinds = {
        "missing": [name for name in expected if name not in given],
        "left over": [name for name in given if name not in expected],
        "of another shape or type": [
            name for name, kind in expected.items() if name in given and (given[name].shape, given[name].dtype) != kind
        ],
    }
    if wrong := [f"{len(those)} {kind}, {_listed(those)}" for kind, those in kinds.items() if those]:
        raise BundleError(
            f"{uri} is not the released network, {len(expected)} tensors: {'; '.join(wrong)}.",
            _OWN_STATE,
        )
    return {name: given[names[name]] for name in wanted}


def _dropped(name: str) -> bool:
    return name in _DROPPED or name.startswith(_DROPPED_MODULE)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (" and others" if len(names) > _NAMED else "")


def _safetensors(uri: str, data: bytes) -> dict[str, Tensor]:
    try:
        return load(data)
    except SafetensorError as error:
        raise UserError(f"{uri} is not a whole safetensors file.", "Copy it again.") from error


def _unpickled(uri: str, data: bytes) -> dict[str, Tensor]:
    _check_stored(uri, data)
    try:
        # the only pickle this package reads, since the released code wrote no other format: weights_only builds tensors
        # and plain containers, and refuses a file that asks for anything else to be called
        loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torn or hostile bytes make the unpickler raise whatever they lead it into
        raise UserError(
            f"{uri} is no state dict from torch.save: it is torn, or holds more than tensors. No code in it was run.",
            "Copy it again, or save the state dict alone: torch.save(network.state_dict(), FILE).",
        ) from error
    if not (isinstance(loaded, dict) and loaded and all(_is_weight(name, value) for name, value in loaded.items())):
        raise UserError(
            f"{uri} is not a bare state dict: names, and a dense tensor for each.",
            "Save the state dict alone: torch.save(checkpoint['state_dict'], FILE), or whatever its key is.",
        )
    return dict(loaded)


def _is_weight(name: object, value: object) -> bool:
    if not (isinstance(name, str) and isinstance(value, Tensor)):
        return False
    return value.layout is torch.strided and value.device.type == "cpu" and not value.is_quantized


def _check_stored(uri: str, data: bytes) -> None:
    """Refuse a ZIP with compressed parts, which torch.save never writes: they can unfold to any size."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            compressed = any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return  # torch.load says what is wrong with it, or knows its older format
    if compressed:
        raise UserError(f"{uri} has compressed parts, which torch.save does not write.", "Ask for the original file.")
