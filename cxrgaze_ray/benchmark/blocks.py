"""Where a network's arithmetic and its time go, block by block, in plain float32 layers."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cxrgaze_ray.models.network import Network


@dataclass(frozen=True)
class BlockTime:
    """One block of a network.

    Attributes
    ----------
    name
        As the network calls it: an encoder's level, a decoder's stage, DenseNet, a head.
    seconds
        An image, waiting for the device before and after: the median over rounds.
    gflop
        Arithmetic of an image, a multiplication and an addition counted as two.
    """

    name: str
    seconds: float
    gflop: float


def time_blocks(network: Network, image_B1HW: Tensor, rounds: int) -> list[BlockTime]:
    """Run a network so many times and once before, and time its blocks in the order in which they are computed.

    A block that a forward pass calls several times counts once, with all of its calls.
    """
    seconds: list[dict[str, float]] = []
    with torch.inference_mode():
        with FlopCounterMode(display=False) as counted, _noted(dict(network.named_modules())) as called:
            network(image_B1HW)
        flops = counted.get_flop_counts()
        blocks = {name: _outermost(called, name) for name in _blocks(network, set(called))}
        modules = {part: network.get_submodule(part) for parts in blocks.values() for part in parts}
        for _ in range(rounds):
            with _noted(modules) as taken:
                network(image_B1HW)
            seconds.append({name: sum(taken[part] for part in parts) for name, parts in blocks.items()})
    images, root = len(image_B1HW), type(network).__name__
    return [
        BlockTime(
            name,
            median(taken[name] for taken in seconds) / images,
            sum(sum(flops.get(f"{root}.{part}", {}).values()) for part in parts) / images / 1e9,
        )
        for name, parts in blocks.items()
    ]


def _blocks(module: nn.Module, called: set[str], prefix: str = "") -> Iterator[str]:
    """Yield the names of lists' elements, and of what holds no list, if any of their parts are called."""
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        if any(isinstance(inner, nn.ModuleList) for inner in child.modules()):
            yield from _blocks(child, called, f"{path}.")
        elif next(child.parameters(), None) is not None and any(_within(part, path) for part in called):
            yield path


def _outermost(called: Iterable[str], block: str) -> list[str]:
    """Return the called modules of a block that no other one of it calls."""
    inside = [part for part in called if _within(part, block)]
    return [part for part in inside if not any(_below(part, other) for other in inside)]


def _within(part: str, block: str) -> bool:
    return part == block or _below(part, block)


def _below(part: str, above: str) -> bool:
    return part.startswith(f"{above}.")


@contextmanager
def _noted(modules: dict[str, nn.Module]) -> Iterator[dict[str, float]]:
    """Yield the seconds of modules that are called, in the order of their first end."""
    taken: dict[str, float] = {}
    began: dict[str, float] = {}
    with ExitStack() as hooks:
        for name, module in modules.items():

            def before(_module: nn.Module, _inputs: object, name: str = name) -> None:
                began[name] = _now()

            def after(_module: nn.Module, _inputs: object, _output: object, name: str = name) -> None:
                taken[name] = taken.get(name, 0.0) + _now() - began[name]

            hooks.callback(module.register_forward_pre_hook(before).remove)
            hooks.callback(module.register_forward_hook(after).remove)
        yield taken


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
