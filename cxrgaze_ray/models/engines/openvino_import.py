"""OpenVINO, imported so that it reports to nobody, and begun once so that it leaves signals alone."""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import openvino


def openvino_quietly() -> ModuleType:
    """Return the package ``openvino``.

    Its import alone sends a message to its makers' analytics service, and leaves an id for it in the home folder,
    unless the package ``openvino_telemetry`` cannot be imported: then a stub takes its place.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # what Python takes for "not there"
    return import_module("openvino")


@cache
def core() -> openvino.Core:
    """Return this process's core, of which there is one, for ever.

    Each core has a CPU plugin of its own, which gives its thread another stack for signal handlers. The first of two
    that ends frees its stack, and the second puts that back in force: the next signal is then a segmentation fault.
    """
    return openvino_quietly().Core()
