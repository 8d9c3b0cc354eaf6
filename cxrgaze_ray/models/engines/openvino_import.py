"""OpenVINO, imported so that it reports to nobody."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType


def openvino_quietly() -> ModuleType:
    """Return the package ``openvino``.

    Its import alone sends a message to its makers' analytics service, and leaves an id for it in the home folder,
    unless the package ``openvino_telemetry`` cannot be imported: then a stub takes its place.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # what Python takes for "not there"
    return import_module("openvino")
