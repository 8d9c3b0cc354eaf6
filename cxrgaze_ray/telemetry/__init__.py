"""What is told of the work while it runs: metrics and logs.

`table` is every metric, `labels` every value of their labels, `record` gives a value to Ray's metrics endpoint; `logs`
are lines of JSON on request. Nothing here may name a patient, a file or a client: labels are closed lists, and a line's
fields short words.
"""

from __future__ import annotations

from cxrgaze_ray.telemetry.labels import Label, code_label
from cxrgaze_ray.telemetry.recording import Waiting, check_labels, record, timed
from cxrgaze_ray.telemetry.table import TABLE, Metric

__all__ = ["TABLE", "Label", "Metric", "Waiting", "check_labels", "code_label", "record", "timed"]
