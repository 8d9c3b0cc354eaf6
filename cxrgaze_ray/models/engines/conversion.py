"""Networks converted to OpenVINO's graphs, and kept in the user's cache so that the next start need not do it again.

The frontend is called itself: ``openvino.convert_model`` is built to report its use to OpenVINO's makers.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from cxrgaze_ray.models.engines.openvino_import import core, openvino_quietly
from cxrgaze_ray.models.network import Network

if TYPE_CHECKING:
    import openvino

_log = logging.getLogger(__name__)

_KEPT = 8
"""Conversions that stay in the cache; one of the full network takes about 400 MB."""


_INPUTS = "inputs_"
"""What torch calls the inputs of a function of ``*inputs``, before their number."""

_SEAL = "seal.json"
"""Name and hash of each file beside it: a bit that a disk turned would be another answer, and no error."""

_MAKING = "making-"
_LEFT_S = 3600.0


class Converted(NamedTuple):
    """The graphs of a network's first two steps; None where a step does nothing."""

    features: openvino.Model | None
    decode: openvino.Model | None


def read_or_convert(network: Network, batch: int, weights: str) -> Converted:
    """Return a network's graphs for batches of one size, from the cache if they are there.

    Parameters
    ----------
    network
        In eval mode, with the weights.
    batch
        Images a batch.
    weights
        Hash of the weights: beside the settings, the code, and the versions of what converts it, the name in the cache.
    """
    try:
        folder = _cache_root() / _name(network, batch, weights)
    except RuntimeError:  # nobody's home: a container's user need not be one that the system knows
        _log.warning("There is no home folder to keep models in; without CXRGAZE_CACHE every start converts them.")
        return convert(network, batch)
    try:
        return _read(folder)
    except FileNotFoundError:
        pass
    except (OSError, RuntimeError, ValueError) as error:
        _log.warning("A converted model in the cache cannot be read (%s); it is made anew.", type(error).__name__)
        shutil.rmtree(folder, ignore_errors=True)
    converted = convert(network, batch)
    try:
        _keep(converted, folder)
        return _read(folder)  # what later starts read, so that all of them give the same answers
    except (OSError, RuntimeError, ValueError) as error:
        _log.warning("The converted model cannot be kept (%s); every start makes it anew.", type(error).__name__)
        return converted


def convert(network: Network, batch: int) -> Converted:
    """Return the graphs of a network for batches of one size.

    Raises
    ------
    Exception
        Of whatever kind, if torch cannot export the network or OpenVINO cannot take it.
    """
    height, width = network.config.input_size
    image_B1HW = torch.zeros(batch, 1, height, width)
    inputs = [image_B1HW]
    if network.config.needs_gaze:
        inputs.append(torch.full((batch, height, width), 1 / (height * width)))
    with torch.no_grad():
        features = network.features(*inputs)
        decodes = len(network.decode(image_B1HW, *features)) > 0
    return Converted(
        _graph(_Features(network), inputs) if features else None,
        _graph(_Decode(network), [image_B1HW, *features]) if decodes else None,
    )


class _Features(nn.Module):
    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self.network.features(*inputs)


class _Decode(nn.Module):
    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self.network.decode(*inputs)


def _graph(module: nn.Module, inputs: list[Tensor]) -> openvino.Model:
    openvino_quietly()
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder

    with torch.no_grad(), _without_notes_on_operators():
        exported = torch.export.export(module.eval(), tuple(inputs))
        decoder = TorchFXPythonDecoder.from_exported_program(exported, dynamic_shapes=False)
    frontend = FrontEndManager().load_by_framework("pytorch")
    graph = frontend.convert(frontend.load(decoder))
    # sizes are lost on the way, and so are inputs that the step does not read
    graph.reshape({port: list(inputs[place_of(port.any_name)].shape) for port in graph.inputs})
    return graph


def place_of(name: str) -> int:
    """Return the place of a graph's input among those of its step."""
    return int(name.removeprefix(_INPUTS))


@contextmanager
def _without_notes_on_operators() -> Iterator[None]:
    """Leave out what OpenVINO logs, with a traceback each, about operators that this version of torch has no more."""

    def matters(record: logging.LogRecord) -> bool:
        return "not found in decomp table" not in str(record.msg)

    root = logging.getLogger()
    root.addFilter(matters)
    try:
        yield
    finally:
        root.removeFilter(matters)


def _cache_root() -> Path:
    """Return the folder of converted models: below $CXRGAZE_CACHE, else where XDG keeps a user's caches."""
    users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return (Path(os.environ.get("CXRGAZE_CACHE") or users / "cxrgaze") / "openvino").expanduser().absolute()


def _name(network: Network, batch: int, weights: str) -> str:
    versions = (_code(), openvino_quietly().get_version(), torch.__version__)
    made_of = (*versions, weights, network.config.model_dump_json(), batch)
    return hashlib.sha256(repr(made_of).encode()).hexdigest()


@cache
def _code() -> str:
    """Return a hash of the code that the networks, and what is made of them here, are written in."""
    files = sorted(Path(__file__).parents[1].rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _read(folder: Path) -> Converted:
    if not folder.is_dir():  # it appears whole, by a rename
        raise FileNotFoundError(folder)
    if not (folder / _SEAL).exists() or json.loads((folder / _SEAL).read_bytes()) != _hashes(folder):
        raise ValueError("the files are not those that were kept")
    files = [folder / f"{step}.xml" for step in Converted._fields]
    return Converted(*(core().read_model(file) if file.exists() else None for file in files))


def _hashes(folder: Path) -> dict[str, str]:
    hashes = {}
    for path in sorted(folder.iterdir()):
        if path.name != _SEAL:
            with path.open("rb") as file:
                hashes[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def _keep(converted: Converted, folder: Path) -> None:
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=_MAKING))
    try:
        for step, graph in zip(Converted._fields, converted, strict=True):
            if graph is not None:
                openvino_quietly().serialize(graph, made / f"{step}.xml")
        (made / _SEAL).write_text(json.dumps(_hashes(made)))
        made.rename(folder)
    except OSError as error:
        # another process was first, with the same graphs
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    _prune(folder.parent)


def _prune(root: Path) -> None:
    """Remove all but the conversions that were made last, and what killed processes left half made."""
    made = sorted(root.iterdir(), key=_made_at, reverse=True)
    whole = [folder for folder in made if not folder.name.startswith(_MAKING)]
    left = [folder for folder in made if folder not in whole and time.time() - _made_at(folder) > _LEFT_S]
    for folder in whole[_KEPT:] + left:
        shutil.rmtree(folder, ignore_errors=True)


def _made_at(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:  # another process prunes too
        return 0.0
