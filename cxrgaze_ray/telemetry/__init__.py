"""What is told of the work while it runs: metrics, logs and traces.

`table` is every metric, `labels` every value of their labels, `record` gives a value to Ray's metrics endpoint. `logs`
are lines of JSON and `traces` spans of OpenTelemetry, both on request. Nothing here may name a patient, a file or a
client: labels and attributes are closed lists, and a line's fields short words.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cxrgaze_ray.telemetry.labels import Label, code_label
    from cxrgaze_ray.telemetry.recording import Waiting, check_labels, record, timed
    from cxrgaze_ray.telemetry.table import TABLE, Metric

__all__ = ["TABLE", "Label", "Metric", "Waiting", "check_labels", "code_label", "record", "timed"]

_PARTS = ("recording", "table", "labels")


def __getattr__(name: str) -> Any:
    # when it is asked for: labels need the schemas, and so NumPy, which a command's help and its logs do without
    if name in __all__:
        for part in _PARTS:
            module = import_module(f"{__name__}.{part}")
            if name in vars(module):
                return getattr(module, name)
    raise AttributeError(name)
