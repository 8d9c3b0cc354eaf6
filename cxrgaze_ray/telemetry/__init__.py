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
    from cxrgaze_ray.telemetry.recording import Waiting, begin, check_labels, record, timed
    from cxrgaze_ray.telemetry.table import TABLE, Metric

__all__ = ["TABLE", "Label", "Metric", "Waiting", "begin", "check_labels", "code_label", "record", "timed"]


def __getattr__(name: str) -> Any:
    # when one is first asked for: labels need the schemas, and so NumPy, which a command's help and its logs do without
    if name not in __all__:
        raise AttributeError(name)
    for part in ("labels", "table", "recording"):
        known = vars(import_module(f"{__name__}.{part}"))
        globals().update({one: known[one] for one in __all__ if one in known})
    return globals()[name]
