"""Distributed scoring of chest X-ray archives, and retraining of the model that scores them, on Ray.

>>> import cxrgaze_ray as cxr
>>> model = cxr.load_model("cxrgaze@champion", registry="./registry")
>>> results = model.predict(["a.dcm", "b.jpg"])
>>> run = cxr.score("archive/", out="results/")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cxrgaze_ray.api.model import Model, load_model
    from cxrgaze_ray.api.result import Result, Results
    from cxrgaze_ray.api.run import ScoredRun, open_run, score
    from cxrgaze_ray.errors import CxrgazeError

__version__ = "0.1.0"

__all__ = ["CxrgazeError", "Model", "Result", "Results", "ScoredRun", "load_model", "open_run", "score"]

_HOMES = {
    **dict.fromkeys(("Model", "load_model"), "cxrgaze_ray.api.model"),
    **dict.fromkeys(("Result", "Results"), "cxrgaze_ray.api.result"),
    **dict.fromkeys(("ScoredRun", "open_run", "score"), "cxrgaze_ray.api.run"),
    "CxrgazeError": "cxrgaze_ray.errors",
}


def __getattr__(name: str) -> Any:
    # Every module of the package imports this one first: what it offers is loaded when it is asked for.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
